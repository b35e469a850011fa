//! Removes the influence of a sample's length from its score. Knows no score by name.
//!
//! # Formula
//! A score `x` that is a sum over tokens grows with their number. The logarithms `t` and `v` of the lengths of text and image
//! are centered and scaled, and `x` is regressed on `1, t, v, t^2, t v, v^2, t^3` by least squares (with a ridge of 1e-6 of the
//! trace, because all images of a data set often have the same length). The absolute residuals are regressed on the same
//! terms. The adjusted score is `(x - expected(t, v)) / max(spread(t, v), spread / 4)`, in units of the deviation that is usual
//! at this length. It is zero for a sample with the expected score. If the adjusted score correlates with the length more than
//! the score does ([`LengthModel::helps`]), the score should not be adjusted.

use crate::rank;
use faer::{Mat, Side, prelude::Solve};
use serde::Serialize;

/// Number of terms of the regression.
const TERMS: usize = 7;
/// Number of samples below which only the mean is subtracted.
const LEAST: usize = 4 * TERMS;

/// A model of a score as a function of the length of a sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LengthModel {
    /// The mean and deviation of the logarithms of the numbers of `[text, image]` positions.
    lengths: [(f64, f64); 2],
    expected: [f64; TERMS],
    spread: [f64; TERMS],
    /// The mean of the absolute residuals.
    mean_spread: f64,
}

impl LengthModel {
    /// Fits the model to scores with their `[text, image]` lengths. Nothing without a score.
    pub fn fit(scores: &[(f64, [u32; 2])]) -> Option<Self> {
        let n = scores.len() as f64;
        if scores.is_empty() {
            return None;
        }
        let lengths = [0, 1].map(|side| {
            let logs = || scores.iter().map(|(_, length)| log(length[side]));
            let mean = logs().sum::<f64>() / n;
            let deviation = (logs().map(|l| (l - mean).powi(2)).sum::<f64>() / n).sqrt();
            (mean, if deviation > 1e-9 { deviation } else { 1.0 })
        });
        let mut usual = Self { lengths, expected: [0.0; TERMS], spread: [0.0; TERMS], mean_spread: 0.0 };
        let terms: Vec<[f64; TERMS]> = scores.iter().map(|(_, length)| usual.terms(*length)).collect();
        usual.expected = regress(&terms, scores.iter().map(|(x, _)| *x));
        let residual = |n: usize| (scores[n].0 - dot(&usual.expected, &terms[n])).abs();
        usual.mean_spread = (0..scores.len()).map(residual).sum::<f64>() / n;
        usual.spread = regress(&terms, (0..scores.len()).map(residual));
        Some(usual)
    }

    /// The adjusted score: the difference from the expected score, in units of the expected deviation.
    pub fn adjust(&self, score: f64, length: [u32; 2]) -> f64 {
        let terms = self.terms(length);
        let spread = dot(&self.spread, &terms).max(self.mean_spread / 4.0);
        let residual = score - dot(&self.expected, &terms);
        if spread > 0.0 { residual / spread } else { 0.0 }
    }

    /// Whether adjusted scores correlate with the length less than the scores do (Spearman's correlation with the number of
    /// positions). They do not if a score is the same for nearly every sample, such as zero: the adjusted score is then little
    /// more than the expected score, which depends on the length.
    pub fn helps(&self, scores: &[(f64, [u32; 2])]) -> bool {
        let lengths: Vec<f64> = scores.iter().map(|(_, [text, image])| f64::from(text + image)).collect();
        let with = |of: fn(&Self, f64, [u32; 2]) -> f64| {
            let values: Vec<f64> = scores.iter().map(|(score, length)| of(self, *score, *length)).collect();
            rank::correlation(&values, &lengths).map_or(0.0, f64::abs)
        };
        with(Self::adjust) < with(|_, score, _| score)
    }

