//! Uploads files to a repository of the hub, as `huggingface_hub` does: the repository is created if there is none, the hub says which
//! files go to its storage for large files, these are sent there unless it has them, and then commits name all files. A file
//! counts only once a commit names it, so an interrupted upload changes nothing; what it has sent is not sent again.

use super::Hub;
use super::client::{Client, hub_error};
use super::destination::{Destination, RepoKind};
use super::download::{Failure, PAUSE, TRIES};
use crate::identity::hex;
use crate::net::TransferProgress;
use crate::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sae_core::error::Hint;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;
use ureq::http::{Response, StatusCode};
use ureq::{Body, SendBody};

/// How many files one request asks about, and one commit names.
const FILES: usize = 256;

/// How many bytes of files one commit holds itself.
const INLINE: u64 = 1 << 25;

/// How many bytes of a file's beginning the hub looks at to decide where it is stored.
const SAMPLE: u64 = 512;

/// The smallest part that a file is cut into when it is sent.
const PART: u64 = 1 << 20;

/// Bytes that are hashed at once.
const BUFFER: usize = 1 << 18;

/// A file to upload.
#[derive(Clone, Debug)]
pub struct UploadFile {
    /// Its name in the folder that it is uploaded to, with `/` between folders.
    pub name: String,
    /// What it contains.
    pub content: Content,
}

/// What a file contains.
#[derive(Clone, Debug)]
pub enum Content {
    /// The content of a file on this machine.
    File(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
}

impl Content {
    /// Its size in bytes.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn size(&self) -> Result<u64> {
        match self {
            Self::File(path) => Ok(std::fs::metadata(path).map_err(Error::io("read", path))?.len()),
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// A reader from byte `from` on.
    fn open(&self, from: u64) -> Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::File(path) => {
                let mut file = File::open(path).map_err(Error::io("open", path))?;
                file.seek(SeekFrom::Start(from)).map_err(Error::io("read", path))?;
                Box::new(file)
            }
            Self::Bytes(bytes) => {
                let mut bytes = Cursor::new(bytes);
                bytes.set_position(from);
                Box::new(bytes)
            }
        })
    }

    fn read(&self, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(0)?.take(limit).read_to_end(&mut bytes).map_err(|e| self.unreadable(e))?;
        Ok(bytes)
    }

    fn sha256(&self) -> Result<String> {
        let (mut reader, mut hash, mut buffer) = (self.open(0)?, Sha256::new(), vec![0; BUFFER]);
        loop {
            match reader.read(&mut buffer).map_err(|e| self.unreadable(e))? {
                0 => return Ok(hex(hash.finalize())),
                read => hash.update(&buffer[..read]),
            }
        }
    }

    fn unreadable(&self, error: io::Error) -> Error {
        let path = match self {
            Self::File(path) => path.clone(),
            Self::Bytes(_) => PathBuf::new(),
        };
        Error::io("read", &path)(error)
    }
}

/// What an upload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Uploaded {
    /// Address of the last commit.
    pub url: String,
    /// The last commit.
    pub commit: String,
    /// Files that the commits name.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Files of these that the hub's storage had already.
    pub already_there: usize,
    /// Files that the repository's `.gitignore` excludes.
    pub ignored: Vec<String>,
}

/// A file with what the hub needs to know about it.
struct Planned<'a> {
    file: &'a UploadFile,
    /// Its name in the repository.
    path: String,
    size: u64,
    /// SHA-256 in hexadecimal, if it goes to the storage for large files.
    large: Option<String>,
}

impl Hub {
    /// Uploads files to a folder of a repository, which is created if there is none (`private`, or public). The last file is in the
    /// last commit, so one that describes the others should come last.
    ///
    /// # Errors
    /// No token, a token that may not write there, a hub that cannot be reached, a file that cannot be read.
    pub fn upload(
        &self,
        files: &[UploadFile],
        to: &Destination,
        private: bool,
        message: &str,
        progress: &mut dyn FnMut(TransferProgress) -> Result<()>,
    ) -> Result<Uploaded> {
        if self.offline {
            return Err(hub_error(&to.name, "HF_HUB_OFFLINE is set, so nothing can be uploaded"));
        }
        if !self.client.has_token() {
            let hint = Hint::from("set HF_TOKEN to a token of your account that may write");
            return Err(hub_error(&to.name, "an upload needs a token").with_hint(hint));
        }
        let total = files.iter().map(|file| file.content.size()).sum::<Result<u64>>()?;
        let mut upload = Upload { client: &self.client, to, done: Uploaded::default(), sent: 0, total, progress };
        upload.create(private)?;
        for files in files.chunks(FILES) {
            let planned = upload.plan(files)?;
            upload.store(&planned)?;
            upload.commit(&planned, message)?;
        }
        Ok(upload.done)
    }
}

