//! Whether the features of a crosscoder make one model predict as another: the upper blocks of the second model continue from states
//! of the first that chosen features have moved ([`sae_core::analysis::patching`]). Chooses the features, runs the models, and
//! writes no file.

use super::checkpoints::Checkpoints;
use crate::Result;
use crate::control::{Control, Stage};
use crate::error::ModelsError;
use crate::sae::LoadedSae;
use crate::unknown;
use harvest::{ModelPair, Plan};
use sae_core::analysis::eval::{Estimate, ratio_of_sums};
use sae_core::analysis::patching::{Movement, patch};
use sae_core::autoencoder::Encoder;
use sae_core::random::{self, SplitMix64};
use sae_core::store::PositionFilter;
use sae_core::store::sample::Token;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How many features are moved, and with which models.
#[derive(Clone, Debug)]
pub struct PatchRequest {
    /// Features that are moved at once.
    pub features: usize,
    /// Draws of as many random features.
    pub draws: usize,
    /// The seed of the draws.
    pub seed: u64,
    /// The models, and data that they read.
    pub checkpoints: Checkpoints,
}

/// By how much predictions from moved states diverge from those of the model itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PatchReport {
    /// The data set.
    pub data: String,
    /// Samples with a token that is predicted.
    pub samples: usize,
    /// Predicted tokens.
    pub tokens: u64,
    /// Rows that became no sample.
    pub skipped: u64,
    /// The draws of random features.
    pub draws: usize,
    /// Each choice of features.
    pub patches: Vec<PatchedKl>,
}

/// The divergence with one choice of features.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PatchedKl {
    /// The choice.
    pub moved: MovedFeatures,
    /// The number of features that are moved.
    pub features: usize,
    /// `KL(second model || second model from the moved states of the first)`, nats per predicted token, with its 95 % interval: over
    /// samples, for random features over draws.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub kl: [f64; 3],
    /// The share of the divergence that the features remove, `1 - KL / KL(no feature)`, with its interval.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub removed: [f64; 3],
}

/// Which features are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovedFeatures {
    /// None: the states of the first model as they are.
    None,
    /// Those that belong to the second model, by latent scaling.
    Own,
    /// Those that move the states most.
    Top,
    /// Random ones among those that fire.
    Random,
    /// All.
    All,
}

impl PatchRequest {
    /// How the two models of a crosscoder read the data. `numbers` are those of the models of the runs.
    pub(super) fn plans(
        &self,
        sae: &LoadedSae,
        numbers: &[usize],
        runs: &[PathBuf],
        control: Option<&mut Control>,
    ) -> Result<[Plan; 2]> {
        let not_two = || ModelsError::PatchOfTwo { models: sae.store.models(), runs: runs.to_vec() };
        if sae.store.models() != 2 || *numbers != [0, 1] {
            return Err(not_two().into());
        }
        let plans = self.checkpoints.plans(runs, sae.store.hook(), control)?;
        plans.try_into().map_err(|_| not_two().into())
    }

    /// Runs the second model from the states of the first. `own` are features that belong to the second model, the most important
    /// first.
    pub(super) fn run(
        &self,
        sae: &LoadedSae,
        [first, second]: &[Plan; 2],
        filter: &PositionFilter,
        own: &[u32],
        control: &mut Control,
    ) -> Result<PatchReport> {
        let mut movement = Movement::new(&sae.saved.weights, filter.clone());
        sae.observe(Stage::Features, &mut [&mut movement], control)?;
        let choices = self.choices(&movement.ranked(), own);
        let masks: Vec<Vec<bool>> =
            choices.iter().map(|(_, features)| mask(features, sae.saved.weights.d_sae)).collect();

        let preview = second.preview()?;
        let pair = ModelPair::open(&first.model, second)?;
        let encoder = Encoder::new(&sae.saved.weights, &sae.device);
        let mut staged = control.stage(Stage::Model, preview.rows)?;
        let cancel = staged.cancel();
        let width = sae.saved.weights.d_in / 2;
        let replace = |tokens: &[&Token], [first, second]: [&[f32]; 2]| {
            cancel.check()?;
            let pairs = first.chunks_exact(width).zip(second.chunks_exact(width));
            let joined: Vec<f32> = pairs.flat_map(|(first, second)| [first, second].concat()).collect();
            let active = encoder.encode(&joined)?;
            let keeps = |row: usize| {
                let token = tokens[row];
                let joined = &joined[2 * row * width..2 * (row + 1) * width];
                filter.reasons(token.special, token.position, joined) == [false; 3]
            };
            let moved = masks.iter().map(|chosen| {
                let mut states = first.to_vec();
                states.chunks_exact_mut(width).enumerate().filter(|(row, _)| keeps(*row)).for_each(|(row, state)| {
                    let (features, values) = active.row(row);
                    patch(&sae.saved.weights, features, values, chosen, state);
                });
                states
            });
            Ok(moved.collect())
        };
        // For each choice the divergence and the tokens of every sample.
        let mut sums: Vec<Vec<[f64; 2]>> = vec![Vec::new(); choices.len()];
        let skipped = pair.splice(&replace, &mut |predicted, rows| {
            staged.show(rows);
            let Some(predicted) = predicted else { return };
            for (sums, predictions) in sums.iter_mut().zip(&predicted.predictions[1..]) {
                let kl: f64 = predictions.iter().map(|prediction| f64::from(prediction.kl)).sum();
                sums.push([kl, predictions.len() as f64]);
            }
        })?;
        if sums[0].is_empty() {
            return Err(crate::Error::NothingToPredict);
        }
        let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(PatchReport {
            data: name(&second.data),
            samples: sums[0].len(),
            tokens: sums[0].iter().map(|[_, tokens]| tokens).sum::<f64>() as u64,
            skipped: skipped.rows(),
            draws: self.draws,
            patches: divergences(&choices, &sums),
        })
    }

