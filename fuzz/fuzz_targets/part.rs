//! Parts of passes that several machines share.

#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "what only the plain runner needs")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::run("part", bytes));
