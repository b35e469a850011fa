//! Checkpoints by their name on the Hugging Face hub: `org/name` or `org/name@revision` becomes a folder of the hub's own
//! cache, downloaded if it is not there yet. What is there whole is taken as it is, without a request, so that a run that
//! is started again reads the same checkpoint, and works without a network.
//!
//! The crate `hf-hub` owns the cache's layout, which Python's `huggingface_hub` shares. Its transfers are not used: they
//! have no bounds on time, trust the server's headers as file names, and compare no sizes and no hashes.

mod cache;
mod download;

use crate::precedence::{self, ADAPTER, BESIDES, CONFIG, DECISIVE, NO_ADAPTERS};
use crate::{Error, Result, net};
use cache::Snapshot;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

/// Where the hub is, unless `HF_ENDPOINT` names a mirror.
const ENDPOINT: &str = "https://huggingface.co";

/// Bytes of the largest file besides the weights.
const SMALL_LIMIT: u64 = 1 << 28;

/// Bytes of the largest file of weights.
const WEIGHTS_LIMIT: u64 = 1 << 40;

/// Bytes of the largest answer about a repository.
const ANSWER_LIMIT: u64 = 1 << 24;

/// How far a download is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadProgress<'a> {
    /// The file that is being downloaded.
    pub file: &'a str,
    /// Bytes of all files that are here.
    pub bytes: u64,
    /// Bytes of all files, as far as they are known: the shards of weights are once their index is here.
    pub total: u64,
}

/// Where a checkpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepoLocation {
    /// In a folder.
    Folder(PathBuf),
    /// On the hub alone.
    Hub {
        /// `org/name@revision`.
        model: String,
    },
}

/// The folder of a checkpoint: `model` itself if it is a folder, otherwise the cache's of the hub's `org/name[@revision]`,
/// after a download if need be. Reads `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_HUB_OFFLINE`, and what these
/// were called before.
///
/// # Errors
/// There is no such folder and no such repository, it is not for everyone, or the download failed. A file is in the cache
/// whole or not at all; a download that is started again goes on where it stopped.
pub fn resolve(model: &str, progress: &mut dyn FnMut(DownloadProgress) -> Result<()>) -> Result<PathBuf> {
    match name(model) {
        Some(name) => Hub::from_env()?.fetch(&name, progress),
        None => Ok(model.into()),
    }
}

/// Where a checkpoint is, without asking anybody.
///
/// # Errors
/// There is no place for a cache.
pub fn place(model: &str) -> Result<RepoLocation> {
    let Some(name) = name(model) else { return Ok(RepoLocation::Folder(model.into())) };
    let there = || RepoLocation::Hub { model: format!("{}@{}", name.id, name.revision) };
    Ok(Hub::from_env()?.cached(&name).map_or_else(there, RepoLocation::Folder))
}

/// `org/name` for a folder of the hub's cache, whose own name is a commit; otherwise the folder's name.
pub fn model_name(folder: &Path) -> String {
    let named = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let snapshots = folder.parent().filter(|parent| parent.ends_with("snapshots"));
    let repository = snapshots.and_then(Path::parent).map(named);
    let name = repository.and_then(|name| Some(name.strip_prefix("models--")?.replace("--", "/")));
    name.unwrap_or_else(|| named(folder))
}

/// A repository on the hub, at a branch, tag or commit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    id: String,
    revision: String,
}

/// What `model` names on the hub; nothing if it is a folder, or could be nothing else.
fn name(model: &str) -> Option<Name> {
    if Path::new(model).exists() {
        return None;
    }
    let (id, revision) = model.split_once('@').unwrap_or((model, "main"));
    let (owner, name) = id.split_once('/')?;
    let plain = |part: &str| {
        let known = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        known && !part.is_empty() && !part.starts_with(['.', '-']) && !part.contains("..")
    };
    let good = plain(owner) && plain(name) && revision.split('/').all(plain);
    good.then(|| Name { id: id.to_owned(), revision: revision.to_owned() })
}

/// The hub, or a mirror, and the cache of what came from it.
pub struct Hub {
    endpoint: String,
    cache: hf_hub::Cache,
    token: Option<String>,
    offline: bool,
    agent: Agent,
}