    /// The sets of features that are moved, the empty one first and draws of random ones one after the other.
    fn choices(&self, ranked: &[u32], own: &[u32]) -> Vec<(MovedFeatures, Vec<u32>)> {
        let most = |features: &[u32]| features[..self.features.min(features.len())].to_vec();
        let mut choices = vec![(MovedFeatures::None, Vec::new())];
        if !own.is_empty() {
            choices.push((MovedFeatures::Own, most(own)));
        }
        choices.push((MovedFeatures::Top, most(ranked)));
        for draw in 0..self.draws as u64 {
            let mut features = ranked.to_vec();
            let seed = random::mix(SplitMix64::nth(self.seed, 1 + draw));
            features.sort_by_key(|feature| SplitMix64::nth(seed, 1 + u64::from(*feature)));
            choices.push((MovedFeatures::Random, most(&features)));
        }
        choices.push((MovedFeatures::All, ranked.to_vec()));
        choices
    }
}

fn mask(features: &[u32], d_sae: usize) -> Vec<bool> {
    let mut chosen = vec![false; d_sae];
    features.iter().for_each(|feature| chosen[*feature as usize] = true);
    chosen
}

/// The divergence with each choice; the draws of random features are one choice.
fn divergences(choices: &[(MovedFeatures, Vec<u32>)], sums: &[Vec<[f64; 2]>]) -> Vec<PatchedKl> {
    let of_none = &sums[0];
    let removed = |sums: &[[f64; 2]]| {
        let pairs = of_none.iter().zip(sums).map(|([none, _], [kl, _])| [none - kl, *none]);
        ratio_of_sums(&pairs.collect::<Vec<_>>())
    };
    let mut found: Vec<PatchedKl> = Vec::new();
    for (moved, features) in choices {
        if found.last().is_some_and(|last| last.moved == *moved) {
            continue;
        }
        let of_choice = || choices.iter().zip(sums).filter(|((other, _), _)| other == moved).map(|(_, sums)| &sums[..]);
        let over = |estimate: &dyn Fn(&[[f64; 2]]) -> Estimate| match moved {
            MovedFeatures::Random => {
                // The mean over draws is a ratio of sums in which each draw counts once.
                let draws: Vec<[f64; 2]> = of_choice().map(|sums| [estimate(sums).value, 1.0]).collect();
                ratio_of_sums(&draws).interval(draws.len()).triple()
            }
            _ => of_choice().next().map_or([f64::NAN; 3], |sums| estimate(sums).interval(sums.len()).triple()),
        };
        found.push(PatchedKl {
            moved: *moved,
            features: features.len(),
            kl: over(&ratio_of_sums),
            removed: over(&removed),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergences_are_per_token_and_draws_are_averaged() {
        let choices = [
            (MovedFeatures::None, vec![]),
            (MovedFeatures::Top, vec![3, 1]),
            (MovedFeatures::Random, vec![0, 1]),
            (MovedFeatures::Random, vec![2, 3]),
        ];
        let none = vec![[4.0, 2.0], [8.0, 2.0]];
        let half = none.iter().map(|[kl, tokens]| [kl / 2.0, *tokens]).collect();
        let most = none.iter().map(|[kl, tokens]| [kl * 0.75, *tokens]).collect();
        let found = divergences(&choices, &[none.clone(), half, most, none]);
        let moved: Vec<_> = found.iter().map(|row| (row.moved, row.features)).collect();
        assert_eq!(moved, [(MovedFeatures::None, 0), (MovedFeatures::Top, 2), (MovedFeatures::Random, 2)]);
        assert_eq!((found[0].kl[0], found[0].removed[0]), (3.0, 0.0));
        assert_eq!((found[1].kl[0], found[1].removed), (1.5, [0.5; 3]));
        assert_eq!((found[2].kl[0], found[2].removed[0]), (2.625, 0.125));
        assert!(found[2].kl[1] < 2.25 && found[2].kl[2] > 3.0, "the interval is that of two draws: {:?}", found[2]);
    }
}
