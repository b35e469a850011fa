//! The answers that are finished, a line each, so that an interrupted generation goes on where it stopped. The folder's
//! `generate.json` says with which settings they were written.

use crate::error::GenerateError;
use crate::{Error, Result};
use sae_core::file;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes that the settings have at most.
const MOST_BYTES: u64 = 1 << 24;
/// Bytes that a journal has at most.
const MOST_JOURNAL: u64 = 8 << 30;

/// What `generate.json` has.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    schema_version: u32,
    settings: Value,
    /// The report, once all answers are written.
    report: Option<Value>,
}

/// What is finished for a prompt.
pub(super) trait Finished: Serialize + DeserializeOwned {
    /// The number of the prompt.
    fn sample(&self) -> u32;
}

/// The finished answers of a folder, and the file that they are added to.
pub(super) struct Journal<T> {
    folder: PathBuf,
    settings: Value,
    lines: File,
    pub answers: Vec<T>,
}

/// The report of a folder with all answers.
///
/// # Errors
/// The folder has something else, or answers that were written with other settings; or it cannot be read.
pub(super) fn finished<R: DeserializeOwned>(folder: &Path, settings: &Value) -> Result<Option<R>> {
    let report = check(folder, settings)?.and_then(|state| state.report);
    let path = folder.join("generate.json");
    Ok(report.map(serde_json::from_value).transpose().map_err(sae_core::Error::format(&path))?)
}

impl<T: Finished> Journal<T> {
    /// Opens a folder, which is made if it does not exist.
    ///
    /// # Errors
    /// It has something else, or answers that were written with other settings; or it cannot be read or written.
    pub fn open(folder: &Path, settings: Value) -> Result<Self> {
        let state = folder.join("generate.json");
        let known = check(folder, &settings)?;
        std::fs::create_dir_all(folder).map_err(sae_core::Error::io("make the folder", folder))?;
        if known.is_none() {
            file::write_json(&state, &State { schema_version: 1, settings: settings.clone(), report: None })?;
        }
        let path = folder.join("journal.jsonl");
        let failed = |e| Error::from(sae_core::Error::io("open", &path)(e));
        let mut lines =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let (answers, whole) = read(&mut lines, &path)?;
        // The last line of a process that was killed may not be whole.
        lines.set_len(whole).and_then(|()| lines.seek(SeekFrom::End(0))).map_err(failed)?;
        Ok(Self { folder: folder.to_path_buf(), settings, lines, answers })
    }

    /// Adds an answer.
    ///
    /// # Errors
    /// The disk is full.
    pub fn add(&mut self, answer: T) -> Result<()> {
        let path = self.folder.join("journal.jsonl");
        let mut line = serde_json::to_vec(&answer).map_err(sae_core::Error::format(&path))?;
        line.push(b'\n');
        self.lines.write_all(&line).map_err(sae_core::Error::io("write", &path))?;
        self.answers.push(answer);
        Ok(())
    }

    /// Ends the generation: the journal gives way to the report.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(self, report: &impl Serialize) -> Result<()> {
        let report = serde_json::to_value(report).map_err(sae_core::Error::format(&self.folder))?;
        let state = State { schema_version: 1, settings: self.settings, report: Some(report) };
        file::write_json(&self.folder.join("generate.json"), &state)?;
        let journal = self.folder.join("journal.jsonl");
        std::fs::remove_file(&journal).map_err(sae_core::Error::io("remove", &journal))?;
        Ok(())
    }
}

/// What an earlier call left in the folder; `None` if there is nothing.
pub(super) fn check(folder: &Path, settings: &Value) -> Result<Option<State>> {
    let path = folder.join("generate.json");
    if !path.exists() {
        let empty = folder.read_dir().map_or(true, |mut entries| entries.next().is_none());
        return if empty { Ok(None) } else { Err(Error::FolderNotEmpty { path: folder.to_path_buf() }) };
    }
    let state: State = file::read_json(&path, MOST_BYTES)?;
    let has_answers = folder.join("journal.jsonl").metadata().is_ok_and(|file| file.len() > 0);
    if state.report.is_none() && !has_answers {
        return Ok(None);
    }
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (old, new) = (fields(&state.settings), fields(settings));
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    let differing: Vec<String> = names.filter(|name| old.get(*name) != new.get(*name)).cloned().collect();
    if differing.is_empty() {
        return Ok(Some(state));
    }
    Err(GenerateError::OtherSettings { folder: folder.to_path_buf(), differing }.into())
}

/// The whole lines of a journal, and where they end.
fn read<T: Finished>(lines: &mut File, path: &Path) -> Result<(Vec<T>, u64)> {
    let failed = |e| Error::from(sae_core::Error::io("read", path)(e));
    let size = lines.metadata().map_err(failed)?.len();
    if size > MOST_JOURNAL {
        let cause = format!("the journal has {size} bytes, more than {MOST_JOURNAL}");
        return Err(sae_core::Error::format(path)(cause).into());
    }
    let mut text = Vec::new();
    lines.read_to_end(&mut text).map_err(failed)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let answers = text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let answers = answers.map(|line| serde_json::from_slice(line).map_err(|e| sae_core::Error::format(path)(e).into()));
    Ok((answers.collect::<Result<_>>()?, whole as u64))
}
