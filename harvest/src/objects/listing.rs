//! The listing of a folder in a bucket: the names, sizes and hashes of its files. Sends no request.
//!
//! Whoever writes a folder first writes the listing under a name of its own, the claim, if there is none. From then on, each key of
//! the folder has exactly one possible content, so that it does not matter how many write it. When all files are there, the same
//! listing is written as [`LISTING`], if there is none; with it the folder is complete.

use super::object_error;
use super::url::{ObjectUrl, is_path};
use crate::{Error, Result};
use sae_core::error::{Cause, Hint};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The listing of a complete folder.
pub const LISTING: &str = "sae-files.json";

/// The listing of a folder whose push has begun.
pub(super) const CLAIM: &str = "sae-files.begun.json";

/// Size of the largest listing, in bytes.
pub(super) const LIMIT: u64 = 64 << 20;

/// Bytes of a listing for each file, at least, without the name and the record.
const ENTRY: u64 = 128;

/// What helps if a listing is too large.
const MANY_FILES: &str = "push its folders one by one, or put the files into archives";

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
    /// There are no files, too many for a listing, a link, or a name that is no Unicode; a file cannot be read.
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
        // Hashing the files would take long.
        let least = names.iter().map(|name| name.len() as u64 + ENTRY).sum();
        check_size(least).map_err(|cause| sae_core::Error::run(path, Cause::with_hint(cause, MANY_FILES.into())))?;
        names.sort();
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            each(&name)?;
            let file = root.join(&name);
            let bytes = fs::metadata(&file).map_err(Error::io("read", &file))?.len();
            if is_record(&name) && bytes <= RECORD_LIMIT {
                let record = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
                files.push(ListedFile {
                    name,
                    bytes: record.len() as u64,
                    blake3: hash(&record),
                    record: Some(record),
                });
            } else {
                files.push(ListedFile { blake3: sae_core::file::hash(&file)?, name, bytes, record: None });
            }
        }
        Ok(Self { schema_version: VERSION, program: concat!("sae ", env!("CARGO_PKG_VERSION")).into(), files })
    }

    /// Reads a listing.
    ///
    /// # Errors
    /// It is damaged, contradicts itself, is of another version, or names files outside of its folder.
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
        let (mut names, mut bytes) = (BTreeSet::new(), 0u64);
        for file in &listing.files {
            if !is_path(&file.name) || Path::new(&file.name).is_absolute() {
                return Err(damaged(format!("expected names of files in the folder, found {:?}", file.name)));
            }
            if !names.insert(&file.name) {
                return Err(damaged(format!("expected each name once, found {:?} again", file.name)));
            }
            if file
                .record
                .as_ref()
                .is_some_and(|record| record.len() as u64 != file.bytes || hash(record) != file.blake3)
            {
                return Err(damaged(format!(
                    "the content of {:?} does not have the size and hash beside it",
                    file.name
                )));
            }
            let Some(sum) = bytes.checked_add(file.bytes) else {
                return Err(damaged(format!(
                    "expected a total size below 2^64 bytes, found {} bytes for {:?}",
                    file.bytes, file.name
                )));
            };
            bytes = sum;
        }
        Ok(listing)
    }

    /// The listing as it is stored.
    pub fn to_bytes(&self, url: &ObjectUrl) -> Result<Vec<u8>> {
        let mut content = serde_json::to_vec_pretty(self).map_err(|error| object_error(url, error.to_string()))?;
        content.push(b'\n');
        let too_large = |cause| object_error(url, cause).with_hint(Hint::from(MANY_FILES));
        check_size(content.len() as u64).map_err(too_large)?;
        Ok(content)
    }

    /// The size of all files, which parsing has checked to be a number.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The first file that two folders with the same data do not have in common. Records are not compared.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let [one, two] = [self, other].map(|listing| listing.contents(|file| file.record.is_none()));
        let differs = |one: &Contents, two: &Contents| {
            let mut files = one.iter().filter(|(name, file)| two.get(*name) != Some(*file));
            files.next().map(|(name, _)| (*name).to_owned())
        };
        differs(&one, &two).or_else(|| differs(&two, &one))
    }

    /// The records with another content than those of the same names in another listing.
    pub fn other_records(&self, other: &Self) -> Vec<String> {
        let [one, two] = [self, other].map(|listing| listing.contents(|file| file.record.is_some()));
        one.into_iter().filter(|(name, file)| two.get(name) != Some(file)).map(|(name, _)| name.to_owned()).collect()
    }

    /// The size and hash of some files, by name.
    fn contents(&self, which: impl Fn(&ListedFile) -> bool) -> Contents<'_> {
        let files = self.files.iter().filter(|file| which(file));
        files.map(|file| (file.name.as_str(), (file.bytes, file.blake3.as_str()))).collect()
    }
}

type Contents<'a> = BTreeMap<&'a str, (u64, &'a str)>;

fn hash(content: &str) -> String {
    blake3::hash(content.as_bytes()).to_hex().to_string()
}

/// Rejects a listing that nobody would read.
fn check_size(bytes: u64) -> Result<(), String> {
    if bytes <= LIMIT {
        return Ok(());
    }
    Err(format!("too many files: their listing has {bytes} bytes or more, and the limit is {LIMIT}"))
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
    fn a_listing_that_contradicts_itself_is_rejected() {
        let url: ObjectUrl = "s3://lab/run/sae-files.json".parse().unwrap();
        let parse = |files: &[ListedFile]| {
            let text = serde_json::json!({ "schema_version": 1, "program": "sae", "files": files });
            Listing::parse(text.to_string().as_bytes(), &url).map(|_| ()).map_err(|error| error.message())
        };
        let file = |name: &str, bytes: u64| ListedFile { name: name.into(), bytes, blake3: hash(name), record: None };
        let record = ListedFile { record: Some("run.json".into()), ..file("run.json", 8) };
        assert_eq!(parse(&[file("a", u64::MAX - 8), record.clone()]), Ok(()));
        let bad = [
            ("a total size below 2^64 bytes", vec![file("a", u64::MAX), file("b", 1)]),
            ("found \"a\" again", vec![file("a", 1), file("a", 1)]),
            ("size and hash beside it", vec![ListedFile { bytes: 1 << 60, ..record.clone() }]),
            ("size and hash beside it", vec![ListedFile { blake3: hash("other"), ..record }]),
        ];
        for (cause, files) in bad {
            let error = parse(&files).unwrap_err();
            assert!(error.contains("damaged") && error.contains(cause), "{error}");
        }
    }

    #[test]
    fn a_folder_with_too_many_files_for_a_listing_is_rejected_by_their_number() {
        assert!(check_size(ENTRY * 400_000).is_ok());
        assert!(check_size(ENTRY * 600_000).unwrap_err().contains("too many files"));
        let file = ListedFile { name: String::new(), bytes: 0, blake3: hash(""), record: None };
        let listing = |files| Listing { schema_version: VERSION, program: String::new(), files };
        let url: ObjectUrl = "s3://lab/run".parse().unwrap();
        let bytes = |count: usize| listing(vec![file.clone(); count]).to_bytes(&url).unwrap().len() as u64;
        assert!(bytes(2) - bytes(1) >= ENTRY, "the bound holds for the shortest entry");
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
        assert_eq!((read().other_records(&first), first.other_records(&first)), (vec!["run.json".into()], vec![]));
        write("activations/layers.1/shard-00000.safetensors", "other");
        assert_eq!(read().difference(&first).as_deref(), Some("activations/layers.1/shard-00000.safetensors"));
    }
}