impl Hub {
    /// As the environment says.
    ///
    /// # Errors
    /// There is no place for a cache.
    fn from_env() -> Result<Self> {
        let set =
            |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let folder = |names: &[&str]| {
            set(names).map(|path| match (path.strip_prefix("~/"), std::env::home_dir()) {
                (Some(inside), Some(home)) => home.join(inside),
                _ => path.into(),
            })
        };
        let caches = || folder(&["XDG_CACHE_HOME"]).or_else(|| Some(std::env::home_dir()?.join(".cache")));
        let home = folder(&["HF_HOME"]).or_else(|| Some(caches()?.join("huggingface")));
        let home = home.ok_or_else(|| Error::Plan("there is no home folder for a cache\nhint: set HF_HOME".into()))?;
        let cache = hf_hub::Cache::new(home.join("hub"));
        let token = set(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]).or_else(|| cache.token());
        let yes = |value: String| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str());
        let offline = set(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]).is_some_and(yes);
        let cache = folder(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]).map_or(cache, hf_hub::Cache::new);
        let endpoint = set(&["HF_ENDPOINT"]).unwrap_or_else(|| ENDPOINT.into());
        Ok(Self::new(&endpoint, cache.path(), token, offline))
    }

    /// The hub at `endpoint`, with its cache in a folder; without requests if it is `offline`.
    pub fn new(endpoint: &str, cache: &Path, token: Option<String>, offline: bool) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Self { endpoint, cache: hf_hub::Cache::new(cache.into()), token, offline, agent: net::agent(None) }
    }

    /// The folder of `org/name[@revision]`, downloaded unless it is in the cache whole.
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn folder(&self, model: &str, progress: &mut dyn FnMut(DownloadProgress) -> Result<()>) -> Result<PathBuf> {
        let name = name(model).ok_or_else(|| {
            Error::Plan(format!("{model:?} is not the name of a model on the hub: expected org/name"))
        })?;
        self.fetch(&name, progress)
    }

    fn cached(&self, name: &Name) -> Option<PathBuf> {
        let snapshot = Snapshot::find(&self.cache, &name.id, &name.revision).ok()?;
        snapshot.lacks().is_ok_and(|lacks| lacks.is_empty()).then(|| snapshot.folder().to_path_buf())
    }

    fn fetch(&self, name: &Name, progress: &mut dyn FnMut(DownloadProgress) -> Result<()>) -> Result<PathBuf> {
        let lacks = match Snapshot::find(&self.cache, &name.id, &name.revision) {
            Ok(snapshot) => {
                let lacks = snapshot.lacks()?;
                if lacks.is_empty() {
                    self.settle(name, &snapshot, progress)?;
                    return Ok(snapshot.folder().to_path_buf());
                }
                format!("{} lacks {}", snapshot.folder().display(), lacks.join(", "))
            }
            Err(why) => format!("the cache has {why}"),
        };
        if self.offline {
            let why = format!("there is no such folder here, HF_HUB_OFFLINE is set, and {lacks}");
            return Err(self.refused(name, &why));
        }
        let listing = self.listing(name, &lacks)?;
        if listing.find(CONFIG).is_none() {
            return Err(self.refused(name, "the repository has no config.json, so it is not a checkpoint"));
        }
        if listing.find(ADAPTER).is_some() {
            return Err(self.refused(name, &format!("{ADAPTER}: {NO_ADAPTERS}")));
        }
        let snapshot = Snapshot::of_commit(&self.cache, &name.id, &listing.sha)?;
        let mut job = Job { hub: self, name, snapshot: &snapshot, bytes: 0, total: 0, progress };
        job.small(&listing)?;
        let config: Value = sae_core::file::read_json(&snapshot.folder().join(CONFIG), SMALL_LIMIT)?;
        let weights = precedence::weights(&config, |file| listing.find(file).is_some());
        let Some(weights) = weights.map_err(|why| self.refused(name, &why))? else {
            let names = listing.siblings.iter().map(|file| file.rfilename.clone());
            return Err(self.refused(name, &precedence::no_weights(names)));
        };
        let wanted = |file: &String| {
            let why = || self.refused(name, &format!("the repository has no {file}"));
            listing.find(file).ok_or_else(why)
        };
        if weights.ends_with(".json") {
            job.run(&[wanted(&weights)?], SMALL_LIMIT)?;
        }
        let files = snapshot.weights(&weights)?.iter().map(wanted).collect::<Result<Vec<_>>>()?;
        job.run(&files, WEIGHTS_LIMIT)?;
        snapshot.point(&name.revision)?;
        Ok(snapshot.folder().to_path_buf())
    }

    /// Finds out whether the commit of a snapshot that can be used as it is has a file more, such as a chat template, if
    /// nobody has asked for one before; downloads it. Without a network it stays as it is.
    fn settle(
        &self,
        name: &Name,
        snapshot: &Snapshot,
        progress: &mut dyn FnMut(DownloadProgress) -> Result<()>,
    ) -> Result<()> {
        if self.offline || snapshot.is_settled() {
            return Ok(());
        }
        let name = &Name { id: name.id.clone(), revision: snapshot.commit() };
        match self.listing(name, "") {
            Ok(listing) => Job { hub: self, name, snapshot, bytes: 0, total: 0, progress }.small(&listing),
            Err(_) => Ok(()),
        }
    }

    /// What the repository holds; `lacks` says why that is asked, for those who have no network.
    fn listing(&self, name: &Name, lacks: &str) -> Result<Listing> {
        let revision = name.revision.replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", self.endpoint, name.id);
        let mut answer = self.get(&url, 0).map_err(|why| self.refused(name, &format!("{why}, and {lacks}")))?;
        if !answer.status().is_success() {
            return Err(self.denied(name, &answer));
        }
        let text = answer.body_mut().with_config().limit(ANSWER_LIMIT).read_to_vec();
        let text = text.map_err(|e| self.refused(name, &format!("what the hub says breaks off ({e})")))?;
        let unclear = |why: String| self.refused(name, &format!("the hub's answer is not understood ({why})"));
        let listing: Listing = serde_json::from_slice(&text).map_err(|e| unclear(e.to_string()))?;
        match cache::is_commit(&listing.sha) {
            true => Ok(listing),
            false => Err(unclear(format!("{:?} is not a commit", listing.sha))),
        }
    }

    /// Asks for `url` from a byte on.
    fn get(&self, url: &str, from: u64) -> Result<Response<Body>, String> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        request.call().map_err(|e| format!("the hub cannot be reached ({e})"))
    }

    /// An answer that is a refusal, in words. The hub says 401 for what is not there as well as for what is private.
    fn denied(&self, name: &Name, answer: &Response<Body>) -> Error {
        let code = answer.headers().get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default();
        let token = match &self.token {
            None => "hint: if it is private or gated, set HF_TOKEN to a token of yours that may read it",
            Some(_) => "hint: if it is private or gated, ask for access on its page with the account of HF_TOKEN",
        };
        let why = match (code, answer.status()) {
            ("GatedRepo", _) => format!("the repository is gated\n{token}"),
            ("RevisionNotFound", _) => format!("the repository has no revision {}", name.revision),
            ("RepoNotFound", _) | (_, StatusCode::NOT_FOUND) => {
                format!("there is no such folder here and no such repository on the hub\n{token}")
            }
            (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                format!("the hub does not show it ({})\n{token}", answer.status())
            }
            (_, status) => format!("the hub says {status}"),
        };
        self.refused(name, &why)
    }

    fn refused(&self, name: &Name, why: &str) -> Error {
        let (why, hint) = why.split_once('\n').map_or((why, String::new()), |(why, hint)| (why, format!("\n{hint}")));
        Error::Hub { cause: why.into(), model: format!("{}@{}", name.id, name.revision), hint }
    }
}

