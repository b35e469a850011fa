//! Rows of JSON: one per line, the elements of one array, or objects over several lines. Reads one row at a time in
//! bounded memory. A row that does not parse does not end the stream. Knows no schema.

use super::columns::Columns;
use super::fields::Fields;
use super::row::FileRows;
use super::row_error::RowError;
use super::wrapped::{self, Layout};
use super::{input, lenient, text};
use crate::{Error, Result};
use serde_json::Value;
use std::io::{BufRead, Read};
use std::path::Path;

/// Maximum size of a row in bytes.
pub(super) const ROW_LIMIT: usize = 1 << 26;

/// How the rows of a `.json` file are laid out.
///
/// # Errors
/// The file cannot be read, or has no rows. The error says what it holds instead.
pub(super) fn layout(path: &Path) -> Result<Layout> {
    wrapped::layout(&mut *open(path)?).map_err(Error::io("read", path))?.map_err(Error::data(path))
}

/// How the rows of a file whose name promises one row per line are laid out. Such a file may begin with anything, because
/// a bad row does not make a bad file. It is an array only if its first line cannot be a row by itself.
///
/// # Errors
/// The file cannot be read.
pub(super) fn layout_of_lines(path: &Path) -> Result<Layout> {
    let layout = wrapped::layout(&mut *open(path)?).map_err(Error::io("read", path))?;
    Ok(match layout {
        Ok(Layout::Array) if is_one_array(&mut *open(path)?).map_err(Error::io("read", path))? => Layout::Array,
        Ok(Layout::Objects) => Layout::Objects,
        _ => Layout::Lines,
    })
}

/// Whether a text that begins with a bracket is one array, rather than lines of which the first is a list or is cut off.
/// It is one array if the array continues after the first line, or if only white space follows it. Reads up to the
/// first character after the first line that has content.
fn is_one_array(text: &mut dyn BufRead) -> std::io::Result<bool> {
    let mut scan = Scan::default();
    let (mut last, mut line_ended) = (0, false);
    for byte in text.bytes() {
        let byte = byte?;
        if scan.quoted {
            if byte == b'\n' {
                return Ok(false);
            }
            scan.step(byte);
            continue;
        }
        if byte.is_ascii_whitespace() {
            line_ended |= byte == b'\n' && last != 0;
            continue;
        }
        let closed = last != 0 && scan.depth == 0;
        if closed {
            return Ok(false);
        }
        if line_ended {
            return Ok(b"[{,:".contains(&last) || b",:]}".contains(&byte));
        }
        scan.step(byte);
        last = byte;
    }
    Ok(scan.depth == 0)
}

/// Whether a file is an array of texts, judging by its first characters.
pub(super) fn lists_texts(path: &Path) -> bool {
    let head = input::head(path, 256).unwrap_or_default();
    let text = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&head).trim_ascii_start();
    text.strip_prefix(b"[").is_some_and(|items| items.trim_ascii_start().starts_with(b"\""))
}

/// The texts of the rows of a JSON file.
pub type RowTexts = Box<dyn Iterator<Item = Result<Vec<u8>>> + Send>;

/// The unchanged texts of the rows of a JSON file, for copies of them.
pub struct VerbatimRows {
    /// Whether each row is a line.
    pub are_lines: bool,
    /// The texts of all rows, including rows that are not objects, so that their numbers are those of [`Row::source`].
    ///
    /// [`Row::source`]: super::Row::source
    pub texts: RowTexts,
}

/// Reads one object per line. Empty lines are not rows.
pub(super) fn lines(path: &Path) -> Result<FileRows> {
    Ok(parsed(line_texts(path)?))
}

/// Reads the elements of one array, which may be inside of an object. If it is not, nothing may follow it.
pub(super) fn array(path: &Path) -> Result<FileRows> {
    Ok(parsed(element_texts(path)?))
}

/// Reads consecutive objects, each over any number of lines.
pub(super) fn objects(path: &Path) -> Result<FileRows> {
    Ok(parsed(object_texts(path)?))
}

fn parsed(texts: RowTexts) -> FileRows {
    Box::new(texts.map(|text| text.map(|text| parse(&text))))
}

