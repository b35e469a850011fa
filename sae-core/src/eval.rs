//! How well an autoencoder stands for its activations, text and image apart. Needs no model.
//!
//! `FVU` is the squared error over the variance of the same positions about their own mean, both summed in `f64` over the
//! whole store; explained variance is `1 - FVU` (SAELens's definition across batches, not its legacy one).

use crate::Result;
use crate::pass::{Block, Observer};
use crate::sae::Weights;
use crate::sample::Modality;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// What was measured over some token positions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Token positions.
    pub tokens: u64,
    /// Active features a token.
    pub l0: f64,
    /// Fraction of variance unexplained.
    pub fvu: f64,
    /// `1 - fvu`
    pub explained_variance: f64,
    /// Mean cosine of reconstruction and input.
    pub cosine: f64,
    /// Mean norm of the reconstruction over the mean norm of the input.
    pub relative_norm: f64,
    /// Share of features that fire nowhere here.
    pub dead: f64,
}

/// Evaluations by modality, and of all positions together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// All positions.
    pub all: Evaluation,
    /// Each modality that occurs.
    pub by_modality: BTreeMap<Modality, Evaluation>,
}

#[derive(Clone, Default)]
struct Sums {
    tokens: u64,
    active: u64,
    error: f64,
    cosine: f64,
    norm: f64,
    norm_hat: f64,
    squares: f64,
    /// Per dimension.
    sum: Vec<f64>,
    fired: Vec<bool>,
}

impl Sums {
    fn new(d_in: usize, d_sae: usize) -> Self {
        Self { sum: vec![0.0; d_in], fired: vec![false; d_sae], ..Self::default() }
    }

    fn add(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.active += other.active;
        for (a, b) in [
            (&mut self.error, other.error),
            (&mut self.cosine, other.cosine),
            (&mut self.norm, other.norm),
            (&mut self.norm_hat, other.norm_hat),
            (&mut self.squares, other.squares),
        ] {
            *a += b;
        }
        self.sum.iter_mut().zip(&other.sum).for_each(|(a, b)| *a += b);
        self.fired.iter_mut().zip(&other.fired).for_each(|(a, b)| *a |= b);
    }

    fn evaluation(&self) -> Evaluation {
        let n = self.tokens as f64;
        let variance = self.squares - self.sum.iter().map(|s| s * s).sum::<f64>() / n;
        let fvu = self.error / variance;
        Evaluation {
            tokens: self.tokens,
            l0: self.active as f64 / n,
            fvu,
            explained_variance: 1.0 - fvu,
            cosine: self.cosine / n,
            relative_norm: self.norm_hat / self.norm,
            dead: self.fired.iter().filter(|f| !**f).count() as f64 / self.fired.len() as f64,
        }
    }
}

/// Observes a pass and evaluates the autoencoder on it.
pub struct Evaluator<'a> {
    weights: &'a Weights,
    sums: BTreeMap<Modality, Sums>,
}

/// Of one token: error, cosine, norm, norm of the reconstruction, squares.
type Measured = (f64, f64, f64, f64, f64);

impl<'a> Evaluator<'a> {
    /// An evaluator of these weights.
    pub fn new(weights: &'a Weights) -> Self {
        Self { weights, sums: BTreeMap::new() }
    }

    /// What was seen so far.
    pub fn report(&self) -> Report {
        let mut all = Sums::new(self.weights.d_in, self.weights.d_sae);
        self.sums.values().for_each(|s| all.add(s));
        let by_modality = self.sums.iter().map(|(m, s)| (*m, s.evaluation())).collect();
        Report { all: all.evaluation(), by_modality }
    }
}

fn measure(weights: &Weights, x: &[f32], features: &[u32], values: &[f32], buffer: &mut [f32]) -> Measured {
    weights.decode(x, features, values, buffer);
    let (mut error, mut dot, mut squares, mut squares_hat) = (0f64, 0f64, 0f64, 0f64);
    for (x, y) in x.iter().zip(buffer.iter()) {
        let (x, y) = (*x as f64, *y as f64);
        error += (x - y).powi(2);
        dot += x * y;
        squares += x * x;
        squares_hat += y * y;
    }
    let (norm, norm_hat) = (squares.sqrt(), squares_hat.sqrt());
    let cosine = dot / (norm * norm_hat).max(f64::MIN_POSITIVE);
    (error, cosine, norm, norm_hat, squares)
}

impl Observer for Evaluator<'_> {
    fn see(&mut self, block: &Block) -> Result<()> {
        let (d, weights) = (self.weights.d_in, self.weights);
        let measured: Vec<Measured> = (0..block.rows.len())
            .into_par_iter()
            .map_init(
                || vec![0f32; d],
                |buffer, r| {
                    let (features, values) = block.active.row(r);
                    measure(weights, &block.hidden[r * d..(r + 1) * d], features, values, buffer)
                },
            )
            .collect();
        // Summed in the order of the rows: the same figures on any number of threads.
        for ((r, row), (error, cosine, norm, norm_hat, squares)) in block.positions().zip(measured) {
            let modality = block.tokens.modality[row];
            let sums = self.sums.entry(modality).or_insert_with(|| Sums::new(d, weights.d_sae));
            let (features, _) = block.active.row(r);
            sums.tokens += 1;
            sums.active += features.len() as u64;
            sums.error += error;
            sums.cosine += cosine;
            sums.norm += norm;
            sums.norm_hat += norm_hat;
            sums.squares += squares;
            let hidden = &block.hidden[r * d..(r + 1) * d];
            sums.sum.iter_mut().zip(hidden).for_each(|(s, x)| *s += *x as f64);
            features.iter().for_each(|k| sums.fired[*k as usize] = true);
        }
        Ok(())
    }
}
