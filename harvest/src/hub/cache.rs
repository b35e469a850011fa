//! A snapshot in the hub's cache, no matter which program filled it: which files of a commit are present, which are
//! known not to exist, which files a checkpoint still needs, and how a downloaded file is added. Sends no request.

use crate::model::ModelConfig;
use crate::precedence::{self, CONFIG, DECISIVE, TOKENIZER, WEIGHTS};
use crate::{Error, Result};
use hf_hub::{Cache, Repo};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Size of the largest list of a repository's files, in bytes.
const LISTING_LIMIT: u64 = 1 << 24;

/// The files of one commit.
pub(super) struct Snapshot {
    folder: PathBuf,
    /// The folder of the repository.
    root: PathBuf,
}

impl Snapshot {
    /// The snapshot of a commit, or the one to which a branch or tag pointed when it was last requested.
    ///
    /// # Errors
    /// What is missing in the cache.
    pub fn find(cache: &Cache, id: &str, revision: &str) -> Result<Self, String> {
        let root = root(cache, id);
        let reference = root.join("refs").join(revision);
        let commit = match fs::read_to_string(&reference) {
            _ if is_commit(revision) => revision.to_owned(),
            Ok(commit) => commit.trim().to_owned(),
            Err(_) if root.is_dir() => return Err(format!("no refs/{revision} in {}", root.display())),
            Err(_) => return Err(format!("no folder {}", root.display())),
        };
        let snapshot = Self::from_commit(cache, id, &commit).map_err(|e| e.to_string())?;
        if !snapshot.folder.is_dir() {
            return Err(format!("no folder {}", snapshot.folder.display()));
        }
        Ok(snapshot)
    }

