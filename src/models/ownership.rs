//! What differs between models that read the same samples: which features of a crosscoder belong to one of them. One pass of the
//! encoder, and latent scaling ([`sae_core::analysis::latent_scaling`]). Trains nothing.

use super::fits::Fits;
use super::patch::{PatchReport, PatchRequest};
use super::{ModelFit, ModelsChoice, ModelsPlan, ModelsReport, has_same_states};
use crate::Result;
use crate::control::{Control, Stage};
use crate::error::ModelsError;
use crate::sae::LoadedSae;
use crate::unknown;
use sae_core::analysis::latent_scaling::{LatentScaling, Ownership, ScaledFeature, write_ownership};
use sae_core::store::{PositionFilter, Store};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Own features of a model that a report names.
const NAMED: usize = 20;

/// Which features of a crosscoder belong to one of its models?
#[derive(Clone, Debug)]
pub struct OwnershipRequest {
    /// The models. Each is compared with the first.
    pub models: ModelsChoice,
    /// A crosscoder of the first run that was trained in the same way on one model twice: by how much its features seem to differ
    /// is what chance and training make of equal models.
    pub null: Option<String>,
    /// Features to move the states of the first model by, and the models; `None` runs no model.
    pub patch: Option<PatchRequest>,
}

/// What differs between models.
pub type OwnershipReport = ModelsReport<OwnershipFound>;

/// What is particular to a comparison by a crosscoder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnershipFound {
    /// Each comparison with the reference.
    pub pairs: Vec<PairReport>,
    /// The same for the crosscoder of one model with itself, if one was named.
    pub null: Option<Vec<PairReport>>,
    /// What the second model predicts from states of the first that features moved.
    pub patch: Option<PatchReport>,
    /// Every feature that fires, for each pair and each of its models.
    #[serde(skip)]
    pub features: Vec<ScaledFeature>,
    /// Those of the null row, with the names of its models.
    #[serde(skip)]
    pub null_features: Option<(Vec<String>, Vec<ScaledFeature>)>,
}

/// How two models differ.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OwnFeatures {
    /// Features that are its own.
    pub own: usize,
    /// Features for which this is uncertain.
    pub uncertain: usize,
    /// Those with the most firings.
    pub strongest: Vec<OwnFeature>,
}

/// A feature of one model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnFeature {
    /// The feature.
    pub feature: u32,
    /// Positions on which it fires.
    pub firings: u64,
    /// `nu_error` with its interval.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub nu_error: [f64; 3],
    /// `nu_reconstruction` with its interval.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub nu_reconstruction: [f64; 3],
    /// The relative norm.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub delta: f64,
    /// The share of its activation on template tokens.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub template_share: f64,
    /// The share of its activation on first positions.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub first_share: f64,
}

impl OwnershipRequest {
    /// What [`OwnershipRequest::run`] would do.
    ///
    /// # Errors
    /// No such run or crosscoder; an autoencoder that is not a crosscoder, or a crosscoder of other runs.
    pub fn plan(&self) -> Result<ModelsPlan> {
        let sae = self.load(&self.models.sae)?;
        let numbers = self.numbers(&sae)?;
        if let Some(patch) = &self.patch {
            patch.plans(&sae, &numbers, &self.models.runs, None)?;
        }
        let name = |model: usize| sae.saved.origin.models[model].model.clone();
        self.models.plan(&sae, numbers.into_iter().map(name).collect())
    }

