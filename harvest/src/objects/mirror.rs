//! Local copies of objects that are read in place: data sets, and the images that their rows name. A copy is used as long as the
//! object has the same ETag and size. The path of a copy follows from the address, so that relative paths lead from one to another.

use super::bucket::{Bucket, Known, Object};
use super::listing::{CLAIM, LISTING};
use super::url::{ObjectUrl, Scheme, is_path};
use super::{commit, download, object_error};
use crate::net::TransferProgress;
use crate::{Error, Result};
use sae_core::error::Hint;
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The variable with the folder of the copies.
const CACHE: &str = "SAE_OBJECT_CACHE";

/// The variable with the number of bytes that one command copies at most, and what counts without it.
const CACHE_LIMIT: (&str, u64) = ("SAE_OBJECT_CACHE_BYTES", 1 << 40);

/// Size of the largest image, in bytes, as for files.
const IMAGE_LIMIT: u64 = 1 << 28;

/// The copies of objects on this machine.
#[derive(Clone)]
pub struct Mirror(Arc<Inner>);

struct Inner {
    root: PathBuf,
    limit: u64,
    /// Bytes that this process has copied.
    copied: AtomicU64,
    stop: Arc<AtomicBool>,
    buckets: Mutex<HashMap<(Scheme, String), Arc<Bucket>>>,
    /// Why an image could not be read although it may exist.
    failure: Mutex<Option<Error>>,
}

