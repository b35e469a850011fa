//! The listing of a folder in a bucket: the names, sizes and hashes of its files. Sends no request.
//!
//! Whoever writes a folder first writes the listing under a name of its own, the claim, if there is none. From then on, each key of
//! the folder has exactly one possible content, so that it does not matter how many write it. When all files are there, the same
//! listing is written as [`LISTING`], if there is none; with it the folder is complete.

use super::object_error;
use super::url::{ObjectUrl, is_path};
use crate::{Error, Result};
use sae_core::error::Hint;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// The listing of a complete folder.
pub const LISTING: &str = "sae-files.json";

/// The listing of a folder that somebody has begun to write.
pub(super) const CLAIM: &str = "sae-files.begun.json";

/// Size of the largest listing, in bytes.
pub(super) const LIMIT: u64 = 64 << 20;

/// The version of listings that this program reads and writes.
const VERSION: u32 = 1;

/// How deep folders are.
const DEPTH: usize = 32;

/// Size of the largest record that a listing contains, in bytes.
const RECORD_LIMIT: u64 = 16 << 20;

/// The listing of a folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Listing {
    schema_version: u32,
    /// The program that wrote it.
    program: String,
    /// Its files, sorted by name.
    pub files: Vec<ListedFile>,
}

/// A file of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListedFile {
    /// Its path in the folder, with `/`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its BLAKE3 in hexadecimal.
    pub blake3: String,
    /// Its content, if it is a record of when and where a run was made. Records of two runs with the same data differ, so that the
    /// listing that is written first decides for all who write the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

/// Whether a file of a run says when and where the run was made: `run.json`, and the manifests of activations, which list hashes
/// that are compared as files.
fn is_record(name: &str) -> bool {
    let name = name.strip_prefix("blank/").unwrap_or(name);
    let parts: Vec<&str> = name.split('/').collect();
    matches!(parts[..], ["run.json"] | ["activations", _, "manifest.json"])
}

impl Listing {
    /// The files of a folder, or a single file. Files whose names begin with a dot, locks and unfinished files are left out.
    /// `each` is called with the name of every file before it is read.
    ///
    /// # Errors
    /// There are no files, a link, or a name that is no Unicode; a file cannot be read.
    pub fn read(path: &Path, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<Self> {
        let mut names = Vec::new();
        let root = if path.is_dir() {
            collect(path, "", DEPTH, &mut names)?;
            path
        } else {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            names.push(name.to_owned());
            path.parent().unwrap_or(Path::new(""))
        };
        if names.is_empty() {
            return Err(sae_core::Error::run(path, "there are no files in this folder").into());
        }
        names.sort();
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            each(&name)?;
            let file = root.join(&name);
            let bytes = fs::metadata(&file).map_err(Error::io("read", &file))?.len();
            let record = is_record(&name).then(|| fs::read_to_string(&file)).transpose();
            let record = record.map_err(Error::io("read", &file))?.filter(|_| bytes <= RECORD_LIMIT);
            files.push(ListedFile { blake3: sae_core::file::hash(&file)?, name, bytes, record });
        }
        Ok(Self { schema_version: VERSION, program: concat!("sae ", env!("CARGO_PKG_VERSION")).into(), files })
    }