    fn terms(&self, length: [u32; 2]) -> [f64; TERMS] {
        let [t, v] = [0, 1].map(|side| {
            let (mean, deviation) = self.lengths[side];
            ((log(length[side]) - mean) / deviation).clamp(-4.0, 4.0)
        });
        [1.0, t, v, t * t, t * v, v * v, t * t * t]
    }
}

fn log(length: u32) -> f64 {
    f64::from(length.max(1)).ln()
}

fn dot(a: &[f64; TERMS], b: &[f64; TERMS]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The coefficients of a least squares fit, whose first term is 1.
fn regress(terms: &[[f64; TERMS]], values: impl Iterator<Item = f64> + Clone) -> [f64; TERMS] {
    let n = terms.len() as f64;
    let mut out = [0.0; TERMS];
    out[0] = values.clone().sum::<f64>() / n;
    if terms.len() < LEAST {
        return out;
    }
    let mut gram = Mat::<f64>::zeros(TERMS, TERMS);
    let mut right = Mat::<f64>::zeros(TERMS, 1);
    for (row, value) in terms.iter().zip(values) {
        for i in 0..TERMS {
            right[(i, 0)] += row[i] * value / n;
            for j in 0..TERMS {
                gram[(i, j)] += row[i] * row[j] / n;
            }
        }
    }
    let ridge = 1e-6 * (0..TERMS).map(|i| gram[(i, i)]).sum::<f64>() / TERMS as f64;
    (0..TERMS).for_each(|i| gram[(i, i)] += ridge);
    if let Ok(factor) = gram.llt(Side::Lower) {
        let solved = factor.solve(&right);
        (0..TERMS).for_each(|i| out[i] = solved[(i, 0)]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rank::correlation;

    #[test]
    fn a_score_that_is_length_plus_noise_becomes_noise() {
        let noise = |n: usize| crate::scores::random(&n.to_string(), 1) - 0.5;
        let length = |n: usize| [3 + (n * 7919 % 97) as u32, 64];
        let scores: Vec<_> = (0..500).map(|n| (5.0 * f64::from(length(n)[0]) + 40.0 * noise(n), length(n))).collect();
        let usual = LengthModel::fit(&scores).unwrap();
        let adjusted: Vec<f64> = scores.iter().map(|(x, length)| usual.adjust(*x, *length)).collect();
        let lengths: Vec<f64> = scores.iter().map(|(_, l)| f64::from(l[0])).collect();
        let raw: Vec<f64> = scores.iter().map(|s| s.0).collect();
        let noises: Vec<f64> = (0..500).map(noise).collect();
        assert!(correlation(&raw, &lengths).unwrap() > 0.95);
        assert!(correlation(&adjusted, &lengths).unwrap().abs() < 0.05);
        assert!(correlation(&adjusted, &noises).unwrap() > 0.95);
    }

    #[test]
    fn a_score_that_grows_with_length_is_adjusted_and_one_of_mostly_zeros_is_not() {
        let length = |n: usize| [3 + (n * 7919 % 97) as u32, 64];
        let rare = |n: usize| f64::from(u8::from(crate::scores::random(&n.to_string(), 2) < 0.02));
        let rare: Vec<_> = (0..500).map(|n| (rare(n), length(n))).collect();
        let growing: Vec<_> = (0..500).map(|n| (f64::from(length(n)[0]) + rare[n].0, length(n))).collect();
        assert!(!LengthModel::fit(&rare).unwrap().helps(&rare));
        assert!(LengthModel::fit(&growing).unwrap().helps(&growing));
        let flat: Vec<_> = (0..500).map(|n| (1.0, length(n))).collect();
        assert!(!LengthModel::fit(&flat).unwrap().helps(&flat));
    }

    #[test]
    fn only_the_mean_is_subtracted_from_few_scores() {
        let usual = LengthModel::fit(&[(1.0, [4, 9]), (3.0, [5, 9])]).unwrap();
        assert_eq!([usual.adjust(1.0, [4, 9]), usual.adjust(3.0, [5, 9])], [-1.0, 1.0]);
        assert_eq!(LengthModel::fit(&[]), None);
    }
}
