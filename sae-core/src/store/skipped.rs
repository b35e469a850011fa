//! Rows of the data that became no sample. Each is a line of `skipped.jsonl`, appended while the store is written. A few rows for
//! each kind of reason are kept in memory and in `run.json`, so that a data set with millions of bad rows needs bounded memory.

use crate::error::Hint;
use crate::store::run::Run;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Characters of the longest reason.
const REASON_LIMIT: usize = 300;

/// Characters of the longest value that a message repeats.
const VALUE_LIMIT: usize = 120;

/// Rows of one kind of reason that are kept, and kinds of which rows are kept.
const KEPT_ROWS: u64 = 10;
const KEPT_KINDS: usize = 50;

/// Characters in which reasons of different kinds differ: what follows is mostly a path or a value.
const KIND_LENGTH: usize = 40;

/// Bytes of the longest line of `skipped.jsonl`.
const LINE_LIMIT: u64 = 1 << 16;

/// A row of the data that became no sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Skipped {
    /// Row in the data, from 0.
    pub row: u64,
    /// The key of the row in the data set, as far as it could be read.
    pub key: String,
    /// Why, in one line of at most 300 characters.
    pub reason: String,
    /// What can be done about it, if this is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
}

impl Skipped {
    /// A row that was skipped. Line breaks in the reason become semicolons, and what is too long is cut.
    pub fn new(row: u64, key: &str, reason: &str) -> Self {
        let lines = reason.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>();
        Self { row, key: brief(key), reason: cut(&lines.join("; "), REASON_LIMIT), hint: None }
    }

    /// The same row with what can be done about it.
    #[must_use]
    pub fn with_hint(self, hint: Option<Hint>) -> Self {
        Self { hint, ..self }
    }

    /// The kind of its reason: its beginning, without numbers.
    fn kind(&self) -> String {
        let mut kind: Vec<char> =
            self.reason.chars().take(KIND_LENGTH).map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
        kind.dedup_by(|a, b| *a == '#' && *b == '#');
        kind.into_iter().collect()
    }
}

/// A value of the data as a message may repeat it: on one line, and cut to a short length.
pub fn brief(value: &str) -> String {
    cut(value, VALUE_LIMIT)
}

/// A text on one line, cut to so many characters.
fn cut(text: &str, limit: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    match text.char_indices().nth(limit) {
        Some((end, _)) => text[..end].chars().take(limit - 1).map(plain).chain(['…']).collect(),
        None => text.chars().map(plain).collect(),
    }
}

/// How many rows were skipped, and the first of every kind of reason.
#[derive(Clone, Debug, Default)]
pub struct SkipList {
    rows: u64,
    first: Vec<Skipped>,
    kinds: BTreeMap<String, SkipKind>,
}

/// Rows that were skipped for one kind of reason.
#[derive(Clone, Copy, Debug)]
struct SkipKind {
    rows: u64,
    /// The place of the first of them in [`SkipList::first`].
    first: usize,
}

impl SkipList {
    /// Counts a row, and keeps it if it is among the first with such a reason.
    pub fn push(&mut self, skipped: Skipped) {
        self.rows += 1;
        let kind = skipped.kind();
        if self.kinds.len() == KEPT_KINDS && !self.kinds.contains_key(&kind) {
            return;
        }
        let kind = self.kinds.entry(kind).or_insert(SkipKind { rows: 0, first: self.first.len() });
        kind.rows += 1;
        if kind.rows <= KEPT_ROWS {
            self.first.push(skipped);
        }
    }

    /// The kinds of reasons, at most 50 of them, with the first row of each and their numbers of rows; the most frequent first.
    pub fn kinds(&self) -> Vec<(&Skipped, u64)> {
        let mut kinds: Vec<_> = self.kinds.values().map(|kind| (&self.first[kind.first], kind.rows)).collect();
        kinds.sort_by_key(|(first, rows)| (std::cmp::Reverse(*rows), first.row));
        kinds
    }

    /// Rows that were skipped.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The first of them of every kind of reason, in the order of the data.
    pub fn first(&self) -> &[Skipped] {
        &self.first
    }

    /// [`SkipList::first`], without the list.
    pub fn into_first(self) -> Vec<Skipped> {
        self.first
    }
}

impl Extend<Skipped> for SkipList {
    fn extend<T: IntoIterator<Item = Skipped>>(&mut self, rows: T) {
        rows.into_iter().for_each(|row| self.push(row));
    }
}

/// `skipped.jsonl` of a run while it is written.
pub(super) struct SkipFile {
    path: PathBuf,
    /// Opened with the first row: a run without skipped rows has no such file.
    out: Option<BufWriter<File>>,
    list: SkipList,
}

impl SkipFile {
    /// The file of a store that is complete, to which nothing is added.
    pub fn finished(run: &Run) -> Self {
        Self { path: run.skipped(), out: None, list: SkipList::default() }
    }

