//! Whole folders: [`push`] writes one into a bucket so that others see it complete or not at all, and [`pull`] brings it back.

use super::bucket::{Bucket, Known, Object};
use super::listing::{CLAIM, LIMIT, LISTING, ListedFile, Listing};
use super::url::ObjectUrl;
use super::{TransferProgress, download, object_error};
use crate::{Error, Result};
use sae_core::error::Hint;
use serde::Serialize;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The file that a folder has while it is pulled.
const PULLING: &str = ".sae-pull.json";

/// How often a listing is looked for that somebody else is just writing.
const TRIES: usize = 5;

/// A folder that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// Its files.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Whether a folder with the same data was there before.
    pub existed: bool,
    /// Its records of when and where a run was made that differ from those in the bucket, which are the ones of whoever came first.
    pub other_records: Vec<String>,
}

/// A folder that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pulled {
    /// Its files.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

/// Writes a folder, or a single file, into a folder of a bucket. It is complete there with its listing, which is the last object
/// that is written. If it is complete already with the same data, nothing is written; an interrupted call is continued by the same
/// one, also by another process on another machine with the same data.
///
/// # Errors
/// The folder of the bucket holds something else: other data, or objects without a listing. A file that cannot be read, a bucket that
/// cannot be reached or written to, an error of `progress`.
pub fn push(path: &Path, to: &ObjectUrl, progress: &mut dyn FnMut(TransferProgress) -> Result<()>) -> Result<Pushed> {
    let bucket = Bucket::open(to)?;
    let own = Listing::read(path, &mut |name| progress(TransferProgress { file: name, bytes: 0, total: 0 }))?;
    let report = |existed, listed: &Listing| {
        let other_records = own.other_records(listed);
        Pushed { files: own.files.len(), bytes: own.bytes(), existed, other_records }
    };
    let total = own.bytes();
    let wait = &mut || progress(TransferProgress { file: LISTING, bytes: 0, total });
    if let Some((complete, _)) = listing(&bucket, to, LISTING, wait)? {
        return same(&own, &complete, path, to, Written::Complete).map(|()| report(true, &complete));
    }
    let content = own.to_bytes(to)?;
    let claim = to.join(CLAIM);
    let (listed, content) = match listing(&bucket, to, CLAIM, wait)? {
        Some(begun) => begun,
        None => {
            check_empty(&bucket, to, wait)?;
            if bucket.put_new(claim.key(), &content, wait)? {
                (own.clone(), content)
            } else {
                existing(&bucket, to, CLAIM, wait)?
            }
        }
    };
    same(&own, &listed, path, to, Written::Claimed)?;
    let root = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let mut done = 0;
    for file in &listed.files {
        let key = to.join(&file.name);
        let mut sent = |bytes| progress(TransferProgress { file: &file.name, bytes: done + bytes, total });
        let found = bucket.head(key.key(), &mut || sent(0))?;
        if found.is_none_or(|found| found.bytes != file.bytes) {
            match &file.record {
                Some(record) => bucket.put(key.key(), &mut record.as_bytes(), file.bytes, &file.blake3, &mut sent)?,
                None => {
                    let path = root.join(&file.name);
                    let mut content = File::open(&path).map_err(Error::io("open", &path))?;
                    bucket.put(key.key(), &mut content, file.bytes, &file.blake3, &mut sent)?;
                }
            }
        }
        done += file.bytes;
    }
    let wait = &mut || progress(TransferProgress { file: LISTING, bytes: total, total });
    let existed = !bucket.put_new(to.join(LISTING).key(), &content, wait)?;
    if existed {
        same(&own, &existing(&bucket, to, LISTING, wait)?.0, path, to, Written::Complete)?;
    }
    // A request whose answer was lost finds its own listing, so that only an earlier one counts as somebody else's.
    Ok(report(false, &listed))
}

/// Reads a complete folder of a bucket into a folder of this machine, which does not exist yet, is empty, or is that of an interrupted
/// call. Every file is compared with the hash in the listing.
///
/// # Errors
/// There is no complete folder, one of its objects is missing or has changed, the local folder holds something else, a full disk, an
/// error of `progress`.
pub fn pull(from: &ObjectUrl, to: &Path, progress: &mut dyn FnMut(TransferProgress) -> Result<()>) -> Result<Pulled> {
    let bucket = Bucket::open(from)?;
    let (listing, content) = complete(&bucket, from, progress)?;
    let is_empty = fs::read_dir(to).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty && !is_begun(to, &content) {
        let has_all = listing.files.iter().all(|file| is_there(&to.join(&file.name), file));
        if has_all {
            return Ok(Pulled { files: listing.files.len(), bytes: listing.bytes() });
        }
        return Err(sae_core::Error::run(to, "expected an empty folder, found one with other files").into());
    }
    receive(&bucket, from, to, &listing, &content, progress)
}

