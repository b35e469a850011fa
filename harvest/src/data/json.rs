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

/// The same for a file that is named as lines: it may begin as anything, since a bad row is no bad file. It is an array
/// only if its first line cannot be a row of its own.
pub(super) fn format_of_lines(path: &Path) -> Result<Format> {
    let layout = layout(&mut *open(path)?).map_err(Error::io("read", path))?;
    Ok(match layout {
        Ok(Layout::Array) if is_one_array(&mut *open(path)?).map_err(Error::io("read", path))? => Format::JsonArray,
        Ok(Layout::Objects) => Format::JsonObjects,
        _ => Format::JsonLines,
    })
}

/// Whether a text that begins with a bracket is one array, rather than lines of which the first is a list or is cut off:
/// the array goes on behind the first line, or nothing but white space follows it. Reads up to the first line break outside
/// of strings that is not blank, and one character more.
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

/// Whether a file is an array of texts, by its first characters.
pub(super) fn lists_texts(path: &Path) -> bool {
    let head = input::head(path, 256).unwrap_or_default();
    let text = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&head).trim_ascii_start();
    text.strip_prefix(b"[").is_some_and(|items| items.trim_ascii_start().starts_with(b"\""))
}

fn file_layout(path: &Path) -> Result<Layout> {
    layout(&mut *open(path)?).map_err(Error::io("read", path))?.map_err(Error::data(path))
}

/// The text of every row of a JSON file, one after the other.
pub type RowTexts = Box<dyn Iterator<Item = Result<Vec<u8>>> + Send>;

/// The rows of a JSON file as they stand there, for copies of them.
pub struct VerbatimRows {
    /// Whether each row is a line of its own.
    pub are_lines: bool,
    /// The texts of the rows, those that are no objects included, so that their numbers are those of [`Row::source`].
    ///
    /// [`Row::source`]: super::Row::source
    pub texts: RowTexts,
}

/// The rows of a JSON file as they stand there; nothing if the file has another format, or its rows lie in a list of one
/// object.
///
/// # Errors
/// The file cannot be read.
pub fn verbatim_rows(path: &Path) -> Result<Option<VerbatimRows>> {
    let rows = |are_lines, texts| Ok(Some(VerbatimRows { are_lines, texts }));
    match Format::detect(path)? {
        Some(Format::JsonLines) => rows(true, line_texts(path)?),
        Some(Format::JsonObjects) => rows(false, object_texts(path)?),
        Some(Format::JsonArray) if file_layout(path)? == Layout::Array => rows(false, element_texts(path)?),
        _ => Ok(None),
    }
}

/// An object a line; empty lines are no rows.
pub(super) fn lines(path: &Path) -> Result<FileRows> {
    Ok(parsed(line_texts(path)?))
}

/// The elements of one array, which may lie in an object. Nothing may follow an array that lies in no object.
pub(super) fn array(path: &Path) -> Result<FileRows> {
    Ok(parsed(element_texts(path)?))
}

/// Objects one behind the other, each over as many lines as it takes.
pub(super) fn objects(path: &Path) -> Result<FileRows> {
    Ok(parsed(object_texts(path)?))
}

fn parsed(texts: RowTexts) -> FileRows {
    Box::new(texts.map(|text| text.map(|text| parse(&text))))
}

fn line_texts(path: &Path) -> Result<RowTexts> {
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

fn element_texts(path: &Path) -> Result<RowTexts> {
    let mut file = open(path)?;
    let start = if let Layout::List(start) = file_layout(path)? { Some(start) } else { None };
    if let Some(start) = start {
        std::io::copy(&mut Read::take(&mut *file, start), &mut std::io::sink()).map_err(Error::io("read", path))?;
    }
    values(file, path, start.is_none(), |scan, byte| {
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

fn object_texts(path: &Path) -> Result<RowTexts> {
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

/// The values of a file, as `step` cuts them. If they have to end the file, only white space may follow the last one.
fn values(
    file: Box<dyn BufRead + Send>,
    path: &Path,
    must_end_file: bool,
    step: impl Fn(&mut Scan, u8) -> Step + Send + 'static,
) -> Result<RowTexts> {
    let mut scan = Scan::default();
    let mut over = false;
    texts(file, path, move |file, row| {
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
            over = last == Step::Over;
            if matches!(last, Step::Last | Step::Behind | Step::Over) && !row.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
        // The rest is read in any case, so that damage of a packed file is found.
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

/// Texts of rows as `next` finds them: it fills the buffer and says whether there was another.
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

    /// Rows of a file that is named as lines: the texts of the rows, or `None` for a row that is skipped.
    fn texts_of_jsonl(content: &[u8]) -> Vec<Option<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, content).unwrap();
        let rows = Format::detect(&path).unwrap().unwrap().rows(&path, &Default::default()).unwrap();
        rows.map(|row| row.unwrap().ok().map(|row| row.fields["text"].as_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn an_array_in_a_file_of_lines_is_told_from_lines_that_are_lists() {
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
    fn texts_of_rows_are_those_of_the_file() {
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
    fn text_behind_an_array_is_an_error() {
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
