//! The pickle of a state dict, without the archive's checksum in the way.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(sae_core::formats::pickle::read(bytes)));
