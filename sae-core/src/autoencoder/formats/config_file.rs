//! Configuration files of other tools: JSON as Python writes it, and the errors about what is not supported.

use crate::{Error, Result, file};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// Configurations of autoencoders take a few kilobytes.
const LIMIT: u64 = 1 << 24;

/// Reads a configuration. Accepts a byte order mark at the beginning, and the bare words `NaN`, `Infinity` and `-Infinity`
/// that Python writes for numbers that are not finite; JSON has neither.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = file::read(path, LIMIT)?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let read = serde_json::from_slice(text)
        .or_else(|error| serde_json::from_slice(&without_bare_words(text)).map_err(|_| error));
    read.map_err(Error::format(path))
}

/// Replaces `NaN`, `Infinity` and `-Infinity` outside of strings by `null`.
fn without_bare_words(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest, mut quoted) = (Vec::with_capacity(text.len()), text, false);
    while let Some(byte) = rest.first() {
        let words = [&b"NaN"[..], b"-Infinity", b"Infinity"];
        let word = words.into_iter().find(|word| !quoted && rest.starts_with(word));
        let length = match word {
            Some(word) => {
                out.extend_from_slice(b"null");
                word.len()
            }
            None => {
                quoted ^= *byte == b'"';
                // An escaped character, a quote perhaps, goes with its backslash.
                let length = if quoted && *byte == b'\\' { rest.len().min(2) } else { 1 };
                out.extend_from_slice(&rest[..length]);
                length
            }
        };
        rest = &rest[length..];
    }
    out
}

/// Returns an error that names everything that a configuration asks for and this version does not support, given as pairs
/// of whether it asks for it and what that is.
pub fn check_supported<const N: usize>(path: &Path, checks: [(bool, String); N]) -> Result<()> {
    let wrong: Vec<_> = checks.into_iter().filter(|(wrong, _)| *wrong).map(|(_, what)| what).collect();
    if wrong.is_empty() { Ok(()) } else { Err(Error::format(path)(format!("not supported: {}", wrong.join("; ")))) }
}

/// The error for an architecture, class or activation that this version does not know, with those it knows.
pub fn unsupported(path: &Path, what: &str, found: &str, known: &[&str]) -> Error {
    Error::format(path)(format!("the {what} {found:?} is not supported; supported are {}", known.join(", ")))
}

/// Reads a configuration twice: as JSON, to be kept for people, and as the type that decides how weights are read.
pub fn read_with_value<T: DeserializeOwned>(path: &Path) -> Result<(Value, T)> {
    let value: Value = read(path)?;
    let config = T::deserialize(&value).map_err(Error::format(path))?;
    Ok((value, config))
}

/// The default of switches that are on where a configuration does not mention them.
pub fn on() -> bool {
    true
}