    /// Continues after the rows before `end`. Later rows, which belong to an unfinished part, are dropped.
    ///
    /// # Errors
    /// The file cannot be read or shortened.
    pub fn open(run: &Run, end: u64) -> Result<Self> {
        let path = run.skipped();
        let mut list = SkipList::default();
        if path.exists() {
            let mut length = 0;
            for line in lines(&path)? {
                let (skipped, bytes) = line?;
                let Some(skipped) = skipped.filter(|skipped| skipped.row < end) else { break };
                list.push(skipped);
                length += bytes;
            }
            let file = File::options().write(true).open(&path).map_err(Error::io("open", &path))?;
            file.set_len(length).map_err(Error::io("shorten", &path))?;
        }
        Ok(Self { path, out: None, list })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, rows: &[Skipped]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let out = match &mut self.out {
            Some(out) => out,
            none => {
                let file = File::options().append(true).create(true).open(&self.path);
                none.insert(BufWriter::new(file.map_err(Error::io("create", &self.path))?))
            }
        };
        for row in rows {
            let line = serde_json::to_string(row).map_err(Error::format(&self.path))?;
            writeln!(out, "{line}").map_err(Error::io("write", &self.path))?;
            self.list.push(row.clone());
        }
        Ok(())
    }

    /// Flushes everything that was appended to the disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn sync(&mut self) -> Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        out.flush().and_then(|()| out.get_ref().sync_data()).map_err(Error::io("write", &self.path))
    }

    /// What was skipped so far.
    pub fn list(&self) -> &SkipList {
        &self.list
    }
}

/// Iterates over the rows that a finished run skipped.
///
/// # Errors
/// The file cannot be read. (A line that is damaged is an error of the iterator.)
pub fn read_skipped(run: &Run) -> Result<Box<dyn Iterator<Item = Result<Skipped>>>> {
    let path = run.skipped();
    if !path.exists() {
        return Ok(Box::new(std::iter::empty()));
    }
    let damaged = Error::format(&path)("a line is not a skipped row");
    let mut damaged = Some(damaged);
    Ok(Box::new(lines(&path)?.map_while(move |line| match line {
        Ok((Some(skipped), _)) => Some(Ok(skipped)),
        Ok((None, _)) => damaged.take().map(Err),
        Err(error) => Some(Err(error)),
    })))
}

/// Rows with the lengths of their lines in bytes; `None` for a line that is not a row, such as one that was cut off.
fn lines(path: &Path) -> Result<impl Iterator<Item = Result<(Option<Skipped>, u64)>> + use<>> {
    let mut file = BufReader::new(File::open(path).map_err(Error::io("open", path))?);
    let path = path.to_path_buf();
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        match file.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(bytes) => {
                let complete = line.last() == Some(&b'\n');
                let skipped = complete.then(|| serde_json::from_slice(&line).ok()).flatten();
                Some(Ok((skipped, bytes as u64)))
            }
            Err(error) => Some(Err(Error::io("read", &path)(error))),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_at_most_300_characters() {
        let long = format!("cannot read\nhint: {}\0", "é".repeat(10_000));
        let skipped = Skipped::new(7, &"k".repeat(10_000), &long);
        assert_eq!((skipped.reason.chars().count(), skipped.key.chars().count()), (300, 120));
        assert!(skipped.reason.starts_with("cannot read; hint: é") && skipped.reason.ends_with('…'));
        assert_eq!(Skipped::new(0, "a", "no\ttext\n").reason, "no text");
    }

    #[test]
    fn a_list_counts_all_rows_and_keeps_few() {
        let mut list = SkipList::default();
        for row in 0..100_000 {
            list.push(Skipped::new(row, "", &format!("cannot read the image {row}.png")));
            list.push(Skipped::new(
                row,
                "",
                &format!("{}: no text", "abcdefghij".chars().nth(row as usize % 10).unwrap()),
            ));
        }
        assert_eq!((list.rows(), list.first().len()), (200_000, 110));
        let (first, rows) = list.kinds()[0];
        assert_eq!((first.row, rows, list.kinds().len()), (0, 100_000, 11));
        for kind in 0..1000 {
            let name: String = format!("{kind:03}").bytes().map(|digit| (digit + 49) as char).collect();
            list.push(Skipped::new(0, "", &name));
        }
        assert!(list.first().len() <= 10 * KEPT_KINDS);
    }

    #[test]
    fn rows_after_the_last_part_are_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(&dir.path().join("run")).unwrap();
        let row = |row| Skipped::new(row, "k", "no text");
        let mut file = SkipFile::open(&run, 0).unwrap();
        file.append(&[row(1), row(3), row(8)]).unwrap();
        file.sync().unwrap();
        // A process that was killed may leave half a line.
        let mut text = std::fs::read(run.skipped()).unwrap();
        text.extend(b"{\"row\": 9");
        std::fs::write(run.skipped(), &text).unwrap();
        for end in [20, 8, 4] {
            let mut file = SkipFile::open(&run, end).unwrap();
            let kept = [1, 3, 8].into_iter().filter(|row| *row < end).count();
            assert_eq!(file.list().rows(), kept as u64);
            file.append(&[row(end)]).unwrap();
            file.sync().unwrap();
            let rows: Vec<u64> = read_skipped(&run).unwrap().map(|row| row.unwrap().row).collect();
            assert_eq!((rows.len(), rows.last()), (kept + 1, Some(&end)));
        }
    }
}
