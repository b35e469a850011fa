//! Models that read the same samples, compared by one autoencoder: what every such comparison asks, plans and writes. A crosscoder
//! shows which features belong to one model ([`ownership`]); an autoencoder of one model is shown the others ([`series`]). Trains
//! nothing.

mod checkpoints;
mod distances;
mod fits;
pub mod ownership;
pub mod patch;
pub mod series;

pub use checkpoints::Checkpoints;
pub use distances::BaseDistance;
pub use fits::ModelFit;
pub use ownership::{OwnershipReport, OwnershipRequest};
pub use patch::{PatchReport, PatchRequest};
pub use series::{SeriesReport, SeriesRequest};

use crate::Result;
use crate::sae::{LoadedSae, SaeChoice, SaePlan};
use filters::select::Groups;
use sae_core::analysis::latent_scaling::BUCKETS;
use sae_core::autoencoder::formats;
use sae_core::device::DeviceChoice;
use sae_core::store::run::{SCHEMA_VERSION, check_name};
use sae_core::store::{Store, load_samples};
use sae_core::{Run, file, path_text, random};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Which models are compared, by which autoencoder, and under which name.
#[derive(Clone, Debug)]
pub struct ModelsChoice {
    /// The runs of the models on the same samples. The first has the autoencoder, and is what the others are compared with.
    pub runs: Vec<PathBuf>,
    /// The autoencoder; `None` chooses the only one of the first run.
    pub sae: Option<String>,
    /// The name of the contrast in the run; `None` is `models`.
    pub name: Option<String>,
    /// Field of clusters: samples of one value may depend on each other. `None` is each sample by itself.
    pub cluster: Option<String>,
    /// Where to compute.
    pub device: DeviceChoice,
}

/// What a comparison would do.
pub type ModelsPlan = SaePlan<ModelsDetails>;

/// What is particular to a comparison of models.
#[derive(Clone, Debug, Serialize)]
pub struct ModelsDetails {
    /// The name of the contrast.
    pub name: String,
    /// The checkpoints that are compared, the reference first.
    pub models: Vec<String>,
}

/// What a comparison of models found: `contrast.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelsReport<T> {
    /// The version of the files.
    pub schema_version: u32,
    /// The name of the contrast.
    pub name: String,
    /// The runs, in the order of the models.
    #[serde(serialize_with = "path_text::serialize", deserialize_with = "paths")]
    pub runs: Vec<PathBuf>,
    /// The autoencoder.
    pub sae: String,
    /// How well it reconstructs each model, the reference first.
    pub models: Vec<ModelFit>,
    /// What is particular to the kind of comparison.
    #[serde(flatten)]
    pub found: T,
    /// The folder with the files.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Paths that [`path_text::serialize`] wrote.
fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<PathBuf>, D::Error> {
    Ok(Vec::<String>::deserialize(deserializer)?.iter().map(|text| path_text::decode(text)).collect())
}

impl ModelsChoice {
    /// The models of these runs, by the only autoencoder of the first.
    pub fn new(runs: Vec<PathBuf>) -> Self {
        Self { runs, sae: None, name: None, cluster: None, device: DeviceChoice::Auto }
    }

    /// Whether the autoencoder is a crosscoder. If it is not, it reads one model, and [`SeriesRequest`] shows it the others.
    ///
    /// # Errors
    /// No such run or autoencoder.
    pub fn is_of_crosscoder(&self) -> Result<bool> {
        let choice = self.choice(&self.sae);
        let run = Run::open(&choice.run)?;
        Ok(!formats::load(&run.sae_dir(&choice.name(&run)?))?.origin.models.is_empty())
    }

    /// The name of the contrast.
    fn name(&self) -> Result<String> {
        let name = self.name.clone().unwrap_or_else(|| "models".into());
        check_name(&name)?;
        Ok(name)
    }

    /// An autoencoder of the first run.
    fn choice(&self, sae: &Option<String>) -> SaeChoice {
        let run = self.runs.first().cloned().unwrap_or_default();
        SaeChoice { run, sae: sae.clone(), device: self.device }
    }

    /// The same, loaded.
    fn load(&self, sae: &Option<String>) -> Result<LoadedSae> {
        // A name that cannot be used is rejected before any work.
        self.name()?;
        self.choice(sae).load()
    }

    fn plan(&self, sae: &LoadedSae, models: Vec<String>) -> Result<ModelsPlan> {
        Ok(sae.plan("contrast", ModelsDetails { name: self.name()?, models }))
    }

    /// The bucket of each sample, the same for all samples of a cluster.
    fn buckets(&self, sae: &LoadedSae) -> Result<Vec<u8>> {
        let samples = load_samples(&sae.run)?;
        let bucket = |name: &str| (random::mix(random::fnv1a(name.bytes())) % BUCKETS as u64) as u8;
        let Some(field) = &self.cluster else {
            return Ok(samples.iter().map(|sample| bucket(&sample.id)).collect());
        };
        let Groups { names, of } = crate::contrast::group(&samples, field)?;
        Ok(of.iter().map(|group| bucket(&names[*group as usize])).collect())
    }

    /// Writes what was found into the run. `table` writes the table that belongs beside it into the folder.
    fn write<T: Serialize>(
        &self,
        sae: &LoadedSae,
        models: Vec<ModelFit>,
        found: T,
        table: impl FnOnce(&Path, &T) -> sae_core::Result<()>,
    ) -> Result<ModelsReport<T>> {
        let name = self.name()?;
        let folder = sae.run.root().join("contrasts").join(&name);
        let _lock = sae.run.lock()?;
        std::fs::create_dir_all(&folder).map_err(sae_core::Error::io("make the folder", &folder))?;
        table(&folder, &found)?;
        let (runs, sae_name) = (self.runs.clone(), sae.name.clone());
        let report = ModelsReport { schema_version: SCHEMA_VERSION, name, runs, sae: sae_name, models, found, folder };
        file::write_json(&report.folder.join("contrast.json"), &report)?;
        let step = json!({ "sae": report.sae, "models": report.models });
        sae.run.write_step(&format!("contrast/{}", report.name), &step)?;
        Ok(report)
    }
}

/// Whether two models of a joined store have the same states, bit by bit.
fn has_same_states(store: &Store, a: usize, b: usize) -> bool {
    let hashes = store.content_hashes();
    hashes[a] == hashes[b]
}
