//! Copies rows of JSON files byte by byte. Lines are copied as lines, and everything else as one array.

use super::JsonRows;
use super::stage::Output;
use crate::Result;
use std::collections::BTreeSet;
use std::path::Path;

/// Copies the selected rows and returns their number.
pub(super) fn copy_rows(from: JsonRows, rows: &BTreeSet<u64>, to: &Path) -> Result<u64> {
    let (start, separator, end): (&[u8], &[u8], &[u8]) =
        if from.are_lines { (b"", b"\n", b"\n") } else { (b"[\n", b",\n", b"\n]\n") };
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
