//! An autoencoder of a run: how a request names one, and how it is loaded together with its activations.

use crate::control::{Control, Stage};
use crate::roles::Kind;
use crate::{Error, Result};
use crate::{crosscoder, transcoder};
use burn::tensor::Device;
use sae_core::analysis::index::{FeatureRow, Index};
use sae_core::analysis::pass::{self, Observer};
use sae_core::autoencoder::formats::{self, Saved};
use sae_core::device::DeviceChoice;
use sae_core::store::{Hook, Store, run};
use sae_core::train::checkpoint;
use sae_core::{Run, file};
use serde::Serialize;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

/// Which autoencoder of which run, and where to compute.
#[derive(Clone, Debug)]
pub struct SaeChoice {
    /// The run folder.
    pub run: PathBuf,
    /// The name of the autoencoder; `None` chooses the only one of the run.
    pub sae: Option<String>,
    /// Where to compute.
    pub device: DeviceChoice,
}

impl SaeChoice {
    /// The only autoencoder of a run, on the best device there is.
    pub fn new(run: impl Into<PathBuf>) -> Self {
        Self { run: run.into(), sae: None, device: DeviceChoice::Auto }
    }

    /// Loads it with its activations.
    ///
    /// # Errors
    /// No such run, autoencoder or device; several autoencoders and no name; activations of another width; activations of pieces,
    /// which [`SaeChoice::load_with_pieces`] loads for callers that take account of them.
    pub fn load(&self) -> Result<LoadedSae> {
        let loaded = self.load_with_pieces()?;
        if loaded.store.paths().are_pieces() {
            return Err(sae_core::Error::Pieces { path: self.run.clone() }.into());
        }
        Ok(loaded)
    }

    /// Loads it with its activations, whose samples may be pieces that continue one another: for callers that look at single
    /// positions, or that pool along paths.
    ///
    /// # Errors
    /// As [`SaeChoice::load`], but for pieces.
    pub fn load_with_pieces(&self) -> Result<LoadedSae> {
        self.load_on(|| Ok(self.device.open()?))
    }

    fn load_on(&self, device: impl FnOnce() -> Result<Device>) -> Result<LoadedSae> {
        let run = Run::open(&self.run)?;
        let name = self.name(&run)?;
        let saved = formats::load(&run.sae_dir(&name))?;
        let store = crosscoder::store(&run, &saved.origin)?;
        check_width(&saved, &store)?;
        Ok(LoadedSae { run, name, saved, store, device: device()? })
    }

    /// The autoencoder that is named, or the only one that can be used.
    pub(crate) fn name(&self, run: &Run) -> Result<String> {
        let (finished, unfinished) = (run.saes(), run.unfinished_saes());
        let wanted = match &self.sae {
            Some(name) => unfinished.iter().find(|other| *other == name),
            None => unfinished.first().filter(|_| finished.is_empty()),
        };
        if let Some(name) = wanted {
            return Err(Error::Unfinished { name: name.clone(), step: last_step(run, name) });
        }
        choose(&self.sae, finished, Kind::Autoencoder)
    }
}

/// The step of the newest checkpoint of a training that has not been finished.
pub(crate) fn last_step(run: &Run, name: &str) -> Option<u64> {
    checkpoint::newest(&run.sae_dir(name).join("checkpoint")).and_then(|path| checkpoint::step_of(&path))
}

/// The name that was asked for, or the only one that is available.
pub(crate) fn choose(asked: &Option<String>, mut available: Vec<String>, kind: Kind) -> Result<String> {
    if let Some(name) = asked {
        run::check_name(name)?;
        if !available.contains(name) {
            return Err(Error::Unknown { kind, asked: name.clone(), available });
        }
        return Ok(name.clone());
    }
    match available.len() {
        0 => Err(Error::Missing { kind }),
        1 => Ok(available.remove(0)),
        _ => Err(Error::Ambiguous { kind, available }),
    }
}

