//! The sums that an evaluation is computed from, all in `f64`.

use super::{Density, Evaluation};
use crate::autoencoder::Weights;
use crate::store::{ExcludedCounts, Norms};

/// The measurements of one token.
#[derive(Clone, Copy, Default)]
pub(super) struct Measured {
    /// `|y - y_hat|^2`
    pub error: f64,
    /// `y y_hat`
    pub dot: f64,
    /// `|y|^2`
    pub squares: f64,
    /// `|y_hat|^2`
    pub squares_hat: f64,
    /// `sum_k z_k`
    pub l1: f64,
}

impl Measured {
    /// Measures the reconstruction of `y` from `x` and its active features; `buffer` has the width of `y`.
    pub fn new(weights: &Weights, x: &[f32], y: &[f32], features: &[u32], values: &[f32], buffer: &mut [f32]) -> Self {
        weights.decode(x, features, values, buffer);
        let mut measured = Self { l1: values.iter().map(|z| *z as f64).sum(), ..Self::default() };
        for (y, y_hat) in y.iter().zip(buffer.iter()) {
            let (y, y_hat) = (*y as f64, *y_hat as f64);
            measured.error += (y - y_hat).powi(2);
            measured.dot += y * y_hat;
            measured.squares += y * y;
            measured.squares_hat += y_hat * y_hat;
        }
        measured
    }

    pub fn norm(&self) -> f64 {
        self.squares.sqrt()
    }
}

/// Sums over the positions of a modality.
#[derive(Clone, Default)]
pub(super) struct Sums {
    tokens: u64,
    active: u64,
    totals: Totals,
    /// `[d_out]`
    sum: Vec<f64>,
    /// `[d_sae]`
    fires: Vec<u64>,
    norms: Norms,
    pub excluded: ExcludedCounts,
    pub legacy: Mean,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    error: f64,
    dot: f64,
    squares: f64,
    squares_hat: f64,
    l1: f64,
    cosine: f64,
    norm: f64,
    norm_hat: f64,
    ratio: f64,
}

/// A running mean.
#[derive(Clone, Copy, Default)]
pub(super) struct Mean {
    sum: f64,
    n: u64,
}

impl Mean {
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.n += 1;
    }

    fn value(self) -> f64 {
        self.sum / self.n as f64
    }
}

impl Sums {
    pub fn new(weights: &Weights) -> Self {
        Self { sum: vec![0.0; weights.d_out()], fires: vec![0; weights.d_sae], ..Self::default() }
    }

    /// Adds a token with the state that is reconstructed and its active features.
    pub fn observe(&mut self, measured: &Measured, state: &[f32], features: &[u32]) {
        let (norm, norm_hat) = (measured.norm(), measured.squares_hat.sqrt());
        self.tokens += 1;
        self.active += features.len() as u64;
        self.totals.add(&Totals {
            error: measured.error,
            dot: measured.dot,
            squares: measured.squares,
            squares_hat: measured.squares_hat,
            l1: measured.l1,
            cosine: measured.dot / (norm * norm_hat).max(f64::MIN_POSITIVE),
            norm,
            norm_hat,
            ratio: norm_hat / norm.max(f64::MIN_POSITIVE),
        });
        self.norms.add(norm as f32);
        self.sum.iter_mut().zip(state).for_each(|(s, x)| *s += *x as f64);
        features.iter().for_each(|k| self.fires[*k as usize] += 1);
    }

    /// Adds the positions of another modality, except their legacy mean, which is about the mean of that modality.
    pub fn join(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.active += other.active;
        self.totals.add(&other.totals);
        self.sum.iter_mut().zip(&other.sum).for_each(|(a, b)| *a += b);
        self.fires.iter_mut().zip(&other.fires).for_each(|(a, b)| *a += b);
        self.norms.join(&other.norms);
        self.excluded += other.excluded;
    }

    /// The mean state; zeros if there is none.
    pub fn mean(&self) -> Vec<f32> {
        self.sum.iter().map(|sum| (sum / self.tokens.max(1) as f64) as f32).collect()
    }

    /// Positions on which each feature fires, and positions.
    pub fn fires(&self) -> (&[u64], u64) {
        (&self.fires, self.tokens)
    }

    pub fn evaluation(&self) -> Evaluation {
        let (n, totals) = (self.tokens as f64, &self.totals);
        let variance = totals.squares - self.sum.iter().map(|s| s * s).sum::<f64>() / n;
        let fvu = totals.error / variance;
        Evaluation {
            tokens: self.tokens,
            excluded: self.excluded,
            l0: self.active as f64 / n,
            l1: totals.l1 / n,
            mse: totals.error / n,
            fvu,
            explained_variance: 1.0 - fvu,
            explained_variance_legacy: self.legacy.value(),
            cosine: totals.cosine / n,
            mean_norm: totals.norm / n,
            median_norm: self.norms.median(),
            mean_norm_reconstruction: totals.norm_hat / n,
            relative_norm: totals.norm_hat / totals.norm,
            mean_norm_ratio: totals.ratio / n,
            reconstruction_bias: totals.squares_hat / totals.dot,
            dead: self.fires.iter().filter(|n| **n == 0).count() as f64 / self.fires.len() as f64,
            density: Density::new(&self.fires, self.tokens),
        }
    }
}

impl Totals {
    fn add(&mut self, other: &Self) {
        for (a, b) in [
            (&mut self.error, other.error),
            (&mut self.dot, other.dot),
            (&mut self.squares, other.squares),
            (&mut self.squares_hat, other.squares_hat),
            (&mut self.l1, other.l1),
            (&mut self.cosine, other.cosine),
            (&mut self.norm, other.norm),
            (&mut self.norm_hat, other.norm_hat),
            (&mut self.ratio, other.ratio),
        ] {
            *a += b;
        }
    }
}
