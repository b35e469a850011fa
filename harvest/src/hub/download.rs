//! One file from the hub into the cache: received beside its place, compared with the size and the hash that the hub
//! lists, renamed. What an interrupted download left is gone on with.

use super::{DownloadProgress, Job, Sibling};
use crate::checkpoint::hex;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

/// Requests for one file that may break off without a byte more than before.
const TRIES: u32 = 3;

/// Time before a broken request is made again.
const PAUSE: Duration = Duration::from_millis(500);

/// Bytes that are received at once.
const BUFFER: usize = 1 << 18;

/// Why a request ended early.
enum Broken {
    /// Another one may do better.
    Off(String),
    /// It will not get better.
    Final(Error),
}

impl Job<'_> {
    /// Downloads a file and shows it in the snapshot.
    pub(super) fn download(&mut self, file: &Sibling, limit: u64) -> Result<()> {
        let named = file.blob().map(str::to_owned);
        // Without a name from the hub the content gives one, once it is here.
        let blob = self.snapshot.blob(named.as_deref().unwrap_or(&file.rfilename))?;
        let partial =
            blob.with_file_name(format!("{}.incomplete", blob.file_name().unwrap_or_default().to_string_lossy()));
        let content = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&partial);
        let mut content = content.map_err(Error::io("open", &partial))?;
        // Of two programs that want the same file one waits, and finds it there.
        content.lock().map_err(Error::io("lock", &partial))?;
        if named.is_some() && blob.is_file() {
            let _ = fs::remove_file(&partial);
            return self.snapshot.link(&blob, &file.rfilename);
        }
        let resumed = content.metadata().is_ok_and(|meta| meta.len() > 0);
        let other = |sha256: &str| file.sha256().is_some_and(|said| !said.eq_ignore_ascii_case(sha256));
        let mut sha256 = self.receive(file, limit, &mut content, &partial)?;
        if resumed && other(&sha256) {
            // What lay there was of something else.
            restart(&mut content, &mut Sha256::new(), &partial)?;
            sha256 = self.receive(file, limit, &mut content, &partial)?;
        }
        if other(&sha256) {
            // Going on with it would end in the same.
            let _ = fs::remove_file(&partial);
            return Err(
                self.damaged(file, "the SHA-256 of the downloaded file differs from the one that the hub lists")
            );
        }
        content.sync_all().map_err(Error::io("write", &partial))?;
        let blob = if named.is_some() { blob } else { self.snapshot.blob(&sha256)? };
        fs::rename(&partial, &blob).map_err(Error::io("rename", &partial))?;
        self.snapshot.link(&blob, &file.rfilename)
    }

    /// Receives what is missing of a file; gives back the whole one's SHA-256.
    fn receive(&mut self, file: &Sibling, limit: u64, content: &mut File, partial: &Path) -> Result<String> {
        let mut hash = Sha256::new();
        let mut here = 0;
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = content.read(&mut buffer).map_err(Error::io("read", partial))?;
            hash.update(&buffer[..read]);
            here += read as u64;
            if read == 0 {
                break;
            }
        }
        let mut tries = 0;
        // Without a listed size there is no telling whether it goes on where it stopped.
        if file.size().is_none_or(|size| here > size) {
            here = restart(content, &mut hash, partial)?;
        }
        while file.size().is_none_or(|size| here < size) {
            let before = here;
            match self.request(file, limit, content, partial, &mut hash, &mut here) {
                Ok(()) => break,
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::Off(why)) => {
                    tries = if here > before { 1 } else { tries + 1 };
                    if tries >= TRIES {
                        return Err(self.damaged(
                            file,
                            &format!(
                                "the download broke off ({why})\nhint: run it again; it continues where it stopped"
                            ),
                        ));
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
        match file.size().is_some_and(|size| size != here) {
            true => Err(self.damaged(file, "the download is shorter than the hub lists")),
            false => Ok(hex(hash.finalize())),
        }
    }

    fn request(
        &mut self,
        file: &Sibling,
        limit: u64,
        content: &mut File,
        partial: &Path,
        hash: &mut Sha256,
        here: &mut u64,
    ) -> Result<(), Broken> {
        let (hub, name) = (self.hub, self.name);
        let commit = self.snapshot.folder().file_name().unwrap_or_default().to_string_lossy();
        let url = format!("{}/{}/resolve/{commit}/{}", hub.endpoint, name.id, file.rfilename);
        let mut answer = hub.get(&url, *here).map_err(Broken::Off)?;
        let status = answer.status();
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(Broken::Off(format!("the hub says {status}")));
        }
        if !status.is_success() {
            return Err(Broken::Final(hub.denied(name, &answer)));
        }
        let range = answer.headers().get("content-range").and_then(|range| range.to_str().ok());
        let from = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
        let disk = |doing| move |e| Broken::Final(Error::io(doing, partial)(e));
        if *here > 0 && (status.as_u16() != 206 || from != Some(*here)) {
            // The server begins at the beginning.
            *here = restart(content, hash, partial).map_err(Broken::Final)?;
            if status.as_u16() == 206 {
                return Err(Broken::Off("the hub sent another part than was asked for".into()));
            }
        }
        let expected = answer.body().content_length().map(|length| *here + length);
        let end = file.size().unwrap_or(limit);
        let mut body = answer.body_mut().as_reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = body.read(&mut buffer).map_err(|e| Broken::Off(e.to_string()))?;
            if read == 0 {
                break;
            }
            if *here + read as u64 > end {
                restart(content, hash, partial).map_err(Broken::Final)?;
                return Err(Broken::Final(self.damaged(file, &format!("the download is longer than {end} bytes"))));
            }
            content.write_all(&buffer[..read]).map_err(disk("write"))?;
            hash.update(&buffer[..read]);
            *here += read as u64;
            let bytes = self.bytes + *here;
            let progress = DownloadProgress { file: &file.rfilename, bytes, total: self.total };
            (self.progress)(progress).map_err(Broken::Final)?;
        }
        match expected.or(file.size()).is_some_and(|expected| *here < expected) {
            true => Err(Broken::Off("it ended early".into())),
            false => Ok(()),
        }
    }

    fn damaged(&self, file: &Sibling, why: &str) -> Error {
        let (why, hint) = why.split_once('\n').map_or((why, String::new()), |(why, hint)| (why, format!("\n{hint}")));
        self.hub.refused(self.name, &format!("{}: {why}{hint}", file.rfilename))
    }
}

/// Throws away what is here of a file.
fn restart(content: &mut File, hash: &mut Sha256, partial: &Path) -> Result<u64> {
    content.set_len(0).and_then(|()| content.seek(SeekFrom::Start(0))).map_err(Error::io("write", partial))?;
    *hash = Sha256::new();
    Ok(0)
}
