//! Receives an object into a file: in parts, next to where it belongs, continued after an interruption, and renamed when it is
//! complete.

use super::bucket::{Bucket, Object, PART};
use crate::{Error, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

/// How often a lock is tried that somebody else holds.
const TICK: Duration = Duration::from_millis(200);

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
    let mut file = locked(partial, &mut || received(0))?;
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

/// Opens a file, which is created if there is none, and waits for its lock. `wait` is called again and again meanwhile.
pub(super) fn locked(path: &Path, wait: &mut dyn FnMut() -> Result<()>) -> Result<File> {
    create_parent(path)?;
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = opened.map_err(Error::io("open", path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => wait()?,
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
        }
        std::thread::sleep(TICK);
    }
}

/// Writes a small file by way of a temporary one in `partial`, a folder on the same disk. Each call has a temporary file of its own,
/// so that many may write the same file at once.
pub(super) fn write(partial: &Path, target: &Path, content: &[u8]) -> Result<()> {
    let number = RandomState::new().hash_one(std::process::id());
    let temporary = partial.join(format!("{number:016x}.partial"));
    create_parent(&temporary)?;
    let written = File::create_new(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    let placed = written.map_err(Error::io("write", &temporary)).and_then(|()| place(&temporary, target));
    if placed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    placed
}

/// Puts a complete file in its place.
pub(super) fn place(partial: &Path, target: &Path) -> Result<()> {
    create_parent(target)?;
    fs::rename(partial, target).map_err(Error::io("rename into", target))
}

fn create_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), |folder| fs::create_dir_all(folder).map_err(Error::io("create folder", folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_threads_write_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let (partial, target) = (dir.path().join("partial"), dir.path().join("files/image.png"));
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..16)
                .map(|n| {
                    scope.spawn({
                        let (p, t) = (&partial, &target);
                        move || write(p, t, &[n; 4096])
                    })
                })
                .collect();
            for writer in writers {
                writer.join().unwrap().unwrap();
            }
        });
        let content = fs::read(&target).unwrap();
        assert_eq!(content, [content[0]; 4096]);
        assert_eq!(fs::read_dir(&partial).unwrap().count(), 0);
    }
}
