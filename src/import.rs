//! Import: takes another tool's autoencoder into a run, where it is used like one that was trained there, or another tool's
//! activations into a new run.

use crate::control::{Control, Stage};
use crate::error::ModelsError;
use crate::sae::check_width;
use crate::{Error, Result, crosscoder};
use harvest::{CacheFormat, Import, ImportPreview};
use sae_core::Run;
use sae_core::autoencoder::formats::{self, Format, ModelStream, Saved, Summary};
use sae_core::store::{self, StoreDtype, hooks, run};
use serde::Serialize;
use std::path::PathBuf;

/// Which activations to take into a new run.
#[derive(Clone, Debug)]
pub struct ImportActivationsRequest {
    /// What they are, and how they are stored. Layer and column may be left out if `hook` has them.
    pub import: Import,
    /// The column of a cache that has columns; or the tool's name of the hook, which gives the layer if `import` does not.
    pub hook: Option<String>,
    /// The new run folder. An interrupted import into it is continued.
    pub run: PathBuf,
}

/// What an import of activations would do.
#[derive(Clone, Debug, Serialize)]
pub struct ImportActivationsPlan {
    /// `import`.
    pub command: &'static str,
    /// The run folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub run: PathBuf,
    /// The activations.
    pub plan: ImportPreview,
}

/// What an import of activations took.
#[derive(Clone, Debug, Serialize)]
pub struct ImportActivationsReport {
    /// `import`.
    pub command: &'static str,
    /// The format.
    pub from: &'static str,
    /// File or folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub source: PathBuf,
    /// Samples.
    pub samples: u64,
    /// Token positions.
    pub tokens: u64,
    /// Decoder blocks.
    pub layers: Vec<usize>,
    /// Width of the residual stream.
    pub d_in: usize,
    /// How activations are stored.
    pub dtype: StoreDtype,
}

impl ImportActivationsRequest {
    /// An import with everything as the files say, in their dtype.
    pub fn new(format: CacheFormat, path: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        let import = Import {
            format,
            path: path.into(),
            layer: None,
            column: None,
            tokens: None,
            sample_length: None,
            model: None,
            store_dtype: None,
            part_rows: 65_536,
        };
        Self { import, hook: None, run: run.into() }
    }

    /// What [`ImportActivationsRequest::run`] would do.
    ///
    /// # Errors
    /// Files of another format, or files that lack required information.
    pub fn plan(&self) -> Result<ImportActivationsPlan> {
        Ok(ImportActivationsPlan { command: "import", run: self.run.clone(), plan: self.import()?.preview()? })
    }

    /// Imports.
    ///
    /// # Errors
    /// As [`ImportActivationsRequest::plan`]; a run with other activations, a full disk; a request to stop. Everything
    /// stored by then stays, and the same request continues there.
    pub fn run(&self, control: &mut Control) -> Result<ImportActivationsReport> {
        let import = self.import()?;
        // Before the run folder is made, so that an import that cannot work leaves no files.
        let preview = import.preview()?;
        let run = Run::create(&self.run)?;
        let mut staged = control.stage(Stage::Import, preview.rows)?;
        let record = import.run(&run, &mut |rows| Ok(staged.advance(rows)?))?;
        drop(staged);
        let done = record.progress();
        Ok(ImportActivationsReport {
            command: "import",
            from: import.format.name(),
            source: import.path,
            samples: done.samples,
            tokens: done.rows,
            layers: record.spec.layers,
            d_in: record.spec.d_in,
            dtype: record.spec.dtype,
        })
    }

    fn import(&self) -> Result<Import> {
        let mut import = self.import.clone();
        match &self.hook {
            Some(hook) if import.format == CacheFormat::SaeLens && !hook.starts_with("layers.") => {
                import.column = Some(hook.clone());
            }
            Some(hook) if import.layer.is_none() => {
                let (known, layer) = hooks::of_tool(hook);
                if known != store::hook(layer) {
                    return Err(Error::NoResidualStream { hook: hook.clone() });
                }
                import.layer = Some(layer);
            }
            _ => {}
        }
        Ok(import)
    }
}

