//! The front matter of a data set's `README.md`, whose `configs` name the files of the data, as on the hub. Reads the subset
//! of YAML in which such front matter is written, and ignores front matter that uses anything else.

use super::notes::Notes;
use crate::{Error, Result};
use sae_core::path_text;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Maximum number of bytes of a card that are read.
const LIMIT: u64 = 1 << 20;

/// The files below `root` that its card names. Nothing if the card names no existing file, or if it has several
/// configurations of which none is the default.
///
/// # Errors
/// The card cannot be read.
pub(super) fn data_files(root: &Path, files: &[PathBuf], notes: &Notes) -> Result<Option<Vec<PathBuf>>> {
    let path = root.join("README.md");
    if !path.is_file() {
        return Ok(None);
    }
    let mut text = Vec::new();
    let file = File::open(&path).map_err(Error::io("open", &path))?;
    file.take(LIMIT).read_to_end(&mut text).map_err(Error::io("read", &path))?;
    let Some(configs) = configs(&String::from_utf8_lossy(&text)) else { return Ok(None) };
    let Some(config) = chosen(&configs, notes) else { return Ok(None) };
    let patterns = patterns(config);
    let below = |path: &PathBuf| path_text::encode(path.strip_prefix(root).unwrap_or(path));
    let named = files.iter().filter(|path| patterns.iter().any(|pattern| matches(pattern, &below(path))));
    let named: Vec<_> = named.cloned().collect();
    Ok((!named.is_empty()).then_some(named))
}

fn name(config: &Value) -> &str {
    config["config_name"].as_str().unwrap_or("default")
}

/// The configuration that is used.
fn chosen<'a>(configs: &'a [Value], notes: &Notes) -> Option<&'a Value> {
    let default = |config: &&Value| config["default"] == "true" || name(config) == "default";
    let found = if configs.len() == 1 { configs.first() } else { configs.iter().find(default) };
    let others: Vec<_> = configs.iter().filter(|config| found != Some(config)).map(name).collect();
    match (found, others.as_slice()) {
        (_, []) => {}
        (Some(found), others) => notes.add(format!(
            "README.md: configuration {} is read, and not {}; to read one, name its files",
            name(found),
            others.join(", ")
        )),
        (None, others) => notes.add(format!(
            "README.md: configurations {} are read together; to read one, name its files",
            others.join(", ")
        )),
    }
    found
}

/// The patterns of a configuration. `data_files` is a pattern, a list of patterns, or a list of splits with patterns.
fn patterns(config: &Value) -> Vec<String> {
    fn collect(value: &Value, patterns: &mut Vec<String>) {
        match value {
            Value::String(pattern) => patterns.push(pattern.clone()),
            Value::Array(values) => values.iter().for_each(|value| collect(value, patterns)),
            value => value.get("path").into_iter().for_each(|path| collect(path, patterns)),
        }
    }
    let mut patterns = Vec::new();
    collect(&config["data_files"], &mut patterns);
    if let Some(folder) = config["data_dir"].as_str() {
        let folder = folder.trim_end_matches('/');
        if patterns.is_empty() {
            patterns.push(format!("{folder}/**"))
        } else {
            patterns.iter_mut().for_each(|pattern| *pattern = format!("{folder}/{pattern}"))
        }
    }
    patterns.iter_mut().for_each(|pattern| *pattern = pattern.trim_start_matches("./").to_owned());
    patterns
}

/// The list `configs` in the front matter of a card.
fn configs(card: &str) -> Option<Vec<Value>> {
    let head = card.trim_start_matches('\u{feff}').strip_prefix("---")?;
    let lines = head.lines().take_while(|line| line.trim_end() != "---");
    let block = lines.skip_while(|line| line.trim_end() != "configs:").skip(1);
    let block = block.take_while(|line| line.is_empty() || line.starts_with([' ', '-', '#']));
    let mut lines = Vec::new();
    for line in block.filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        let text = line.trim_start_matches(' ');
        lines.push((line.len() - text.len(), text.trim_end()));
    }
    let mut yaml = Yaml { lines, at: 0 };
    let configs = yaml.block(yaml.lines.first()?.0, 0)?;
    match configs {
        Value::Array(configs) if yaml.at == yaml.lines.len() && !configs.is_empty() => Some(configs),
        _ => None,
    }
}

