//! Writing and mapping files: a file is written to a temporary sibling, synced and renamed; maps are read-only. Knows
//! nothing of the contents.

use crate::error::Cause;
use crate::{Error, Result};
use flate2::{Compression, write::GzEncoder};
use memmap2::Mmap;
use serde::{Serialize, de::DeserializeOwned};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The suffix of files that are being written. The next writer may delete a file with this suffix.
const PARTIAL: &str = ".partial";

/// Writes a file so that a reader sees either the old or the complete new contents, whatever happens in between.
///
/// # Errors
/// The file or its folder cannot be written, or whatever `fill` returns. The old file stays then.
pub fn write(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create folder", parent))?;
    }
    let partial = sibling(path);
    let written = (|| {
        let file = File::create(&partial).map_err(Error::io("create", &partial))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        fill(&mut out)?;
        let file = out.into_inner().map_err(|e| Error::io("write", path)(e.into_error()))?;
        file.sync_all().map_err(Error::io("sync", path))?;
        fs::rename(&partial, path).map_err(Error::io("rename into", path))
    })();
    if written.is_err() {
        // The original is unchanged. A leftover would only take space on a disk that may be full.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// [`write()`] for contents that are already in memory.
///
/// # Errors
/// The file or its folder cannot be written.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, |out| out.write_all(bytes).map_err(Error::io("write", path)))
}

/// [`write_bytes`], compressed with gzip. The same input gives the same bytes.
///
/// # Errors
/// The file or its folder cannot be written.
pub fn write_gzip(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, |out| {
        let mut gzip = GzEncoder::new(out, Compression::default());
        gzip.write_all(bytes).and_then(|()| gzip.finish().map(drop)).map_err(Error::io("write", path))
    })
}

/// [`write()`] for a value as indented JSON.
///
/// # Errors
/// The value is not valid JSON, such as a map whose keys are not strings; or the file cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(Error::format(path))?;
    text.push(b'\n');
    write_bytes(path, &text)
}

/// Reads a JSON file of at most `limit` bytes.
///
/// # Errors
/// The file cannot be read, is larger, or is not a `T`.
pub fn read_json<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<T> {
    serde_json::from_slice(&read(path, limit)?).map_err(Error::format(path))
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// The file cannot be read, or is larger.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let size = fs::metadata(path).map_err(Error::io("read", path))?.len();
    if size > limit {
        return Err(Error::format(path)(format!("{size} bytes are more than the {limit} expected of this file")));
    }
    fs::read(path).map_err(Error::io("read", path))
}

/// The beginning of the text that replaces a large file if a repository was cloned without Git LFS.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Maps a file into memory, read-only.
///
/// # Errors
/// The file cannot be opened or mapped, or it is only a Git LFS pointer.
pub fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    // SAFETY: the map is only ever read. Files of a run and of a checkpoint are replaced by rename, never changed in
    // place (see `write`), so the mapped inode keeps its bytes for as long as the map lives.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))?;
    if map.starts_with(POINTER) {
        let hint = "run `git lfs pull`, which fetches the file".into();
        return Err(Error::format(path)(Cause::with_hint("this is a Git LFS pointer, not the file itself", hint)));
    }
    Ok(map)
}

/// BLAKE3 of a file, as hex.
///
/// # Errors
/// The file cannot be read.
pub fn hash(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(Error::io("read", path))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// BLAKE3 of several files, as hex: of the hashes of all of them, in their order; of one file that of [`hash`].
///
/// # Errors
/// A file cannot be read.
pub fn hash_all(paths: &[PathBuf]) -> Result<String> {
    let hashes = paths.iter().map(|path| hash(path)).collect::<Result<Vec<String>>>()?;
    match &hashes[..] {
        [one] => Ok(one.clone()),
        several => Ok(blake3::hash(several.concat().as_bytes()).to_hex().to_string()),
    }
}

fn sibling(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(PARTIAL);
    path.with_file_name(name)
}

/// The size of a file and when it was written, by which a program notices that others have written it again; nothing if it does
/// not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(Option<(u64, Option<SystemTime>)>);

impl Stamp {
    /// The stamp of a file as it is now.
    pub fn of(path: &Path) -> Self {
        Self(fs::metadata(path).ok().map(|metadata| (metadata.len(), metadata.modified().ok())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_bytes(&path, b"old").unwrap();
        let failed = write(&path, |out| {
            out.write_all(b"half").unwrap();
            Err(Error::config("the disk is full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_json_file_over_its_limit_is_rejected_before_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_bytes(&path, b"[1, 2, 3]").unwrap();
        assert!(read_json::<Vec<u8>>(&path, 4).unwrap_err().to_string().contains("more than the 4 expected"));
        assert_eq!(read_json::<Vec<u8>>(&path, 64).unwrap(), [1, 2, 3]);
    }
}
