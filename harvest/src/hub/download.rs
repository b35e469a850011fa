//! Downloads files from the hub into the cache. A file is received next to its destination, compared with the size and the
//! hash that the hub lists, and then renamed. An interrupted download is continued.

use super::cache::Snapshot;
use super::client::{Client, Listing, Sibling, hub_error};
use super::name::RepoName;
use crate::identity::hex;
use crate::net::TransferProgress;
use crate::precedence::{DECISIVE, OTHER_CONFIGS};
use crate::{Error, Result};
use sae_core::error::Hint;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

/// Size of the largest file besides the weights, in bytes.
pub(super) const SMALL_LIMIT: u64 = 1 << 28;

/// Size of the largest file of weights, in bytes.
pub(super) const WEIGHTS_LIMIT: u64 = 1 << 40;

/// How many requests for one file may fail in a row without a transfer of anything.
pub(super) const TRIES: u32 = 3;

/// Time before a failed request is repeated.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// Bytes that are received at once.
const BUFFER: usize = 1 << 18;

/// A download of several files of one commit.
pub(super) struct Download<'a> {
    client: &'a Client,
    name: &'a RepoName,
    snapshot: &'a Snapshot,
    bytes: u64,
    total: u64,
    progress: &'a mut dyn FnMut(TransferProgress) -> Result<()>,
}

/// Why a request ended early.
pub(super) enum Failure {
    /// Another request may succeed.
    Transient(String),
    /// Another request would fail, too.
    Final(Error),
}

impl<'a> Download<'a> {
    pub fn new(
        client: &'a Client,
        name: &'a RepoName,
        snapshot: &'a Snapshot,
        progress: &'a mut dyn FnMut(TransferProgress) -> Result<()>,
    ) -> Self {
        Self { client, name, snapshot, bytes: 0, total: 0, progress }
    }

    /// Downloads everything except the weights, and records which files do not exist.
    pub fn configs(&mut self, listing: &Listing) -> Result<()> {
        let mut files = Vec::new();
        for name in DECISIVE.into_iter().chain(OTHER_CONFIGS) {
            match listing.find(name) {
                Some(file) => files.push(file),
                None => self.snapshot.record_absent(name),
            }
        }
        self.files(&files, SMALL_LIMIT)
    }

    /// Downloads those of the files that are not in the cache. None may be larger than `limit` bytes.
    pub fn files(&mut self, files: &[&Sibling], limit: u64) -> Result<()> {
        if let Some(file) = files.iter().find(|file| file.size().is_some_and(|size| size > limit)) {
            let (name, size) = (&file.rfilename, file.size().unwrap_or_default());
            return Err(hub_error(self.name, format!("{name} has {size} bytes, more than the limit of {limit}")));
        }
        self.total += files.iter().filter_map(|file| file.size()).sum::<u64>();
        for file in files {
            if !self.snapshot.has(&file.rfilename) {
                self.file(file, limit)?;
            }
            self.bytes += file.size().unwrap_or_default();
            (self.progress)(TransferProgress { file: &file.rfilename, bytes: self.bytes, total: self.total })?;
        }
        Ok(())
    }