/// What a repository holds, as the hub lists it.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

impl Listing {
    fn find(&self, file: &str) -> Option<&Sibling> {
        self.siblings.iter().find(|sibling| sibling.rfilename == file)
    }
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

/// A file in the hub's large storage.
#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Sibling {
    fn size(&self) -> Option<u64> {
        self.lfs.as_ref().and_then(|lfs| lfs.size).or(self.size)
    }

    fn sha256(&self) -> Option<&str> {
        self.lfs.as_ref()?.sha256.as_deref()
    }

    /// The name under which the cache keeps what is in it.
    fn blob(&self) -> Option<&str> {
        self.sha256().or(self.blob_id.as_deref()).filter(|blob| cache::is_hex(blob))
    }
}

/// A download under way.
struct Job<'a> {
    hub: &'a Hub,
    name: &'a Name,
    snapshot: &'a Snapshot,
    bytes: u64,
    total: u64,
    progress: &'a mut dyn FnMut(DownloadProgress) -> Result<()>,
}

impl Job<'_> {
    /// Everything but the weights; notes what does not exist.
    fn small(&mut self, listing: &Listing) -> Result<()> {
        let mut files = Vec::new();
        for small in DECISIVE.into_iter().chain(BESIDES) {
            match listing.find(small) {
                Some(file) => files.push(file),
                None => self.snapshot.note_absent(small),
            }
        }
        self.run(&files, SMALL_LIMIT)
    }

    fn run(&mut self, files: &[&Sibling], limit: u64) -> Result<()> {
        if let Some(file) = files.iter().find(|file| file.size().is_some_and(|size| size > limit)) {
            let why = format!("{} has {} bytes", file.rfilename, file.size().unwrap_or_default());
            return Err(self.hub.refused(self.name, &why));
        }
        self.total += files.iter().filter_map(|file| file.size()).sum::<u64>();
        for file in files {
            if !self.snapshot.has(&file.rfilename) {
                self.download(file, limit)?;
            }
            self.bytes += file.size().unwrap_or_default();
            (self.progress)(DownloadProgress { file: &file.rfilename, bytes: self.bytes, total: self.total })?;
        }
        Ok(())
    }
}
