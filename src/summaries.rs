//! The summaries of a run's samples: from its folder if an earlier question has stored them there, otherwise from one pass of the
//! encoder, which stores them. Observers see the same summaries in the same order either way.

use crate::control::{Cancel, Control, Notice, Stage};
use crate::passes::Passes;
use crate::roles::Kind;
use crate::sae::{LoadedSae, SaeChoice};
use crate::{Error, Result};
use sae_core::analysis::between::{Markers, Part, PositionChoice};
use sae_core::analysis::pass::Observer;
use sae_core::analysis::summary::{
    Lookup, PartialSummaries, SampleSummary, StoredSummaries, SummaryCollector, SummaryKey, SummaryObserver,
    SummaryWriter,
};
use sae_core::file;
use sae_core::store::Store;
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Makes the summaries that later contrasts, probes and filters read, so that they need no pass.
#[derive(Clone, Debug)]
pub struct SummariesRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// Which positions of a sample count.
    pub positions: Part,
    /// Of these, only those between these markers; by default those of the part.
    pub between: Option<Markers>,
}

/// Summaries that were made.
#[derive(Clone, Debug, Serialize)]
pub struct SummariesReport {
    /// The positions that count.
    pub positions: &'static str,
    /// Size of the file, in bytes.
    pub bytes: u64,
    /// The file.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub file: PathBuf,
}

impl SummariesRequest {
    /// Makes the pass, or takes in its parts.
    pub(crate) fn collect(
        &self,
        sae: &LoadedSae,
        passes: &mut Passes,
        control: &mut Control,
    ) -> Result<PartialSummaries> {
        let folder = sae.run.summaries(&sae.name);
        let io = || sae_core::Error::io("write in", &folder);
        let file = std::fs::create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(&folder)).map_err(io())?;
        let choice = self.choice(sae)?;
        let mut state = PartialSummaries::new(&sae.store, sae.saved.weights.d_sae, choice, file, &folder);
        passes.collect(sae, "run", &sae.store, Stage::Features, &mut [&mut state], control)?;
        Ok(state)
    }

    /// Writes the file from passes that were made elsewhere.
    pub(crate) fn run_on(
        &self,
        sae: &LoadedSae,
        passes: &mut Passes,
        control: &mut Control,
    ) -> Result<SummariesReport> {
        let state = self.collect(sae, passes, control)?;
        let key = sae.key(&sae.store, &self.choice(sae)?)?.ok_or(Error::Missing { kind: Kind::Autoencoder })?;
        let path = sae.run.summaries(&sae.name).join(key.file_name());
        let _lock = hold(&path)?;
        state.write(&path, &key)?;
        let bytes = std::fs::metadata(&path).map_err(sae_core::Error::io("read", &path))?.len();
        Ok(SummariesReport { positions: self.positions.name(), bytes, file: path })
    }

    fn choice(&self, sae: &LoadedSae) -> Result<PositionChoice> {
        let markers = self.between.clone().or(self.positions.markers());
        Ok(PositionChoice::new(&sae.store, self.positions, markers.as_ref())?)
    }
}

impl LoadedSae {
    /// Shows the summaries of a store's samples over the positions that count to observers.
    ///
    /// # Errors
    /// As [`LoadedSae::observe`].
    pub(crate) fn summarize(
        &self,
        store: &Store,
        stage: Stage,
        choice: &PositionChoice,
        observers: &mut [&mut dyn SummaryObserver],
        control: &mut Control,
    ) -> Result<()> {
        let Some(key) = self.key(store, choice)? else {
            return self.summarize_again(store, stage, choice, observers, control);
        };
        let path = store.run().summaries(&self.name).join(key.file_name());
        match StoredSummaries::open(&path, &key) {
            Lookup::Found(stored) => {
                let mut cancel = control.stage(stage, None)?.cancel();
                return Ok(stored.replay(&mut with(observers, &mut cancel))?);
            }
            Lookup::Unusable(cause) => control.notice(&Notice::StaleSummaries { path: &path, cause: &cause }),
            Lookup::Absent => (),
        }
        // `None` while the file could not even be begun.
        let mut passed = None;
        let written = hold(&path).and_then(|_lock| {
            file::write(&path, |out| {
                let mut writer = SummaryWriter::new(out, &path, &key);
                let result = self.summarize_again(store, stage, choice, &mut with(observers, &mut writer), control);
                let complete = result.is_ok();
                passed = Some(result);
                if complete { writer.finish() } else { Err(sae_core::Error::Cancelled) }
            })
        });
        match passed {
            Some(result) => result?,
            None => self.summarize_again(store, stage, choice, observers, control)?,
        }
        if let Err(cause) = &written {
            control.notice(&Notice::NoSummaries { path: &path, cause });
        }
        Ok(())
    }

    /// Summarizes samples in a pass of the encoder.
    fn summarize_again(
        &self,
        store: &Store,
        stage: Stage,
        choice: &PositionChoice,
        observers: &mut [&mut dyn SummaryObserver],
        control: &mut Control,
    ) -> Result<()> {
        let (samples, weights) = (store.manifest().samples as usize, &self.saved.weights);
        let collector = SummaryCollector::new(samples, weights.d_in, weights.d_sae, choice.clone(), observers);
        let mut collector = collector.along(store.paths().clone());
        self.observe_store(store, stage, &mut [&mut collector as &mut dyn Observer], control)?;
        Ok(collector.finish().map(drop)?)
    }

    /// What the summaries of a store are made from; `None` if the autoencoder has no file that could be compared.
    fn key(&self, store: &Store, choice: &PositionChoice) -> Result<Option<SummaryKey>> {
        let folder = self.run.sae_dir(&self.name);
        let files = ["sae_weights.safetensors", "cfg.json"].map(|name| folder.join(name));
        if !files.iter().all(|file| file.exists()) {
            return Ok(None);
        }
        let hashes = files.iter().map(|path| file::hash(path)).collect::<sae_core::Result<Vec<String>>>()?;
        let (d_sae, device) = (self.saved.weights.d_sae, format!("{:?}", self.device));
        Ok(Some(SummaryKey::new(store, choice, &hashes.concat(), d_sae, &device)?))
    }
}

/// Some observers and one more.
fn with<'a>(
    observers: &'a mut [&mut dyn SummaryObserver],
    more: &'a mut dyn SummaryObserver,
) -> Vec<&'a mut dyn SummaryObserver> {
    observers.iter_mut().map(|observer| &mut **observer as _).chain([more]).collect()
}

/// Takes the file for writing. It has a lock of its own, because a training may hold the run's lock for days.
fn hold(path: &Path) -> sae_core::Result<File> {
    let path = path.with_extension("lock");
    let folder = path.parent().unwrap_or(&path);
    std::fs::create_dir_all(folder).map_err(sae_core::Error::io("make the folder", folder))?;
    let file = File::create(&path).map_err(sae_core::Error::io("create", &path))?;
    file.try_lock().map_err(|error| sae_core::Error::io("lock", &path)(error.into()))?;
    Ok(file)
}

/// Ends a reading of summaries once [`Cancel::cancel`] is called.
impl SummaryObserver for Cancel {
    fn observe_sample(&mut self, _: &SampleSummary) -> sae_core::Result<()> {
        self.check()
    }
}