/// A parser for blocks of YAML: lists, mappings, and scalars on one line, which remain text.
struct Yaml<'a> {
    /// Lines with their indentation, without empty lines and comments.
    lines: Vec<(usize, &'a str)>,
    at: usize,
}

/// Maximum depth of nested blocks. Cards have five levels.
const DEPTH: usize = 16;

impl<'a> Yaml<'a> {
    fn line(&self, indent: usize) -> Option<&'a str> {
        self.lines.get(self.at).filter(|(found, _)| *found == indent).map(|(_, text)| *text)
    }

    /// The block of lines with this indentation that begins at the current line.
    fn block(&mut self, indent: usize, depth: usize) -> Option<Value> {
        let first = self.line(indent).filter(|_| depth < DEPTH)?;
        if is_item(first) {
            self.list(indent, depth)
        } else if key(first).is_some() {
            self.mapping(indent, depth)
        } else {
            self.at += 1;
            scalar(first)
        }
    }

    fn list(&mut self, indent: usize, depth: usize) -> Option<Value> {
        let mut items = Vec::new();
        while let Some(text) = self.line(indent).filter(|text| is_item(text)) {
            let rest = text[1..].trim_start();
            if rest.is_empty() {
                self.at += 1;
                items.push(self.child(indent, depth)?);
            } else {
                // The text after the dash is the first line of a nested block.
                let inner = indent + text.len() - rest.len();
                self.lines[self.at] = (inner, rest);
                items.push(self.block(inner, depth + 1)?);
            }
        }
        Some(Value::Array(items))
    }

    fn mapping(&mut self, indent: usize, depth: usize) -> Option<Value> {
        let mut fields = Map::new();
        while let Some((name, rest)) = self.line(indent).filter(|text| !is_item(text)).and_then(key) {
            self.at += 1;
            let value = if !rest.is_empty() {
                scalar(rest)?
            } else if self.line(indent).is_some_and(is_item) {
                // A list may have the same indentation as its key.
                self.list(indent, depth + 1)?
            } else {
                self.child(indent, depth)?
            };
            fields.insert(name, value);
        }
        Some(Value::Object(fields))
    }

    /// The block that is indented further than `indent`, or nothing.
    fn child(&mut self, indent: usize, depth: usize) -> Option<Value> {
        match self.lines.get(self.at) {
            Some((inner, _)) if *inner > indent => self.block(*inner, depth + 1),
            _ => Some(Value::Null),
        }
    }
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

fn key(text: &str) -> Option<(String, &str)> {
    if text.starts_with(['"', '\'', '[', '{']) {
        return None;
    }
    let (name, rest) = text.split_once(": ").or_else(|| Some((text.strip_suffix(':')?, "")))?;
    Some((name.trim().to_owned(), rest.trim()))
}

/// A string, quoted or not, or a list of strings in brackets.
fn scalar(text: &str) -> Option<Value> {
    if let Some(list) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
        return items.map(scalar).collect::<Option<Vec<_>>>().map(Value::Array);
    }
    if text.starts_with('"') {
        return serde_json::from_str(text).ok();
    }
    if let Some(quoted) = text.strip_prefix('\'') {
        return quoted.strip_suffix('\'').map(|text| text.replace("''", "'").into());
    }
    let plain = text.split_once(" #").map_or(text, |(text, _)| text.trim_end());
    (!plain.starts_with(['|', '>', '&', '{', '!'])).then(|| plain.into())
}

/// Whether a path matches a pattern: `**` stands for anything, `*` and `?` for characters other than slashes, and `[ab]` for
/// one of these characters.
fn matches(pattern: &str, path: &str) -> bool {
    let path: Vec<char> = path.chars().collect();
    // The positions in the path that the pattern so far can end at.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let mut next = vec![false; path.len() + 1];
        if let Some(after) = rest.strip_prefix("**/") {
            // Any number of folders, also none.
            for at in (0..reached.len()).filter(|at| reached[*at]) {
                next[at] = true;
                (at..path.len()).filter(|end| path[*end] == '/').for_each(|end| next[end + 1] = true);
            }
            rest = after;
        } else if let Some(after) = rest.strip_prefix("**") {
            let first = reached.iter().position(|reached| *reached).unwrap_or(next.len());
            next[first..].fill(true);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('*') {
            let mut open = false;
            for at in 0..reached.len() {
                open = reached[at] || (open && path[at - 1] != '/');
                next[at] = open;
            }
            rest = after;
        } else {
            let (one, after) = one(rest, first);
            (0..path.len()).for_each(|at| next[at + 1] = reached[at] && one.takes(path[at]));
            rest = after;
        }
        reached = next;
    }
    reached[path.len()]
}

