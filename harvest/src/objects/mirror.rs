//! Local copies of objects that are read in place: data sets, and the images that their rows name. A copy is used as long as the
//! object has the same ETag and size. The path of a copy follows from the address, so that relative paths lead from one to another.

use super::bucket::{Bucket, Known, Object};
use super::listing::{CLAIM, LISTING};
use super::url::{ObjectUrl, Scheme, is_path};
use super::{IMAGE_FILE_LIMIT, TransferProgress, commit, download, number_from_env, object_error};
use crate::{Error, Result};
use sae_core::error::Hint;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The variable with the folder of the copies.
const CACHE: &str = "SAE_OBJECT_CACHE";

/// The variable with the number of bytes that one command copies at most, and what counts without it.
const CACHE_LIMIT: (&str, u64) = ("SAE_OBJECT_CACHE_BYTES", 1 << 40);

/// Objects of the largest folder: what a list of them needs is held in memory.
const OBJECTS: usize = 10_000_000;

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
    /// There is no folder for caches, or the limit is not a number.
    pub fn from_env(stop: Arc<AtomicBool>) -> Result<Self> {
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let caches = || folder("XDG_CACHE_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache")));
        let root = folder(CACHE).or_else(|| Some(caches()?.join("sae-workbench/objects")));
        let root = root.ok_or(Error::NoObjectCache { variable: CACHE })?;
        Ok(Self::new(&root, number_from_env(CACHE_LIMIT, "bytes")?, stop))
    }

    /// The copies in a folder. One process copies `limit` bytes at most.
    pub fn new(root: &Path, limit: u64, stop: Arc<AtomicBool>) -> Self {
        let (copied, buckets, failure) = Default::default();
        Self(Arc::new(Inner { root: root.to_path_buf(), limit, copied, stop, buckets, failure }))
    }

    /// Where the copy of an object or of a folder is, or would be.
    pub fn path(&self, url: &ObjectUrl) -> PathBuf {
        let bucket = self.files().join(url.scheme.name()).join(url.bucket());
        if url.key().is_empty() { bucket } else { bucket.join(url.key()) }
    }

    /// A file about an object, in a folder with the layout of the copies.
    fn below(&self, folder: &str, url: &ObjectUrl, end: &str) -> PathBuf {
        let key = format!("{}.{end}", url.key());
        self.0.root.join(folder).join(url.scheme.name()).join(url.bucket()).join(key)
    }

    /// The folder of all copies.
    fn files(&self) -> PathBuf {
        self.0.root.join("files")
    }

    /// The address of a copy, by whatever path; nothing for other files, and for paths that lead out of a bucket.
    pub fn url(&self, path: &Path) -> Option<ObjectUrl> {
        let mut names = Vec::new();
        for component in path.strip_prefix(self.files()).ok()?.components() {
            match component {
                Component::CurDir => {}
                Component::Normal(name) => names.push(name.to_str()?),
                // The first two names are the service and the bucket.
                Component::ParentDir if names.len() > 2 => drop(names.pop()),
                _ => return None,
            }
        }
        let [scheme, bucket, key @ ..] = &names[..] else { return None };
        format!("{scheme}://{bucket}/{}", key.join("/")).parse().ok()
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
        let (mut objects, mut missing) = (Vec::new(), 0u64);
        // The files of a folder that was copied with its listing are compared with that.
        let has_listing = self.tag(&url.join(LISTING)).is_some();
        bucket.list(url.key(), &mut wait, &mut |object| {
            if !has_listing && !self.is_current(&bucket, &object) {
                missing = missing.saturating_add(object.bytes);
                self.check_limit(url, self.0.copied.load(Ordering::SeqCst).saturating_add(missing))?;
            }
            objects.push(object);
            if objects.len() <= OBJECTS {
                return Ok(true);
            }
            Err(object_error(url, format!("expected at most {OBJECTS} objects in a folder, found more"))
                .with_hint(Hint::from("name a smaller folder")))
        })?;
        let find = |name: &str| objects.iter().find(|object| object.key == url.join(name).key());
        if let Some(listing) = find(LISTING).or_else(|| find(CLAIM)) {
            self.copy_folder(url, listing, sum(&objects), progress)?;
            return Ok(self.path(url));
        }
        if objects.is_empty() {
            return Err(object_error(url, "there is no object of this name, and none in a folder of this name"));
        }
        if let Some(object) = objects.iter().find(|object| !is_path(&object.key)) {
            return Err(object_error(url, format!("the key of an object cannot be a path: {:?}", object.key)));
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        remove_markers(url, &mut objects)?;
        self.remove_others(url, &objects)?;
        self.copy_all(&bucket, &objects, progress)?;
        Ok(self.path(url))
    }

    /// Copies the object of which `path` would be the copy, unless it is the copy of the present one. Does nothing for other paths.
    /// The object is held in memory meanwhile.
    ///
    /// # Errors
    /// In words; what may be the fault of the storage is also the next error of [`Mirror::check`].
    pub fn copy_small(&self, path: &Path) -> Result<(), String> {
        let Some(url) = self.url(path) else {
            return match path.strip_prefix(self.files()) {
                Ok(inside) => Err(format!("expected the key of an object, found {}", inside.display())),
                Err(_) => Ok(()),
            };
        };
        match self.small(&url) {
            Ok(copied) => copied,
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
    /// The first failure since the last call.
    pub fn check(&self) -> Result<()> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    /// Copies an object, or says what is wrong with it.
    fn small(&self, url: &ObjectUrl) -> Result<Result<(), String>> {
        let path = self.path(url);
        let known = self.tag(url).filter(|_| path.is_file());
        let mut stop = || -> Result<()> {
            if self.0.stop.load(Ordering::SeqCst) { Err(sae_core::Error::Cancelled.into()) } else { Ok(()) }
        };
        match self.bucket(url)?.get(url.key(), known.as_deref(), IMAGE_FILE_LIMIT, &mut stop)? {
            Known::Unchanged => Ok(Ok(())),
            Known::Missing => Ok(Err(format!("there is no such object: {url}"))),
            Known::TooLarge(bytes) => {
                let cause = format!("the object has {bytes} bytes, more than the limit of {IMAGE_FILE_LIMIT}");
                Ok(Err(format!("{cause}: {url}")))
            }
            Known::New(object, content) => {
                self.allow(url, object.bytes)?;
                download::write(&self.0.root.join("partial"), &path, &content)?;
                self.write_tag(url, &object).map(Ok)
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
        // Another process may be about to copy it.
        let lock = self.below("partial", &of_listing, "lock");
        let wait = &mut || progress(TransferProgress { file: LISTING, bytes: 0, total: 0 });
        let _lock = download::locked(&lock, wait)?;
        if self.tag(&of_listing).as_ref() == Some(&listing.tag) && folder.is_dir() {
            return Ok(());
        }
        self.allow(url, bytes)?;
        commit::replace(url, &folder, progress)?;
        self.write_tag(&of_listing, listing)
    }

    /// Whether the copy of an object is that of the present one.
    fn is_current(&self, bucket: &Bucket, object: &Object) -> bool {
        let url = bucket.url(&object.key);
        let has_size = fs::metadata(self.path(&url)).is_ok_and(|meta| meta.len() == object.bytes);
        has_size && self.tag(&url).as_ref() == Some(&object.tag)
    }

    fn copy_all(
        &self,
        bucket: &Bucket,
        objects: &[Object],
        progress: &mut dyn FnMut(TransferProgress) -> Result<()>,
    ) -> Result<()> {
        let missing: Vec<&Object> = objects.iter().filter(|object| !self.is_current(bucket, object)).collect();
        let total = sum(missing.iter().copied());
        let mut done = 0;
        for object in missing {
            let url = bucket.url(&object.key);
            if done == 0 {
                self.allow(&url, total)?;
            }
            let partial = self.below("partial", &url, &object.tag_name());
            let mut received = |bytes| progress(TransferProgress { file: &object.key, bytes: done + bytes, total });
            download::receive(bucket, object, &partial, &|| self.is_current(bucket, object), &mut received, &|| {
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
        let known: HashSet<PathBuf> =
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
        self.check_limit(url, self.0.copied.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes))
    }

    fn check_limit(&self, url: &ObjectUrl, copied: u64) -> Result<()> {
        let (root, limit) = (self.0.root.display(), self.0.limit);
        if copied <= limit {
            return Ok(());
        }
        let cause = format!("at least {copied} bytes would be copied into {root}, more than the limit of {limit}");
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
        download::write(&self.0.root.join("partial"), &self.tag_path(url), object.tag.as_bytes())
    }
}

/// The size of all objects.
fn sum<'a>(objects: impl IntoIterator<Item = &'a Object>) -> u64 {
    objects.into_iter().fold(0, |sum, object| sum.saturating_add(object.bytes))
}

/// Removes the empty objects that some programs store in the place of folders.
///
/// # Errors
/// An object with content has the name of a folder.
fn remove_markers(url: &ObjectUrl, objects: &mut Vec<Object>) -> Result<()> {
    let parents =
        |object: &Object| object.key.match_indices('/').map(|(end, _)| object.key[..end].to_owned()).collect();
    let folders: HashSet<String> = objects.iter().flat_map::<Vec<_>, _>(parents).collect();
    objects.retain(|object| object.bytes > 0 || !folders.contains(&object.key));
    match objects.iter().find(|object| folders.contains(&object.key)) {
        Some(Object { key, .. }) => Err(object_error(url, format!("an object has the name of a folder: {key}"))),
        None => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_to_a_copy_has_its_address_and_none_leads_out_of_the_bucket() {
        let mirror = Mirror::new("/copies".as_ref(), 1, Arc::default());
        let url: ObjectUrl = "s3://lab/set/images/1.png".parse().unwrap();
        let folder = mirror.path(&url.parent().parent());
        for path in ["images/1.png", "./images/1.png", "images//1.png", "../set/images/1.png", "a/../images/./1.png"] {
            assert_eq!(mirror.url(&folder.join(path)), Some(url.clone()), "{path}");
        }
        for path in ["../../1.png", "../../../../../etc/1.png", "images/a\\b.png", "images/\u{1}.png"] {
            assert_eq!(mirror.url(&folder.join(path)), None, "{path}");
            assert!(mirror.copy_small(&folder.join(path)).is_err(), "{path}");
        }
        assert_eq!(mirror.copy_small("/data/1.png".as_ref()), Ok(()), "a file of this machine needs no copy");
        assert!(mirror.check().is_ok(), "a path is the fault of its row");
    }
}