/// [`pull`] into a folder that nobody else writes to. Whatever else it holds is removed.
pub(super) fn replace(
    from: &ObjectUrl,
    to: &Path,
    progress: &mut dyn FnMut(TransferProgress) -> Result<()>,
) -> Result<Pulled> {
    let bucket = Bucket::open(from)?;
    let (listing, content) = complete(&bucket, from, progress)?;
    if to.exists() && !is_begun(to, &content) {
        fs::remove_dir_all(to).map_err(Error::io("remove", to))?;
    }
    receive(&bucket, from, to, &listing, &content, progress)
}

/// The listing of a folder that is complete, also as it is stored.
fn complete(
    bucket: &Bucket,
    from: &ObjectUrl,
    progress: &mut dyn FnMut(TransferProgress) -> Result<()>,
) -> Result<(Listing, Vec<u8>)> {
    let wait = &mut || progress(TransferProgress { file: LISTING, bytes: 0, total: 0 });
    match listing(bucket, from, LISTING, wait)? {
        Some(found) => Ok(found),
        None => Err(incomplete(bucket, from, wait)?),
    }
}

/// Whether a folder is that of an interrupted call with the same listing.
fn is_begun(folder: &Path, content: &[u8]) -> bool {
    fs::read(folder.join(PULLING)).is_ok_and(|begun| begun == content)
}

fn receive(
    bucket: &Bucket,
    from: &ObjectUrl,
    to: &Path,
    listing: &Listing,
    content: &[u8],
    progress: &mut dyn FnMut(TransferProgress) -> Result<()>,
) -> Result<Pulled> {
    let pulling = to.join(PULLING);
    sae_core::file::write_bytes(&pulling, content)?;
    let (total, mut done) = (listing.bytes(), 0);
    // A run is one once it has its record, so that comes last.
    let (records, data): (Vec<&ListedFile>, Vec<_>) = listing.files.iter().partition(|file| file.record.is_some());
    for file in data.into_iter().chain(records) {
        let target = to.join(&file.name);
        let mut received = |bytes| progress(TransferProgress { file: &file.name, bytes: done + bytes, total });
        if !is_there(&target, file) {
            fetch(bucket, from, file, &target, &mut received)?;
        }
        done += file.bytes;
        progress(TransferProgress { file: &file.name, bytes: done, total })?;
    }
    match fs::remove_file(&pulling) {
        // Two processes that pull into one folder receive the same files.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &pulling)(error)),
        _ => {}
    }
    Ok(Pulled { files: listing.files.len(), bytes: total })
}

/// Whether a folder of a bucket is complete.
///
/// # Errors
/// The bucket cannot be reached, an error of `wait`.
pub fn is_complete(url: &ObjectUrl, wait: &mut dyn FnMut() -> Result<()>) -> Result<bool> {
    Ok(Bucket::open(url)?.head(url.join(LISTING).key(), wait)?.is_some())
}

/// The complete folders at an address: the address itself, or all below it, sorted.
///
/// # Errors
/// The bucket cannot be reached, an error of `wait`.
pub fn committed(url: &ObjectUrl, wait: &mut dyn FnMut() -> Result<()>) -> Result<Vec<ObjectUrl>> {
    let bucket = Bucket::open(url)?;
    if bucket.head(url.join(LISTING).key(), wait)?.is_some() {
        return Ok(vec![url.clone()]);
    }
    let mut found = Vec::new();
    bucket.list(url.key(), wait, &mut |object| {
        if object.key.ends_with(&format!("/{LISTING}")) {
            found.push(bucket.url(&object.key).parent());
        }
        Ok(true)
    })?;
    found.sort_by(|a, b| a.key().cmp(b.key()));
    if found.is_empty() { Err(incomplete(&bucket, url, wait)?) } else { Ok(found) }
}