/// The texts of the lines that are not blank.
pub(super) fn line_texts(path: &Path) -> Result<RowTexts> {
    texts(open(path)?, path, |file, row| {
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

/// Counts the lines that are not blank, without parsing them.
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

/// The texts of the elements of an array.
pub(super) fn element_texts(path: &Path) -> Result<RowTexts> {
    let mut file = open(path)?;
    let start = if let Layout::List(start) = layout(path)? { Some(start) } else { None };
    if let Some(start) = start {
        std::io::copy(&mut Read::take(&mut *file, start), &mut std::io::sink()).map_err(Error::io("read", path))?;
    }
    values(file, path, start.is_none(), |scan, byte| {
        let (before, quoted) = (scan.depth, scan.quoted);
        if before == 0 && byte != b'[' {
            return Step::Between;
        }
        // A closing brace too many is part of the element.
        if byte == b'}' && before == 1 && !quoted {
            return Step::Inside;
        }
        scan.step(byte);
        match (before, scan.depth, byte) {
            (0, _, _) => Step::Between,
            (_, 0, _) => Step::End,
            (1, 1, b',') if !quoted => Step::After,
            _ => Step::Inside,
        }
    })
}

/// The texts of consecutive objects.
pub(super) fn object_texts(path: &Path) -> Result<RowTexts> {
    values(open(path)?, path, false, |scan, byte| {
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

/// The relation of a byte to the value that is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Part of the value.
    Inside,
    /// The last byte of the value.
    Last,
    /// The first byte after the value.
    After,
    /// Between two values, or before the first one.
    Between,
    /// The first byte after the last value.
    End,
}

/// The state of a scan through JSON.
#[derive(Default)]
struct Scan {
    /// How many brackets are open.
    depth: usize,
    /// Whether the last byte was inside of a string.
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

/// The texts of the values in a file, divided by `step`. If `must_end_file` is set, only white space may follow the last
/// value.
fn values(
    file: Box<dyn BufRead + Send>,
    path: &Path,
    must_end_file: bool,
    step: impl Fn(&mut Scan, u8) -> Step + Send + 'static,
) -> Result<RowTexts> {
    let mut scan = Scan::default();
    let mut ended = false;
    texts(file, path, move |file, row| {
        while !ended {
            let buffer = file.fill_buf()?;
            if buffer.is_empty() {
                ended = true;
                // A file that was cut off ends inside of a value, or lacks the bracket after the last one.
                if scan.depth > 0 || scan.quoted {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                return Ok(!row.is_empty());
            }
            let (mut used, mut last) = (0, Step::Between);
            while !matches!(last, Step::Last | Step::After | Step::End) && used < buffer.len() {
                last = step(&mut scan, buffer[used]);
                if matches!(last, Step::Inside | Step::Last) && row.len() <= ROW_LIMIT {
                    row.push(buffer[used]);
                }
                used += 1;
            }
            file.consume(used);
            ended = last == Step::End;
            if matches!(last, Step::Last | Step::After | Step::End) && !row.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
        // The rest is read in any case, so that damage of a compressed file is found.
        let mut is_blank = true;
        for byte in file.bytes() {
            is_blank &= byte?.is_ascii_whitespace();
        }
        if must_end_file && !is_blank {
            let cause = "more text follows the end of the array; expected one array, or an object per line";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, cause));
        }
        Ok(false)
    })
}

fn open(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    text::reader(input::open(path)?).map_err(Error::io("read", path))
}

/// The texts of rows that `next` finds: it fills the buffer and returns whether there was another row.
fn texts(
    mut file: Box<dyn BufRead + Send>,
    path: &Path,
    mut next: impl FnMut(&mut dyn BufRead, &mut Vec<u8>) -> std::io::Result<bool> + Send + 'static,
) -> Result<RowTexts> {
    let path = path.to_path_buf();
    let mut ended = false;
    Ok(Box::new(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut row = Vec::new();
        match next(&mut *file, &mut row) {
            Ok(true) => Some(Ok(row)),
            Ok(false) => {
                ended = true;
                None
            }
            Err(error) => {
                ended = true;
                Some(Err(Error::io("read on", &path)(error)))
            }
        }
    })))
}

/// Parses the columns of a row.
fn parse(row: &[u8]) -> Result<Columns, RowError> {
    if row.len() > ROW_LIMIT {
        return Err(format!("the row is longer than {ROW_LIMIT} bytes").into());
    }
    let fields = match lenient::value(row)? {
        // `datasets` also reads a list of texts as a column `text`.
        text @ Value::String(_) => Fields::from_iter([("text".to_owned(), text)]),
        other => lenient::into_object(other)?,
    };
    Ok(Columns { fields, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::format::{Format, verbatim_rows};

    fn read(name: &str, content: &str) -> Vec<Result<Columns, RowError>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let rows = match layout(&path).unwrap() {
            Layout::Array | Layout::List(_) => array(&path),
            Layout::Objects => objects(&path),
            Layout::Lines => lines(&path),
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
    fn strings_are_rows_with_a_text() {
        let rows = read("a.json", r#"["one", {"text": "two"}]"#);
        assert_eq!(rows.into_iter().map(|row| row.unwrap().fields["text"].clone()).collect::<Vec<_>>(), ["one", "two"]);
    }

    /// The texts of the rows of a `.jsonl` file, or `None` for a row that is skipped.
    fn texts_of_jsonl(content: &[u8]) -> Vec<Option<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, content).unwrap();
        let rows = Format::detect(&path).unwrap().unwrap().rows(&path, &Default::default()).unwrap();
        rows.map(|row| row.unwrap().ok().map(|row| row.fields["text"].as_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn an_array_in_a_jsonl_file_is_distinguished_from_lines_that_are_lists() {
        let two = [Some("one".to_owned()), Some("two".to_owned())];
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        for array in [
            r#"[{"text": "one"},{"text": "two"}]"#,
            "[{\"text\": \"one\"}, {\"text\": \"two\"}]\r\n\n",
            "\u{feff} \r\n [{\"text\": \"one\"},\n{\"text\": \"two\"}]",
            "\n[ {\n\"text\": \"one\"\n},\n{\"text\": \"two\"} ]",
            "[{\"text\":\n\"one\"},{\"text\": \"two\"}]",
            "[{\"text\": \"one\"}\n,{\"text\": \"two\"}\n]\n",
            "[\n\n{\"text\": \"one\"}\n,{\"text\": \"two\"}]\n",
            r#"["one", "two"]"#,
        ] {
            assert_eq!(texts_of_jsonl(array.as_bytes()), two, "{array}");
            assert_eq!(texts_of_jsonl(&utf16(array)), two, "{array}");
        }
        assert!(texts_of_jsonl(b"[]\n").is_empty());
        for (lines, expected) in [
            ("[{\"text\": \"one\"}]\n[{\"text\": \"two\"}]\n", vec![None, None]),
            ("[{\"text\": \"one\"}] [{\"text\": \"two\"}]", vec![None]),
            ("[]\n{\"text\": \"two\"}\n", vec![None, two[1].clone()]),
            ("[\"cut\n{\"text\": \"two\"}\n", vec![None, two[1].clone()]),
            ("[cut\n{\"text\": \"two\"}\n", vec![None, two[1].clone()]),
            ("{\"text\": \"one\"}\n[{\"text\": \"two\"}]", vec![two[0].clone(), None]),
        ] {
            assert_eq!(texts_of_jsonl(lines.as_bytes()), expected, "{lines}");
        }
    }

    #[test]
    fn texts_of_rows_are_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let rows = ["{\"n\": 0}", "7", "{\"n\": 1.50, \"s\": \"a,]\\\"\", \"x\": NaN}", "{ \"n\":2 ,\n\"m\": [] }"];
        for (name, content, are_lines, rows) in [
            ("a.json", format!("\u{feff} [{}]", rows.join(" ,")), false, &rows[..]),
            ("a.jsonl", format!("[{}]", rows.join(",")), false, &rows),
            ("a.jsonl", rows[..3].join("\n\n"), true, &rows[..3]),
            ("a.json", format!("{}\n{}", rows[3], rows[0]), false, &[rows[3], rows[0]]),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, &content).unwrap();
            let found = verbatim_rows(&path).unwrap().unwrap();
            let texts: Vec<_> = found.texts.map(|text| String::from_utf8(text.unwrap()).unwrap()).collect();
            assert_eq!(texts.iter().map(|text| text.trim()).collect::<Vec<_>>(), rows, "{content}");
            assert_eq!(found.are_lines, are_lines, "{content}");
        }
        let path = dir.path().join("wrapped.json");
        std::fs::write(&path, "{\"data\": [{\"n\": 1}]}").unwrap();
        assert!(verbatim_rows(&path).unwrap().is_none());
    }

    #[test]
    fn text_after_an_array_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        for content in ["[{\"a\": 1}]\n[{\"a\": 2}]", "[{\"a\": 1}]]", "[{\"a\": 1}] {\"a\": 2}"] {
            std::fs::write(&path, content).unwrap();
            let rows: Vec<_> = array(&path).unwrap().collect();
            let [Ok(Ok(_)), Err(error)] = &rows[..] else { panic!("{content}") };
            assert!(error.to_string().contains("more text follows the end of the array"), "{error}");
        }
        std::fs::write(&path, "{\"data\": [{\"a\": 1}], \"version\": 1}").unwrap();
        let rows: Vec<_> = array(&path).unwrap().collect();
        assert!(matches!(&rows[..], [Ok(Ok(_))]), "keys of the object may follow its list of rows");
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
