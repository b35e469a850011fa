//! Requests to the hub or to a mirror: which files a repository has, the content of one file from a byte on, and what an upload
//! posts. Turns error responses into errors that say what can be done. Knows no cache.

use super::cache;
use super::name::RepoName;
use crate::{Error, Result, net};
use sae_core::error::Hint;
use serde::Deserialize;
use serde_json::Value;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

/// Size of the largest answer about a repository that is read, in bytes.
const ANSWER_LIMIT: u64 = 1 << 24;

/// A connection to the hub.
pub(super) struct Client {
    endpoint: String,
    token: Option<String>,
    agent: Agent,
}

/// The files of a repository, as the hub lists them.
#[derive(Deserialize)]
pub(super) struct Listing {
    /// The commit.
    pub sha: String,
    pub siblings: Vec<Sibling>,
}

impl Listing {
    pub fn find(&self, file: &str) -> Option<&Sibling> {
        self.siblings.iter().find(|sibling| sibling.rfilename == file)
    }
}

/// A file of a repository.
#[derive(Deserialize)]
pub(super) struct Sibling {
    /// Its name, relative to the repository.
    pub rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

/// A file in the hub's storage for large files.
#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Sibling {
    /// Its size in bytes, if the hub states it.
    pub fn size(&self) -> Option<u64> {
        self.lfs.as_ref().and_then(|lfs| lfs.size).or(self.size)
    }

    /// Its SHA-256 in hexadecimal, if the hub states it.
    pub fn sha256(&self) -> Option<&str> {
        self.lfs.as_ref()?.sha256.as_deref()
    }

    /// The name under which the cache stores its content.
    pub fn blob(&self) -> Option<&str> {
        self.sha256().or(self.blob_id.as_deref()).filter(|blob| cache::is_hex(blob))
    }
}

impl Client {
    /// A client for the hub at `endpoint`. Does not connect yet.
    pub fn new(endpoint: &str, token: Option<String>) -> Self {
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), token, agent: net::agent(None) }
    }

    /// The files of a repository. `reason` says why they are needed, for people who have no network.
    pub fn listing(&self, name: &RepoName, reason: &str) -> Result<Listing> {
        let answer = self.about(name).map_err(|cause| hub_error(name, format!("{cause}, and {reason}")))?;
        self.read_listing(name, answer)
    }

    /// The files of a repository; `None` if the hub has no repository of this name, or shows it only to others.
    pub fn find(&self, name: &RepoName) -> Result<Option<Listing>> {
        let answer = self.about(name).map_err(|cause| hub_error(name, cause))?;
        let is_missing = match code(&answer) {
            "RepoNotFound" => true,
            other => other.is_empty() && answer.status() == StatusCode::NOT_FOUND,
        };
        if is_missing { Ok(None) } else { self.read_listing(name, answer).map(Some) }
    }

    fn about(&self, name: &RepoName) -> Result<Response<Body>, String> {
        let revision = name.revision.replace('/', "%2F");
        self.get(&format!("{}/api/models/{}/revision/{revision}?blobs=true", self.endpoint, name.id), 0)
    }

    fn read_listing(&self, name: &RepoName, mut answer: Response<Body>) -> Result<Listing> {
        if !answer.status().is_success() {
            return Err(self.denied(name, &answer));
        }
        let listing: Listing = self.json(name, &mut answer)?;
        if cache::is_commit(&listing.sha) {
            Ok(listing)
        } else {
            let cause = format!("the answer of the hub is invalid (expected a commit, found {:?})", listing.sha);
            Err(hub_error(name, cause))
        }
    }

    /// Requests a file of a commit from byte `from` on.
    pub fn file(&self, name: &RepoName, commit: &str, file: &str, from: u64) -> Result<Response<Body>, String> {
        self.get(&format!("{}/{}/resolve/{commit}/{file}", self.endpoint, name.id), from)
    }

    /// The address of the hub, without a `/` at its end.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether there is a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The connections, for requests to other servers, which the token is not for.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Posts a body of a media type. Only the hub itself gets the token.
    pub fn post(&self, url: &str, media_type: &str, body: &[u8]) -> Result<Response<Body>, String> {
        let mut request = self.agent.post(url).header("content-type", media_type).header("accept", media_type);
        if let Some(token) = self.token.as_ref().filter(|_| self.is_own(url)) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.send(body).map_err(unreachable)
    }

    fn is_own(&self, url: &str) -> bool {
        url.strip_prefix(&self.endpoint).is_some_and(|path| path.starts_with('/'))
    }

    /// Reads an answer of the hub.
    pub fn json<T: for<'a> Deserialize<'a>>(&self, name: &RepoName, answer: &mut Response<Body>) -> Result<T> {
        let text = answer.body_mut().with_config().limit(ANSWER_LIMIT).read_to_vec();
        let text = text.map_err(|e| hub_error(name, format!("the answer of the hub was cut off ({e})")))?;
        serde_json::from_slice(&text).map_err(|e| hub_error(name, format!("the answer of the hub is invalid ({e})")))
    }

    /// What an error response says, in the hub's own words.
    pub fn said(&self, answer: &mut Response<Body>) -> Option<String> {
        let text = answer.body_mut().with_config().limit(ANSWER_LIMIT).read_to_vec().ok()?;
        let said: Value = serde_json::from_slice(&text).ok()?;
        said["error"].as_str().map(str::to_owned)
    }

    /// Requests an address of the hub from byte `from` on.
    pub fn get(&self, url: &str, from: u64) -> Result<Response<Body>, String> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        request.call().map_err(unreachable)
    }

    /// The error for an error response. The hub returns 401 for repositories that do not exist as well as for private ones.
    pub fn denied(&self, name: &RepoName, answer: &Response<Body>) -> Error {
        let page = format!("{}/{}", self.endpoint, name.id);
        let gated = Hint::from(if self.token.is_none() {
            format!("accept its terms at {page}, and set HF_TOKEN to a token of the same account")
        } else {
            format!("accept its terms at {page} with the account of HF_TOKEN")
        });
        let access = Hint::from(if self.token.is_none() {
            "if it is private or gated, set HF_TOKEN to a token that may read it".to_owned()
        } else {
            format!("if it is private or gated, request access at {page} with the account of HF_TOKEN")
        });
        match (code(answer), answer.status()) {
            ("GatedRepo", _) => hub_error(name, "the repository is gated").with_hint(gated),
            ("RevisionNotFound", _) => hub_error(name, format!("the repository has no revision {}", name.revision)),
            ("EntryNotFound", _) => hub_error(name, "the hub lists a file that it does not have"),
            ("RepoNotFound", _) | (_, StatusCode::NOT_FOUND) => {
                hub_error(name, "there is no such folder here and no such repository on the hub").with_hint(access)
            }
            (_, status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => {
                hub_error(name, format!("the hub denied access (status {status})")).with_hint(access)
            }
            (_, status) => hub_error(name, format!("the hub returned status {status}")),
        }
    }
}

fn unreachable(error: ureq::Error) -> String {
    format!("the hub cannot be reached ({error})")
}

/// Which error a response is, in the hub's own words; empty if it does not say.
fn code(answer: &Response<Body>) -> &str {
    answer.headers().get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default()
}

/// An error about a repository.
pub(super) fn hub_error(name: &RepoName, cause: impl Into<String>) -> Error {
    Error::Hub { cause: cause.into(), model: name.to_string() }
}