impl Mirror {
    /// The copies in the folder that the environment names: `SAE_OBJECT_CACHE`, or `sae-workbench/objects` in the folder for caches.
    /// Once `stop` is set, waiting requests end.
    ///
    /// # Errors
    /// There is no folder for caches.
    pub fn from_env(stop: Arc<AtomicBool>) -> Result<Self> {
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let caches = || folder("XDG_CACHE_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache")));
        let root = folder(CACHE).or_else(|| Some(caches()?.join("sae-workbench/objects")));
        let root = root.ok_or(Error::NoObjectCache { variable: CACHE })?;
        let limit = std::env::var(CACHE_LIMIT.0).ok().and_then(|text| text.parse().ok()).unwrap_or(CACHE_LIMIT.1);
        Ok(Self::new(&root, limit, stop))
    }

    /// The copies in a folder. One process copies `limit` bytes at most.
    pub fn new(root: &Path, limit: u64, stop: Arc<AtomicBool>) -> Self {
        let (copied, buckets, failure) = Default::default();
        Self(Arc::new(Inner { root: root.to_path_buf(), limit, copied, stop, buckets, failure }))
    }

    /// Where the copy of an object or of a folder is, or would be.
    pub fn path(&self, url: &ObjectUrl) -> PathBuf {
        let bucket = self.0.root.join("files").join(url.scheme.name()).join(url.bucket());
        if url.key().is_empty() { bucket } else { bucket.join(url.key()) }
    }

    /// A file about an object, in a folder with the layout of the copies.
    fn below(&self, folder: &str, url: &ObjectUrl, end: &str) -> PathBuf {
        let key = format!("{}.{end}", url.key());
        self.0.root.join(folder).join(url.scheme.name()).join(url.bucket()).join(key)
    }

    /// The address of a copy; nothing for other files.
    pub fn url(&self, path: &Path) -> Option<ObjectUrl> {
        let inside = path.strip_prefix(self.0.root.join("files")).ok()?.to_str()?;
        let inside = inside.replace(std::path::MAIN_SEPARATOR, "/");
        let (scheme, rest) = inside.split_once('/')?;
        format!("{scheme}://{rest}").parse().ok()
    }

    /// Copies an object, or everything below an address, unless the copies are those of the present objects. A folder that was
    /// written with a listing is compared with its hashes. Returns the path of the copy.
    ///
    /// # Errors
    /// There is nothing at the address, or more than may be copied; a folder that is unfinished; a bucket that cannot be reached; an
    /// object that changes while it is read; an error of `progress`.
    pub fn copy(&self, url: &ObjectUrl, progress: &mut dyn FnMut(TransferProgress) -> Result<()>) -> Result<PathBuf> {
        let bucket = self.bucket(url)?;
        let mut wait = || progress(TransferProgress { file: url.key(), bytes: 0, total: 0 });
        if !url.is_folder()
            && let Some(object) = bucket.head(url.key(), &mut wait)?
        {
            self.copy_all(&bucket, &[object], progress)?;
            return Ok(self.path(url));
        }
        let mut objects = Vec::new();
        bucket.list(url.key(), &mut wait, &mut |object| {
            objects.push(object);
            Ok(true)
        })?;
        let find = |name: &str| objects.iter().find(|object| object.key == url.join(name).key());
        if let Some(listing) = find(LISTING).or_else(|| find(CLAIM)) {
            self.copy_folder(url, listing, objects.iter().map(|object| object.bytes).sum(), progress)?;
            return Ok(self.path(url));
        }
        if objects.is_empty() {
            return Err(object_error(url, "there is no object of this name, and none in a folder of this name"));
        }
        if let Some(object) = objects.iter().find(|object| !is_path(&object.key)) {
            return Err(object_error(url, format!("the key of an object is no path: {:?}", object.key)));
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        self.remove_others(url, &objects)?;
        self.copy_all(&bucket, &objects, progress)?;
        Ok(self.path(url))
    }

    /// Copies the object of which `path` would be the copy, unless it is the copy of the present one. Does nothing for other paths.
    /// The object is held in memory meanwhile.
    ///
    /// # Errors
    /// In words; what may be the fault of the storage is also an error of [`Mirror::check`] from then on.
    pub fn copy_small(&self, path: &Path) -> Result<(), String> {
        let Some(url) = self.url(path) else { return Ok(()) };
        match self.small(&url, path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("there is no such object: {url}")),
            Err(error) => {
                let text = error.to_string();
                self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                Err(text)
            }
        }
    }

    /// An error if an object could not be read that may exist: rows that name it must not count as bad rows.
    ///
    /// # Errors
    /// The first failure.
    pub fn check(&self) -> Result<()> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    fn small(&self, url: &ObjectUrl, path: &Path) -> Result<bool> {
        let known = self.tag(url).filter(|_| path.is_file());
        let mut stop = || -> Result<()> {
            if self.0.stop.load(Ordering::SeqCst) { Err(sae_core::Error::Cancelled.into()) } else { Ok(()) }
        };
        match self.bucket(url)?.get(url.key(), known.as_deref(), IMAGE_LIMIT, &mut stop)? {
            Known::Unchanged => Ok(true),
            Known::Missing => Ok(false),
            Known::New(object, content) => {
                self.allow(url, object.bytes)?;
                sae_core::file::write_bytes(path, &content)?;
                self.write_tag(url, &object)?;
                Ok(true)
            }
        }
    }

    /// Copies a folder that was written with a listing, unless the copy is of the same listing.
    fn copy_folder(
        &self,
        url: &ObjectUrl,
        listing: &Object,
        bytes: u64,
        progress: &mut dyn FnMut(TransferProgress) -> Result<()>,
    ) -> Result<()> {
        let (folder, of_listing) = (self.path(url), url.join(LISTING));
        let known = self.tag(&of_listing);
        if known.as_deref() == Some(listing.tag.as_str()) && folder.is_dir() {
            return Ok(());
        }
        self.allow(url, bytes)?;
        if known.is_some() && folder.exists() {
            fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))?;
        }
        commit::pull(url, &folder, progress)?;
        self.write_tag(&of_listing, listing)
    }

    fn copy_all(
        &self,
        bucket: &Bucket,
        objects: &[Object],
        progress: &mut dyn FnMut(TransferProgress) -> Result<()>,
    ) -> Result<()> {
        let is_current = |object: &Object| {
            let url = bucket.url(&object.key);
            let has_size = fs::metadata(self.path(&url)).is_ok_and(|meta| meta.len() == object.bytes);
            has_size && self.tag(&url).as_deref() == Some(object.tag.as_str())
        };
        let missing: Vec<&Object> = objects.iter().filter(|object| !is_current(object)).collect();
        let total: u64 = missing.iter().map(|object| object.bytes).sum();
        let mut done = 0;
        for object in missing {
            let url = bucket.url(&object.key);
            if done == 0 {
                self.allow(&url, total)?;
            }
            let partial = self.below("partial", &url, &object.tag_name());
            let mut received = |bytes| progress(TransferProgress { file: &object.key, bytes: done + bytes, total });
            download::receive(bucket, object, &partial, &|| is_current(object), &mut received, &|| {
                // Without a tag, a file counts as none.
                let _ = fs::remove_file(self.tag_path(&url));
                download::place(&partial, &self.path(&url))?;
                self.write_tag(&url, object)
            })?;
            done += object.bytes;
        }
        Ok(())
    }

    /// Removes copies of objects that no longer are in a folder.
    fn remove_others(&self, url: &ObjectUrl, objects: &[Object]) -> Result<()> {
        let known: std::collections::HashSet<PathBuf> =
            objects.iter().map(|object| self.path(&ObjectUrl::new(url.scheme, url.bucket(), &object.key))).collect();
        let mut folders = vec![self.path(url)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if !known.contains(&path) {
                    fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                }
            }
        }
        Ok(())
    }

    /// Rejects what is more than may be copied.
    fn allow(&self, url: &ObjectUrl, bytes: u64) -> Result<()> {
        let (copied, limit) = (self.0.copied.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes), self.0.limit);
        if copied <= limit {
            return Ok(());
        }
        let cause =
            format!("{copied} bytes would be copied into {}, more than the limit of {limit}", self.0.root.display());
        let hint = format!("name fewer objects, or set {} to more bytes", CACHE_LIMIT.0);
        Err(object_error(url, cause).with_hint(Hint::from(hint)))
    }

    fn bucket(&self, url: &ObjectUrl) -> Result<Arc<Bucket>> {
        let mut buckets = self.0.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (url.scheme, url.bucket().to_owned());
        if let Some(bucket) = buckets.get(&name) {
            return Ok(Arc::clone(bucket));
        }
        let bucket = Arc::new(Bucket::open(url)?);
        buckets.insert(name, Arc::clone(&bucket));
        Ok(bucket)
    }

    /// The file with the ETag of a copy. Tags are not beside the copies, where they would look like data.
    fn tag_path(&self, url: &ObjectUrl) -> PathBuf {
        self.below("tags", url, "tag")
    }

    fn tag(&self, url: &ObjectUrl) -> Option<String> {
        fs::read_to_string(self.tag_path(url)).ok()
    }

    fn write_tag(&self, url: &ObjectUrl, object: &Object) -> Result<()> {
        Ok(sae_core::file::write_bytes(&self.tag_path(url), object.tag.as_bytes())?)
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mirror").field(&self.0.root).finish()
    }
}

impl PartialEq for Mirror {
    /// Whether they have the same folder.
    fn eq(&self, other: &Self) -> bool {
        self.0.root == other.0.root
    }
}
