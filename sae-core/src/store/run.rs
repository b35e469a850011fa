//! The run folder: the paths of all its files, `run.json`, and the lock of its writer. Reads no data.

use crate::error::{Cause, Hint, Operation, Setting};
use crate::{Error, Result, file};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The layout of run folders that this code writes. It reads this one and [`PIECES_VERSION`].
pub const SCHEMA_VERSION: u32 = 2;

/// The layout of runs whose samples are pieces that continue one another. A program that does not know about pieces would take
/// each for a whole sample, so that it must not read them.
pub const PIECES_VERSION: u32 = 3;

/// The layout of runs whose samples are pieces, or are not.
pub(super) fn schema_version(pieces: bool) -> u32 {
    if pieces { PIECES_VERSION } else { SCHEMA_VERSION }
}

/// Bytes of `run.json` that are read at most: its longest entry is a list of parts.
const RECORD_LIMIT: u64 = 1 << 30;

/// Bytes of a note about a lock's holder that are read.
const HOLDER_LIMIT: u64 = 256;

/// What `run.json` holds: how every file of the run was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Layout of the folder.
    pub schema_version: u32,
    /// Program and version that made the folder.
    pub program: String,
    /// When, in UTC (RFC 3339).
    pub created: String,
    /// One entry a step, such as `harvest` or `train/base`: its arguments, hashes, seeds, counts.
    pub steps: Map<String, Value>,
}

/// A run folder: the one place that all steps of the work share. Opening it reads `run.json` alone.
///
/// ```
#[doc = include_str!("../example_store.md")]
/// use sae_core::Run;
/// use sae_core::store::load_samples;
///
/// # let folder = example_store()?;
/// # let path = folder.path();
/// let run = Run::open(path)?;
/// assert_eq!(run.list("activations"), ["layers.2"]);
/// assert!(run.saes().is_empty(), "nothing was trained yet");
/// assert_eq!(load_samples(&run)?[3].key, "row-3");
///
/// // Every step leaves an entry in run.json: its arguments, hashes, seeds and counts.
/// assert!(run.record()?.steps.contains_key("harvest"));
/// # Ok::<(), sae_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Run {
    root: PathBuf,
}

/// Whether a text is the address of an object in a bucket rather than a path on this machine.
pub fn is_object_address(text: &str) -> bool {
    ["s3://", "gs://", "az://"].iter().any(|scheme| text.starts_with(scheme))
}

/// Rejects an address of an object where a folder is needed.
fn check_local(root: &Path) -> Result<()> {
    if !root.to_str().is_some_and(is_object_address) {
        return Ok(());
    }
    let hint = "pull it into a folder, or work in a folder and push it when it is finished".into();
    Err(Error::run(root, Cause::with_hint("a run is a folder of this machine, not in a bucket", hint)))
}

