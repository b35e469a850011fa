//! The table of contents of a PyTorch archive: its ZIP directory, its pickle, its storages.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(sae_core::formats::torch::entries(bytes)));
