//! A snapshot in the hub's cache: which files of a commit are there, which are known not to be, and how one that was
//! downloaded comes in. Reaches for no network.

use super::{INDEX, SMALL};
use crate::{Error, Result};
use hf_hub::{Cache, Repo};
use std::fs;
use std::path::{Path, PathBuf};

/// The files of one commit.
pub(super) struct Snapshot {
    folder: PathBuf,
    /// The repository's folder.
    root: PathBuf,
}

impl Snapshot {
    /// The snapshot that a branch or tag pointed to when it was last asked for, or that of a commit.
    pub fn of_revision(cache: &Cache, id: &str, revision: &str) -> Option<Self> {
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false => fs::read_to_string(root(cache, id).join("refs").join(revision)).ok()?.trim().to_owned(),
        };
        Self::of_commit(cache, id, &commit).ok().filter(|snapshot| snapshot.folder.is_dir())
    }

    /// The snapshot of a commit, which may be empty still.
    pub fn of_commit(cache: &Cache, id: &str, commit: &str) -> Result<Self> {
        let root = root(cache, id);
        if !is_commit(commit) {
            return Err(Error::checkpoint(&root)(format!("{commit:?} is no commit")));
        }
        let folder = cache.repo(Repo::model(id.to_owned())).pointer_path(commit);
        Ok(Self { folder, root })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a file is there. (A link whose blob is gone is not.)
    pub fn has(&self, file: &str) -> bool {
        self.folder.join(file).is_file()
    }

    /// Whether everything besides the weights is there, or known not to exist.
    pub fn has_small(&self) -> bool {
        let settled = |file: &&str| self.has(file) || self.absent(file).exists();
        self.has(SMALL[0]) && SMALL.iter().chain([&INDEX]).all(settled)
    }

    /// Where the cache notes that a commit has no such file.
    fn absent(&self, file: &str) -> PathBuf {
        self.root.join(".no_exist").join(self.folder.file_name().unwrap_or_default()).join(file)
    }

    /// Notes that the commit has no such file.
    pub fn note_absent(&self, file: &str) -> Result<()> {
        let note = self.absent(file);
        create(note.parent())?;
        fs::write(&note, []).map_err(Error::io("write", &note))
    }

    /// Where the content of a file comes to lie; its folder is there then.
    pub fn blob(&self, name: &str) -> Result<PathBuf> {
        let blob = self.root.join("blobs").join(name);
        create(blob.parent())?;
        Ok(blob)
    }

    /// Shows a blob as a file of the snapshot.
    pub fn link(&self, blob: &Path, file: &str) -> Result<()> {
        let link = self.folder.join(file);
        create(link.parent())?;
        if fs::symlink_metadata(&link).is_ok() {
            fs::remove_file(&link).map_err(Error::io("replace", &link))?;
        }
        show(blob, &link).map_err(Error::io("link", &link))
    }

    /// Makes a branch or tag point here.
    pub fn point(&self, revision: &str) -> Result<()> {
        if is_commit(revision) {
            return Ok(());
        }
        let reference = self.root.join("refs").join(revision);
        create(reference.parent())?;
        let commit = self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(sae_core::file::write(&reference, |out| {
            std::io::Write::write_all(out, commit.as_bytes()).map_err(sae_core::Error::io("write", &reference))
        })?)
    }
}

#[cfg(unix)]
fn show(blob: &Path, link: &Path) -> std::io::Result<()> {
    let name = Path::new("../../blobs").join(blob.file_name().unwrap_or_default());
    std::os::unix::fs::symlink(name, link)
}

/// Links take rights that not everybody has elsewhere: there a second name does.
#[cfg(not(unix))]
fn show(blob: &Path, link: &Path) -> std::io::Result<()> {
    fs::hard_link(blob, link).or_else(|_| fs::copy(blob, link).map(drop))
}

fn root(cache: &Cache, id: &str) -> PathBuf {
    cache.path().join(Repo::model(id.to_owned()).folder_name())
}

fn create(folder: Option<&Path>) -> Result<()> {
    folder.map_or(Ok(()), |folder| fs::create_dir_all(folder).map_err(Error::io("create", folder)))
}

/// Whether a name is one of a file in the folder itself.
pub(super) fn is_plain(name: &str) -> bool {
    let known = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    known && !name.is_empty() && !name.starts_with('.')
}

pub(super) fn is_hex(text: &str) -> bool {
    (8..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_hex(text)
}