/// Held while a command writes to a run or a file; a second writer is rejected. Released when dropped or when the process dies.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the file at `path`, which is made if it does not exist, as the lock of what is written to `output`.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process holds it; the file cannot be made.
    pub fn take(path: &Path, output: &Path) -> Result<Self> {
        // The file says who holds the lock, so it must not be truncated before the lock is held.
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.map_err(Error::io("create", path))?;
        match file.try_lock() {
            Ok(()) => {
                // The note is for people only. The lock itself is the operating system's, so a failed note changes nothing.
                let _ = file.set_len(0).and_then(|()| file.write_all(holder().as_bytes()));
                Ok(Self { file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(HOLDER_LIMIT).read_to_string(&mut holder);
                let holder = if holder.is_empty() { String::new() } else { format!(" ({})", holder.trim_end()) };
                Err(Error::Busy { holder, path: output.to_path_buf() })
            }
            Err(TryLockError::Error(source)) => Err(Error::io("lock", path)(source)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The note describes the holder, which no longer holds the lock. After a kill it stays until somebody else holds it.
        let _ = self.file.set_len(0);
    }
}

impl Run {
    /// Opens a run folder that exists.
    ///
    /// # Errors
    /// The folder has no `run.json`, or one of another layout.
    pub fn open(root: &Path) -> Result<Self> {
        check_local(root)?;
        let run = Self { root: root.to_path_buf() };
        run.record()?;
        Ok(run)
    }

    /// Opens a run folder, or makes it if it does not exist.
    ///
    /// # Errors
    /// The folder holds other files and no `run.json`, it is a run of another layout, or it cannot be written.
    pub fn create(root: &Path) -> Result<Self> {
        check_local(root)?;
        let run = Self { root: root.to_path_buf() };
        if run.record_path().exists() {
            run.record()?;
            return Ok(run);
        }
        // Files that an interrupted first attempt may have left are not foreign.
        let ours = [".lock", "run.json", "run.json.partial"];
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        if entries.map(|entry| entry.file_name()).any(|name| !ours.iter().any(|ours| name == *ours)) {
            let cause = "the folder holds other files and no run.json";
            return Err(Error::run(root, Cause::with_hint(cause, Hint::Change(Setting::Run))));
        }
        // If two processes begin at once, the slower one must not replace the record of the faster one.
        fs::create_dir_all(root).map_err(Error::io("create folder", root))?;
        let _lock = run.lock()?;
        if run.record_path().exists() {
            run.record()?;
            return Ok(run);
        }
        file::write_json(
            &run.record_path(),
            &Record {
                schema_version: SCHEMA_VERSION,
                program: format!("sae {}", env!("CARGO_PKG_VERSION")),
                created: now(),
                steps: Map::new(),
            },
        )?;
        Ok(run)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads `run.json`.
    ///
    /// # Errors
    /// The file does not exist, is damaged, or has another layout.
    pub fn record(&self) -> Result<Record> {
        let path = self.record_path();
        if !path.exists() {
            let cause = "this is not a run folder (it has no run.json)";
            return Err(Error::run(&self.root, Cause::with_hint(cause, Hint::Run(Operation::Harvest))));
        }
        let record: Record = file::read_json(&path, RECORD_LIMIT)?;
        if ![SCHEMA_VERSION, PIECES_VERSION].contains(&record.schema_version) {
            let text = format!(
                "the run was written in layout {}, but this program reads layouts {SCHEMA_VERSION} and {PIECES_VERSION}",
                record.schema_version
            );
            let hint = "make the run again with this version of the program, starting with the harvest".into();
            return Err(Error::format(&path)(Cause::with_hint(text, hint)));
        }
        Ok(record)
    }

    /// Replaces one step's entry in `run.json`.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn write_step(&self, step: &str, entry: &impl Serialize) -> Result<()> {
        let path = self.record_path();
        let mut record = self.record()?;
        let entry = serde_json::to_value(entry).map_err(Error::format(&path))?;
        record.steps.insert(step.into(), entry);
        file::write_json(&path, &record)
    }

    /// Says in `run.json` whether the samples are pieces.
    pub(super) fn write_version(&self, pieces: bool) -> Result<()> {
        let (record, version) = (self.record()?, schema_version(pieces));
        if record.schema_version == version {
            return Ok(());
        }
        file::write_json(&self.record_path(), &Record { schema_version: version, ..record })
    }

    /// One step's entry in `run.json`, if that step was run.
    ///
    /// # Errors
    /// The file cannot be read, or the entry is not a `T`.
    pub fn read_step<T: serde::de::DeserializeOwned>(&self, step: &str) -> Result<Option<T>> {
        let entry = self.record()?.steps.remove(step);
        entry.map(|e| serde_json::from_value(e).map_err(Error::format(&self.record_path()))).transpose()
    }

    /// Takes the run for writing.
    ///
    /// # Errors
    /// Another process holds it.
    pub fn lock(&self) -> Result<Lock> {
        Lock::take(&self.root.join(".lock"), &self.root)
    }

    fn record_path(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// `samples.parquet`.
    pub fn samples(&self) -> PathBuf {
        self.root.join("samples.parquet")
    }

    /// Rows of the data that became no sample.
    pub fn skipped(&self) -> PathBuf {
        self.root.join("skipped.jsonl")
    }

    /// Folder of the sample rows of finished parts, while a harvest is under way.
    pub fn sample_parts(&self) -> PathBuf {
        self.root.join("samples.parts")
    }

    /// Token table of a part.
    pub fn tokens(&self, part: usize) -> PathBuf {
        self.root.join("tokens").join(format!("part-{part:05}.parquet"))
    }

    /// Folder of a hook's activations.
    pub fn activations(&self, hook: &str) -> PathBuf {
        self.root.join("activations").join(hook)
    }

    /// Folder of an autoencoder.
    pub fn sae_dir(&self, name: &str) -> PathBuf {
        self.root.join("saes").join(name)
    }

    /// Folder of an autoencoder's feature index.
    pub fn features(&self, name: &str) -> PathBuf {
        self.root.join("features").join(name)
    }

    /// Score table of an autoencoder.
    pub fn scores(&self, name: &str) -> PathBuf {
        self.root.join("scores").join(format!("{name}.parquet"))
    }

    /// Folder of the states of passes that several machines share.
    pub fn parts(&self) -> PathBuf {
        self.root.join("parts")
    }

    /// Folder of what passes of an autoencoder found in each sample.
    pub fn summaries(&self, name: &str) -> PathBuf {
        self.root.join("summaries").join(name)
    }

    /// What people wrote about features.
    pub fn labels(&self) -> PathBuf {
        self.root.join("labels.json")
    }

    /// Names of the autoencoders that can be used, sorted.
    pub fn saes(&self) -> Vec<String> {
        let mut names = self.list("saes");
        names.retain(|name| self.is_complete(name));
        names
    }

    /// Names of the autoencoders whose training has not been finished, sorted.
    pub fn unfinished_saes(&self) -> Vec<String> {
        let mut names = self.list("saes");
        names.retain(|name| !self.is_complete(name));
        names
    }

    /// Whether an autoencoder is complete: its weights are written last.
    fn is_complete(&self, name: &str) -> bool {
        self.sae_dir(name).join("sae_weights.safetensors").exists()
    }

    /// Names of the subfolders of `kind` (`activations`, `saes`, `features`), sorted; hidden ones are unfinished.
    pub fn list(&self, kind: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(kind)).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| !n.starts_with('.')).collect();
        names.sort();
        names
    }
}

/// This process, as the holder of a lock.
fn holder() -> String {
    // Several machines may share the file system. Only Linux has a file with the name of the machine.
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = if machine.is_empty() { String::new() } else { format!(" on {}", machine.trim()) };
    format!("process {}{machine}, since {}\n", std::process::id(), now())
}

/// A name that becomes a folder: letters, digits, `.`, `_` and `-`, not beginning with a dot.
pub fn check_name(name: &str) -> Result<()> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !plain {
        return Err(Error::config(format!("invalid name {name:?}: expected letters, digits, '.', '_' and '-'")));
    }
    Ok(())
}

/// The time in UTC, to the second (RFC 3339).
pub fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// Milliseconds since 1970.
pub fn now_millis() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_writer_is_rejected_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(&dir.path().join("run")).unwrap();
        let first = run.lock().unwrap();
        let refused = run.lock().unwrap_err().to_string();
        let holder = format!("(process {}", std::process::id());
        assert!(refused.contains("another process") && refused.contains(&holder), "{refused}");
        drop(first);
        run.lock().unwrap();
    }

    #[test]
    fn foreign_folders_and_runs_of_other_versions_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        file::write_bytes(&dir.path().join("thesis.txt"), b"mine").unwrap();
        assert!(Run::create(dir.path()).unwrap_err().to_string().contains("holds other files"));
        assert!(Run::open(dir.path()).unwrap_err().to_string().contains("not a run folder"));
        let run = Run::create(&dir.path().join("run")).unwrap();
        let path = run.root().join("run.json");
        let current = fs::read_to_string(&path).unwrap();
        for other in [1, 4] {
            let changed = current.replace("\"schema_version\": 2", &format!("\"schema_version\": {other}"));
            assert_ne!(changed, current);
            fs::write(&path, changed).unwrap();
            let refused = Run::open(run.root()).unwrap_err().to_string();
            assert!(
                refused.contains(&format!("layout {other}")) && refused.contains("reads layouts 2 and 3"),
                "{refused}"
            );
        }
    }

    #[test]
    fn names_cannot_leave_the_run() {
        assert!(check_name("base-4.x_1").is_ok());
        for bad in ["", "..", "a/b", ".hidden", "a b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
