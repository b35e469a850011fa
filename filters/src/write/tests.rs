//! Every format of a few rows, to the byte where bytes are ours, and what cannot be written.
