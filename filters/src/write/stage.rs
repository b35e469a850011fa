//! A folder that is written completely or not at all: it is filled under a hidden name next to its target, and renamed at the
//! end.

use crate::{Error, Result};
use sae_core::error::{Cause, Hint, Setting};
use sae_core::store::run::is_object_address;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A folder that is being written. It is deleted unless it is committed.
#[derive(Debug)]
pub struct StagedFolder {
    folder: PathBuf,
    target: PathBuf,
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        // After a commit the folder has been renamed. Otherwise it is incomplete.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl StagedFolder {
    /// Creates the folder, and deletes what an interrupted run left of it.
    ///
    /// # Errors
    /// The target exists, or the folder cannot be created.
    pub fn new(target: &Path) -> Result<Self> {
        check_empty(target)?;
        let name = target.file_name().ok_or_else(|| refused(target, "expected the name of a new folder"))?;
        let folder = target.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(sae_core::Error::io("remove", &folder))?;
        }
        fs::create_dir_all(&folder).map_err(sae_core::Error::io("create folder", &folder))?;
        Ok(Self { folder, target: target.to_path_buf() })
    }

    /// The folder to which files are written.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Renames the folder to its target.
    pub fn commit(self) -> Result<()> {
        check_empty(&self.target)?;
        if self.target.exists() {
            fs::remove_dir(&self.target).map_err(sae_core::Error::io("replace", &self.target))?;
        }
        Ok(fs::rename(&self.folder, &self.target).map_err(sae_core::Error::io("rename into", &self.target))?)
    }
}

/// Checks that folders to be written are empty or do not exist, and that none is inside of another one.
pub fn check_folders(folders: &[&Path]) -> Result<()> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(sae_core::Error::io("find", path));
    let places = folders.iter().map(|path| absolute(path)).collect::<Result<Vec<_>, _>>()?;
    for (n, place) in places.iter().enumerate() {
        check_empty(folders[n])?;
        if places.iter().enumerate().any(|(other, outer)| other != n && place.starts_with(outer)) {
            let text = "kept and dropped rows need folders of their own, neither in the other";
            return Err(Error::request(format!("{text}: {}", folders[n].display())));
        }
    }
    Ok(())
}

fn check_empty(out: &Path) -> Result<()> {
    if out.to_str().is_some_and(is_object_address) {
        return Err(refused(
            out,
            "expected a folder of this machine, which can be pushed into a bucket when it is complete",
        ));
    }
    if out.exists() && !out.is_dir() {
        return Err(refused(out, "this is a file, not a folder"));
    }
    if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(refused(out, "the folder is not empty"));
    }
    Ok(())
}

fn refused(out: &Path, text: &str) -> Error {
    sae_core::Error::run(out, Cause::with_hint(text, Hint::Change(Setting::Output))).into()
}

/// A file in a staged folder. It does not have to be renamed, but it has to be synced before the folder is.
pub(super) struct Output {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Output {
    pub fn new(path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(sae_core::Error::io("create folder", parent))?;
        }
        let file = File::create(path).map_err(sae_core::Error::io("create", path))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 20, file), path: path.to_path_buf() })
    }

    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.file.write_all(bytes).map_err(sae_core::Error::io("write", &self.path))?)
    }

    /// Writes what is still buffered and syncs the file.
    pub fn finish(&mut self) -> Result<()> {
        self.file.flush().map_err(sae_core::Error::io("write", &self.path))?;
        Ok(self.file.get_ref().sync_all().map_err(sae_core::Error::io("sync", &self.path))?)
    }
}

/// Writes a file with the given content.
pub(super) fn put_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut output = Output::new(path)?;
    output.put(bytes)?;
    output.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_when_it_is_complete_and_never_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("kept");
        let stage = StagedFolder::new(&target).unwrap();
        put_file(&stage.folder().join("half"), b"x").unwrap();
        std::mem::forget(stage);
        assert!(!target.exists());
        fs::create_dir(&target).unwrap();
        let stage = StagedFolder::new(&target).unwrap();
        assert!(!stage.folder().join("half").exists(), "what a killed run left is gone");
        put_file(&stage.folder().join("a/whole"), b"x").unwrap();
        stage.commit().unwrap();
        assert!(target.join("a/whole").exists() && fs::read_dir(dir.path()).unwrap().count() == 1);
        assert!(StagedFolder::new(&target).unwrap_err().to_string().contains("not empty"));
        drop(StagedFolder::new(&dir.path().join("other")).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "what was given up leaves nothing");
    }

    #[test]
    fn nested_folders_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, inside] = ["a", "b", "a/c"].map(|name| dir.path().join(name));
        assert!(check_folders(&[&a, &b]).is_ok());
        for other in [&a, &inside] {
            assert!(check_folders(&[&a, other]).unwrap_err().to_string().contains("neither in the other"));
        }
        fs::write(&b, b"file").unwrap();
        assert!(check_folders(&[&b]).unwrap_err().to_string().contains("this is a file"));
    }
}
