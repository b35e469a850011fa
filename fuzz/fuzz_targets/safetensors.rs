//! The table of contents of a safetensors file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(sae_core::formats::arrays::safetensors(bytes)));
