//! Upload: an autoencoder of a run with a card that describes it, or the files of a folder, to the hub.

use crate::control::{Control, Detail, Stage};
use crate::error::UploadError;
use crate::model_card;
use crate::sae::SaeChoice;
use crate::{Error, Result};
use harvest::hub::{Content, Destination, Hub, RepoKind, UploadFile};
use sae_core::Run;
use sae_core::autoencoder::formats::{self, Summary};
use sae_core::path_text;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// The file that the hub shows with a repository.
const CARD: &str = "README.md";

/// Files of an autoencoder's folder that are uploaded if they exist.
const SAE_FILES: [&str; 6] =
    ["cfg.json", "sae_weights.safetensors", "train.toml", "log.parquet", "eval.json", "curves.png"];

/// Largest `eval.json` that is read.
const EVALUATION_LIMIT: u64 = 1 << 24;

/// How deep folders are.
const DEPTH: usize = 32;

/// What to upload.
#[derive(Clone, Debug)]
pub enum UploadSource {
    /// An autoencoder of a run, with a card.
    Sae(SaeChoice),
    /// The files of a folder, such as a filtered data set.
    Folder(PathBuf),
}

/// What to upload, and where to.
#[derive(Clone, Debug)]
pub struct UploadRequest {
    /// What.
    pub source: UploadSource,
    /// Where to.
    pub to: Destination,
    /// Whether a repository that has to be created is private.
    pub private: bool,
    /// Message of the commit; one that names what is uploaded if left out.
    pub message: Option<String>,
}

/// What an upload would do.
#[derive(Clone, Debug, Serialize)]
pub struct UploadPlan {
    /// `upload`.
    pub command: &'static str,
    /// Where to.
    pub to: Destination,
    /// What the repository is for.
    pub kind: RepoKind,
    /// The files, in the order of the upload.
    pub files: Vec<UploadPlanFile>,
    /// Their size in bytes.
    pub bytes: u64,
    /// The card of an autoencoder.
    pub card: Option<String>,
}

/// A file of an upload.
#[derive(Clone, Debug, Serialize)]
pub struct UploadPlanFile {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What an upload did.
#[derive(Clone, Debug, Serialize)]
pub struct UploadReport {
    /// `upload`.
    pub command: &'static str,
    /// Where to.
    pub to: Destination,
    /// What the repository is for.
    pub kind: RepoKind,
    /// What was uploaded.
    #[serde(flatten)]
    pub uploaded: harvest::hub::Uploaded,
}

impl UploadRequest {
    /// What [`UploadRequest::run`] would do. Sends no request.
    ///
    /// # Errors
    /// No such autoencoder or folder, a folder without files or with links.
    pub fn plan(&self) -> Result<UploadPlan> {
        let files = self.files()?;
        let of_plan = |file: &UploadFile| Ok(UploadPlanFile { name: file.name.clone(), bytes: file.content.size()? });
        let card = files.iter().find_map(|file| match &file.content {
            Content::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Content::File(_) => None,
        });
        let files = files.iter().map(of_plan).collect::<Result<Vec<_>>>()?;
        let bytes = files.iter().map(|file| file.bytes).sum();
        Ok(UploadPlan { command: "upload", to: self.to.clone(), kind: self.to.kind(), files, bytes, card })
    }

    /// Uploads.
    ///
    /// # Errors
    /// As [`UploadRequest::plan`]; no token, or one that may not write there; a hub that cannot be reached.
    pub fn run(&self, control: &mut Control) -> Result<UploadReport> {
        let files = self.files()?;
        let message = self.message.clone().unwrap_or_else(|| format!("Upload {}", self.what()));
        let mut staged = control.stage(Stage::Upload, None)?;
        let uploaded = Hub::from_env()?.upload(&files, &self.to, self.private, &message, &mut |progress| {
            staged.extend(progress.total);
            Ok(staged.advance_with(progress.bytes, Detail::Transfer { file: progress.file })?)
        })?;
        Ok(UploadReport { command: "upload", to: self.to.clone(), kind: self.to.kind(), uploaded })
    }

    fn what(&self) -> String {
        match &self.source {
            UploadSource::Sae(_) => "an autoencoder with sae-workbench".into(),
            UploadSource::Folder(folder) => {
                let name = folder.file_name().unwrap_or(folder.as_os_str());
                format!("{} with sae-workbench", name.to_string_lossy())
            }
        }
    }

    fn files(&self) -> Result<Vec<UploadFile>> {
        match &self.source {
            UploadSource::Sae(choice) => self.autoencoder(choice),
            UploadSource::Folder(folder) => self.folder(folder),
        }
    }

    fn autoencoder(&self, choice: &SaeChoice) -> Result<Vec<UploadFile>> {
        if self.to.kind() == RepoKind::Dataset {
            return Err(UploadError::Kind { what: "an autoencoder", to: self.to.to_string() }.into());
        }
        let run = Run::open(&choice.run)?;
        let name = choice.name(&run)?;
        let folder = run.sae_dir(&name);
        let saved = formats::load(&folder)?;
        let evaluation = sae_core::file::read_json(&folder.join("eval.json"), EVALUATION_LIMIT).ok();
        let card = model_card::of_autoencoder(&Summary::new(&saved), evaluation.as_ref(), &self.to);
        let existing = SAE_FILES.into_iter().filter(|name| folder.join(name).is_file());
        let file = |name: &str| UploadFile { name: name.into(), content: Content::File(folder.join(name)) };
        let mut files: Vec<_> = existing.map(file).collect();
        files.push(UploadFile { name: CARD.into(), content: Content::Bytes(card.into_bytes()) });
        Ok(files)
    }

    fn folder(&self, folder: &Path) -> Result<Vec<UploadFile>> {
        let mut files = Vec::new();
        list(folder, "", DEPTH, &mut files)?;
        if files.is_empty() {
            return Err(UploadError::Empty { folder: folder.into() }.into());
        }
        let is_filtered = folder.join("manifest.json").is_file() && folder.join(filters::write::card::ROWS).is_dir();
        if is_filtered && self.to.kind() == RepoKind::Model {
            return Err(UploadError::Kind { what: "a data set", to: self.to.to_string() }.into());
        }
        // The card describes the other files, so it comes last.
        files.sort_by(|a, b| (a.name == CARD).cmp(&(b.name == CARD)).then_with(|| a.name.cmp(&b.name)));
        Ok(files)
    }
}

/// The files below a folder, without those whose names begin with a dot.
fn list(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<UploadFile>) -> Result<()> {
    let unreadable = |e| Error::Core(sae_core::Error::io("list", folder)(e));
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
        let name = path_text::encode(Path::new(&entry.file_name()));
        if name.starts_with('.') {
            continue;
        }
        let name = format!("{prefix}{name}");
        if kind.is_symlink() || depth == 0 {
            // A link may lead to files that nobody means to publish.
            return Err(UploadError::Link { path }.into());
        }
        if kind.is_dir() {
            list(&path, &format!("{name}/"), depth - 1, files)?;
        } else {
            files.push(UploadFile { name, content: Content::File(path) });
        }
    }
    Ok(())
}
