//! `pmi_relative`: does the text of a sample fit its image better than other texts do, and does the image fit better than other
//! images? A score that is high for every text, or for every image, says nothing about the pair.
//!
//! # Formula
//! Let `s(u, t)` be the score of an image and a text in nats ([`super::Fit::score`]), and `(u_r, t_r)` reference samples. The score of a
//! pair is `s(u, t) - 1/2 log mean_r exp s(u, t_r) - 1/2 log mean_r exp s(u_r, t)`.
//!
//! For a true log density ratio both means are 1, because `exp s` times the product of the marginal densities is the joint density.
//! They are not 1 here, because activations are not normally distributed. Up to the logarithm of the number of references, the score
//! is the mean of two log-probabilities: that this text belongs to the image, among the texts of the references, and that this image
//! belongs to the text. It is minus the contrastive loss of one pair in CLIP (Radford et al. 2021, figure 3), at temperature 1.

use super::fit::{Fit, HalfPair, PairScore};
use super::folds::{Folds, Mismatch, Set, drawn, fold, in_batches, subject};
use crate::Result;
use crate::definition::{IMAGE, TEXT};
use crate::pooling::{PooledSample, PooledStore};
use rayon::prelude::*;
use sae_core::store::sample::Sample;

/// Approximate number of references of all fits together, and of a fit if there is only one.
const REFERENCES: usize = 3000;
/// The seed with which references are drawn.
const SALT: u64 = 0x4e1f;

/// A sample with which others are compared, as a text and as an image.
struct Reference<'a> {
    sample: &'a Sample,
    halves: [HalfPair; 2],
}

/// The references of every fit: about 3,000 samples of the calibration, drawn by their ids. Where there are folds, those of a fit are
/// samples that it has not seen.
pub struct References<'a> {
    folds: &'a Folds,
    scores: Vec<PairScore>,
    of: Vec<Vec<Reference<'a>>>,
}

impl<'a> References<'a> {
    /// Draws them from the sets to which `folds` was fitted.
    ///
    /// # Errors
    /// The stored activations cannot be read.
    pub fn draw(folds: &'a Folds, sets: &[Set<'a>]) -> Result<Self> {
        let scores: Vec<PairScore> = folds.fits().map(Fit::pair_score).collect();
        let mut of: Vec<Vec<Reference>> = scores.iter().map(|_| Vec::new()).collect();
        let share = (REFERENCES * scores.len()) as f64 / folds.samples.max(1) as f64;
        for Set { samples, pooled } in sets {
            let halves = in_batches(pooled, |n, sample| {
                let number = fold(&samples[n], scores.len());
                let drawn = drawn(&samples[n], SALT, share).then(|| folds.fit_for(&samples[n]).variables(sample));
                drawn.flatten().map(|variables| halves(&scores[number], &variables))
            })?;
            for (sample, halves) in samples.iter().zip(halves) {
                of[fold(sample, scores.len())].extend(halves.map(|halves| Reference { sample, halves }));
            }
        }
        Ok(Self { folds, scores, of })
    }

    /// The scores of all samples. Samples that lack content on one side have no score, nor have samples without a reference that has
    /// another text and another image.
    ///
    /// # Errors
    /// The stored activations cannot be read.
    pub fn score(&self, samples: &[Sample], pooled: &PooledStore) -> Result<Vec<Option<f64>>> {
        in_batches(pooled, |n, pooled: &PooledSample| {
            let variables = self.folds.fit_for(&samples[n]).variables(pooled)?;
            self.relative([&samples[n]; 2], &variables)
        })
    }

    /// The scores of pairs that were mismatched on purpose.
    pub fn mismatched(&self, pairs: &[Mismatch]) -> Vec<f64> {
        pairs.par_iter().filter_map(|pair| self.relative(pair.samples, &pair.variables)).collect()
    }

    /// The score of the text of one sample with the image of another. Both are `[text, image]`.
    fn relative(&self, samples: [&Sample; 2], variables: &[Vec<f64>; 2]) -> Option<f64> {
        let number = fold(samples[IMAGE], self.scores.len());
        let own = halves(&self.scores[number], variables);
        let others = self.of[number].iter().filter(|Reference { sample, .. }| {
            sample.text != samples[TEXT].text && subject(sample) != subject(samples[IMAGE])
        });
        let [texts, images]: [Vec<f64>; 2] = others
            .map(|other| [own[IMAGE].score_with(&other.halves[TEXT]), other.halves[IMAGE].score_with(&own[TEXT])])
            .fold(Default::default(), |[mut texts, mut images], [text, image]| {
                texts.push(text);
                images.push(image);
                [texts, images]
            });
        let usual = (log_mean_exp(&texts)? + log_mean_exp(&images)?) / 2.0;
        Some(own[IMAGE].score_with(&own[TEXT]) - usual)
    }
}

fn halves(score: &PairScore, [q, p]: &[Vec<f64>; 2]) -> [HalfPair; 2] {
    [score.text(q), score.image(p)]
}

/// The logarithm of the mean of the exponentials, if there are any values.
fn log_mean_exp(values: &[f64]) -> Option<f64> {
    let largest = values.iter().copied().max_by(f64::total_cmp)?;
    let sum: f64 = values.iter().map(|v| (v - largest).exp()).sum();
    Some(largest + (sum / values.len() as f64).ln())
}