/// Which autoencoder to take into which run.
#[derive(Clone, Debug)]
pub struct ImportSaeRequest {
    /// Folder of the autoencoder, or a file in it.
    pub path: PathBuf,
    /// The format to read; `None` recognizes it by the files.
    pub from: Option<Format>,
    /// Active features per token, for an autoencoder whose files do not say.
    pub k: Option<usize>,
    /// The run folder, with activations that the autoencoder reads; of a crosscoder, those of its first model.
    pub run: PathBuf,
    /// The runs of a crosscoder's other models, in its order.
    pub others: Vec<PathBuf>,
    /// The name that it gets.
    pub name: String,
    /// The activations, such as `layers.16`.
    pub hook: String,
}

/// What was taken into a run, or would be.
#[derive(Clone, Debug, Serialize)]
pub struct ImportSaeReport {
    /// `import`.
    pub command: &'static str,
    /// The format.
    pub from: &'static str,
    /// Where the autoencoder came from.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub source: PathBuf,
    /// Its name in the run.
    pub sae: String,
    /// Its activations.
    pub hook: String,
    /// The autoencoder.
    pub is: Summary,
    /// The model that the file of the autoencoder names.
    pub said_model: String,
    /// The hook that the file of the autoencoder names.
    pub said_hook: String,
    /// Its folder in the run.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl ImportSaeRequest {
    /// What [`ImportSaeRequest::run`] would do.
    ///
    /// # Errors
    /// As [`ImportSaeRequest::run`].
    pub fn plan(&self) -> Result<ImportSaeReport> {
        Ok(self.checked()?.2)
    }

    /// Imports.
    ///
    /// # Errors
    /// No autoencoder, one of another width than the activations, a name that is taken, a full disk.
    pub fn run(&self) -> Result<ImportSaeReport> {
        let (run, saved, report) = self.checked()?;
        let _lock = run.lock()?;
        formats::create(Format::SaeLens, &report.folder, &saved)?;
        run.write_step(&format!("import/{}", self.name), &report)?;
        Ok(report)
    }

    fn checked(&self) -> Result<(Run, Saved, ImportSaeReport)> {
        let run = Run::open(&self.run)?;
        run::check_name(&self.name)?;
        let folder = run.sae_dir(&self.name);
        if folder.exists() {
            return Err(Error::SaeExists { name: self.name.clone(), folder });
        }
        let store = crosscoder::join(&run, &self.others, &self.hook)?;
        let from = match self.from {
            Some(format) => format,
            None => formats::detect(&self.path)?,
        };
        let mut saved = formats::load_with(from, &self.path, self.k)?;
        let (models, runs) = (saved.origin.models.len().max(1), store.models());
        if models != runs {
            let error =
                if models == 1 { ModelsError::SeveralRuns { runs } } else { ModelsError::OtherRuns { models, runs } };
            return Err(error.into());
        }
        check_width(&saved, &store)?;
        for (stream, known) in saved.origin.models.iter_mut().zip(crosscoder::streams(&store)) {
            *stream = ModelStream { scale: stream.scale, ..known };
        }
        let manifest = store.manifest();
        let report = ImportSaeReport {
            command: "import",
            from: from.name(),
            source: self.path.clone(),
            sae: self.name.clone(),
            hook: manifest.hook.clone(),
            is: Summary::new(&saved),
            said_model: saved.origin.model.clone(),
            said_hook: saved.origin.hook.clone(),
            folder,
        };
        // The record keeps what the file says. Where activations come from is decided by the run.
        saved.origin.hook.clone_from(&manifest.hook);
        saved.origin.layer = manifest.layer;
        if saved.origin.context_size == 0 {
            saved.origin.context_size = store.longest_sample()?;
        }
        if saved.origin.model.is_empty() {
            saved.origin.model.clone_from(&manifest.model);
        }
        formats::check(Format::SaeLens, &saved)?;
        Ok((run, saved, report))
    }
}