/// An upload under way.
struct Upload<'a> {
    client: &'a Client,
    to: &'a Destination,
    done: Uploaded,
    sent: u64,
    total: u64,
    progress: &'a mut dyn FnMut(TransferProgress) -> Result<()>,
}

/// Where the hub puts files.
#[derive(Deserialize)]
struct Modes {
    files: Vec<Mode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mode {
    path: String,
    upload_mode: String,
    #[serde(default)]
    should_ignore: bool,
}

/// What the storage for large files wants to have done.
#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    actions: Option<Actions>,
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct ObjectError {
    message: String,
}

#[derive(Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Committed {
    commit_url: String,
    commit_oid: String,
}

impl Action {
    /// The size of a part and the addresses of all parts, if the file is to be sent in parts.
    fn parts(&self) -> Option<Result<(u64, Vec<&str>), String>> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let size = text(self.header.get("chunk_size")?);
        let mut parts: Vec<(u64, &str)> =
            self.header.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.as_str()?))).collect();
        parts.sort_unstable();
        Some(match size.parse::<u64>() {
            Ok(size) if size >= PART => Ok((size, parts.into_iter().map(|(_, address)| address).collect())),
            _ => Err(format!("the hub wants parts of {size:?} bytes")),
        })
    }
}

const JSON: &str = "application/json";
const LFS: &str = "application/vnd.git-lfs+json";
const LINES: &str = "application/x-ndjson";

