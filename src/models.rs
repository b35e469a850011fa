//! What differs between models that read the same samples: which features of a crosscoder belong to one of them. One pass of the
//! encoder, and latent scaling ([`sae_core::analysis::latent_scaling`]). Trains nothing.

use crate::Result;
use crate::control::{Control, Stage};
use crate::error::ModelsError;
use crate::sae::{LoadedSae, SaeChoice, SaePlan};
use filters::select::Groups;
use sae_core::analysis::latent_scaling::{BUCKETS, LatentScaling, Ownership, Ratio, ScaledFeature, write_ownership};
use sae_core::analysis::pass::{Block, Observer};
use sae_core::autoencoder::{Weights, formats};
use sae_core::device::DeviceChoice;
use sae_core::store::run::check_name;
use sae_core::store::{PositionFilter, Store, load_samples};
use sae_core::{Run, file, path_text, random};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Own features of a model that a report names.
const NAMED: usize = 20;

/// Which models to compare.
#[derive(Clone, Debug)]
pub struct ModelContrastRequest {
    /// The runs of the models, the first of which has the crosscoder. Each other model is compared with the first.
    pub runs: Vec<PathBuf>,
    /// The crosscoder; `None` chooses the only autoencoder of the first run.
    pub sae: Option<String>,
    /// A crosscoder of the first run that was trained in the same way on one model twice: by how much its features seem to differ
    /// is what chance and training make of equal models.
    pub null: Option<String>,
    /// The name of the contrast in the run; `None` is `models`.
    pub name: Option<String>,
    /// Field of clusters: samples of one value may depend on each other. `None` is each sample by itself.
    pub cluster: Option<String>,
    /// Where to compute.
    pub device: DeviceChoice,
}

/// What a comparison would do.
pub type ModelContrastPlan = SaePlan<ModelContrastDetails>;

/// What is particular to a comparison of models.
#[derive(Clone, Debug, Serialize)]
pub struct ModelContrastDetails {
    /// The name of the contrast.
    pub name: String,
    /// The checkpoints that are compared, the reference first.
    pub models: Vec<String>,
}

/// What differs between models: `contrast.json`.
#[derive(Clone, Debug, Serialize)]
pub struct ModelContrastReport {
    /// The version of the files.
    pub schema_version: u32,
    /// The name of the contrast.
    pub name: String,
    /// The runs, in the order of the models.
    #[serde(serialize_with = "path_text::serialize")]
    pub runs: Vec<PathBuf>,
    /// The crosscoder.
    pub sae: String,
    /// The models, the reference first.
    pub models: Vec<ModelFit>,
    /// Each comparison with the reference.
    pub pairs: Vec<PairReport>,
    /// The same for the crosscoder of one model with itself, if one was named.
    pub null: Option<Vec<PairReport>>,
    /// Every feature that fires, for each pair and each of its models.
    #[serde(skip)]
    pub features: Vec<ScaledFeature>,
    /// Those of the null row.
    #[serde(skip)]
    pub null_features: Vec<ScaledFeature>,
    /// The folder with the table.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// How well an autoencoder or a crosscoder reconstructs the states of a model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelFit {
    /// The checkpoint.
    pub model: String,
    /// The share of the variance of its states that is unexplained, on the positions of the training.
    pub fvu: f64,
}

/// How two models differ.
#[derive(Clone, Debug, Serialize)]
pub struct PairReport {
    /// The number of the reference.
    pub reference: usize,
    /// The number of the model that is compared with it.
    pub model: usize,
    /// Whether both have the same states, bit by bit. Then no feature belongs to one of them, and none is measured.
    pub same_model: bool,
    /// What belongs to the model.
    pub of_model: OwnFeatures,
    /// What belongs to the reference.
    pub of_reference: OwnFeatures,
}

/// The features of one model that the other lacks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OwnFeatures {
    /// Features that are its own.
    pub own: usize,
    /// Features for which this is uncertain.
    pub uncertain: usize,
    /// Those with the most firings.
    pub strongest: Vec<OwnFeature>,
}

/// A feature of one model.
#[derive(Clone, Debug, Serialize)]
pub struct OwnFeature {
    /// The feature.
    pub feature: u32,
    /// Positions on which it fires.
    pub firings: u64,
    /// `nu_error` with its interval.
    pub nu_error: [f64; 3],
    /// `nu_reconstruction` with its interval.
    pub nu_reconstruction: [f64; 3],
    /// The relative norm.
    pub delta: f64,
    /// The share of its activation on template tokens.
    pub template_share: f64,
    /// The share of its activation on first positions.
    pub first_share: f64,
}

impl ModelContrastRequest {
    /// Whether the autoencoder is a crosscoder; if it reads one model, [`SeriesRequest`](crate::series::SeriesRequest) shows it the
    /// others.
    ///
    /// # Errors
    /// No such run or autoencoder.
    pub fn is_of_crosscoder(&self) -> Result<bool> {
        let run = Run::open(self.runs.first().map_or(Path::new(""), PathBuf::as_path))?;
        let choice = SaeChoice { run: run.root().to_path_buf(), sae: self.sae.clone(), device: self.device };
        Ok(!formats::load(&run.sae_dir(&choice.name(&run)?))?.origin.models.is_empty())
    }

