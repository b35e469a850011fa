//! The layout of a `.json` file: an array, lines, objects over several lines, or one object that contains the list of rows,
//! such as `{"data": [...]}`. Reads only the keys of the outermost object, in bounded memory.

use std::io::{self, BufRead};

/// Keys of the list of rows in a file that is one object.
const ROWS: [&str; 12] = [
    "data",
    "rows",
    "train",
    "validation",
    "test",
    "examples",
    "samples",
    "instances",
    "items",
    "records",
    "annotations",
    "questions",
];

/// Keys of a row. An object that has one of them is a row, and not a container of rows.
const ROW: [&str; 8] = ["conversations", "messages", "text", "texts", "caption", "question", "prompt", "instruction"];

/// Maximum number of keys that are read.
const KEY_LIMIT: usize = 256;

/// Maximum number of bytes of a key that are kept.
const KEY_LENGTH: usize = 64;

/// How the rows of a file are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One array.
    Array,
    /// One object per line.
    Lines,
    /// Consecutive objects, each over several lines.
    Objects,
    /// A list inside of one object. The list begins at this byte.
    List(u64),
}

/// Finds the layout of a text.
///
/// # Errors
/// The text cannot be read (outer error), or it has no rows (inner error). The inner error says what it holds instead.
pub(super) fn layout(text: &mut dyn BufRead) -> io::Result<Result<Layout, String>> {
    let mut scan = Scan::default();
    let begun = scan.run(text)?;
    Ok(match (begun, scan.state) {
        (Some(b'['), _) => Ok(Layout::Array),
        (Some(b'{'), State::Followed) if scan.lines > 0 => Ok(Layout::Objects),
        (Some(b'{'), State::Followed) => Ok(Layout::Lines),
        (Some(b'{'), ended) => scan.list(ended),
        _ => Err("the file is neither a JSON array nor lines of JSON".into()),
    })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The text ends inside of the object, or the object is damaged.
    #[default]
    Inside,
    /// The text ends after the object, which has several lines.
    Ended,
    /// The text ends after the object, which has one line.
    Line,
    /// Another value follows the object.
    Followed,
}

/// A scan of the outermost object of a text.
#[derive(Default)]
struct Scan {
    state: State,
    /// Line breaks in the object.
    lines: u64,
    /// Its keys, each with the first byte of its value and the offset of this byte.
    keys: Vec<(String, u8, u64)>,
}

