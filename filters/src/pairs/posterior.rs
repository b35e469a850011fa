//! What is known about the weights of a reward after some comparisons: their covariance, and the variance that it leaves.

use crate::probe::{Rows, sigmoid};
use serde::{Deserialize, Serialize};

/// The covariance of the weights, `[width, width]`, and the mean variance of the target pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    width: usize,
    /// `S`
    covariance: Vec<f64>,
    /// `G`, the second moment of the target pairs: the mean of `d d'`.
    moment: Vec<f64>,
    /// The mean of `d' S d` over the target pairs: the trace of `G S`.
    uncertainty: f64,
}

/// What one comparison does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The uncertainty before it.
    pub uncertainty_before: f64,
    /// By how much it falls.
    pub gain: f64,
}

/// The difference of the features of two answers, dense.
pub fn differences(rows: &Rows, [a, b]: [usize; 2]) -> Vec<f64> {
    let mut difference = vec![0.0; rows.width()];
    rows.add_to(a, 1.0, &mut difference);
    rows.add_to(b, -1.0, &mut difference);
    difference
}

/// `p (1 - p)`, how much a comparison of answers with these rewards says about the weights: 1/4 if it could go either way, and
/// little if its result is known beforehand.
pub fn informativeness(rewards: &[f64], [a, b]: [usize; 2]) -> f64 {
    let p = sigmoid(rewards[a] - rewards[b]);
    // Rewards beyond all numbers say nothing that could be compared.
    (p * (1.0 - p)).max(0.0)
}

/// The steps of comparing pairs in this order, given `p (1 - p)` of each.
pub fn follow(rows: &Rows, pairs: &[[usize; 2]], informativeness: &[f64], prior: &Posterior) -> Vec<Step> {
    let mut posterior = prior.clone();
    pairs.iter().zip(informativeness).map(|(pair, q)| posterior.compare(&differences(rows, *pair), *q)).collect()
}

impl Posterior {
    /// Nothing compared yet: independent weights with the standard deviation `scale`. `targets` are the pairs of rows whose variance
    /// is to fall.
    pub fn new(rows: &Rows, targets: &[[usize; 2]], scale: f64) -> Self {
        let width = rows.width();
        let mut moment = vec![0.0; width * width];
        for pair in targets {
            let difference = differences(rows, *pair);
            for (i, x) in difference.iter().enumerate().filter(|(_, x)| **x != 0.0) {
                let x = x / targets.len() as f64;
                moment[i * width..(i + 1) * width].iter_mut().zip(&difference).for_each(|(sum, y)| *sum += x * y);
            }
        }
        let mut covariance = vec![0.0; width * width];
        (0..width).for_each(|i| covariance[i * width + i] = scale * scale);
        let uncertainty = (0..width).map(|i| moment[i * width + i]).sum::<f64>() * scale * scale;
        Self { width, covariance, moment, uncertainty }
    }

    /// After comparing these pairs as well.
    pub fn after(mut self, rows: &Rows, pairs: &[[usize; 2]], informativeness: &[f64]) -> Self {
        for (pair, q) in pairs.iter().zip(informativeness) {
            self.compare(&differences(rows, *pair), *q);
        }
        self
    }

    /// The mean variance of the target pairs.
    pub fn uncertainty(&self) -> f64 {
        self.uncertainty
    }

    /// `S d`
    pub(super) fn spread(&self, difference: &[f64]) -> Vec<f64> {
        product(&self.covariance, difference)
    }

    /// `G s`
    pub(super) fn weigh(&self, spread: &[f64]) -> Vec<f64> {
        product(&self.moment, spread)
    }

    /// Adds a comparison of two answers with this difference and `q = p (1 - p)`, by Sherman and Morrison: with `s = S d`, the
    /// covariance falls by `s s' q / (1 + q d.s)`, and the uncertainty by `s' G s` times the same factor.
    pub fn compare(&mut self, difference: &[f64], q: f64) -> Step {
        let spread = self.spread(difference);
        let factor = q / (1.0 + q * dot(difference, &spread).max(0.0));
        // The moment is not negative in any direction, whatever rounding says.
        let gain = (factor * dot(&spread, &self.weigh(&spread))).max(0.0).min(self.uncertainty);
        for (i, s) in spread.iter().enumerate().filter(|(_, s)| **s != 0.0) {
            let s = factor * s;
            let row = &mut self.covariance[i * self.width..(i + 1) * self.width];
            row.iter_mut().zip(&spread).for_each(|(cell, other)| *cell -= s * other);
        }
        let step = Step { uncertainty_before: self.uncertainty, gain };
        self.uncertainty -= gain;
        step
    }
}