    /// What [`ModelContrastRequest::run`] would do.
    ///
    /// # Errors
    /// No such run or crosscoder; an autoencoder that is not a crosscoder, or a crosscoder of other runs.
    pub fn plan(&self) -> Result<ModelContrastPlan> {
        let (name, sae) = (self.name()?, self.load(&self.sae)?);
        let models = self.models(&sae)?;
        let model = |model: &usize| sae.saved.origin.models[*model].model.clone();
        Ok(sae.plan("contrast", ModelContrastDetails { name, models: models.iter().map(model).collect() }))
    }

    /// Compares the models, and writes `models.parquet` and `contrast.json`.
    ///
    /// # Errors
    /// As [`ModelContrastRequest::plan`]; a field of clusters that no row has; files that cannot be read or written; a request to
    /// stop.
    pub fn run(&self, control: &mut Control) -> Result<ModelContrastReport> {
        let (name, sae) = (self.name()?, self.load(&self.sae)?);
        let models = self.models(&sae)?;
        let found = self.compare(&sae, &models, control)?;
        let null = match &self.null {
            Some(null) => {
                let sae = self.load(&Some(null.clone()))?;
                let all: Vec<usize> = (0..sae.saved.origin.models.len()).collect();
                Some(self.compare(&sae, &all, control)?)
            }
            None => None,
        };
        let folder = sae.run.root().join("contrasts").join(&name);
        let _lock = sae.run.lock()?;
        std::fs::create_dir_all(&folder).map_err(sae_core::Error::io("make the folder", &folder))?;
        let names: Vec<String> = sae.saved.origin.models.iter().map(|stream| stream.model.clone()).collect();
        write_ownership(&folder.join("models.parquet"), &names, &found.features)?;
        let report = ModelContrastReport {
            schema_version: sae_core::store::run::SCHEMA_VERSION,
            name,
            runs: self.runs.clone(),
            sae: sae.name.clone(),
            models: found.fits,
            pairs: found.pairs,
            features: found.features,
            null_features: null.as_ref().map(|null| null.features.clone()).unwrap_or_default(),
            null: null.map(|null| null.pairs),
            folder,
        };
        file::write_json(&report.folder.join("contrast.json"), &report)?;
        let own: usize = report.pairs.iter().map(|pair| pair.of_model.own + pair.of_reference.own).sum();
        let step = json!({ "sae": report.sae, "models": report.models, "own": own });
        sae.run.write_step(&format!("contrast/{}", report.name), &step)?;
        Ok(report)
    }

    fn name(&self) -> Result<String> {
        let name = self.name.clone().unwrap_or_else(|| "models".into());
        check_name(&name)?;
        Ok(name)
    }

    fn load(&self, sae: &Option<String>) -> Result<LoadedSae> {
        let run = self.runs.first().cloned().unwrap_or_default();
        let sae = SaeChoice { run, sae: sae.clone(), device: self.device }.load()?;
        if sae.saved.origin.models.is_empty() {
            return Err(ModelsError::NoCrosscoder { name: sae.name }.into());
        }
        Ok(sae)
    }

    /// The number of each run's model in the crosscoder.
    fn models(&self, sae: &LoadedSae) -> Result<Vec<usize>> {
        let same = |a: &Path, b: &Path| match (a.canonicalize(), b.canonicalize()) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        };
        let stores: Vec<&Store> = std::iter::once(&sae.store).chain(sae.store.others()).collect();
        let number = |run: &PathBuf| {
            let known = stores.iter().position(|store| same(store.run().root(), run));
            let available = || stores.iter().map(|store| store.run().root().to_path_buf()).collect();
            known.ok_or_else(|| ModelsError::RunOfNoModel { run: run.clone(), available: available() }.into())
        };
        self.runs.iter().map(number).collect()
    }

    /// Compares models of a crosscoder, each with the first of them.
    fn compare(&self, sae: &LoadedSae, models: &[usize], control: &mut Control) -> Result<Comparison> {
        let weights = &sae.saved.weights;
        let scales: Vec<f32> = sae.saved.origin.models.iter().map(|model| model.scale).collect();
        let pairs: Vec<[usize; 2]> = models[1..].iter().map(|model| [models[0], *model]).collect();
        let same: Vec<bool> = pairs.iter().map(|[a, b]| has_same_states(&sae.store, *a, *b)).collect();
        let measured: Vec<[usize; 2]> =
            pairs.iter().zip(&same).filter(|(_, same)| !**same).map(|(pair, _)| *pair).collect();
        let filter = PositionFilter::new(&sae.store, crate::eval::trained_without(sae)?)?;
        let buckets = buckets(sae, self.cluster.as_deref())?;
        let mut fits = Fits::new(weights, scales.len(), filter.clone());
        let mut scaling = LatentScaling::new(weights, &scales, &measured, filter, &buckets);
        sae.observe(Stage::Features, &mut [&mut scaling, &mut fits], control)?;
        let features = scaling.features();
        let report = |([reference, model], same): (&[usize; 2], &bool)| PairReport {
            reference: *reference,
            model: *model,
            same_model: *same,
            of_model: OwnFeatures::new(&features, *model, *reference),
            of_reference: OwnFeatures::new(&features, *reference, *model),
        };
        let pairs = pairs.iter().zip(&same).map(report).collect();
        let fvu = fits.fvu();
        let fit = |model: &usize| ModelFit { model: sae.saved.origin.models[*model].model.clone(), fvu: fvu[*model] };
        Ok(Comparison { fits: models.iter().map(fit).collect(), pairs, features })
    }
}

