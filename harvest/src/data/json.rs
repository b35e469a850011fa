//! Rows of JSON, a line each, the elements of one array, or objects over several lines, read one at a time in bounded
//! memory. A row that does not parse does not end the stream. Knows no schema.

use super::columns::Columns;
use super::fields::Fields;
use super::format::Format;
use super::source::FileRows;
use super::wrapped::{Layout, layout};
use super::{input, lenient, text};
use crate::{Error, Result};
use serde_json::Value;
use std::io::{BufRead, Read};
use std::path::Path;

/// Bytes of the longest row that is kept.
pub(super) const ROW_LIMIT: usize = 1 << 26;

/// Whether a `.json` file is an array, possibly in an object, lines, or objects over several lines.
pub(super) fn format(path: &Path) -> Result<Format> {
    Ok(match file_layout(path)? {
        Layout::Lines => Format::JsonLines,
        Layout::Objects => Format::JsonObjects,
        Layout::Array | Layout::List(_) => Format::JsonArray,
    })
}

/// The same for a file that is named as lines: it may begin as anything, since a bad row is no bad file.
pub(super) fn format_of_lines(path: &Path) -> Result<Format> {
    let head = input::head(path, 3)?;
    if head.starts_with(b"[\n") || head.starts_with(b"[\r\n") {
        return Ok(Format::JsonArray);
    }
    let layout = layout(&mut *open(path)?).map_err(Error::io("read", path))?;
    Ok(if layout == Ok(Layout::Objects) { Format::JsonObjects } else { Format::JsonLines })
}

/// Whether a file is an array of texts, by its first characters.
pub(super) fn lists_texts(path: &Path) -> bool {
    let head = input::head(path, 256).unwrap_or_default();
    let text = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&head).trim_ascii_start();
    text.strip_prefix(b"[").is_some_and(|items| items.trim_ascii_start().starts_with(b"\""))
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

/// The elements of one array, which may lie in an object. Nothing behind it counts.
pub(super) fn array(path: &Path) -> Result<FileRows> {
    let mut file = open(path)?;
    if let Layout::List(start) = file_layout(path)? {
        std::io::copy(&mut Read::take(&mut *file, start), &mut std::io::sink()).map_err(Error::io("read", path))?;
    }
    values(file, path, |scan, byte| {
        let (before, quoted) = (scan.depth, scan.quoted);
        if before == 0 && byte != b'[' {
            return Step::Between;
        }
        // A bracket too many belongs to the element.
        if byte == b'}' && before == 1 && !quoted {
            return Step::Inside;
        }
        scan.step(byte);
        match (before, scan.depth, byte) {
            (0, _, _) => Step::Between,
            (_, 0, _) => Step::Over,
            (1, 1, b',') if !quoted => Step::Behind,
            _ => Step::Inside,
        }
    })
}

/// Objects one behind the other, each over as many lines as it takes.
pub(super) fn objects(path: &Path) -> Result<FileRows> {
    values(open(path)?, path, |scan, byte| {
        let quoted = scan.quoted;
        scan.step(byte);
        match byte {
            _ if quoted || scan.depth > 0 => Step::Inside,
            b'}' | b']' => Step::Last,
            b',' | b'\t' | b'\n' | b'\r' | b' ' => Step::Between,
            _ => Step::Inside,
        }
    })
}

/// What a byte is to the value that is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Inside,
    /// TurnPart of the value, and its end.
    Last,
    /// Behind the value.
    Behind,
    Between,
    /// Behind the last value.
    Over,
}

/// How deep in brackets a reader of JSON is, and whether in a string.
#[derive(Default)]
struct Scan {
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl Scan {
    fn step(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.quoted => self.escaped = true,
            b'"' => self.quoted = !self.quoted,
            _ if self.quoted => {}
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// The values of a file, as `step` cuts them.
fn values(
    file: Box<dyn BufRead + Send>,
    path: &Path,
    step: impl Fn(&mut Scan, u8) -> Step + Send + 'static,
) -> Result<FileRows> {
    let mut scan = Scan::default();
    let mut over = false;
    rows(file, path, move |file, row| {
        row.clear();
        while !over {
            let buffer = file.fill_buf()?;
            if buffer.is_empty() {
                over = true;
                // What is cut off ends in a value, or lacks the bracket behind the last one.
                return match scan.depth > 0 || scan.quoted {
                    true => Err(std::io::ErrorKind::UnexpectedEof.into()),
                    false => Ok(!row.is_empty()),
                };
            }
            let (mut used, mut last) = (0, Step::Between);
            while !matches!(last, Step::Last | Step::Behind | Step::Over) && used < buffer.len() {
                last = step(&mut scan, buffer[used]);
                if matches!(last, Step::Inside | Step::Last) && row.len() <= ROW_LIMIT {
                    row.push(buffer[used]);
                }
                used += 1;
            }
            file.consume(used);
            if last == Step::Over {
                over = true;
                std::io::copy(file, &mut std::io::sink())?;
            }
            if matches!(last, Step::Last | Step::Behind | Step::Over) && !row.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
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
    let fields = match lenient::value(row)? {
        // A list of texts, as `datasets` reads it.
        text @ Value::String(_) => Fields::from_iter([("text".to_owned(), text)]),
        other => lenient::into_object(other)?,
    };
    Ok(Columns { fields, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &str) -> Vec<Result<Columns, String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let rows = match format(&path).unwrap() {
            Format::JsonArray => array(&path),
            Format::JsonObjects => objects(&path),
            _ => lines(&path),
        };
        rows.unwrap().map(|row| row.unwrap()).collect()
    }

    #[test]
    fn lines_and_arrays_give_the_same_rows() {
        let rows = [r#"{"a": "x,]}\"["}"#, r#"{"b": [[1], {"c": 2}]}"#, r#"{"d": "é\\"}"#];
        let expected: Vec<Value> = rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
        let pretty = expected.iter().map(|row| serde_json::to_string_pretty(row).unwrap() + "\n");
        let lines = [rows.join("\n\n"), pretty.collect()];
        let arrays = [format!("[\n{}]\n", rows.join(" ,\n")), format!("[{}]", rows.join(","))];
        for content in lines.into_iter().chain(arrays) {
            let found: Vec<_> =
                read("a.json", &content).into_iter().map(|row| Value::Object(row.unwrap().fields)).collect();
            assert_eq!(found, expected, "{content}");
        }
        assert!(read("a.json", "[]").is_empty() && read("a.json", " [ ] ").is_empty());
    }

    #[test]
    fn a_bad_row_does_not_end_the_stream() {
        for content in [
            "{\"a\": 1}\n{nonsense\n7\n{\"a\": 2}",
            "{\"a\": 1}\n{\"cut\": [\n7\n{\"a\": 2}",
            "[{\"a\": 1}, {nonsense}}, 7, {\"a\": 2}]",
            "{\n\"a\": 1}{nonsense\n}[7]\n{\"a\": 2}",
        ] {
            let rows = read("a.json", content);
            assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true], "{content}");
        }
    }

    #[test]
    fn texts_are_rows_with_a_text() {
        let rows = read("a.json", r#"["one", {"text": "two"}]"#);
        assert_eq!(rows.into_iter().map(|row| row.unwrap().fields["text"].clone()).collect::<Vec<_>>(), ["one", "two"]);
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
