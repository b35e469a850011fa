//! Copies elements of a JSON array byte for byte, one at a time. Elements are told by brackets and quotes alone, so that
//! what Python writes besides (NaN) is copied, too.

use super::stage::Output;
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Bytes, Read};
use std::iter::Peekable;
use std::path::Path;

/// How the rows of a `.json` file lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layout {
    Array,
    /// An object a line.
    Lines,
    /// One object, which holds the rows in one of its values.
    Object,
}

/// The layout of a file, by its first value and what follows it.
pub(super) fn layout(path: &Path) -> Result<Layout> {
    let mut text = Text::open(path)?;
    if text.peek()? == Some(b'[') {
        return Ok(Layout::Array);
    }
    text.value(&mut None)?;
    Ok(if text.peek()?.is_none() { Layout::Object } else { Layout::Lines })
}

/// Copies the chosen elements; says how many there were.
pub(super) fn copy_array(from: &Path, rows: &BTreeSet<u64>, to: &Path) -> Result<u64> {
    let mut text = Text::open(from)?;
    text.peek()?;
    text.next()?;
    let mut out = Output::new(to)?;
    let (mut row, mut copied) = (0, 0);
    loop {
        match text.peek()? {
            None => return Err(text.error("the array does not end")),
            Some(b']') => break,
            Some(b',') => {
                text.next()?;
            }
            Some(_) => {
                let mut value = rows.contains(&row).then(Vec::new);
                text.value(&mut value)?;
                if let Some(value) = value {
                    out.put(if copied == 0 { b"[\n" } else { b",\n" })?;
                    out.put(value.trim_ascii_end())?;
                    copied += 1;
                }
                row += 1;
            }
        }
    }
    out.put(if copied == 0 { b"[]\n" } else { b"\n]\n" })?;
    out.finish()?;
    Ok(copied)
}

/// The text of a file.
struct Text<'a> {
    bytes: Peekable<Bytes<BufReader<File>>>,
    path: &'a Path,
}

impl<'a> Text<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let file = File::open(path).map_err(sae_core::Error::io("open", path))?;
        let mut text = Self { bytes: BufReader::with_capacity(1 << 16, file).bytes().peekable(), path };
        // A byte order mark is no content.
        if text.peek()? == Some(0xef) {
            (0..3).try_for_each(|_| text.next().map(drop))?;
        }
        Ok(text)
    }

    fn error(&self, cause: &str) -> Error {
        Error::Source { cause: cause.into(), path: self.path.to_path_buf() }
    }

    fn next(&mut self) -> Result<Option<u8>> {
        Ok(self.bytes.next().transpose().map_err(sae_core::Error::io("read", self.path))?)
    }

    /// The next byte that is no white space, which stays.
    fn peek(&mut self) -> Result<Option<u8>> {
        while matches!(self.bytes.peek(), Some(Ok(byte)) if byte.is_ascii_whitespace()) {
            self.next()?;
        }
        match self.bytes.peek() {
            Some(Ok(byte)) => Ok(Some(*byte)),
            Some(Err(_)) => self.next(),
            None => Ok(None),
        }
    }

    /// Passes a value, up to the comma, bracket or end behind it, or the end of an object; keeps it if asked to.
    fn value(&mut self, kept: &mut Option<Vec<u8>>) -> Result<()> {
        let (mut depth, mut quoted, mut escaped) = (0u64, false, false);
        loop {
            let ends = match self.bytes.peek() {
                Some(Ok(b',' | b']')) => depth == 0 && !quoted,
                Some(_) => false,
                None => true,
            };
            if ends {
                return Ok(());
            }
            let Some(byte) = self.next()? else { return Ok(()) };
            if let Some(kept) = kept {
                kept.push(byte);
            }
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'[' | b'{' => depth += 1,
                b']' | b'}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && byte == b'}' {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
    }
}
