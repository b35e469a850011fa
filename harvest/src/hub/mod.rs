//! Checkpoints by their name on the Hugging Face hub: `org/name` or `org/name@revision` becomes a folder of the hub's own
//! cache, which is downloaded if necessary. If a checkpoint is completely in the cache, it is used as it is, without a
//! request. Therefore a run that is started again reads the same checkpoint, and works without a network. A [`Repository`] has
//! any other files. [`Hub::upload`] sends files to a [`Destination`].
//!
//! The crate `hf-hub` defines the layout of the cache, which Python's `huggingface_hub` shares. Its transfers are not used:
//! they have no bounds on time, use the server's headers as file names, and compare neither sizes nor hashes.

mod cache;
mod client;
mod destination;
mod download;
mod name;
mod repository;
mod upload;

pub use crate::net::TransferProgress;
use crate::precedence::{self, ADAPTER, CONFIG, NO_ADAPTERS};
use crate::{Error, Result};
use cache::Snapshot;
use client::{Client, hub_error};
pub use destination::{Destination, RepoKind};
use download::{Download, SMALL_LIMIT, WEIGHTS_LIMIT};
use name::RepoName;
pub use name::model_name;
pub use repository::Repository;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
pub use upload::{Content, UploadFile, Uploaded};

/// The address of the hub, unless `HF_ENDPOINT` names a mirror.
const ENDPOINT: &str = "https://huggingface.co";

/// Where a checkpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepoLocation {
    /// In a folder.
    Folder(PathBuf),
    /// Only on the hub.
    Hub {
        /// `org/name@revision`.
        model: String,
    },
}

/// The folder of a checkpoint: `model` itself if it is a folder; otherwise the folder in the cache for the hub's
/// `org/name[@revision]`, which is downloaded if necessary. Reads the environment variables `HF_ENDPOINT`, `HF_HOME`,
/// `HF_HUB_CACHE`, `HF_TOKEN` and `HF_HUB_OFFLINE`, and their older names.
///
/// # Errors
/// There is no such folder and no such repository, access is denied, or the download failed. A file is either complete in
/// the cache or not there at all; a download that is started again continues where it stopped.
pub fn resolve(model: &str, progress: &mut dyn FnMut(TransferProgress) -> Result<()>) -> Result<PathBuf> {
    match RepoName::parse(model) {
        Some(name) => Hub::from_env()?.fetch(&name, progress),
        None => Ok(model.into()),
    }
}

/// Where a checkpoint is, without sending a request.
///
/// # Errors
/// There is no folder for a cache.
pub fn locate(model: &str) -> Result<RepoLocation> {
    let Some(name) = RepoName::parse(model) else { return Ok(RepoLocation::Folder(model.into())) };
    let on_hub = || RepoLocation::Hub { model: name.to_string() };
    Ok(Hub::from_env()?.cached(&name).map_or_else(on_hub, RepoLocation::Folder))
}

/// The hub or a mirror, and the cache of what was downloaded from it.
pub struct Hub {
    client: Client,
    cache: hf_hub::Cache,
    offline: bool,
}