/// Checks that the autoencoder reads the width of the activations.
pub(crate) fn check_width(saved: &Saved, store: &Store) -> Result<()> {
    let (sae, manifest) = (saved.weights.d_in, store.manifest());
    if store.models() == 1 {
        crosscoder::check_single(&saved.origin)?;
    }
    if let Some(target) = store.target() {
        transcoder::check_width(saved, target)?;
    }
    if sae != manifest.d_in {
        return Err(Error::StoreWidth { sae, activations: manifest.d_in, hook: manifest.hook.clone() });
    }
    Ok(())
}

/// An autoencoder of a run, with the activations that it reads.
///
/// ```no_run
/// use sae_core::analysis::eval::Evaluator;
/// use sae_workbench::control::Stage;
/// use sae_workbench::{Control, SaeChoice};
///
/// let sae = SaeChoice::new("demo-run").load()?;
/// let mut evaluator = Evaluator::new(&sae.saved.weights);
/// sae.observe(Stage::Evaluate, &mut [&mut evaluator], &mut Control::default())?;
/// println!("FVU {}", evaluator.report().all.fvu);
/// # Ok::<(), sae_workbench::Error>(())
/// ```
pub struct LoadedSae {
    /// The run.
    pub run: Run,
    /// The name of the autoencoder.
    pub name: String,
    /// The autoencoder.
    pub saved: Saved,
    /// The activations.
    pub store: Store,
    pub(crate) device: Device,
}

impl LoadedSae {
    /// The hooks that it reads and reconstructs: one, or that of the activations and that of a transcoder's target.
    pub(crate) fn hooks(&self) -> Result<Vec<Hook>> {
        transcoder::check_target(&self.run, &self.name, &self.saved, &self.store)?;
        Ok(std::iter::once(&self.store).chain(self.store.target()).map(Store::hook).collect())
    }

    /// Shows the autoencoder's activations on the whole store to observers, block by block.
    ///
    /// # Errors
    /// A file that cannot be trusted, values that are not finite, or whatever an observer returns; a request to stop.
    pub fn observe(&self, stage: Stage, observers: &mut [&mut dyn Observer], control: &mut Control) -> Result<()> {
        self.observe_store(&self.store, stage, observers, control)
    }

    /// [`LoadedSae::observe`] over another store of the same hook.
    pub(crate) fn observe_store(
        &self,
        store: &Store,
        stage: Stage,
        observers: &mut [&mut dyn Observer],
        control: &mut Control,
    ) -> Result<()> {
        self.observe_shards(store, 0..store.shards(), stage, observers, control)
    }

    /// [`LoadedSae::observe_store`] over some of the shards.
    pub(crate) fn observe_shards(
        &self,
        store: &Store,
        shards: Range<usize>,
        stage: Stage,
        observers: &mut [&mut dyn Observer],
        control: &mut Control,
    ) -> Result<()> {
        let rows: u64 = store.manifest().shards[shards.clone()].iter().map(|shard| shard.rows).sum();
        let mut staged = control.stage(stage, rows)?;
        let mut cancel = staged.cancel();
        let mut observers: Vec<&mut dyn Observer> = observers.iter_mut().map(|observer| &mut **observer as _).collect();
        observers.push(&mut cancel);
        let (order, mut progress): (Vec<usize>, _) = (shards.collect(), |rows| staged.show(rows));
        let weights = &self.saved.weights;
        Ok(pass::run_over(store, &order, weights, &self.device, &mut observers, &mut progress)?)
    }

    /// Other autoencoders of the same run, on the same device.
    ///
    /// # Errors
    /// One is this autoencoder, or is named twice; as [`SaeChoice::load_with_pieces`].
    pub(crate) fn beside(&self, names: &[String]) -> Result<Vec<Self>> {
        let mut known = BTreeSet::from([&self.name]);
        if let Some(name) = names.iter().find(|name| !known.insert(name)) {
            return Err(Error::Repeated { name: name.clone() });
        }
        let load = |name: &String| {
            let (run, sae) = (self.run.root().to_path_buf(), Some(name.clone()));
            SaeChoice { run, sae, device: DeviceChoice::Auto }.load_on(|| Ok(self.device.clone()))
        };
        names.iter().map(load).collect()
    }