    /// Compares the models, and writes `models.parquet`, `null.parquet` if there is a null row, and `contrast.json`.
    ///
    /// # Errors
    /// As [`OwnershipRequest::plan`]; a field of clusters that no row has; files that cannot be read or written; a request to
    /// stop.
    pub fn run(&self, control: &mut Control) -> Result<OwnershipReport> {
        let sae = self.load(&self.models.sae)?;
        let numbers = self.numbers(&sae)?;
        let prepared = match &self.patch {
            Some(patch) => Some((patch, patch.plans(&sae, &numbers, &self.models.runs, Some(control))?)),
            None => None,
        };
        let found = self.compare(&sae, &numbers, control)?;
        let patch = prepared.map(|(patch, plans)| {
            let own: Vec<u32> = own_features(&found.features, 1, 0).iter().map(|row| row.feature).collect();
            patch.run(&sae, &plans, &position_filter(&sae)?, &own, control)
        });
        let null = self.null.as_ref().map(|null| {
            let sae = self.load(&Some(null.clone()))?;
            let all: Vec<usize> = (0..sae.saved.origin.models.len()).collect();
            Ok::<_, crate::Error>((model_names(&sae), self.compare(&sae, &all, control)?))
        });
        let null = null.transpose()?.map(|(names, null)| (null.pairs, (names, null.features)));
        let (null, null_features) = null.unzip();
        let names = model_names(&sae);
        let (fits, pairs, features) = (found.fits, found.pairs, found.features);
        self.models.write(
            &sae,
            fits,
            OwnershipFound { pairs, null, patch: patch.transpose()?, features, null_features },
            |folder, found| {
                let null = folder.join("null.parquet");
                match &found.null_features {
                    Some((names, features)) => write_ownership(&null, names, features)?,
                    None if null.exists() => {
                        std::fs::remove_file(&null).map_err(sae_core::Error::io("remove", &null))?;
                    }
                    None => {}
                }
                write_ownership(&folder.join("models.parquet"), &names, &found.features)
            },
        )
    }

    fn load(&self, sae: &Option<String>) -> Result<LoadedSae> {
        let sae = self.models.load(sae)?;
        if sae.saved.origin.models.is_empty() {
            return Err(ModelsError::NoCrosscoder { name: sae.name }.into());
        }
        Ok(sae)
    }

    /// The number of each run's model in the crosscoder.
    fn numbers(&self, sae: &LoadedSae) -> Result<Vec<usize>> {
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
        self.models.runs.iter().map(number).collect()
    }

    /// Compares models of a crosscoder, each with the first of them.
    fn compare(&self, sae: &LoadedSae, models: &[usize], control: &mut Control) -> Result<Comparison> {
        let weights = &sae.saved.weights;
        let scales: Vec<f32> = sae.saved.origin.models.iter().map(|model| model.scale).collect();
        let pairs: Vec<[usize; 2]> = models[1..].iter().map(|model| [models[0], *model]).collect();
        let same: Vec<bool> = pairs.iter().map(|[a, b]| has_same_states(&sae.store, *a, *b)).collect();
        let measured: Vec<[usize; 2]> =
            pairs.iter().zip(&same).filter(|(_, same)| !**same).map(|(pair, _)| *pair).collect();
        let filter = position_filter(sae)?;
        let buckets = self.models.buckets(sae)?;
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

/// What was found about the models of a crosscoder.
struct Comparison {
    fits: Vec<ModelFit>,
    pairs: Vec<PairReport>,
    features: Vec<ScaledFeature>,
}

/// The names of the models of a crosscoder.
fn model_names(sae: &LoadedSae) -> Vec<String> {
    sae.saved.origin.models.iter().map(|stream| stream.model.clone()).collect()
}

/// The positions that the crosscoder was trained on.
fn position_filter(sae: &LoadedSae) -> Result<PositionFilter> {
    Ok(PositionFilter::new(&sae.store, crate::eval::trained_without(sae)?)?)
}

/// The features that belong to a model and not to the reference, those that fire most first.
fn own_features(features: &[ScaledFeature], model: usize, reference: usize) -> Vec<&ScaledFeature> {
    let of_pair = features.iter().filter(|row| (row.model, row.reference) == (model, reference));
    let mut own: Vec<&ScaledFeature> = of_pair.filter(|row| row.ownership() == Ownership::Own).collect();
    own.sort_by(|a, b| b.firings.cmp(&a.firings).then(a.feature.cmp(&b.feature)));
    own
}

impl OwnFeatures {
    fn new(features: &[ScaledFeature], model: usize, reference: usize) -> Self {
        let own = own_features(features, model, reference);
        let of_pair = features.iter().filter(|row| (row.model, row.reference) == (model, reference));
        let uncertain = of_pair.filter(|row| row.ownership() == Ownership::Uncertain).count();
        let describe = |row: &&ScaledFeature| OwnFeature {
            feature: row.feature,
            firings: row.firings,
            nu_error: row.nu_error.triple(),
            nu_reconstruction: row.nu_reconstruction.triple(),
            delta: row.delta,
            template_share: row.template_share,
            first_share: row.first_share,
        };
        Self { own: own.len(), uncertain, strongest: own.iter().take(NAMED).map(describe).collect() }
    }
}
