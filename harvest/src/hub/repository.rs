//! Any files of a repository, not only those of a checkpoint: which files it has at a commit, and a download of some of them into the
//! cache. Does not know what the files mean.

use super::Hub;
use super::cache::Snapshot;
use super::client::{Listing, Sibling, hub_error};
use super::download::{Download, SMALL_LIMIT, WEIGHTS_LIMIT};
use super::name::RepoName;
use crate::net::TransferProgress;
use crate::{Error, Result};
use std::path::{Component, Path, PathBuf};

/// The files of a repository at a commit: those that the hub lists, or those that the cache has if the hub is not asked or does not
/// answer.
pub struct Repository {
    name: RepoName,
    snapshot: Snapshot,
    listing: Option<Listing>,
    files: Vec<String>,
    unlisted: Option<String>,
}

impl Repository {
    /// Names of the files, relative to the repository.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// The commit.
    pub fn commit(&self) -> String {
        self.snapshot.commit()
    }

    /// Why these are only the files in the cache; nothing if the hub has listed them.
    pub fn unlisted(&self) -> Option<&str> {
        self.unlisted.as_deref()
    }

    /// The folder in the cache, if it has all of these files.
    pub fn folder(&self, files: &[String]) -> Option<PathBuf> {
        files.iter().all(|file| self.snapshot.has(file)).then(|| self.snapshot.folder().to_path_buf())
    }
}

impl Hub {
    /// The files of the repository `org/name` at a branch, tag or commit; `None` if the hub has no such repository, or shows it only to
    /// others.
    ///
    /// # Errors
    /// An invalid name, a missing revision, a hub that denies access or cannot be reached while the cache has nothing of the
    /// repository.
    pub fn repository(&self, id: &str, revision: &str) -> Result<Option<Repository>> {
        let name = named(id, revision)?;
        if self.offline {
            let missing = |lack| hub_error(&name, format!("HF_HUB_OFFLINE is set, and the cache has {lack}"));
            let snapshot = Snapshot::find(&self.cache, id, revision).map_err(missing)?;
            return Ok(Some(in_cache(name, snapshot, "HF_HUB_OFFLINE is set".into())));
        }
        match self.client.find(&name) {
            Ok(Some(listing)) => {
                let snapshot = Snapshot::from_commit(&self.cache, id, &listing.sha)?;
                let names = listing.siblings.iter().map(|file| file.rfilename.clone());
                let files = names.filter(|file| is_inside(file)).collect();
                Ok(Some(Repository { name, snapshot, listing: Some(listing), files, unlisted: None }))
            }
            Ok(None) => Ok(None),
            Err(error) => match Snapshot::find(&self.cache, id, revision) {
                Ok(snapshot) => Ok(Some(in_cache(name, snapshot, error.to_string()))),
                Err(_) => Err(error),
            },
        }
    }

    /// What the cache has of a repository, without a request; nothing if it has nothing of that revision.
    ///
    /// # Errors
    /// An invalid name.
    pub fn cached_repository(&self, id: &str, revision: &str) -> Result<Option<Repository>> {
        let name = named(id, revision)?;
        let snapshot = Snapshot::find(&self.cache, id, revision).ok();
        Ok(snapshot.map(|snapshot| in_cache(name, snapshot, "the hub was not asked".into())))
    }

    /// The folder in the cache with these files of a repository, after a download of those that it lacks, in this order.
    ///
    /// # Errors
    /// Access is denied, or the download failed. A file is either complete in the cache or not there at all; a download that is started
    /// again continues where it stopped.
    pub fn download(
        &self,
        repository: &Repository,
        files: &[String],
        progress: &mut dyn FnMut(TransferProgress) -> Result<()>,
    ) -> Result<PathBuf> {
        let Repository { name, snapshot, listing, unlisted, .. } = repository;
        if let Some(folder) = repository.folder(files) {
            return Ok(folder);
        }
        let lacks = |file: &String| {
            let why = unlisted.as_deref().map(|why| format!("the cache lacks {file} ({why})"));
            hub_error(name, why.unwrap_or_else(|| format!("the repository has no {file}")))
        };
        let find = |file: &String| {
            let found = listing.as_ref().and_then(|listing| listing.find(file)).filter(|_| is_inside(file));
            found.ok_or_else(|| lacks(file))
        };
        let found = files.iter().map(find).collect::<Result<Vec<_>>>()?;
        let (small, large): (Vec<&Sibling>, Vec<_>) =
            found.into_iter().partition(|file| file.rfilename.ends_with(".json"));
        let mut download = Download::new(&self.client, name, snapshot, progress);
        download.files(&small, SMALL_LIMIT)?;
        download.files(&large, WEIGHTS_LIMIT)?;
        snapshot.set_reference(&name.revision)?;
        Ok(snapshot.folder().to_path_buf())
    }
}

fn named(id: &str, revision: &str) -> Result<RepoName> {
    RepoName::new(id, revision).ok_or_else(|| Error::ModelName(format!("{id}@{revision}")))
}

fn in_cache(name: RepoName, snapshot: Snapshot, why: String) -> Repository {
    let files = snapshot.files();
    Repository { name, snapshot, listing: None, files, unlisted: Some(why) }
}

/// Whether a name stays inside the folder that it is relative to.
pub(super) fn is_inside(file: &str) -> bool {
    let is_plain = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    is_plain && !file.is_empty() && !file.contains('\\')
}