fn fetch(
    bucket: &Bucket,
    from: &ObjectUrl,
    file: &ListedFile,
    target: &Path,
    received: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let url = from.join(&file.name);
    let refused = |cause: &str| {
        let hint = format!("remove everything below {from} and write the folder again");
        object_error(&url, cause).with_hint(Hint::from(hint))
    };
    let Some(object) = bucket.head(url.key(), &mut || received(0))? else {
        return Err(refused("the listing names an object that is missing"));
    };
    if object.bytes != file.bytes {
        return Err(refused(&format!("the listing has {} bytes, the object {}", file.bytes, object.bytes)));
    }
    let partial = partial(target, &object);
    download::receive(bucket, &object, &partial, &|| is_there(target, file), received, &|| {
        if sae_core::file::hash(&partial)? != file.blake3 {
            fs::remove_file(&partial).map_err(Error::io("remove", &partial))?;
            return Err(refused("the hash of the object differs from the listing"));
        }
        download::place(&partial, target)
    })
}

fn partial(target: &Path, object: &Object) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{}.partial", object.tag_name()))
}

fn is_there(path: &Path, file: &ListedFile) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.len() == file.bytes)
        && sae_core::file::hash(path).is_ok_and(|hash| hash == file.blake3)
}

/// How much of a folder is there.
#[derive(Clone, Copy)]
enum Written {
    Claimed,
    Complete,
}

/// Rejects a folder with other data than the one that is there.
fn same(own: &Listing, there: &Listing, path: &Path, to: &ObjectUrl, written: Written) -> Result<()> {
    let Some(name) = own.difference(there) else { return Ok(()) };
    let (found, when) = match written {
        Written::Claimed => (
            "an unfinished push has claimed this folder with other data",
            "once nobody pushes that data any more, and this folder is the right one",
        ),
        Written::Complete => ("there is a folder with other data", "if this folder is the right one"),
    };
    let cause = format!("{found}: {name} differs from that in {}", path.display());
    let hint = format!("choose another address, or remove everything below {to} {when}");
    Err(object_error(to, cause).with_hint(Hint::from(hint)))
}

/// Rejects a folder with objects that nobody has claimed.
fn check_empty(bucket: &Bucket, to: &ObjectUrl, wait: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let mut found = None;
    bucket.list(to.key(), wait, &mut |object| {
        // Another process may have claimed the folder by now.
        let is_own = object.key == to.join(CLAIM).key();
        found = found.take().or((!is_own).then_some(object.key));
        Ok(found.is_none())
    })?;
    let Some(key) = found else { return Ok(()) };
    let cause = format!("expected an empty folder, found objects without a listing, such as {key}");
    Err(object_error(to, cause).with_hint(Hint::from("choose another address")))
}

fn listing(
    bucket: &Bucket,
    folder: &ObjectUrl,
    name: &str,
    wait: &mut dyn FnMut() -> Result<()>,
) -> Result<Option<(Listing, Vec<u8>)>> {
    let url = folder.join(name);
    match bucket.get(url.key(), None, LIMIT, wait)? {
        Known::New(_, content) => Ok(Some((Listing::parse(&content, &url)?, content.to_vec()))),
        Known::TooLarge(bytes) => {
            Err(object_error(&url, format!("the listing has {bytes} bytes, more than the limit of {LIMIT}")))
        }
        Known::Missing | Known::Unchanged => Ok(None),
    }
}

/// A listing that is known to exist, or to be about to.
fn existing(
    bucket: &Bucket,
    folder: &ObjectUrl,
    name: &str,
    wait: &mut dyn FnMut() -> Result<()>,
) -> Result<(Listing, Vec<u8>)> {
    for _ in 0..TRIES {
        if let Some(found) = listing(bucket, folder, name, wait)? {
            return Ok(found);
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    Err(object_error(&folder.join(name), "the storage answers both that the object exists and that it does not")
        .with_hint(Hint::from("run the same command again")))
}

/// Why there is no complete folder.
fn incomplete(bucket: &Bucket, folder: &ObjectUrl, wait: &mut dyn FnMut() -> Result<()>) -> Result<Error> {
    if bucket.head(folder.join(CLAIM).key(), wait)?.is_some() {
        let hint = Hint::from("run the command that writes it again, which continues");
        return Ok(object_error(folder, "the folder is unfinished: a push has begun and not ended").with_hint(hint));
    }
    let cause = format!("expected a folder that was pushed completely, found no {LISTING}");
    Ok(object_error(folder, cause).with_hint(Hint::from("push the folder first")))
}