impl Hub {
    /// The hub and the cache that the environment describes.
    ///
    /// # Errors
    /// There is no folder for a cache.
    pub fn from_env() -> Result<Self> {
        let variable =
            |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let folder = |names: &[&str]| {
            variable(names).map(|path| match (path.strip_prefix("~/"), std::env::home_dir()) {
                (Some(inside), Some(home)) => home.join(inside),
                _ => path.into(),
            })
        };
        let caches = || folder(&["XDG_CACHE_HOME"]).or_else(|| Some(std::env::home_dir()?.join(".cache")));
        let home = folder(&["HF_HOME"]).or_else(|| Some(caches()?.join("huggingface"))).ok_or(Error::NoHomeFolder)?;
        let cache = hf_hub::Cache::new(home.join("hub"));
        let token = variable(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]).or_else(|| cache.token());
        let is_true = |value: String| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str());
        let offline = variable(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]).is_some_and(is_true);
        let cache = folder(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]).map_or(cache, hf_hub::Cache::new);
        let endpoint = variable(&["HF_ENDPOINT"]).unwrap_or_else(|| ENDPOINT.into());
        Ok(Self::new(&endpoint, cache.path(), token, offline))
    }

    /// The hub at `endpoint`, with its cache in a folder. If it is `offline`, it sends no requests.
    pub fn new(endpoint: &str, cache: &Path, token: Option<String>, offline: bool) -> Self {
        Self { client: Client::new(endpoint, token), cache: hf_hub::Cache::new(cache.into()), offline }
    }

    /// The folder of `org/name[@revision]`, which is downloaded unless it is completely in the cache.
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn folder(&self, model: &str, progress: &mut dyn FnMut(TransferProgress) -> Result<()>) -> Result<PathBuf> {
        let name = RepoName::parse(model).ok_or_else(|| Error::ModelName(model.into()))?;
        self.fetch(&name, progress)
    }

    fn cached(&self, name: &RepoName) -> Option<PathBuf> {
        let snapshot = Snapshot::find(&self.cache, &name.id, &name.revision).ok()?;
        snapshot.missing().is_ok_and(|missing| missing.is_empty()).then(|| snapshot.folder().to_path_buf())
    }

    fn fetch(&self, name: &RepoName, progress: &mut dyn FnMut(TransferProgress) -> Result<()>) -> Result<PathBuf> {
        let reason = match Snapshot::find(&self.cache, &name.id, &name.revision) {
            Ok(snapshot) => {
                let missing = snapshot.missing()?;
                if missing.is_empty() {
                    self.complete(name, &snapshot, progress)?;
                    return Ok(snapshot.folder().to_path_buf());
                }
                format!("{} lacks {}", snapshot.folder().display(), missing.join(", "))
            }
            Err(cause) => format!("the cache has {cause}"),
        };
        if self.offline {
            let cause = format!("there is no such folder here, HF_HUB_OFFLINE is set, and {reason}");
            return Err(hub_error(name, cause));
        }
        let listing = self.client.listing(name, &reason)?;
        if listing.find(CONFIG).is_none() {
            return Err(hub_error(name, "the repository is not a checkpoint: it has no config.json"));
        }
        if listing.find(ADAPTER).is_some() {
            return Err(hub_error(name, format!("{ADAPTER}: {NO_ADAPTERS}")));
        }
        let snapshot = Snapshot::from_commit(&self.cache, &name.id, &listing.sha)?;
        let mut download = Download::new(&self.client, name, &snapshot, progress);
        download.configs(&listing)?;
        let config: Value = sae_core::file::read_json(&snapshot.folder().join(CONFIG), SMALL_LIMIT)?;
        let weights = precedence::weights(&config, |file| listing.find(file).is_some());
        let Some(weights) = weights.map_err(|cause| hub_error(name, cause))? else {
            let names = listing.siblings.iter().map(|file| file.rfilename.clone());
            return Err(hub_error(name, precedence::no_weights(names)));
        };
        let find = |file: &String| {
            let missing = || hub_error(name, format!("the repository has no {file}"));
            listing.find(file).ok_or_else(missing)
        };
        if weights.ends_with(".json") {
            download.files(&[find(&weights)?], SMALL_LIMIT)?;
        }
        let files = snapshot.weights(&weights)?.iter().map(find).collect::<Result<Vec<_>>>()?;
        download.files(&files, WEIGHTS_LIMIT)?;
        snapshot.set_reference(&name.revision)?;
        Ok(snapshot.folder().to_path_buf())
    }

    /// Downloads further small files of a commit, such as a chat template, if its snapshot can be used without them but
    /// they have never been requested. Does nothing if the hub cannot be reached.
    fn complete(
        &self,
        name: &RepoName,
        snapshot: &Snapshot,
        progress: &mut dyn FnMut(TransferProgress) -> Result<()>,
    ) -> Result<()> {
        if self.offline || snapshot.is_settled() {
            return Ok(());
        }
        let name = &RepoName { id: name.id.clone(), revision: snapshot.commit() };
        match self.client.listing(name, "") {
            Ok(listing) => Download::new(&self.client, name, snapshot, progress).configs(&listing),
            Err(_) => Ok(()),
        }
    }
}