    /// Downloads a file and links it into the snapshot.
    fn file(&mut self, file: &Sibling, limit: u64) -> Result<()> {
        let listed_blob = file.blob().map(str::to_owned);
        // If the hub lists no name for the blob, it is named by its content, once it has been received.
        let blob = self.snapshot.blob(listed_blob.as_deref().unwrap_or(&file.rfilename))?;
        let partial =
            blob.with_file_name(format!("{}.incomplete", blob.file_name().unwrap_or_default().to_string_lossy()));
        let content = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&partial);
        let mut content = content.map_err(Error::io("open", &partial))?;
        // If two programs download the same file, the second one waits here and then finds it.
        content.lock().map_err(Error::io("lock", &partial))?;
        if listed_blob.is_some() && blob.is_file() {
            let _ = fs::remove_file(&partial);
            return self.snapshot.link(&blob, &file.rfilename);
        }
        let resumed = content.metadata().is_ok_and(|meta| meta.len() > 0);
        let is_wrong = |sha256: &str| file.sha256().is_some_and(|listed| !listed.eq_ignore_ascii_case(sha256));
        let mut sha256 = self.receive(file, limit, &mut content, &partial)?;
        if resumed && is_wrong(&sha256) {
            // The partial file was the beginning of something else.
            restart(&mut content, &mut Sha256::new(), &partial)?;
            sha256 = self.receive(file, limit, &mut content, &partial)?;
        }
        if is_wrong(&sha256) {
            // Continuing from this file would fail again.
            let _ = fs::remove_file(&partial);
            return Err(self.damaged(file, "its content does not have the SHA-256 that the hub lists"));
        }
        content.sync_all().map_err(Error::io("write", &partial))?;
        let blob = if listed_blob.is_some() { blob } else { self.snapshot.blob(&sha256)? };
        fs::rename(&partial, &blob).map_err(Error::io("rename", &partial))?;
        self.snapshot.link(&blob, &file.rfilename)
    }

    /// Receives the missing rest of a file. Returns the SHA-256 of the whole file.
    fn receive(&mut self, file: &Sibling, limit: u64, content: &mut File, partial: &Path) -> Result<String> {
        let mut hash = Sha256::new();
        let mut received = 0;
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = content.read(&mut buffer).map_err(Error::io("read", partial))?;
            hash.update(&buffer[..read]);
            received += read as u64;
            if read == 0 {
                break;
            }
        }
        let mut tries = 0;
        // If no size is listed, it is impossible to say whether the partial file can be continued.
        if file.size().is_none_or(|size| received > size) {
            received = restart(content, &mut hash, partial)?;
        }
        while file.size().is_none_or(|size| received < size) {
            let before = received;
            match self.request(file, limit, content, partial, &mut hash, &mut received) {
                Ok(()) => break,
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transient(cause)) => {
                    tries = if received > before { 1 } else { tries + 1 };
                    if tries >= TRIES {
                        let error = self.damaged(file, &format!("the download was interrupted ({cause})"));
                        return Err(error.with_hint(Hint::from("run it again: it continues from there")));
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
        if file.size().is_some_and(|size| size != received) {
            return Err(self.damaged(file, "the download is shorter than the hub lists"));
        }
        Ok(hex(hash.finalize()))
    }

    fn request(
        &mut self,
        file: &Sibling,
        limit: u64,
        content: &mut File,
        partial: &Path,
        hash: &mut Sha256,
        received: &mut u64,
    ) -> Result<(), Failure> {
        let answer = self.client.file(self.name, &self.snapshot.commit(), &file.rfilename, *received);
        let mut answer = answer.map_err(Failure::Transient)?;
        let status = answer.status();
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(Failure::Transient(format!("the hub returned status {status}")));
        }
        if !status.is_success() {
            return Err(Failure::Final(self.client.denied(self.name, &answer)));
        }
        let range = answer.headers().get("content-range").and_then(|range| range.to_str().ok());
        let from = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
        let disk = |doing| move |e| Failure::Final(Error::io(doing, partial)(e));
        if *received > 0 && (status.as_u16() != 206 || from != Some(*received)) {
            // The server sends the file from its beginning.
            *received = restart(content, hash, partial).map_err(Failure::Final)?;
            if status.as_u16() == 206 {
                return Err(Failure::Transient("the hub sent another range than was requested".into()));
            }
        }
        let expected = answer.body().content_length().map(|length| *received + length);
        let end = file.size().unwrap_or(limit);
        let mut body = answer.body_mut().as_reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = body.read(&mut buffer).map_err(|e| Failure::Transient(e.to_string()))?;
            if read == 0 {
                break;
            }
            if *received + read as u64 > end {
                restart(content, hash, partial).map_err(Failure::Final)?;
                return Err(Failure::Final(self.damaged(file, &format!("the download is longer than {end} bytes"))));
            }
            content.write_all(&buffer[..read]).map_err(disk("write"))?;
            hash.update(&buffer[..read]);
            *received += read as u64;
            let bytes = self.bytes + *received;
            let progress = TransferProgress { file: &file.rfilename, bytes, total: self.total };
            (self.progress)(progress).map_err(Failure::Final)?;
        }
        if expected.or(file.size()).is_some_and(|expected| *received < expected) {
            return Err(Failure::Transient("it ended early".into()));
        }
        Ok(())
    }

    fn damaged(&self, file: &Sibling, cause: &str) -> Error {
        hub_error(self.name, format!("{}: {cause}", file.rfilename))
    }
}

/// Discards what has been received of a file.
fn restart(content: &mut File, hash: &mut Sha256, partial: &Path) -> Result<u64> {
    content.set_len(0).and_then(|()| content.seek(SeekFrom::Start(0))).map_err(Error::io("write", partial))?;
    *hash = Sha256::new();
    Ok(0)
}
