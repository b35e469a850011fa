//! Import: takes another tool's autoencoder into a run, where it is used like one that was trained there, or another tool's
//! activations into a new run.

use crate::control::{Control, Stage};
use crate::error::{ModelsError, PublishedError, TranscoderError};
use crate::index::{IndexReport, IndexRequest};
use crate::published::{HUB, HubSae};
use crate::sae::{SaeChoice, check_width};
use crate::{Error, Result, crosscoder, transcoder};
use harvest::{CacheFormat, Import, ImportPreview};
use sae_core::autoencoder::formats::{self, Format, ModelStream, Saved, Summary};
use sae_core::device::DeviceChoice;
use sae_core::store::{Hook, Store, StoreDtype, hooks, run};
use sae_core::{Run, path_text};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Which activations to take into a new run.
#[derive(Clone, Debug)]
pub struct ImportActivationsRequest {
    /// What they are, and how they are stored. Hook and column may be left out if `hook` has them.
    pub import: Import,
    /// The column of a cache that has columns; or the name of the hook, also another tool's, if `import` has none.
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
    /// Where they were captured.
    pub hooks: Vec<Hook>,
    /// Width of an activation.
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
            hook: None,
            column: None,
            tokens: None,
            sample_length: None,
            state_layers: Vec::new(),
            checkpoint: None,
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
            hooks: record.spec.hooks,
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
            Some(hook) if import.hook.is_none() => {
                import.hook = Some(hooks::known(hook).map_or_else(|| hook.parse(), Ok)?);
            }
            _ => {}
        }
        Ok(import)
    }
}

/// Where an autoencoder is that is taken into a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaeSource {
    /// A folder, or a file in it.
    Files(PathBuf),
    /// On the hub; its files are downloaded once.
    Hub(HubSae),
}

impl SaeSource {
    /// A published autoencoder by its name, `hub:OWNER/REPO/PATH`; any other path as it is.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn from_path(path: PathBuf) -> Result<Self, String> {
        match path.to_str().filter(|text| text.starts_with(HUB)) {
            Some(name) => name.parse().map(Self::Hub),
            None => Ok(Self::Files(path)),
        }
    }

    /// The text by which records name it.
    pub(crate) fn encoded(&self) -> String {
        match self {
            Self::Files(path) => path_text::encode(path),
            Self::Hub(sae) => sae.to_string(),
        }
    }
}

/// Which autoencoder to take into which run.
#[derive(Clone, Debug)]
pub struct ImportSaeRequest {
    /// The autoencoder.
    pub source: SaeSource,
    /// The format to read; `None` recognizes it by the files.
    pub from: Option<Format>,
    /// Active features per token, for an autoencoder whose files do not say.
    pub k: Option<usize>,
    /// The run folder, with activations that the autoencoder reads; of a crosscoder, those of its first model.
    pub run: PathBuf,
    /// The runs of a crosscoder's other models, in its order.
    pub others: Vec<PathBuf>,
    /// The name that it gets; `None` for one made of its path.
    pub name: Option<String>,
    /// The activations, such as `layers.16`; `None` for the hook that it was trained on, as far as that is known.
    pub hook: Option<String>,
    /// What a transcoder reconstructs, as a hook of the run; `None` for what its file says.
    pub target: Option<String>,
    /// Whether a published autoencoder may have been trained on another model than the run's.
    pub any_model: bool,
    /// Whether its features are indexed at once.
    pub index: bool,
}

/// What was taken into a run, or would be.
#[derive(Clone, Debug, Serialize)]
pub struct ImportSaeReport {
    /// `import`.
    pub command: &'static str,
    /// The format.
    pub from: &'static str,
    /// Where the files of the autoencoder are.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub source: PathBuf,
    /// Its name on the hub, at the commit that was downloaded.
    pub published: Option<HubSae>,
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
    /// What was indexed.
    pub index: Option<IndexReport>,
    /// Its folder in the run.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// The files of an autoencoder on this machine.
struct Located {
    path: PathBuf,
    format: Format,
    published: Option<HubSae>,
}

impl ImportSaeRequest {
    /// An import of files whose format is recognized, under a name made of their path, for the hook that they name.
    pub fn new(source: SaeSource, run: impl Into<PathBuf>) -> Self {
        let (run, others) = (run.into(), Vec::new());
        let (from, k, name, hook, target) = Default::default();
        Self { source, from, k, run, others, name, hook, target, any_model: false, index: false }
    }

    /// What [`ImportSaeRequest::run`] would do. Sends no request.
    ///
    /// # Errors
    /// As [`ImportSaeRequest::run`]; a published autoencoder that has not been downloaded.
    pub fn plan(&self) -> Result<ImportSaeReport> {
        let run = Run::open(&self.run)?;
        let name = self.free_name(&run)?;
        let located = match &self.source {
            SaeSource::Files(path) => self.recognized(path)?,
            SaeSource::Hub(sae) => {
                sae.check(None, &run, self.hook.as_deref(), self.any_model)?;
                let found = sae.cached()?;
                Located { path: found.path, format: found.format, published: Some(found.name) }
            }
        };
        Ok(self.checked(&run, name, located)?.1)
    }

