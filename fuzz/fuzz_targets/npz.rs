//! The table of contents of a NumPy archive.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(sae_core::formats::npz::entries(bytes)));