impl Scan {
    /// Reads up to the first byte that follows the object. Returns the first byte of the text that is not white space.
    fn run(&mut self, text: &mut dyn BufRead) -> io::Result<Option<u8>> {
        let (mut first, mut depth, mut quoted, mut escaped) = (None, 0u64, false, false);
        let (mut string, mut key) = (Vec::new(), None);
        let mut at = 0;
        loop {
            let buffer = text.fill_buf()?;
            if buffer.is_empty() {
                return Ok(first);
            }
            for &byte in buffer {
                let here = at;
                at += 1;
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if quoted => escaped = true,
                    b'"' => {
                        quoted = !quoted;
                        if quoted {
                            string.clear();
                        }
                    }
                    // The row was cut off inside of a string, because a string cannot contain a line break.
                    b'\n' if quoted => return Ok(first),
                    _ if quoted => {
                        if depth == 1 && string.len() < KEY_LENGTH {
                            string.push(byte);
                        }
                        continue;
                    }
                    b'\n' if first.is_some() && self.state == State::Inside => self.lines += 1,
                    byte if byte.is_ascii_whitespace() => continue,
                    _ => {}
                }
                if byte.is_ascii_whitespace() {
                    continue;
                }
                if self.state != State::Inside {
                    self.state = State::Followed;
                    return Ok(first);
                }
                if first.is_none() {
                    first = Some(byte);
                    if byte != b'{' {
                        return Ok(first);
                    }
                }
                if let Some(name) = key.take() {
                    self.keys.push((name, byte, here));
                } else if byte == b'{' && depth == 1 && !quoted {
                    // Another row begins where a key was expected, so the previous row was cut off.
                    return Ok(first);
                }
                match byte {
                    b':' if depth == 1 && !quoted && self.keys.len() < KEY_LIMIT => {
                        key = Some(String::from_utf8_lossy(&string).into_owned());
                    }
                    b'{' | b'[' if !quoted => depth += 1,
                    b'}' | b']' if !quoted => {
                        depth = depth.saturating_sub(1);
                        if depth == 0 {
                            self.state = if self.lines == 0 { State::Line } else { State::Ended };
                        }
                    }
                    _ => {}
                }
            }
            let used = buffer.len();
            text.consume(used);
        }
    }

    /// The layout of a text that begins with an object.
    fn list(&self, state: State) -> Result<Layout, String> {
        let names = |keys: &[&(String, u8, u64)]| keys.iter().map(|key| key.0.as_str()).collect::<Vec<_>>().join(", ");
        let has = |name: &str| self.keys.iter().any(|key| key.0 == name);
        if state != State::Ended && ROW.iter().any(|name| has(name)) {
            return Ok(Layout::Lines);
        }
        let wrong = |what: String| Err(format!("{what}; expected a JSON array of rows, or one object per line"));
        if has("images") && has("annotations") {
            return wrong("the file holds annotations of COCO, whose images and texts are in separate lists".into());
        }
        if has("columns") && has("data") {
            return wrong("the file is a table with rows of values (orient=\"split\")".into());
        }
        let lists: Vec<_> = self.keys.iter().filter(|key| key.1 == b'[' && ROWS.contains(&key.0.as_str())).collect();
        match lists[..] {
            [list] => Ok(Layout::List(list.2)),
            [] if state != State::Ended => Ok(Layout::Lines),
            [] if self.keys.iter().any(|key| b"[\"".contains(&key.1) && ROW.contains(&key.0.as_str())) => {
                Ok(Layout::Objects)
            }
            [] => wrong(format!("the file is one JSON object ({})", names(&self.keys.iter().collect::<Vec<_>>()))),
            _ => wrong(format!("the file is one object with several lists of rows ({})", names(&lists))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<Layout, String> {
        layout(&mut text.as_bytes()).unwrap()
    }

    #[test]
    fn rows_in_a_list_of_one_object_are_found() {
        let wrapped = "{\"version\": \"a[{\\\"\", \"meta\": {\"data\": [1]},\n \"data\" : [{\"text\": \"}\"}]}\n";
        assert_eq!(found(wrapped), Ok(Layout::List(wrapped.rfind('[').unwrap() as u64)));
        assert_eq!(found("{\"train\": [{\"text\": \"a\"}]}"), Ok(Layout::List(10)));
        for lines in [
            "{\"text\": \"a\"}\n{\"text\": \"b\"}",
            "{\"data\": [1]}\n{\"data\": [2]}",
            "{\"text\": \"a\", \"data\": []}",
        ] {
            assert_eq!(found(lines), Ok(Layout::Lines), "{lines}");
        }
        assert_eq!(found("\n [1]"), Ok(Layout::Array));
    }

    #[test]
    fn objects_over_several_lines_are_distinguished_from_lines_that_are_cut_off() {
        for objects in ["{\n\"text\": \"a\"\n}\n", "{\n\"a\": [\n{}\n]\n}\n{\"a\": []}", "{\"a\":\n{\"b\": 1}}\n\n{}"] {
            assert_eq!(found(objects), Ok(Layout::Objects), "{objects}");
        }
        for lines in ["{\"a\": \"cut\n{\"a\": \"\"}\n{}", "{\"a\": 1,\n{\"a\": 2}}\n{}", "{\"a\": [\n{\"a\": 2}\n{}"] {
            assert_eq!(found(lines), Ok(Layout::Lines), "{lines}");
        }
    }

    #[test]
    fn objects_without_exactly_one_list_of_rows_are_rejected() {
        let reasons = [
            ("{\"images\": [], \"annotations\": []}", "COCO"),
            ("{\"columns\": [], \"index\": [], \"data\": []}", "split"),
            ("{\"train\": [], \"test\": []}", "several lists of rows (train, test)"),
            ("{\n\"text\": {\"0\": \"a\"}\n}", "one JSON object (text)"),
            ("<html>", "neither"),
            ("", "neither"),
        ];
        for (text, reason) in reasons {
            assert!(found(text).unwrap_err().contains(reason), "{text}");
        }
    }
}