    /// Imports, after a download if necessary.
    ///
    /// # Errors
    /// No autoencoder, one of another width than the activations, a name that is taken, a full disk. For a published one also: a name that
    /// the hub does not have, access that is denied, an interrupted or damaged download, another model or hook than the run's.
    pub fn run(&self, control: &mut Control) -> Result<ImportSaeReport> {
        let run = Run::open(&self.run)?;
        let name = self.free_name(&run)?;
        let located = match &self.source {
            SaeSource::Files(path) => self.recognized(path)?,
            SaeSource::Hub(sae) => {
                // What the list of released autoencoders says is known before gigabytes are.
                sae.check(None, &run, self.hook.as_deref(), self.any_model)?;
                let found = sae.download(control)?;
                Located { path: found.path, format: found.format, published: Some(found.name) }
            }
        };
        let (saved, mut report) = self.checked(&run, name, located)?;
        {
            let _lock = run.lock()?;
            formats::create(Format::SaeLens, &report.folder, &saved)?;
            run.write_step(&format!("import/{}", report.sae), &report)?;
        }
        if self.index {
            let (run, sae) = (self.run.clone(), Some(report.sae.clone()));
            let request = IndexRequest::new(SaeChoice { run, sae, device: DeviceChoice::Auto });
            report.index = Some(request.run(control)?);
        }
        Ok(report)
    }

    /// The name that the autoencoder gets, which no other one of the run has.
    fn free_name(&self, run: &Run) -> Result<String> {
        let name = match (&self.name, &self.source) {
            (Some(name), _) => name.clone(),
            (None, SaeSource::Hub(sae)) => sae.short_name(),
            (None, SaeSource::Files(path)) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        };
        run::check_name(&name)?;
        let folder = run.sae_dir(&name);
        if folder.exists() { Err(Error::SaeExists { name, folder }) } else { Ok(name) }
    }

    fn recognized(&self, path: &Path) -> Result<Located> {
        let format = match self.from {
            Some(format) => format,
            None => formats::detect(path)?,
        };
        Ok(Located { path: path.to_path_buf(), format, published: None })
    }

    fn checked(&self, run: &Run, name: String, located: Located) -> Result<(Saved, ImportSaeReport)> {
        let mut saved = formats::load_with(located.format, &located.path, self.k)?;
        let mut trained_on = saved.origin.hook.clone();
        if let Some(sae) = &located.published {
            sae.check(Some(&saved.origin), run, self.hook.as_deref(), self.any_model)?;
            trained_on = sae.released().map_or(trained_on, |released| released.hook.clone());
        }
        let hook = self.hook.clone().or(Some(trained_on).filter(|hook| hook.parse::<Hook>().is_ok()));
        let hook = hook.ok_or_else(|| PublishedError::UnknownHook { name: name.clone() })?;
        if self.target.is_some() && !saved.is_transcoder() {
            return Err(TranscoderError::NoTranscoder { name }.into());
        }
        saved.origin.target = self.target.clone().unwrap_or(saved.origin.target);
        let store = crosscoder::join(run, &self.others, &hook)?;
        let store = match &self.target {
            Some(target) => transcoder::with_target(store, target)?,
            None => transcoder::with_known_target(store, &saved.origin, run)?,
        };
        let (models, runs) = (saved.origin.models.len().max(1), store.models());
        if models != runs {
            let error =
                if models == 1 { ModelsError::SeveralRuns { runs } } else { ModelsError::OtherRuns { models, runs } };
            return Err(error.into());
        }
        check_width(&saved, &store)?;
        if saved.needs_scales() {
            scale_inputs(&mut saved, &store);
        }
        for (stream, known) in saved.origin.models.iter_mut().zip(crosscoder::streams(&store)) {
            *stream = ModelStream { scale: stream.scale, ..known };
        }
        let manifest = store.manifest();
        let report = ImportSaeReport {
            command: "import",
            from: located.format.name(),
            source: located.path,
            published: located.published,
            folder: run.sae_dir(&name),
            sae: name,
            hook: manifest.hook.clone(),
            is: Summary::new(&saved),
            said_model: saved.origin.model.clone(),
            said_hook: saved.origin.hook.clone(),
            index: None,
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
        Ok((saved, report))
    }
}

/// Scales the inputs of a crosscoder whose files lack the factors of its training, as that training estimated them: so that the mean norm of
/// the states of each model is the square root of their width.
fn scale_inputs(saved: &mut Saved, store: &Store) {
    let width = saved.weights.d_in / store.models();
    let norms = std::iter::once(store).chain(store.others()).map(|store| store.manifest().mean_norm);
    let scales: Vec<f32> =
        norms.map(|norm| if norm > 0.0 { ((width as f64).sqrt() / norm) as f32 } else { 1.0 }).collect();
    saved.scale_inputs(&scales);
    let factors: Vec<String> = scales.iter().map(|scale| format!("{scale:.4}")).collect();
    saved.origin.notes.push(format!(
        "the states of its models are scaled by {}, the square root of their width divided by their mean norm in these runs: the factors of its \
         training are not in its files",
        factors.join(" and ")
    ));
}