/// The bucket of each sample, the same for all samples of a cluster.
pub(crate) fn buckets(sae: &LoadedSae, cluster: Option<&str>) -> Result<Vec<u8>> {
    let samples = load_samples(&sae.run)?;
    let bucket = |name: &str| (random::mix(random::fnv1a(name.bytes())) % BUCKETS as u64) as u8;
    let Some(field) = cluster else {
        return Ok(samples.iter().map(|sample| bucket(&sample.id)).collect());
    };
    let Groups { names, of } = crate::contrast::group(&samples, field)?;
    Ok(of.iter().map(|group| bucket(&names[*group as usize])).collect())
}

/// What was found about the models of a crosscoder.
struct Comparison {
    fits: Vec<ModelFit>,
    pairs: Vec<PairReport>,
    features: Vec<ScaledFeature>,
}

/// Whether two models of a joined store have the same states, by the hashes of their shards.
pub(crate) fn has_same_states(store: &Store, a: usize, b: usize) -> bool {
    let shards = |model: usize| {
        let store = if model == 0 { store } else { &store.others()[model - 1] };
        store.manifest().shards.iter().map(|shard| &shard.blake3).collect::<Vec<_>>()
    };
    shards(a) == shards(b)
}

impl OwnFeatures {
    fn new(features: &[ScaledFeature], model: usize, reference: usize) -> Self {
        let of_pair = || features.iter().filter(|row| (row.model, row.reference) == (model, reference));
        let mut own: Vec<&ScaledFeature> = of_pair().filter(|row| row.ownership() == Ownership::Own).collect();
        own.sort_by(|a, b| b.firings.cmp(&a.firings).then(a.feature.cmp(&b.feature)));
        let uncertain = of_pair().filter(|row| row.ownership() == Ownership::Uncertain).count();
        let triple = |ratio: Ratio| [ratio.value, ratio.lo, ratio.hi];
        let describe = |row: &&ScaledFeature| OwnFeature {
            feature: row.feature,
            firings: row.firings,
            nu_error: triple(row.nu_error),
            nu_reconstruction: triple(row.nu_reconstruction),
            delta: row.delta,
            template_share: row.template_share,
            first_share: row.first_share,
        };
        Self { own: own.len(), uncertain, strongest: own.iter().take(NAMED).map(describe).collect() }
    }
}

/// Sums of errors and of variances for each model.
pub(crate) struct Fits<'a> {
    weights: &'a Weights,
    filter: PositionFilter,
    positions: f64,
    errors: Vec<f64>,
    squares: Vec<f64>,
    /// `[d_in]`
    sums: Vec<f64>,
}

impl<'a> Fits<'a> {
    pub fn new(weights: &'a Weights, models: usize, filter: PositionFilter) -> Self {
        let zeros = vec![0.0; models];
        Self { weights, filter, positions: 0.0, errors: zeros.clone(), squares: zeros, sums: vec![0.0; weights.d_in] }
    }

    /// The share of each model's variance that is unexplained.
    pub fn fvu(&self) -> Vec<f64> {
        let width = self.sums.len() / self.errors.len();
        let explained =
            self.sums.chunks_exact(width).map(|sums| sums.iter().map(|s| s * s / self.positions).sum::<f64>());
        let parts = self.errors.iter().zip(&self.squares).zip(explained);
        parts.map(|((error, squares), mean)| error / (squares - mean)).collect()
    }
}

impl Observer for Fits<'_> {
    fn observe(&mut self, block: &Block) -> sae_core::Result<()> {
        let (d, width) = (self.sums.len(), self.sums.len() / self.errors.len());
        let mut hat = vec![0f32; d];
        for (r, row) in block.positions() {
            let x = &block.hidden[r * d..(r + 1) * d];
            if self.filter.reasons(block.tokens.special[row], block.tokens.position[row], x) != [false; 3] {
                continue;
            }
            let (features, values) = block.active.row(r);
            self.weights.decode(x, features, values, &mut hat);
            self.positions += 1.0;
            self.sums.iter_mut().zip(x).for_each(|(sum, v)| *sum += f64::from(*v));
            let blocks = x.chunks_exact(width).zip(hat.chunks_exact(width));
            for ((x, hat), (error, squares)) in blocks.zip(self.errors.iter_mut().zip(&mut self.squares)) {
                for (x, hat) in x.iter().zip(hat) {
                    *error += f64::from(x - hat).powi(2);
                    *squares += f64::from(*x).powi(2);
                }
            }
        }
        Ok(())
    }
}