impl Upload<'_> {
    /// Creates the repository, unless it exists.
    fn create(&self, private: bool) -> Result<()> {
        let (owner, name) = self.to.repo().split_once('/').unwrap_or_default();
        let mut body = json!({"name": name, "organization": owner, "private": private});
        if self.to.kind() == RepoKind::Dataset {
            body["type"] = json!(self.to.kind().name());
        }
        let answer = self.post("/api/repos/create", JSON, body.to_string().as_bytes())?;
        match answer.status() {
            StatusCode::CONFLICT => Ok(()),
            // Someone may write to a repository without the right to create one.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.exists()? => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(self.denied(answer)),
        }
    }

    fn exists(&self) -> Result<bool> {
        let url = format!("{}/api/{}s/{}", self.client.endpoint(), self.to.kind().name(), self.to.repo());
        let answer = self.client.get(&url, 0).map_err(|cause| hub_error(&self.to.name, cause))?;
        Ok(answer.status().is_success())
    }

    /// Asks where files go, and hashes those that go to the storage for large files.
    fn plan<'f>(&mut self, files: &'f [UploadFile]) -> Result<Vec<Planned<'f>>> {
        let mut asked = Vec::with_capacity(files.len());
        for file in files {
            let (sample, size) = (file.content.read(SAMPLE)?, file.content.size()?);
            asked.push(json!({"path": self.to.file(&file.name), "sample": STANDARD.encode(sample), "size": size}));
        }
        let path = format!("/api/{}s/{}/preupload/{}", self.to.kind().name(), self.to.repo(), self.to.branch());
        let modes: Modes = self.ask(&path, JSON, json!({"files": asked}).to_string().as_bytes())?;
        let mut modes: BTreeMap<_, _> = modes.files.into_iter().map(|mode| (mode.path.clone(), mode)).collect();
        let mut planned = Vec::with_capacity(files.len());
        for file in files {
            let (path, size) = (self.to.file(&file.name), file.content.size()?);
            let Some(mode) = modes.remove(&path) else {
                return Err(hub_error(&self.to.name, format!("the hub does not say where {path} goes")));
            };
            if mode.should_ignore {
                self.done.ignored.push(path);
                self.advance(&file.name, size)?;
                continue;
            }
            let large = match mode.upload_mode.as_str() {
                "regular" => None,
                "lfs" => Some(file.content.sha256()?),
                other => return Err(hub_error(&self.to.name, format!("the hub wants {path} sent as {other:?}"))),
            };
            planned.push(Planned { file, path, size, large });
        }
        Ok(planned)
    }

    /// Sends large files to the hub's storage, unless it has them.
    fn store(&mut self, planned: &[Planned]) -> Result<()> {
        let large: BTreeMap<&str, &Planned> =
            planned.iter().filter_map(|file| Some((file.large.as_deref()?, file))).collect();
        if large.is_empty() {
            return Ok(());
        }
        let objects: Vec<_> = large.iter().map(|(oid, file)| json!({"oid": oid, "size": file.size})).collect();
        let path = format!("/{}{}.git/info/lfs/objects/batch", self.to.kind().prefix(), self.to.repo());
        let body = json!({
            "operation": "upload", "transfers": ["basic", "multipart"], "objects": objects,
            "hash_algo": "sha256", "ref": {"name": self.to.branch()},
        });
        let batch: Batch = self.ask(&path, LFS, body.to_string().as_bytes())?;
        let mut answered: BTreeMap<_, _> = batch.objects.into_iter().map(|o| (o.oid.clone(), o)).collect();
        for (oid, file) in large {
            let refused = |why: String| hub_error(&self.to.name, format!("{}: {why}", file.path));
            let object =
                answered.remove(oid).ok_or_else(|| refused("the hub's storage does not answer for it".into()))?;
            if let Some(error) = object.error {
                return Err(refused(error.message));
            }
            match object.actions.and_then(|actions| Some((actions.upload?, actions.verify))) {
                Some((upload, verify)) => self.send(file, oid, &upload, verify.as_ref())?,
                None => {
                    self.done.already_there += 1;
                    self.advance(&file.file.name, file.size)?;
                }
            }
        }
        Ok(())
    }

    /// Sends one large file, whole or in parts.
    fn send(&mut self, file: &Planned, oid: &str, upload: &Action, verify: Option<&Action>) -> Result<()> {
        match upload.parts() {
            None => {
                let headers = upload.header.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
                self.put(file, &upload.href, &headers.collect::<Vec<_>>(), 0, file.size)?;
            }
            Some(parts) => {
                let (size, addresses) = parts.map_err(|why| hub_error(&self.to.name, why))?;
                if addresses.len() as u64 != file.size.div_ceil(size) {
                    let why = format!("{}: the hub wants it in {} parts of {size} bytes", file.path, addresses.len());
                    return Err(hub_error(&self.to.name, why));
                }
                let mut tags = Vec::with_capacity(addresses.len());
                for (n, address) in addresses.iter().enumerate() {
                    let from = n as u64 * size;
                    let tag = self.put(file, address, &[], from, size.min(file.size - from))?;
                    tags.push(json!({"partNumber": n + 1, "etag": tag}));
                }
                let body = json!({"oid": oid, "parts": tags}).to_string();
                self.accepted(self.post_to(&upload.href, LFS, body.as_bytes())?)?;
            }
        }
        if let Some(verify) = verify {
            let body = json!({"oid": oid, "size": file.size}).to_string();
            self.accepted(self.post_to(&verify.href, JSON, body.as_bytes())?)?;
        }
        Ok(())
    }

    /// Sends bytes of a file to an address of the storage. Returns the tag that it gives them.
    fn put(
        &mut self,
        file: &Planned,
        address: &str,
        headers: &[(&str, &str)],
        from: u64,
        bytes: u64,
    ) -> Result<String> {
        let before = self.sent;
        let sent = retried(|| {
            self.sent = before;
            let reader = file.file.content.open(from).map_err(Failure::Final)?.take(bytes);
            let mut watched = Watched { reader, upload: self, file: &file.file.name, stopped: None };
            let mut request = watched.upload.client.agent().put(address).header("content-length", bytes.to_string());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = request.send(SendBody::from_reader(&mut watched));
            if let Some(error) = watched.stopped.take() {
                return Err(Failure::Final(error));
            }
            let answer = answer.map_err(|e| Failure::Transient(format!("the storage cannot be reached ({e})")))?;
            checked(answer, |answer| {
                hub_error(
                    &self.to.name,
                    format!("{}: the hub's storage returned status {}", file.path, answer.status()),
                )
            })
        });
        let answer = sent.map_err(|failure| self.failed(failure))?;
        Ok(answer.headers().get("etag").and_then(|tag| tag.to_str().ok()).unwrap_or_default().to_owned())
    }

    /// Commits files: large ones by their hash, others with their content.
    fn commit(&mut self, planned: &[Planned], message: &str) -> Result<()> {
        let mut rest = planned;
        while !rest.is_empty() {
            let mut inline = 0;
            let fits = rest.iter().take_while(|file| {
                inline += if file.large.is_none() { file.size } else { 0 };
                inline <= INLINE
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            self.commit_at_once(now, message)?;
            rest = later;
        }
        Ok(())
    }

    fn commit_at_once(&mut self, planned: &[Planned], message: &str) -> Result<()> {
        let header = json!({"key": "header", "value": {"summary": message, "description": ""}});
        let mut lines = vec![header.to_string()];
        for file in planned {
            let value = match &file.large {
                Some(oid) => json!({"key": "lfsFile", "value": {
                    "path": file.path, "algo": "sha256", "oid": oid, "size": file.size,
                }}),
                None => json!({"key": "file", "value": {
                    "path": file.path, "encoding": "base64",
                    "content": STANDARD.encode(file.file.content.read(file.size)?),
                }}),
            };
            lines.push(value.to_string());
        }
        let path = format!("/api/{}s/{}/commit/{}", self.to.kind().name(), self.to.repo(), self.to.branch());
        let committed: Committed = self.ask(&path, LINES, (lines.join("\n") + "\n").as_bytes())?;
        self.done.url = committed.commit_url;
        self.done.commit = committed.commit_oid;
        self.done.files += planned.len();
        for file in planned {
            self.done.bytes += file.size;
            if file.large.is_none() {
                self.advance(&file.file.name, file.size)?;
            }
        }
        Ok(())
    }

    /// Posts to the hub, and reads its answer.
    fn ask<T: for<'a> Deserialize<'a>>(&self, path: &str, kind: &str, body: &[u8]) -> Result<T> {
        let mut answer = self.accepted(self.post(path, kind, body)?)?;
        self.client.json(&self.to.name, &mut answer)
    }

    fn post(&self, path: &str, kind: &str, body: &[u8]) -> Result<Response<Body>> {
        self.post_to(&format!("{}{path}", self.client.endpoint()), kind, body)
    }

    /// Posts to an address, which gets the token only if it belongs to the hub. A server that is busy is asked again.
    fn post_to(&self, address: &str, kind: &str, body: &[u8]) -> Result<Response<Body>> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.client.post(address, kind, body) {
                Ok(answer) if tries == TRIES || !is_busy(answer.status()) => return Ok(answer),
                Err(cause) if tries == TRIES => return Err(self.failed(Failure::Transient(cause))),
                _ => std::thread::sleep(PAUSE),
            }
        }
    }

    fn accepted(&self, answer: Response<Body>) -> Result<Response<Body>> {
        if answer.status().is_success() { Ok(answer) } else { Err(self.denied(answer)) }
    }

    /// The error for an error response, with the words of the hub.
    fn denied(&self, mut answer: Response<Body>) -> Error {
        let status = answer.status();
        let said = self.client.said(&mut answer).map(|said| format!(": {said}")).unwrap_or_default();
        let error = hub_error(&self.to.name, format!("the hub refuses the upload (status {status}{said})"));
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                error.with_hint(Hint::from(format!("set HF_TOKEN to a token that may write to {}", self.to.repo())))
            }
            StatusCode::NOT_FOUND => {
                error.with_hint(Hint::from(format!("is there a branch {}, and may you see it?", self.to.branch())))
            }
            _ => error,
        }
    }

    fn failed(&self, failure: Failure) -> Error {
        match failure {
            Failure::Final(error) => error,
            Failure::Transient(cause) => hub_error(&self.to.name, format!("the upload was interrupted ({cause})"))
                .with_hint(Hint::from("run it again: what the hub's storage has is not sent again")),
        }
    }

    fn advance(&mut self, file: &str, bytes: u64) -> Result<()> {
        self.sent += bytes;
        (self.progress)(TransferProgress { file, bytes: self.sent, total: self.total })
    }
}

/// A reader that reports what is read, and ends where the upload is stopped.
struct Watched<'a, 'u, R> {
    reader: R,
    upload: &'a mut Upload<'u>,
    file: &'a str,
    stopped: Option<Error>,
}

impl<R: Read> Read for Watched<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.upload.advance(self.file, read as u64).map_err(|error| {
            self.stopped = Some(error);
            io::Error::other("the upload is stopped")
        })?;
        Ok(read)
    }
}

/// A successful response, or why it is none.
fn checked(answer: Response<Body>, denied: impl FnOnce(&Response<Body>) -> Error) -> Result<Response<Body>, Failure> {
    match answer.status() {
        status if status.is_success() => Ok(answer),
        status if is_busy(status) => Err(Failure::Transient(format!("status {status}"))),
        _ => Err(Failure::Final(denied(&answer))),
    }
}

fn is_busy(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Tries something a few times, as long as another try may succeed.
fn retried<T>(mut once: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 1..TRIES {
        match once() {
            Err(Failure::Transient(_)) => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    once()
}
