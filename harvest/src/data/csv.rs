//! Rows of CSV and TSV files, whose first line has the names of the columns. Cells are text, and empty cells are null.
//! Columns that can hold a list or an object hold it as JSON. Knows no schema.

use super::columns::Columns;
use super::json::ROW_LIMIT;
use super::row::FileRows;
use super::row_error::RowError;
use super::{input, lenient, text};
use crate::{Error, Result};
use csv::{ByteRecord, Reader, ReaderBuilder};
use sae_core::error::Hint;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Columns whose cells may be lists or objects in JSON.
const LISTS: [&str; 9] =
    ["conversations", "messages", "prompt", "chosen", "rejected", "images", "texts", "history", "file_names"];

/// Reads the rows of a file. A row with more or fewer cells than columns is skipped, and the rows after it are read.
pub(super) fn rows(path: &Path) -> Result<FileRows> {
    let mut table = Table::open(path)?;
    Ok(Box::new(std::iter::from_fn(move || table.next())))
}

/// Number of bytes from which the delimiter is detected.
const HEADER_LIMIT: u64 = 1 << 16;

struct Table {
    reader: Reader<Bounded<Box<dyn Read + Send>>>,
    names: Vec<String>,
    /// Shared with the input of `reader`.
    counts: Arc<Counts>,
    path: PathBuf,
    ended: bool,
}

impl Table {
    fn open(path: &Path) -> Result<Self> {
        let mut input = text::reader(input::open(path)?).map_err(Error::io("read", path))?;
        let mut start = Vec::new();
        input.by_ref().take(HEADER_LIMIT).read_to_end(&mut start).map_err(Error::io("read", path))?;
        let delimiter = match input::extension(path).as_str() {
            "tsv" | "tab" => b'\t',
            _ => delimiter(&start),
        };
        let input: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(input));
        let counts = Arc::new(Counts::default());
        counts.left.store(ROW_LIMIT, Ordering::Relaxed);
        let input = Bounded { input, counts: Arc::clone(&counts) };
        let mut reader = ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(input);
        let header = reader.byte_headers().map_err(Error::data(path))?;
        let mut seen = BTreeSet::new();
        let mut names = Vec::new();
        for (n, name) in header.iter().enumerate() {
            let name = String::from_utf8(name.to_vec());
            let name = name.map_err(|_| Error::data(path)(format!("the name of column {} is not UTF-8", n + 1)))?;
            // pandas leaves the name of its index empty.
            if !name.is_empty() && !seen.insert(name.clone()) {
                return Err(Error::data(path)(format!("two columns are called {name}")));
            }
            names.push(name);
        }
        Ok(Self { reader, names, counts, path: path.to_path_buf(), ended: false })
    }

    fn next(&mut self) -> Option<Result<Result<Columns, RowError>>> {
        if self.ended {
            return None;
        }
        let mut record = ByteRecord::new();
        self.counts.left.store(ROW_LIMIT, Ordering::Relaxed);
        match self.reader.read_byte_record(&mut record) {
            Ok(true) => Some(Ok(self.columns(&record))),
            Ok(false) => None,
            Err(error) => {
                self.ended = true;
                Some(Err(Error::data(&self.path)(error)))
            }
        }
    }

    fn columns(&self, record: &ByteRecord) -> Result<Columns, RowError> {
        let names = &self.names;
        // A quote that is never closed puts all rows after it into one cell.
        let open = self.counts.ended.load(Ordering::Relaxed) && self.counts.quotes.load(Ordering::Relaxed) % 2 == 1;
        if open && record.iter().any(|cell| cell.contains(&b'\n')) {
            return Err("a quote in this row is not closed, so that it would swallow all rows after it".into());
        }
        if record.len() != names.len() {
            let cause = format!("the row has {} cells, expected {} as in the header", record.len(), names.len());
            return Err(cause.into());
        }
        let mut columns = Columns::default();
        for (name, cell) in names.iter().zip(record).filter(|(name, _)| !name.is_empty()) {
            let cell = std::str::from_utf8(cell).map_err(|_| format!("column {name} is not UTF-8"))?;
            columns.fields.insert(name.clone(), value(name, cell)?);
        }
        Ok(columns)
    }
}

fn value(name: &str, cell: &str) -> Result<Value, RowError> {
    let listed = LISTS.contains(&name) || name.ends_with("_file_names");
    let trimmed = cell.trim_start();
    match trimmed.chars().next() {
        None => Ok(Value::Null),
        Some(first @ ('[' | '{')) if listed => match lenient::value(cell.as_bytes()) {
            Ok(value) => Ok(value),
            // Python prints lists and objects with single quotes, and pandas writes them as Python prints them.
            Err(_) if trimmed[1..].trim_start().starts_with(['\'', '{', '[']) => {
                let error = RowError::from(format!("column {name} holds a {first} that is not JSON"));
                Err(error.with_hint(Hint::from("write it with json.dumps")))
            }
            Err(_) => Ok(cell.into()),
        },
        Some(_) => Ok(cell.into()),
    }
}

