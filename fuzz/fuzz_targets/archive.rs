//! A WebDataset archive: headers, names, members, rows.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    harvest::data::read_archive(bytes);
});
