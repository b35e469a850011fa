//! A run on another machine, behind `sae serve`: its tables are copied to this machine, where they are read as those of any run, and
//! what people write goes to the server. Activations, weights and models stay where they are.

use crate::serve::edits::{EDIT_BYTES, Edits};
use crate::serve::files::{FILES, FileList, PIECE, TableFile, is_table};
use crate::{Error, Result};
use harvest::ServedClient;
use sae_core::analysis::labels::{Change, Saved};
use sae_core::{file, path_text};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

/// Bytes of a list of tables at most.
const LIST: u64 = 1 << 26;
/// Bytes of an image at most.
const IMAGE: u64 = 1 << 25;
/// Bytes of the answer to edits at most.
const LABELS: u64 = 1 << 28;
/// Bytes of all copies at most.
const COPIES: u64 = 1 << 35;
/// How often a table that is being written is asked for.
const TRIES: usize = 3;

/// A run behind a server, with copies of its tables, which are removed with it.
///
/// ```no_run
/// use sae_core::analysis::index::Index;
/// use sae_workbench::RemoteRun;
///
/// let remote = RemoteRun::connect("http://127.0.0.1:8000", "5f0c")?;
/// remote.copy(Some("base"))?;
/// let index = Index::open(&remote.root().join("features/base"))?;
/// println!("{} features", index.features().len());
/// # Ok::<(), sae_workbench::Error>(())
/// ```
pub struct RemoteRun {
    client: ServedClient,
    /// Holds the folder of the copies.
    _folder: TempDir,
    root: PathBuf,
    path: PathBuf,
    /// The autoencoders whose training is finished.
    trained: Mutex<Vec<String>>,
    /// What has been copied, by path.
    copied: Mutex<BTreeMap<String, TableFile>>,
}

impl RemoteRun {
    /// Asks a server at an address such as `http://127.0.0.1:8000` for its run. Copies nothing yet.
    ///
    /// # Errors
    /// The server does not answer, or wants another token; there is no place for copies.
    pub fn connect(address: &str, token: &str) -> Result<Self> {
        let client = ServedClient::new(address, token);
        let list = listed(&client)?;
        let path = PathBuf::from(list.run);
        let failed = |source| sae_core::Error::io("make a folder for copies", &std::env::temp_dir())(source);
        // Nobody else can look into it.
        let folder = tempfile::Builder::new().prefix("sae-remote-").tempdir().map_err(failed)?;
        let root = folder.path().join(path.file_name().unwrap_or("run".as_ref()));
        fs::create_dir(&root).map_err(sae_core::Error::io("create", &root))?;
        Ok(Self { client, _folder: folder, root, path, trained: Mutex::new(list.trained), copied: Mutex::default() })
    }

    /// The address of the server, without the token.
    pub fn address(&self) -> &str {
        self.client.address()
    }

    /// The folder of the copies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The run folder on the server.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The autoencoders of the run whose training is finished. Their weights are not copied.
    pub fn trained(&self) -> Vec<String> {
        self.trained.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Copies what is new or has been written again: all tables but those of tokens ([`RemoteRun::need`] copies one) and, of other
    /// autoencoders than `sae`, of features one by one. Removes what the run no longer has.
    ///
    /// # Errors
    /// The server does not answer, or a file cannot be written.
    pub fn copy(&self, sae: Option<&str>) -> Result<()> {
        for left in (0..TRIES).rev() {
            let list = listed(&self.client)?;
            match self.copy_listed(&list, sae) {
                // A table may be written while it is read: the next list has the next version of it.
                Err(_) if left > 0 => {}
                done => return done,
            }
        }
        Ok(())
    }

    fn copy_listed(&self, list: &FileList, sae: Option<&str>) -> Result<()> {
        self.trained.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&list.trained);
        let mut copied = self.copied();
        let there: BTreeSet<&str> = list.files.iter().map(|table| table.path.as_str()).collect();
        let gone: Vec<String> = copied.keys().filter(|path| !there.contains(path.as_str())).cloned().collect();
        for path in gone {
            copied.remove(&path);
            // It can be there no longer. A folder is removed with the last of its tables.
            let path = self.root.join(path);
            let _ = fs::remove_file(&path);
            let folders = path.ancestors().skip(1).take_while(|folder| *folder != self.root);
            folders.take_while(|folder| fs::remove_dir(folder).is_ok()).for_each(drop);
        }
        let wanted = list.files.iter().filter(|table| copied.contains_key(&table.path) || is_wanted(&table.path, sae));
        let wanted: Vec<TableFile> = wanted.cloned().collect();
        wanted.into_iter().try_for_each(|table| self.fetch(&mut copied, table))
    }

    /// Copies a table of the run if it is not there yet.
    ///
    /// # Errors
    /// The server does not answer or has no such table, or the file cannot be written.
    pub fn need(&self, path: &Path) -> Result<()> {
        let path = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        let mut copied = self.copied();
        if copied.contains_key(&path) {
            return Ok(());
        }
        let list = listed(&self.client)?;
        match list.files.into_iter().find(|table| table.path == path) {
            Some(table) => self.fetch(&mut copied, table),
            None => Err(self.invalid(format!("the run has no table {path}"))),
        }
    }

