//! Copies rows of CSV and TSV files byte by byte, with the header.

use super::stage::Output;
use crate::{Error, Result};
use csv::{ByteRecord, ReaderBuilder};
use sae_core::error::Cause;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Number of bytes from which the delimiter is detected.
const START: u64 = 1 << 16;

/// Copies the selected rows and returns their number. The header is not counted as a row.
pub(super) fn copy_rows(from: &Path, rows: &BTreeSet<u64>, to: &Path, delimiter: fn(&[u8]) -> u8) -> Result<u64> {
    let open = || File::open(from).map_err(sae_core::Error::io("open", from));
    let damaged = |error: csv::Error| Error::from(sae_core::Error::format(from)(error));
    let mut start = Vec::new();
    open()?.take(START).read_to_end(&mut start).map_err(sae_core::Error::io("read", from))?;
    if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
        let text = "the file is in UTF-16, whose rows cannot be copied unchanged";
        return Err(Error::source(from, Cause::with_hint(text, super::other_format(&["parquet", "jsonl"]))));
    }
    let tabs = from.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv") || e.eq_ignore_ascii_case("tab"));
    let delimiter = if tabs { b'\t' } else { delimiter(&start) };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).flexible(true).has_headers(false).from_reader(open()?);
    let (mut source, mut out) = (open()?, Output::new(to)?);
    let mut copy = |from_byte: u64, to_byte: u64| -> Result<()> {
        let mut bytes = vec![0; (to_byte - from_byte) as usize];
        let read = source.seek(SeekFrom::Start(from_byte)).and_then(|_| source.read_exact(&mut bytes));
        read.map_err(sae_core::Error::io("read", from))?;
        // The reader considers the second byte of a line break to be part of the next row.
        if bytes.ends_with(b"\r") {
            let mut next = Vec::new();
            (&mut source).take(1).read_to_end(&mut next).map_err(sae_core::Error::io("read", from))?;
            bytes.extend(next.iter().filter(|byte| **byte == b'\n'));
        }
        // Blank lines between rows are not copied.
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        out.put(&bytes[blank..])
    };
    let mut record = ByteRecord::new();
    let (mut row, mut copied) = (None, 0);
    loop {
        let begin = reader.position().byte();
        if !reader.read_byte_record(&mut record).map_err(damaged)? {
            break;
        }
        match row {
            None => copy(begin, reader.position().byte())?,
            Some(number) if rows.contains(&number) => {
                copy(begin, reader.position().byte())?;
                copied += 1;
            }
            Some(_) => {}
        }
        row = Some(row.map_or(0, |number| number + 1));
    }
    out.finish()?;
    Ok(copied)
}