    /// Hex BLAKE3 of the files of the autoencoder.
    pub(crate) fn files_blake3(&self) -> Result<String> {
        let folder = self.run.sae_dir(&self.name);
        let files = ["sae_weights.safetensors", "cfg.json"].map(|name| folder.join(name));
        let files = files.iter().filter(|path| path.exists());
        Ok(files.map(|path| file::hash(path)).collect::<sae_core::Result<Vec<String>>>()?.concat())
    }

    /// Where decoder directions are: the hook of the activations, or of a transcoder's target if its file names one that is captured.
    pub(crate) fn decoder_hook(&self) -> Option<Hook> {
        if self.saved.is_transcoder() { self.saved.origin.target.parse().ok() } else { Some(self.store.hook()) }
    }

    /// Whether decoder directions are vectors of the residual stream, or are added to it.
    pub(crate) fn decoder_is_in_stream(&self) -> bool {
        self.decoder_hook().is_some_and(|hook| hook.site().is_in_stream())
    }

    /// What an operation would work on.
    pub(crate) fn plan<T>(&self, command: &'static str, more: T) -> SaePlan<T> {
        let manifest = self.store.manifest();
        SaePlan {
            command,
            run: self.run.root().to_path_buf(),
            sae: self.name.clone(),
            hook: manifest.hook.clone(),
            tokens: manifest.rows,
            samples: manifest.samples,
            features: self.saved.weights.d_sae,
            more,
        }
    }
}

/// What an operation on an autoencoder would work on.
#[derive(Clone, Debug, Serialize)]
pub struct SaePlan<T> {
    /// The operation.
    pub command: &'static str,
    /// The run folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub run: PathBuf,
    /// The autoencoder.
    pub sae: String,
    /// The activations.
    pub hook: String,
    /// Their token positions.
    pub tokens: u64,
    /// Their samples.
    pub samples: u64,
    /// Features of the autoencoder.
    pub features: usize,
    /// What is particular to the operation.
    #[serde(flatten)]
    pub more: T,
}

/// The classes of an index that compares text and images, which need not have features.
const KNOWN: [&str; 4] = ["text", "image", "cross", "action"];

/// Which features of an index.
#[derive(Clone, Debug)]
pub struct FeatureChoice {
    /// These features; if there are none, the following two fields decide.
    pub features: Vec<u32>,
    /// Only those of this class: `text`, `image`, `cross` or `action`, or a name of the index's sides.
    pub class: Option<String>,
    /// At most this many, those with the largest cross-modal weight first.
    pub limit: usize,
}

impl FeatureChoice {
    /// The features that are named, or those of a class that fire at all.
    pub(crate) fn choose(&self, index: &Index) -> Result<Vec<u32>> {
        let rows = index.features();
        check_features(&self.features, rows.len(), "index")?;
        if !self.features.is_empty() {
            return Ok(self.features.iter().copied().collect::<BTreeSet<_>>().into_iter().collect());
        }
        let mut found: BTreeSet<&str> = KNOWN.into();
        found.extend(rows.iter().filter(|row| row.fires > 0).map(|row| row.class.as_str()));
        if let Some(asked) = self.class.as_ref().filter(|class| !found.contains(class.as_str())) {
            let available = found.into_iter().map(String::from).collect();
            return Err(Error::UnknownClass { asked: asked.clone(), available });
        }
        let fits = |row: &&FeatureRow| row.fires > 0 && self.class.as_ref().is_none_or(|class| row.class == *class);
        let weight = |row: &FeatureRow| row.weight_corrected.or(row.weight_paper).unwrap_or(f64::NEG_INFINITY);
        let mut fitting: Vec<&FeatureRow> = rows.iter().filter(fits).collect();
        fitting.sort_by(|a, b| {
            weight(b).total_cmp(&weight(a)).then(b.fires.cmp(&a.fires)).then(a.feature.cmp(&b.feature))
        });
        Ok(fitting.into_iter().take(self.limit).map(|row| row.feature).collect())
    }
}

/// Checks that features exist; `holder` is what has `count` of them.
pub(crate) fn check_features(features: &[u32], count: usize, holder: &'static str) -> Result<()> {
    match features.iter().find(|feature| **feature as usize >= count) {
        Some(feature) => Err(Error::UnknownFeature { feature: *feature, count, holder }),
        None => Ok(()),
    }
}