    /// An image of a sample as a JPEG file, whose longest side has `side` pixels at most.
    ///
    /// # Errors
    /// The server does not answer, or does not have it.
    pub fn image(&self, sample: u32, image: usize, side: usize) -> Result<Vec<u8>> {
        Ok(self.client.get(&format!("/image/{sample}/{image}?side={side}"), IMAGE)?)
    }

    /// Writes what people write about features of an autoencoder, on top of what others wrote.
    ///
    /// # Errors
    /// The server does not answer, or cannot write.
    pub fn save(&self, sae: &str, changes: &[Change]) -> Result<Saved> {
        let edits = Edits { sae: sae.into(), changes: changes.to_vec() };
        let body = serde_json::to_string(&edits).map_err(|error| self.invalid(error.to_string()))?;
        if body.len() > EDIT_BYTES && changes.len() > 1 {
            // More than a request may have. If the second half fails, both are sent again: edits that are made twice change nothing.
            let (first, second) = changes.split_at(changes.len() / 2);
            let (before, mut saved) = (self.save(sae, first)?, self.save(sae, second)?);
            saved.moved = before.moved.or(saved.moved);
            saved.conflicts.splice(0..0, before.conflicts);
            return Ok(saved);
        }
        let saved: Saved = parsed(&self.client, "/api/labels", &self.client.post("/api/labels", &body, LABELS)?)?;
        let mut copied = self.copied();
        // The next copy has the time of the server.
        copied.remove("labels.json");
        file::write_json(&self.root.join("labels.json"), &saved.labels)?;
        Ok(saved)
    }

    /// Copies a version of a table, unless it is there.
    fn fetch(&self, copied: &mut BTreeMap<String, TableFile>, table: TableFile) -> Result<()> {
        let path = Path::new(&table.path);
        if !is_table(path) {
            return Err(self.invalid(format!("the server names a table outside of the run: {}", table.path)));
        }
        if copied.get(&table.path) == Some(&table) {
            return Ok(());
        }
        let others = copied.iter().filter(|(path, _)| **path != table.path);
        let bytes = others.fold(table.bytes, |sum, (_, other)| sum.saturating_add(other.bytes));
        if bytes > COPIES {
            return Err(self.invalid(format!(
                "{} and the other tables that are needed have {bytes} bytes, more than the {COPIES} that are copied",
                table.path
            )));
        }
        let whole = self.root.join(path);
        file::write(&whole, |out| {
            let mut at = 0;
            while at < table.bytes {
                let piece = self.piece(&table, at)?;
                out.write_all(&piece).map_err(sae_core::Error::io("write", &whole))?;
                at += piece.len() as u64;
            }
            Ok(())
        })?;
        copied.insert(table.path.clone(), table);
        Ok(())
    }

    fn piece(&self, table: &TableFile, at: u64) -> harvest::Result<Vec<u8>> {
        let TableFile { path, bytes, modified } = table;
        let path = path_text::percent_encode(path);
        let piece =
            self.client.get(&format!("/api/files/{path}?bytes={bytes}&modified={modified}&at={at}"), 2 * PIECE)?;
        if piece.len() as u64 == PIECE.min(bytes - at) {
            return Ok(piece);
        }
        let cause = format!("{path} was cut off after {} of {bytes} bytes", at + piece.len() as u64);
        Err(harvest::Error::Server { cause, address: self.address().into() })
    }

    fn copied(&self) -> MutexGuard<'_, BTreeMap<String, TableFile>> {
        self.copied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn invalid(&self, cause: String) -> Error {
        invalid(&self.client, cause)
    }
}

/// Whether a table is copied at once. Those of tokens are many, and those of other autoencoders' features large.
fn is_wanted(path: &str, sae: Option<&str>) -> bool {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["tokens", ..] => false,
        ["features", name, table] => Some(name) == sae || table == "features.parquet",
        _ => true,
    }
}

/// The tables that a server has now.
fn listed(client: &ServedClient) -> Result<FileList> {
    let mut list: FileList = parsed(client, "/api/files", &client.get("/api/files", LIST)?)?;
    if list.files.len() > FILES {
        return Err(invalid(client, format!("the server lists more than {FILES} tables")));
    }
    // Names are joined to paths of this machine: they must not lead out of the copies.
    list.trained.retain(|name| Path::new(name).file_name() == Some(name.as_ref()));
    Ok(list)
}

fn parsed<T: DeserializeOwned>(client: &ServedClient, path: &str, answer: &[u8]) -> Result<T> {
    let failed = |error| invalid(client, format!("the answer to {path} is not that of `sae serve` ({error})"));
    serde_json::from_slice(answer).map_err(failed)
}

fn invalid(client: &ServedClient, cause: String) -> Error {
    harvest::Error::Server { cause, address: client.address().into() }.into()
}
