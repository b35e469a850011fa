//! Receives an object into a file: in parts, next to where it belongs, continued after an interruption, and renamed when it is
//! complete.

use super::bucket::{Bucket, Object, PART};
use crate::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// Receives the object into `partial`, which is named after the object and its ETag, so that what is there is the beginning of it.
/// The file is locked: if two processes receive the same object, the second one waits and then finds it. `is_there` says whether the
/// object has arrived meanwhile; `received` is called with the number of bytes that are there. `finish` puts the complete file in its
/// place, before the lock is released.
pub(super) fn receive(
    bucket: &Bucket,
    object: &Object,
    partial: &Path,
    is_there: &dyn Fn() -> bool,
    received: &mut dyn FnMut(u64) -> Result<()>,
    finish: &dyn Fn() -> Result<()>,
) -> Result<()> {
    if let Some(folder) = partial.parent() {
        fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
    }
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(partial);
    let mut file: File = opened.map_err(Error::io("open", partial))?;
    file.lock().map_err(Error::io("lock", partial))?;
    if is_there() {
        let _ = fs::remove_file(partial);
        return Ok(());
    }
    let write = |e| Error::io("write", partial)(e);
    let mut bytes = file.metadata().map_err(write)?.len();
    if bytes > object.bytes {
        bytes = 0;
        file.set_len(0).map_err(write)?;
    }
    file.seek(SeekFrom::Start(bytes)).map_err(write)?;
    while bytes < object.bytes {
        received(bytes)?;
        let range = bytes..object.bytes.min(bytes + PART);
        let part = bucket.read(object, range, &mut || received(bytes))?;
        file.write_all(&part).map_err(write)?;
        bytes += part.len() as u64;
    }
    file.sync_all().map_err(write)?;
    received(bytes)?;
    finish()
}

/// Puts a complete file in its place.
pub(super) fn place(partial: &Path, target: &Path) -> Result<()> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
    }
    fs::rename(partial, target).map_err(Error::io("rename into", target))
}
