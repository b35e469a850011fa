//! Rows of JSON, a line each or the elements of one array, read one at a time in bounded memory. A row that does not
//! parse does not end the stream. Knows no schema.

use super::columns::Columns;
use super::format::Format;
use super::source::FileRows;
use super::wrapped::{Layout, layout};
use super::{input, lenient, text};
use crate::{Error, Result};
use std::io::{BufRead, Read};
use std::path::Path;

/// Bytes of the longest row that is kept.
pub(super) const ROW_LIMIT: usize = 1 << 26;

/// Whether a `.json` file is an array, possibly in an object, or lines.
pub(super) fn format(path: &Path) -> Result<Format> {
    Ok(match file_layout(path)? {
        Layout::Lines => Format::JsonLines,
        Layout::Array | Layout::List(_) => Format::JsonArray,
    })
}

fn file_layout(path: &Path) -> Result<Layout> {
    layout(&mut *open(path)?).map_err(Error::io("read", path))?.map_err(Error::data(path))
}

/// An object a line; empty lines are no rows.
pub(super) fn lines(path: &Path) -> Result<FileRows> {
    rows(open(path)?, path, |file, row| {
        loop {
            row.clear();
            if Read::take(&mut *file, ROW_LIMIT as u64 + 1).read_until(b'\n', row)? == 0 {
                return Ok(false);
            }
            if row.len() > ROW_LIMIT && row.last() != Some(&b'\n') {
                file.skip_until(b'\n')?;
            }
            if !row.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    })
}

/// The number of rows of lines, without parsing any.
pub(super) fn count_lines(path: &Path) -> Result<u64> {
    let mut file = open(path)?;
    let (mut rows, mut content) = (0, false);
    loop {
        let buffer = file.fill_buf().map_err(Error::io("read", path))?;
        if buffer.is_empty() {
            return Ok(rows + u64::from(content));
        }
        for byte in buffer {
            match byte {
                b'\n' => rows += u64::from(std::mem::take(&mut content)),
                _ => content |= !byte.is_ascii_whitespace(),
            }
        }
        let used = buffer.len();
        file.consume(used);
    }
}

/// The elements of one array, which may lie in an object.
pub(super) fn array(path: &Path) -> Result<FileRows> {
    let mut file = open(path)?;
    if let Layout::List(start) = file_layout(path)? {
        std::io::copy(&mut Read::take(&mut *file, start), &mut std::io::sink()).map_err(Error::io("read", path))?;
    }
    let mut begun = false;
    rows(file, path, move |file, row| {
        row.clear();
        let (mut depth, mut quoted, mut escaped) = (0i64, false, false);
        loop {
            let buffer = file.fill_buf()?;
            if buffer.is_empty() {
                // An array that is cut off ends in a row that does not parse, or in no closing bracket.
                return if begun { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(false) };
            }
            let mut ended = None;
            for (at, byte) in buffer.iter().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if quoted => escaped = true,
                    b'"' => quoted = !quoted,
                    _ if quoted => {}
                    b'[' if !begun => {
                        begun = true;
                        continue;
                    }
                    b'[' | b'{' => depth += 1,
                    b']' if depth == 0 => {
                        begun = false;
                        ended = Some(at);
                    }
                    b']' | b'}' => depth = (depth - 1).max(0),
                    b',' if depth == 0 => ended = Some(at),
                    _ => {}
                }
                if ended.is_some() {
                    break;
                }
                if row.len() <= ROW_LIMIT {
                    row.push(*byte);
                }
            }
            let used = ended.map_or(buffer.len(), |at| at + 1);
            file.consume(used);
            if ended.is_some() {
                let rest = !row.trim_ascii().is_empty();
                if !begun {
                    // Nothing behind the array counts.
                    std::io::copy(file, &mut std::io::sink())?;
                    return Ok(rest);
                }
                if rest {
                    return Ok(true);
                }
            }
        }
    })
}

fn open(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    text::reader(input::open(path)?).map_err(Error::io("read", path))
}

/// Rows as `next` finds them: it fills the buffer and says whether there was another.
fn rows(
    mut file: Box<dyn BufRead + Send>,
    path: &Path,
    mut next: impl FnMut(&mut dyn BufRead, &mut Vec<u8>) -> std::io::Result<bool> + Send + 'static,
) -> Result<FileRows> {
    let path = path.to_path_buf();
    let mut row = Vec::new();
    let mut failed = false;
    Ok(Box::new(std::iter::from_fn(move || {
        if failed {
            return None;
        }
        match next(&mut *file, &mut row) {
            Ok(true) => Some(Ok(parse(&row))),
            Ok(false) => None,
            Err(error) => {
                failed = true;
                Some(Err(Error::io("read on", &path)(error)))
            }
        }
    })))
}

/// A row's columns.
fn parse(row: &[u8]) -> Result<Columns, String> {
    if row.len() > ROW_LIMIT {
        return Err(format!("the row is longer than {ROW_LIMIT} bytes"));
    }
    Ok(Columns { fields: lenient::object(row)?, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn read(name: &str, content: &str) -> Vec<Result<Columns, String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let rows = if format(&path).unwrap() == Format::JsonArray { array(&path) } else { lines(&path) };
        rows.unwrap().map(|row| row.unwrap()).collect()
    }

    #[test]
    fn lines_and_arrays_give_the_same_rows() {
        let rows = [r#"{"a": "x,]}\"["}"#, r#"{"b": [[1], {"c": 2}]}"#, r#"{"d": "é\\"}"#];
        let expected: Vec<Value> = rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
        for content in [rows.join("\n\n"), format!("[\n{}]\n", rows.join(" ,\n")), format!("[{}]", rows.join(","))] {
            let found: Vec<_> =
                read("a.json", &content).into_iter().map(|row| Value::Object(row.unwrap().fields)).collect();
            assert_eq!(found, expected, "{content}");
        }
        assert!(read("a.json", "[]").is_empty() && read("a.json", " [ ] ").is_empty());
    }

    #[test]
    fn a_bad_row_does_not_end_the_stream() {
        for content in ["{\"a\": 1}\n{nonsense\n7\n{\"a\": 2}", "[{\"a\": 1}, {nonsense}, 7, {\"a\": 2}]"] {
            let rows = read("a.json", content);
            assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true], "{content}");
        }
    }

    #[test]
    fn an_array_that_is_cut_off_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        std::fs::write(&path, "[{\"a\": 1}, {\"a\"").unwrap();
        let rows: Vec<_> = array(&path).unwrap().collect();
        assert!(rows[0].is_ok() && rows[1].is_err() && rows.len() == 2);
    }
}
