//! `pmi_rank`: does the text of a sample fit its image better than other texts do, and does the image fit better than other
//! images? A text that says much has a high `pmi` if it is right; a rank among the mismatches of the same image and of the same
//! text is a share of them, whatever the score.
//!
//! # Formula
//! Let `s(u, t)` be the score of an image and a text ([`super::Fit::score`]), `(u, t)` a sample, and `(u_r, t_r)` reference samples.
//! The rank is the mean of two shares: of the `r` with `s(u, t_r) < s(u, t)`, and of those with `s(u_r, t) < s(u, t)`. Ties count
//! half. References with the same text do not count, nor those with the same image.

use super::fit::{Fit, HalfPair, PairScore};
use super::folds::{Folds, drawn, fold, in_batches, subject};
use crate::Result;
use crate::definition::{IMAGE, TEXT};
use crate::pooling::{PooledSample, PooledStore};
use sae_core::store::sample::Sample;

/// Approximate number of references of each fit.
const REFERENCES: usize = 1000;
/// The seed with which references are drawn.
const SALT: u64 = 0x4e1f;

/// A sample with which others are compared, as a text and as an image.
struct Reference<'a> {
    sample: &'a Sample,
    halves: [HalfPair; 2],
}

impl Folds {
    /// The ranks of all samples among pairs that are mismatched on purpose, 0 to 1. The references of a sample, about 1,000, are
    /// drawn by their ids among the samples that the same fit may score. Samples that lack content on one side have no rank, nor
    /// have samples without a reference that has another text and another image.
    ///
    /// # Errors
    /// The stored activations cannot be read.
    pub fn ranks(&self, samples: &[Sample], pooled: &PooledStore) -> Result<Vec<Option<f64>>> {
        let folds = self.without.len().max(1);
        let share = (REFERENCES * folds) as f64 / samples.len().max(1) as f64;
        let fits: Vec<&Fit> = if self.without.is_empty() { vec![&self.whole] } else { self.without.iter().collect() };
        let scores: Vec<PairScore> = fits.iter().map(|fit| fit.pair_score()).collect();
        let halves = |fold: usize, sample: &PooledSample| -> Option<[HalfPair; 2]> {
            let [q, p] = fits[fold].variables(sample)?;
            Some([scores[fold].text(&q), scores[fold].image(&p)])
        };
        let drawn = in_batches(pooled, |n, sample| {
            drawn(&samples[n], SALT, share).then(|| halves(fold(&samples[n], folds), sample)).flatten()
        })?;
        let mut references: Vec<Vec<Reference>> = (0..folds).map(|_| Vec::new()).collect();
        for (sample, halves) in samples.iter().zip(drawn) {
            references[fold(sample, folds)].extend(halves.map(|halves| Reference { sample, halves }));
        }
        in_batches(pooled, |n, pooled| {
            let sample = &samples[n];
            let own = halves(fold(sample, folds), pooled)?;
            let score = own[IMAGE].score_with(&own[TEXT]);
            let (mut worse, mut others) = (0.0, 0.0);
            for Reference { sample: other, halves } in &references[fold(sample, folds)] {
                if other.text != sample.text && subject(other) != subject(sample) {
                    others += 1.0;
                    worse += below(own[IMAGE].score_with(&halves[TEXT]), score);
                    worse += below(halves[IMAGE].score_with(&own[TEXT]), score);
                }
            }
            (others > 0.0).then(|| worse / (2.0 * others))
        })
    }
}

/// 1 if a score is below another one, 0 if it is above, one half if they are equal.
fn below(score: f64, own: f64) -> f64 {
    match score.total_cmp(&own) {
        std::cmp::Ordering::Less => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Greater => 0.0,
    }
}