/// The product of a symmetric matrix and a vector: the sum of the rows, in their order, each times its entry of the vector.
fn product(matrix: &[f64], vector: &[f64]) -> Vec<f64> {
    let mut product = vec![0.0; vector.len()];
    for (row, x) in matrix.chunks_exact(vector.len().max(1)).zip(vector).filter(|(_, x)| **x != 0.0) {
        product.iter_mut().zip(row).for_each(|(sum, cell)| *sum += x * cell);
    }
    product
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use faer::prelude::Solve;
    use faer::{Mat, Side};
    use sae_core::random::SplitMix64;

    /// Answers with some of `width` features.
    pub fn answers(count: usize, width: u32, seed: u64) -> Rows {
        let mut random = SplitMix64::new(seed);
        let mut rows = Rows::new(width as usize);
        for _ in 0..count {
            let row: Vec<(u32, f32)> = (0..width).map(|feature| (feature, random.next_f64() as f32)).collect();
            rows.push(row.into_iter().filter(|_| random.below(3) > 0));
        }
        rows
    }

    /// The uncertainty by the definition: the matrix inverted, and the mean over the target pairs.
    pub fn direct(rows: &Rows, targets: &[[usize; 2]], scale: f64, pairs: &[[usize; 2]], q: &[f64]) -> f64 {
        let width = rows.width();
        let mut precision = Mat::<f64>::identity(width, width) * faer::Scale(1.0 / (scale * scale));
        for (pair, q) in pairs.iter().zip(q) {
            let d = differences(rows, *pair);
            (0..width).for_each(|i| (0..width).for_each(|j| precision[(i, j)] += q * d[i] * d[j]));
        }
        let solver = precision.llt(Side::Lower).unwrap();
        let variance = |pair: &[usize; 2]| {
            let d = differences(rows, *pair);
            let column = Mat::from_fn(width, 1, |i, _| d[i]);
            (column.transpose() * solver.solve(&column))[(0, 0)]
        };
        targets.iter().map(variance).sum::<f64>() / targets.len() as f64
    }

    #[test]
    fn the_posterior_is_that_of_a_direct_inverse_and_never_rises() {
        let rows = answers(40, 9, 1);
        let targets: Vec<[usize; 2]> = (0..15).map(|n| [n, 39 - n]).collect();
        let pairs: Vec<[usize; 2]> = (0..60).map(|n| [n * 7 % 40, (n * 11 + 3) % 40]).collect();
        let rewards: Vec<f64> = (0..40).map(|n| f64::from(n) * 0.1).collect();
        let informativeness: Vec<f64> = pairs.iter().map(|pair| informativeness(&rewards, *pair)).collect();
        let prior = Posterior::new(&rows, &targets, 2.0);
        assert!((prior.uncertainty() - direct(&rows, &targets, 2.0, &[], &[])).abs() < 1e-9);
        let steps = follow(&rows, &pairs, &informativeness, &prior);
        for (n, step) in steps.iter().enumerate() {
            let [before, after] = [n, n + 1].map(|n| direct(&rows, &targets, 2.0, &pairs[..n], &informativeness[..n]));
            assert!((step.uncertainty_before - before).abs() < 1e-9, "{n}");
            assert!((step.gain - (before - after)).abs() < 1e-9 && step.gain >= 0.0, "{n}");
        }
        assert!(steps.is_sorted_by(|a, b| b.uncertainty_before <= a.uncertainty_before));
    }

    #[test]
    fn known_results_say_little_and_equal_answers_nothing() {
        assert_eq!(informativeness(&[1.0, 1.0], [0, 1]), 0.25);
        assert!(informativeness(&[9.0, 0.0], [0, 1]) < 0.001 && informativeness(&[1e9, 0.0], [1, 0]) == 0.0);
        assert_eq!(informativeness(&[f64::INFINITY; 2], [0, 1]), 0.0);
        let mut posterior = Posterior::new(&answers(4, 3, 2), &[[0, 1]], 1.0);
        let before = posterior.clone();
        assert_eq!(posterior.compare(&[0.0; 3], 0.25).gain, 0.0);
        assert_eq!(posterior, before);
        assert_eq!(Posterior::new(&Rows::new(0), &[], 1.0).compare(&[], 0.25).gain, 0.0);
    }
}
