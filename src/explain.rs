//! Explains the scores of samples: the weights that a cosine score adds up, and the components of `pmi` and `pmi_blank` with their
//! features. Works on one sample at a time, for programs that look at several after another.

use crate::sae::SaeChoice;
use crate::sample_activations::{SampleActivations, sample_of};
use crate::score::{fit_path, step_name};
use crate::{Error, Result};
use filters::align::align_samples;
use filters::definition::{Definition, Sides};
use filters::pmi::{self, BLANK_DIR, Explanation};
use filters::pooling::{PooledSample, PooledStore};
use filters::scaled_threshold;
use filters::score_names::{PMI, PMI_BLANK};
use sae_core::Run;
use sae_core::analysis::index::FeatureRow;
use sae_core::autoencoder::Encoder;
use sae_core::autoencoder::formats::Saved;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Which sample to explain.
#[derive(Clone, Debug)]
pub struct ExplainRequest {
    /// The autoencoder whose scores are explained.
    pub sae: SaeChoice,
    /// Key, id or number of the sample.
    pub sample: String,
}

/// Why a sample has its `pmi_blank`, or its `pmi` if the run has no pass with blank images.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainReport {
    /// The score and its components.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// The column that is explained.
    pub column: &'static str,
    /// The number of the sample.
    pub sample: u32,
    /// Its key.
    pub key: String,
    /// Its text.
    #[serde(skip)]
    pub text: String,
}

impl ExplainRequest {
    /// Explains the score.
    ///
    /// # Errors
    /// No such sample, a run without a fit, a sample without text or image.
    pub fn run(&self) -> Result<ExplainReport> {
        let sae = self.sae.load_with_pieces()?;
        let mut explainer = Explainer::open(&sae.run, &sae.name, &sae.saved)?;
        let (samples, paths) = (explainer.samples().samples()?, sae.store.paths());
        // All pieces of a row have its key; only those that no other continues have scores.
        let is_named = |n: &usize| samples[*n].key == self.sample || samples[*n].id == self.sample;
        let named = || (0..samples.len()).filter(is_named);
        let found = named().find(|n| paths.is_whole(*n as u32)).or_else(|| named().next());
        let number = found.or_else(|| self.sample.parse().ok().filter(|number| *number < samples.len()));
        let unknown = || Error::UnknownSample { asked: self.sample.clone(), samples: samples.len() };
        let number = number.ok_or_else(unknown)?;
        let (key, text) = (samples[number].key.clone(), paths.text(samples, number as u32));
        // `pmi_blank` is the better score, if the run has it.
        let column = if explainer.fit(PMI_BLANK).exists() { PMI_BLANK } else { PMI };
        if !explainer.fit(column).exists() {
            return Err(Error::NoFit { path: explainer.fit(column) });
        }
        let encoder = Encoder::new(&sae.saved.weights, &sae.device);
        let explanation = explainer.pmi(&encoder, number as u32, column)?;
        let explanation = explanation.ok_or_else(|| Error::NothingToExplain { sample: self.sample.clone(), column })?;
        Ok(ExplainReport { explanation, column, sample: number as u32, key, text })
    }
}

/// What a feature adds to a cosine score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightedFeature {
    /// The feature.
    pub feature: u32,
    /// Its cross-modal weight.
    pub weight: f64,
}

/// Explains the scores of a run's samples.
pub struct Explainer {
    scores: PathBuf,
    d_sae: usize,
    activations: SampleActivations,
    /// The same samples with blank images, if they were captured; or why they cannot be read, for example during a harvest.
    blank: Option<Result<SampleActivations, String>>,
    threshold: f32,
    sides: Sides,
}

impl Explainer {
    /// Opens the activations of a run for one of its autoencoders, which the caller has loaded.
    ///
    /// # Errors
    /// The run lacks the activations of the autoencoder.
    pub fn open(run: &Run, name: &str, saved: &Saved) -> Result<Self> {
        let samples = |root: &Path| SampleActivations::open(Run::open(root)?, &saved.origin.hook, saved.weights.d_in);
        let activations = samples(run.root())?;
        let blank = Some(run.root().join(BLANK_DIR)).filter(|root| root.is_dir());
        let blank = blank.map(|root| samples(&root).map_err(|error| format!("{}: {error}", root.display())));
        let scored: Option<Value> = run.read_step(&step_name(name))?;
        let sides = scored.as_ref().and_then(|step| step.get("sides")?.as_str()?.parse().ok()).unwrap_or_default();
        let threshold = scored.and_then(|step| Some(step.get("threshold")?.as_f64()? as f32));
        let threshold = threshold.unwrap_or_else(|| scaled_threshold(saved.weights.d_in));
        Ok(Self { scores: run.scores(name), d_sae: saved.weights.d_sae, activations, blank, threshold, sides })
    }