    /// The snapshot of a commit, which may still be empty.
    pub fn from_commit(cache: &Cache, id: &str, commit: &str) -> Result<Self> {
        let root = root(cache, id);
        if !is_commit(commit) {
            return Err(Error::checkpoint(&root)(format!("expected a commit, found {commit:?}")));
        }
        let folder = cache.repo(Repo::model(id.to_owned())).pointer_path(commit);
        Ok(Self { folder, root })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The commit.
    pub fn commit(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether a file is present. A broken link is not.
    pub fn has(&self, file: &str) -> bool {
        self.folder.join(file).is_file()
    }

    /// Names of all files that are present, relative to the folder, in order. Broken links are not.
    pub fn files(&self) -> Vec<String> {
        let (mut found, mut folders) = (Vec::new(), vec![String::new()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(self.folder.join(&folder)).into_iter().flatten().flatten() {
                let Some(name) = entry.file_name().to_str().map(|name| format!("{folder}{name}")) else { continue };
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(name + "/");
                } else if self.has(&name) {
                    found.push(name);
                }
            }
        }
        found.sort();
        found
    }

    /// The files that a checkpoint needs and that are missing here, described for people. The list is empty if the
    /// snapshot can be used.
    ///
    /// # Errors
    /// A file that is present is damaged.
    pub fn missing(&self) -> Result<Vec<String>> {
        let is_link = |file: &str| fs::symlink_metadata(self.folder.join(file)).is_ok();
        let (model, listing) = (ModelConfig::open(&self.folder).ok(), self.listing().unwrap_or_default());
        let has_vision = model.is_some_and(|config| config.vision.is_some());
        // Without one of these files, if it exists on the hub, the prompts would be different.
        let needed = |file: &str| match file {
            CONFIG | TOKENIZER => true,
            "tokenizer_config.json" | precedence::TEMPLATE => listing.contains(file),
            "chat_template.json" | precedence::PROCESSOR | precedence::VIDEO_PREPROCESSOR => {
                has_vision && listing.contains(file)
            }
            _ => false,
        };
        let mut missing: Vec<String> = DECISIVE
            .into_iter()
            .filter(|file| !self.has(file) && (needed(file) || is_link(file)))
            .map(str::to_owned)
            .collect();
        if has_vision
            && !self.has(precedence::PREPROCESSOR)
            && missing.is_empty()
            && precedence::image_processor(&self.folder).is_err()
        {
            missing.push(precedence::PREPROCESSOR.into());
        }
        if self.has(CONFIG) {
            let config = self.folder.join(CONFIG);
            let settings: Value = sae_core::file::read_json(&config, LISTING_LIMIT)?;
            let weights = precedence::weights(&settings, is_link).map_err(Error::checkpoint(&config))?;
            let weights = self.weights(&weights.unwrap_or_else(|| WEIGHTS.into()))?;
            missing.extend(weights.into_iter().filter(|file| !self.has(file)));
        }
        Ok(missing.into_iter().map(|file| self.described(file)).collect())
    }

    /// The files of weights to which a file leads: the file itself, or the files that it names if it is an index that
    /// is present.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn weights(&self, file: &str) -> Result<Vec<String>> {
        if file.ends_with(".json") && self.has(file) {
            return Ok(precedence::shards(&self.folder.join(file))?.into_iter().collect());
        }
        Ok(vec![file.to_owned()])
    }

    fn described(&self, file: String) -> String {
        let dangling = precedence::is_dangling(&self.folder.join(&file));
        if dangling { format!("{file} (a broken link)") } else { file }
    }

    /// Whether it is known for every decisive file that it is present or does not exist. A checkpoint with a tokenizer
    /// configuration and a chat template has every file that is ever needed.
    pub fn is_settled(&self) -> bool {
        let is_known = |file: &&str| self.has(file) || self.absent(file).exists();
        let has_template = |file: &str| {
            let read = sae_core::file::read_json::<Value>(&self.folder.join(file), LISTING_LIMIT);
            read.is_ok_and(|config| !config["chat_template"].is_null())
        };
        let template = || {
            let files = [precedence::TEMPLATE, "chat_template.json"].iter().any(|file| self.has(file));
            files || ["tokenizer_config.json", precedence::PROCESSOR].iter().any(|file| has_template(file))
        };
        // Python asks for the processor of videos only where a model has one, and then downloads it.
        let mut asked_for = DECISIVE.iter().filter(|file| **file != precedence::VIDEO_PREPROCESSOR);
        self.listing().is_some() || asked_for.all(is_known) || self.has("tokenizer_config.json") && template()
    }

    /// The files of the commit, if `snapshot_download` of huggingface_hub 2 has stored a list of them.
    fn listing(&self) -> Option<BTreeSet<String>> {
        #[derive(Deserialize)]
        struct Tree {
            files: BTreeMap<String, IgnoredAny>,
        }
        let path = self.root.join("trees").join(format!("{}.json", self.commit()));
        let tree: Tree = sae_core::file::read_json(&path, LISTING_LIMIT).ok()?;
        Some(tree.files.into_keys().collect())
    }

    /// The path at which the cache records that a file does not exist in the commit.
    fn absent(&self, file: &str) -> PathBuf {
        self.root.join(".no_exist").join(self.commit()).join(file)
    }

    /// Records that a file does not exist in the commit. If the cache cannot be written, the hub is asked again next
    /// time.
    pub fn record_absent(&self, file: &str) {
        let note = self.absent(file);
        if create(note.parent()).is_ok() {
            let _ = fs::write(&note, []);
        }
    }

    /// The path for the content of a file. Creates its folder.
    pub fn blob(&self, name: &str) -> Result<PathBuf> {
        let blob = self.root.join("blobs").join(name);
        create(blob.parent())?;
        Ok(blob)
    }

    /// Adds a blob to the snapshot under the name of a file.
    pub fn link(&self, blob: &Path, file: &str) -> Result<()> {
        let link = self.folder.join(file);
        create(link.parent())?;
        if fs::symlink_metadata(&link).is_ok() {
            fs::remove_file(&link).map_err(Error::io("replace", &link))?;
        }
        // From the file's folder up to that of the repository.
        let up = "../".repeat(2 + file.matches('/').count());
        link_blob(blob, &up, &link).map_err(Error::io("link", &link))
    }

    /// Makes a branch or tag point to this commit.
    pub fn set_reference(&self, revision: &str) -> Result<()> {
        if is_commit(revision) {
            return Ok(());
        }
        let reference = self.root.join("refs").join(revision);
        create(reference.parent())?;
        Ok(sae_core::file::write(&reference, |out| {
            std::io::Write::write_all(out, self.commit().as_bytes()).map_err(sae_core::Error::io("write", &reference))
        })?)
    }
}

#[cfg(unix)]
fn link_blob(blob: &Path, up: &str, link: &Path) -> std::io::Result<()> {
    let name = Path::new(up).join("blobs").join(blob.file_name().unwrap_or_default());
    std::os::unix::fs::symlink(name, link)
}

/// On systems other than Unix, symbolic links require privileges. There a hard link or a copy is made.
#[cfg(not(unix))]
fn link_blob(blob: &Path, _: &str, link: &Path) -> std::io::Result<()> {
    fs::hard_link(blob, link).or_else(|_| fs::copy(blob, link).map(drop))
}

fn root(cache: &Cache, id: &str) -> PathBuf {
    cache.path().join(Repo::model(id.to_owned()).folder_name())
}

fn create(folder: Option<&Path>) -> Result<()> {
    folder.map_or(Ok(()), |folder| fs::create_dir_all(folder).map_err(Error::io("create", folder)))
}

pub(super) fn is_hex(text: &str) -> bool {
    (8..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_hex(text)
}
