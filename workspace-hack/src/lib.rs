//! Nothing: this crate exists for the dependencies in its Cargo.toml.
