//! Copies rows of JSON files byte for byte: lines as lines, everything else as one array.

use super::JsonRows;
use super::stage::Output;
use crate::Result;
use std::collections::BTreeSet;
use std::path::Path;

/// Copies the chosen rows; returns how many there were.
pub(super) fn copy_rows(from: JsonRows, rows: &BTreeSet<u64>, to: &Path) -> Result<u64> {
    let (start, separator, end): (&[u8], &[u8], &[u8]) = match from.are_lines {
        true => (b"", b"\n", b"\n"),
        false => (b"[\n", b",\n", b"\n]\n"),
    };
    let mut out = Output::new(to)?;
    let mut copied = 0;
    for (number, text) in from.texts.enumerate() {
        let text = text?;
        if rows.contains(&(number as u64)) {
            out.put(if copied == 0 { start } else { separator })?;
            out.put(text.trim_ascii())?;
            copied += 1;
        }
    }
    out.put(if copied == 0 { b"" } else { end })?;
    out.finish()?;
    Ok(copied)
}
