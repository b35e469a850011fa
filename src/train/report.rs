//! What a training would do, and what it did. Trains nothing.

use crate::unknown;
use harvest::{Preview, Shard};
use sae_core::train::{StepLog, TrainConfig};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use std::path::PathBuf;

/// What a training would do.
#[derive(Clone, Debug, Serialize)]
pub struct TrainPlan {
    /// `train`.
    pub command: &'static str,
    /// Width of the residual stream.
    pub d_in: usize,
    /// Features of the first autoencoder.
    pub d_sae: usize,
    /// Configuration of the first autoencoder.
    pub config: TrainConfig,
    /// Configurations of all autoencoders.
    pub autoencoders: Vec<NamedConfig>,
    /// The model and its data, if activations are not stored.
    pub data: Option<Preview>,
    /// The checkpoint that the training would continue from.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub resume: Option<PathBuf>,
    /// The report, if everything is finished already and nothing would be done.
    #[serde(skip)]
    pub finished: Option<TrainReport>,
}

/// An autoencoder that is to be trained.
#[derive(Clone, Debug, Serialize)]
pub struct NamedConfig {
    /// Its name.
    pub name: String,
    /// Its configuration.
    pub config: TrainConfig,
}

/// The measurements of the last step of a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastStep {
    /// Steps.
    pub steps: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// The loss of the batch.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub loss: f64,
    /// Its squared error, summed over dimensions.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub mse: f64,
    /// Active features per token.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub l0: f64,
    /// Fraction of the batch's variance that is unexplained.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub fvu: f64,
    /// Share of features that have not fired within the dead window.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub dead: f64,
}

impl From<&StepLog> for LastStep {
    fn from(step: &StepLog) -> Self {
        let StepLog { step: steps, tokens, loss, mse, l0, fvu, dead, .. } = *step;
        Self { steps, tokens, loss, mse, l0, fvu, dead }
    }
}

/// A trained autoencoder.
#[derive(Clone, Debug)]
pub struct TrainedSae {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Number of features.
    pub d_sae: usize,
    /// The measurements of its last step.
    pub last: LastStep,
}

/// What was trained. As JSON: the last step of a single autoencoder, or `autoencoders` with the last step of each by name. Of a process
/// that did not write, `rank` and `autoencoders`.
#[derive(Clone, Debug)]
pub struct TrainReport {
    /// The autoencoders.
    pub saes: Vec<TrainedSae>,
    /// Whether an earlier call had finished all of them.
    pub finished_before: bool,
    /// Which of several processes this one was, if it is not the one that has written them.
    pub rank: Option<Shard>,
}

impl Serialize for TrainReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if let Some(rank) = self.rank {
            let mut map = serializer.serialize_map(Some(2))?;
            map.serialize_entry("rank", &rank.to_string())?;
            map.serialize_entry("autoencoders", &ByName(&self.saes))?;
            return map.end();
        }
        if let [sae] = &self.saes[..] {
            return sae.last.serialize(serializer);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("autoencoders", &ByName(&self.saes))?;
        map.end()
    }
}

/// Autoencoders by name, in their order.
struct ByName<'a>(&'a [TrainedSae]);

impl Serialize for ByName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|sae| (&sae.name, &sae.last)))
    }
}
