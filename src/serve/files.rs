//! The tables of a run as files, for a program on another machine that reads them as those of a run: which there are, and their bytes,
//! piece by piece. Neither activations nor weights are among them.

use super::problem::Problem;
use sae_core::Run;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Bytes of a piece at most.
pub const PIECE: u64 = 4 << 20;
/// Files of a list at most.
pub const FILES: usize = 100_000;
/// Folders of a run that have tables.
const FOLDERS: [&str; 7] = ["contrasts", "features", "probes", "saes", "scores", "tokens", "validate"];
/// Endings of tables.
const ENDINGS: [&str; 3] = ["json", "parquet", "toml"];
/// A folder whose files belong to a training that has not been finished.
const UNFINISHED: &str = "checkpoint";
/// Folders within folders at most.
const DEPTH: usize = 4;

/// The tables of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileList {
    /// The run folder, absolute.
    pub run: String,
    /// The autoencoders whose training is finished.
    pub trained: Vec<String>,
    /// The tables, in the order of their paths.
    pub files: Vec<TableFile>,
}

/// A table, and which version of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFile {
    /// Its path in the run, with slashes.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written, in nanoseconds since 1970.
    pub modified: u64,
}

impl FileList {
    /// The tables of a run as they are now. What cannot be looked at is left out, as are links.
    ///
    /// # Errors
    /// There are too many.
    pub fn read(run: &Run) -> Result<Self, Problem> {
        let root = run.root();
        let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
        let mut files = Vec::new();
        collect(&root, &mut PathBuf::new(), &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { run: root.display().to_string(), trained: run.saes(), files })
    }
}

/// Adds the tables of the folder `at` of a run.
fn collect(root: &Path, at: &mut PathBuf, files: &mut Vec<TableFile>) -> Result<(), Problem> {
    for entry in fs::read_dir(root.join(&at)).into_iter().flatten().flatten() {
        at.push(entry.file_name());
        // The metadata of an entry are those of a link itself.
        match entry.metadata() {
            Ok(found) if found.is_dir() && has_tables(at) => collect(root, at, files)?,
            Ok(found) if found.is_file() && is_table(at) => files.extend(TableFile::new(at, &found)),
            _ => {}
        }
        at.pop();
    }
    if files.len() > FILES {
        return Err(Problem::unavailable(format!("The run has more than {FILES} tables, too many to be listed.")));
    }
    Ok(())
}

/// The names of a path in a run, if it stays there and none of them is hidden or of an unfinished training.
fn names(path: &Path) -> Option<Vec<&str>> {
    let name = |component: Component<'_>| matches!(component, Component::Normal(_));
    let names: Vec<&str> = path.iter().map(|name| name.to_str()).collect::<Option<_>>()?;
    let is_shown = names.iter().all(|name| !name.starts_with('.') && *name != UNFINISHED);
    (!names.is_empty() && is_shown && path.components().all(name)).then_some(names)
}

fn has_tables(folder: &Path) -> bool {
    names(folder).is_some_and(|names| names.len() <= DEPTH && FOLDERS.contains(&names[0]))
}

/// Whether a path in a run is that of a table.
pub fn is_table(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let is_known = ending.is_some_and(|ending| ENDINGS.contains(&ending));
    is_known && names(path).is_some_and(|names| names.len() == 1 || has_tables(path.parent().unwrap_or(path)))
}

impl TableFile {
    fn new(path: &Path, found: &Metadata) -> Option<Self> {
        let modified = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self {
            path: names(path)?.join("/"),
            bytes: found.len(),
            modified: u64::try_from(modified.as_nanos()).ok()?,
        })
    }

    /// The piece of this version of the table that begins with byte `at`.
    ///
    /// # Errors
    /// There is no such table, or it has been written again.
    pub fn piece(&self, run: &Run, at: u64) -> Result<Vec<u8>, Problem> {
        let unknown = || Problem::not_found(format!("the run has no table {:?}", self.path));
        let path = Path::new(&self.path);
        if !is_table(path) {
            return Err(unknown());
        }
        let mut whole = run.root().to_path_buf();
        let mut is_file = false;
        for name in path {
            whole.push(name);
            let found = fs::symlink_metadata(&whole).map_err(|_| unknown())?;
            if found.is_symlink() {
                return Err(unknown());
            }
            is_file = found.is_file();
        }
        if !is_file {
            // Opening a named pipe would wait until somebody writes into it.
            return Err(unknown());
        }
        let failed = |error: std::io::Error| Problem::unavailable(format!("{} cannot be read: {error}", self.path));
        let mut file = File::open(&whole).map_err(failed)?;
        let now = Self::new(path, &file.metadata().map_err(failed)?);
        if now.as_ref() != Some(self) {
            return Err(Problem::unavailable(format!("{} has been written in between", self.path)));
        }
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        let mut piece = Vec::new();
        file.take(PIECE).read_to_end(&mut piece).map_err(failed)?;
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_files_of_some_folders_and_nothing_hidden_or_elsewhere() {
        for right in
            ["run.json", "samples.parquet", "features/a/examples.parquet", "saes/a/train.toml", "probes/a/b/x.json"]
        {
            assert!(is_table(Path::new(right)), "{right}");
        }
        for wrong in [
            "",
            "run",
            "activations/layers.1/manifest.json",
            "saes/a/sae_weights.safetensors",
            "saes/a/checkpoint/step.json",
            "saes/.hidden/cfg.json",
            ".lock.json",
            "../run.json",
            "features/../run.json",
            "/etc/passwd.json",
            "blank/samples.parquet",
            "features/a/b/c/d/e.json",
        ] {
            assert!(!is_table(Path::new(wrong)), "{wrong}");
        }
    }
}