/// The most frequent delimiter in the first line. Spreadsheets write semicolons if the comma is the decimal separator.
pub fn delimiter(start: &[u8]) -> u8 {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    let mut quoted = false;
    for byte in start {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => break,
            byte if !quoted => counts.iter_mut().filter(|(of, _)| of == byte).for_each(|(_, count)| *count += 1),
            _ => {}
        }
    }
    counts.iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(delimiter, _)| *delimiter)
}

/// Counts of what has been read from a file.
#[derive(Default)]
struct Counts {
    /// Bytes that may still be read for the current row.
    left: AtomicUsize,
    /// Quotes that have been read.
    quotes: AtomicUsize,
    /// Whether the end of the file was reached.
    ended: AtomicBool,
}

/// Counts what is read, and returns an error if a row is longer than [`ROW_LIMIT`].
struct Bounded<R> {
    input: R,
    counts: Arc<Counts>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(out)?;
        self.counts.ended.fetch_or(read == 0 && !out.is_empty(), Ordering::Relaxed);
        let quotes = out[..read].iter().filter(|byte| **byte == b'"').count();
        self.counts.quotes.fetch_add(quotes, Ordering::Relaxed);
        match self.counts.left.load(Ordering::Relaxed).checked_sub(read) {
            Some(left) => self.counts.left.store(left, Ordering::Relaxed),
            None => return Err(io::Error::other(format!("a row is longer than {ROW_LIMIT} bytes: is a quote open?"))),
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(name: &str, content: &[u8]) -> Vec<Result<Value, RowError>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        rows(&path).unwrap().map(|row| row.unwrap().map(|columns| Value::Object(columns.fields))).collect()
    }

    #[test]
    fn cells_may_contain_commas_quotes_and_newlines() {
        let expected = json!({"a": "1", "text": "one, \"two\"\nthree", "b": null});
        let files: [(&str, &str); 4] = [
            ("a.csv", "a,text,b\n1,\"one, \"\"two\"\"\nthree\",\n"),
            ("a.csv", "\u{feff}a;text;b\r\n1;\"one, \"\"two\"\"\nthree\";\r\n"),
            ("a.tsv", "a\ttext\tb\n1\t\"one, \"\"two\"\"\nthree\"\t"),
            ("a.csv", "a\ttext\tb\n1\t\"one, \"\"two\"\"\nthree\"\t\n"),
        ];
        for (name, content) in files {
            assert_eq!(read(name, content.as_bytes()), [Ok(expected.clone())], "{content:?}");
        }
        let utf16: Vec<u8> = "\u{feff}a,text\n1,é".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read("a.csv", &utf16), [Ok(json!({"a": "1", "text": "é"}))]);
        assert!(read("a.csv", b"").is_empty() && read("a.csv", b"a,b\n").is_empty());
    }

    #[test]
    fn lists_are_json_in_columns_that_can_hold_them() {
        let rows = read("a.csv", b"images,text\n\"[\"\"a.png\"\", null]\",[1]\n[a].png,x\n\"['a.png']\",x\n");
        assert_eq!(rows[0], Ok(json!({"images": ["a.png", null], "text": "[1]"})));
        assert_eq!(rows[1], Ok(json!({"images": "[a].png", "text": "x"})));
        assert_eq!(rows[2].as_ref().unwrap_err().hint, Some(Hint::from("write it with json.dumps")));
    }

    #[test]
    fn a_quote_that_is_never_closed_is_reported() {
        let rows = read("a.csv", b"a,b\n1,x\n2,\"open\n3,y\n4,z\n");
        assert_eq!(rows.len(), 2);
        assert!(rows[0].is_ok() && rows[1].as_ref().unwrap_err().cause.contains("not closed"), "{rows:?}");
        // A quote inside of a cell, such as the sign for inches, does not open one.
        assert!(read("a.csv", b"a,b\n1,5\" wide\n2,\"two\nlines\"").iter().take(1).all(Result::is_ok));
    }

    #[test]
    fn a_bad_row_does_not_end_the_stream() {
        let rows = read("a.csv", b",a,b\n0,1,2\n1,1\n2,1,2,3\n3,caf\xe9,2\n4,1,2\n");
        assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, false, true]);
        assert_eq!(rows[4], Ok(json!({"a": "1", "b": "2"})));
        assert!(rows[1].as_ref().unwrap_err().cause.contains("2 cells, expected 3"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, "a,a\n1,2\n").unwrap();
        assert!(super::rows(&path).err().unwrap().to_string().contains("two columns are called a"));
    }
}