    /// The activations of the run itself.
    pub fn samples(&mut self) -> &mut SampleActivations {
        &mut self.activations
    }

    /// The file with the fit of a column.
    fn fit(&self, column: &str) -> PathBuf {
        fit_path(&self.scores, column)
    }

    /// The weights that the cosine score of a sample adds up, by definition. Empty for a sample without positions.
    ///
    /// # Errors
    /// The sample cannot be read.
    pub fn weights(
        &mut self,
        encoder: &Encoder,
        sample: u32,
        rows: &[FeatureRow],
    ) -> Result<Vec<(Definition, Vec<WeightedFeature>)>> {
        let store = self.activations.pooled(encoder, sample, self.d_sae, self.threshold, &self.sides)?;
        let Some(pooled) = sample_of(&store, sample as usize)? else { return Ok(Vec::new()) };
        let explained = Definition::ALL.map(|definition| {
            let counted = pooled.active(definition).filter(|(_, on)| definition != Definition::Release || on.both());
            let weighted = counted.filter_map(|(feature, _)| {
                let weight = weight(rows.get(feature as usize)?, definition)?;
                Some(WeightedFeature { feature, weight })
            });
            (definition, weighted.collect())
        });
        Ok(explained.into())
    }

    /// The components of a sample's `pmi` or `pmi_blank`. `None` without a fit, and for a sample without text or image.
    ///
    /// # Errors
    /// The sample or the fit cannot be read, or the fit is of another autoencoder.
    pub fn pmi(&mut self, encoder: &Encoder, sample: u32, column: &str) -> Result<Option<Explanation>> {
        let path = self.fit(column);
        if !path.is_file() {
            return Ok(None);
        }
        let store = self.activations.pooled(encoder, sample, self.d_sae, self.threshold, &self.sides)?;
        let pooled = if column == PMI { Some(store) } else { self.with_blank(encoder, sample, &store)? };
        let pooled: Option<PooledSample> = match pooled {
            Some(pooled) => sample_of(&pooled, sample as usize)?,
            None => None,
        };
        let Some(pooled) = pooled else { return Ok(None) };
        let folds = pmi::read(&path)?;
        if folds.whole.chosen.features.iter().flatten().any(|feature| *feature as usize >= self.d_sae) {
            return Err(Error::OtherFit { path });
        }
        Ok(pmi::explain(folds.fit_for(self.activations.sample(sample)?), &pooled))
    }

    /// The image of a sample with its text as the model reads it with a blank image, if that was captured.
    fn with_blank(&mut self, encoder: &Encoder, sample: u32, store: &PooledStore) -> Result<Option<PooledStore>> {
        let Some(blank) = &mut self.blank else { return Ok(None) };
        let blank = blank.as_mut().map_err(|cause| sae_core::Error::config(cause.as_str()))?;
        let (number, known, others) = (sample as usize, self.activations.sample(sample)?, blank.samples()?);
        // Usually both runs give a sample the same number. Searching for one costs as much as searching for all.
        let same = others.get(number).filter(|o| (&o.source, &o.key) == (&known.source, &known.key));
        let found = same.map(|_| number).or_else(|| align_samples(std::slice::from_ref(known), others)[0]);
        let Some(other) = found else { return Ok(None) };
        let texts = blank.pooled(encoder, other as u32, self.d_sae, self.threshold, &self.sides)?;
        let mut pair = vec![None; number + 1];
        pair[number] = Some(other);
        Ok(Some(store.with_text(&texts, &pair, &std::env::temp_dir())?))
    }
}

/// The cross-modal weight of a feature by a definition.
pub(crate) fn weight(row: &FeatureRow, definition: Definition) -> Option<f64> {
    match definition {
        Definition::Paper => row.weight_paper,
        Definition::Release => row.weight_release,
        Definition::Corrected => row.weight_corrected,
    }
}