    /// Reads a listing.
    ///
    /// # Errors
    /// It is damaged, of another version, or names files outside of its folder.
    pub fn parse(content: &[u8], url: &ObjectUrl) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let damaged = |cause: String| object_error(url, format!("the listing is damaged ({cause})"));
        let Version { schema_version } = serde_json::from_slice(content).map_err(|e| damaged(e.to_string()))?;
        if schema_version != VERSION {
            let cause = format!("the listing has version {schema_version}, and this program reads version {VERSION}");
            return Err(object_error(url, cause).with_hint(Hint::from("use the version of the program that wrote it")));
        }
        let listing: Self = serde_json::from_slice(content).map_err(|e| damaged(e.to_string()))?;
        match listing.files.iter().find(|file| !is_path(&file.name) || Path::new(&file.name).is_absolute()) {
            Some(file) => Err(damaged(format!("expected names of files in the folder, found {:?}", file.name))),
            None => Ok(listing),
        }
    }

    /// The listing as it is stored.
    pub fn to_bytes(&self, url: &ObjectUrl) -> Result<Vec<u8>> {
        let mut content = serde_json::to_vec_pretty(self).map_err(|error| object_error(url, error.to_string()))?;
        content.push(b'\n');
        if content.len() as u64 > LIMIT {
            let cause = format!("the listing has {} bytes, more than the limit of {LIMIT}", content.len());
            return Err(object_error(url, cause));
        }
        Ok(content)
    }

    /// The size of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The first file that two folders with the same data do not have in common. Records are not compared.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let data = |listing: &Self| -> Vec<(String, u64, String)> {
            let files = listing.files.iter().filter(|file| file.record.is_none());
            files.map(|file| (file.name.clone(), file.bytes, file.blake3.clone())).collect()
        };
        let (one, two) = (data(self), data(other));
        let differs =
            one.iter().find(|file| !two.contains(file)).or_else(|| two.iter().find(|file| !one.contains(file)));
        differs.map(|(name, ..)| name.clone())
    }
}

fn collect(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) -> Result<()> {
    let refused = |path: PathBuf, cause: &str| Error::from(sae_core::Error::run(&path, cause));
    let entries = fs::read_dir(folder).map_err(Error::io("list", folder))?;
    for entry in entries {
        let entry = entry.map_err(Error::io("list", folder))?;
        let kind = entry.file_type().map_err(Error::io("read", &entry.path()))?;
        let Ok(name) = entry.file_name().into_string() else {
            return Err(refused(entry.path(), "expected a name in Unicode"));
        };
        let is_unfinished = [".partial", ".lock"].iter().any(|end| name.ends_with(end));
        if name.starts_with('.') || is_unfinished || [LISTING, CLAIM].contains(&name.as_str()) {
            continue;
        }
        if kind.is_symlink() || depth == 0 {
            return Err(refused(entry.path(), "expected files and folders, found a link or too many nested folders"));
        }
        let name = format!("{prefix}{name}");
        if kind.is_dir() {
            collect(&entry.path(), &format!("{name}/"), depth - 1, names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_that_leads_elsewhere_or_is_of_another_version_is_rejected() {
        let url: ObjectUrl = "s3://lab/run/sae-files.json".parse().unwrap();
        let parse = |version: u32, name: &str| {
            let file = serde_json::json!({ "name": name, "bytes": 1, "blake3": "00" });
            let text = serde_json::json!({ "schema_version": version, "program": "sae", "files": [file] });
            Listing::parse(text.to_string().as_bytes(), &url).map(|_| ()).map_err(|error| error.message())
        };
        assert_eq!(parse(1, "tokens/part-00000.parquet"), Ok(()));
        for bad in ["../../.ssh/authorized_keys", "/etc/passwd", "a//b", ""] {
            assert!(parse(1, bad).unwrap_err().contains("names of files in the folder"), "{bad}");
        }
        let other = parse(2, "a").unwrap_err();
        assert!(other.contains("version 2") && other.contains("reads version 1"), "{other}");
        assert!(Listing::parse(b"{", &url).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn records_of_a_run_are_not_compared_and_unfinished_files_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("run.json", "{\"created\": 1}");
        write("activations/layers.1/manifest.json", "{}");
        write("activations/layers.1/shard-00000.safetensors", "data");
        write("blank/run.json", "{}");
        let read = || Listing::read(dir.path(), &mut |_| Ok(())).unwrap();
        let first = read();
        let records = first.files.iter().filter(|file| file.record.is_some()).count();
        assert_eq!((first.files.len(), records), (4, 3));
        write("run.json", "{\"created\": 2}");
        for unfinished in [".lock", "part.lock", "samples.parquet.partial", LISTING] {
            write(unfinished, "x");
        }
        assert_eq!(read().difference(&first), None);
        write("activations/layers.1/shard-00000.safetensors", "other");
        assert_eq!(read().difference(&first).as_deref(), Some("activations/layers.1/shard-00000.safetensors"));
    }
}