/// A part of a pattern that stands for one character.
enum One<'a> {
    Char(char),
    NoSlash,
    /// The inside of brackets: characters and ranges of characters, negated if it begins with `!`.
    Class(&'a str),
}

impl One<'_> {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Char(expected) => *expected == c,
            Self::NoSlash => c != '/',
            Self::Class(class) => match class.strip_prefix('!') {
                Some(class) => c != '/' && !in_class(class, c),
                None => in_class(class, c),
            },
        }
    }
}

fn in_class(class: &str, c: char) -> bool {
    let class: Vec<char> = class.chars().collect();
    class.contains(&c) || class.windows(3).any(|range| range[1] == '-' && (range[0]..=range[2]).contains(&c))
}

/// The part of a pattern that stands for one character, and the rest of the pattern.
fn one(pattern: &str, first: char) -> (One<'_>, &str) {
    let after = &pattern[first.len_utf8()..];
    match first {
        '?' => (One::NoSlash, after),
        '[' => match after.char_indices().skip(1).find(|(_, c)| *c == ']') {
            Some((end, _)) => (One::Class(&after[..end]), &after[end + 1..]),
            None => (One::Char(first), after),
        },
        _ => (One::Char(first), after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn front_matter_is_read_as_the_hub_writes_it() {
        let nested = "---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n  \
                      - split: test\n    path:\n    - \"data/test-*\"\n    - 'more''s'\ntags:\n- a\n---\n# Title\n";
        assert_eq!(
            configs(nested).unwrap(),
            [json!({"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"},
                {"split": "test", "path": ["data/test-*", "more's"]}]})]
        );
        let short = "---\r\nconfigs:\r\n  - config_name: a   # the first\r\n    data_files: \"a.csv\"\r\n\r\n  -\r\n    \
                     config_name: b\r\n    data_files: [b.csv, c.csv]\r\n    default: true\r\n---";
        assert_eq!(
            configs(short).unwrap(),
            [
                json!({"config_name": "a", "data_files": "a.csv"}),
                json!({"config_name": "b", "data_files": ["b.csv", "c.csv"], "default": "true"})
            ]
        );
        for none in [
            "# Title",
            "---\nlicense: mit\n---",
            "---\nconfigs:\n---",
            "---\nconfigs:\n- a: |\n    x\n---",
            "---\nconfigs:\n- a: 1\n   b\n---",
        ] {
            assert_eq!(configs(none), None, "{none:?}");
        }
        let deep = format!("---\nconfigs:\n{}a\n---", "- ".repeat(100_000));
        assert_eq!(configs(&deep), None);
    }

    #[test]
    fn patterns_match_paths() {
        for (pattern, path) in [
            ("data/train-*", "data/train-0.parquet"),
            ("**/*.csv", "a/b/c.csv"),
            ("**/*.csv", "c.csv"),
            ("data/**", "data/a/b"),
            ("a?c", "abc"),
            ("a[[]1].jsonl", "a[1].jsonl"),
            ("*", "é"),
            ("t-[0-9][!x].p", "t-7y.p"),
            ("[é]", "é"),
            ("a*b*c", "a-b-b-c"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("data/train-*", "data/train-0/a"),
            ("*.csv", "a/b.csv"),
            ("a?c", "a/c"),
            ("[ab]", "c"),
            ("a", "ab"),
            ("", "a"),
            ("[", "a"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn a_configuration_names_files_of_its_folder() {
        let patterns_of = |config: Value| patterns(&config);
        assert_eq!(patterns_of(json!({"data_dir": "en/"})), ["en/**"]);
        assert_eq!(patterns_of(json!({"data_dir": "en", "data_files": ["./a.csv"]})), ["en/./a.csv"]);
        assert_eq!(patterns_of(json!({"data_files": "./a.csv"})), ["a.csv"]);
    }
}
