//! A folder that appears whole or not at all: it is filled under a hidden name beside its place, and renamed at the end.

use crate::{Error, Result};
use sae_core::error::{Cause, Hint, Setting};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A folder on its way; what is there of it goes when it is given up.
#[derive(Debug)]
pub struct StagedFolder {
    folder: PathBuf,
    target: PathBuf,
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        // Gone already after a commit; otherwise nobody could use it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl StagedFolder {
    /// Begins a folder; what an interrupted run left of it goes.
    ///
    /// # Errors
    /// There is something in its place, or the disk refuses.
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

    /// Where its files go for now.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts it in its place.
    pub fn commit(self) -> Result<()> {
        check_empty(&self.target)?;
        if self.target.exists() {
            fs::remove_dir(&self.target).map_err(sae_core::Error::io("replace", &self.target))?;
        }
        Ok(fs::rename(&self.folder, &self.target).map_err(sae_core::Error::io("rename into", &self.target))?)
    }
}

/// Makes sure that folders to be written are empty or not there, and that none lies in another.
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

/// A file in a stage: what is not in place yet need not be renamed, but its bytes have to be on the disk before.
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

    /// Writes and syncs what is left.
    pub fn finish(&mut self) -> Result<()> {
        self.file.flush().map_err(sae_core::Error::io("write", &self.path))?;
        Ok(self.file.get_ref().sync_all().map_err(sae_core::Error::io("sync", &self.path))?)
    }
}

/// [`Output`] of bytes that are at hand.
pub(super) fn put_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut output = Output::new(path)?;
    output.put(bytes)?;
    output.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_when_it_is_whole_and_never_over_another() {
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
    fn folders_inside_each_other_are_refused() {
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
