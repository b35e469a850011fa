//! Which features of a crosscoder belong to one of its models: relative decoder norms and latent scaling (Minder et al. 2025), with
//! jackknife intervals over clusters of samples.
//!
//! # Formulas
//! For a pair of models, with `B` the one that a feature `j` may belong to and `A` the other, `x^^m` the reconstruction of model
//! `m`'s states `x^m`, `f_j` the activation and `d_j^m` the decoder's block, all in the units of the training, in which each
//! model's states have mean square 1:
//!
//! - `e_m = x^m - x^^m + f_j d_j^m` is what the other features leave of `x^m`.
//! - `beta^m = sum f_j <d_j^B, y^m> / (sum f_j^2 |d_j^B|^2)` explains a target `y^m` by the feature's direction in `B`. With
//!   `nu = beta^A / beta^B`, `nu_error` has the targets `e_m`, and `nu_reconstruction` has `x^^m`. Both are near 0 if the direction
//!   is absent from `A`, and near 1 if `A` has it as well.
//! - `j` is `B`'s own if `nu_error < 0.2` and `nu_reconstruction < 0.5`, and `B` has the larger block of its decoder row: the small
//!   block that a feature of the other model has is noise, which explains no model.
//! - `Delta = (1 + (|d^B| - |d^A|) / max(|d^A|, |d^B|)) / 2`, 1 if only `B`'s block is not zero. It is not decisive: decoder
//!   blocks of rare features hardly move apart from where they started.
//!
//! The sums of each pair are kept in [`BUCKETS`] buckets of clusters, and each interval is that of the jackknife that leaves one
//! bucket out at a time.

mod table;
#[cfg(test)]
mod tests;

pub use table::{read_ownership, write_ownership};

use crate::Result;
use crate::analysis::contrast::student_bound;
use crate::analysis::pass::{Block, Observer};
use crate::autoencoder::Weights;
use crate::store::PositionFilter;
use rayon::prelude::*;

/// Buckets of clusters.
pub const BUCKETS: usize = 64;
/// A feature is a model's own below this `nu_error`.
pub const NU_ERROR: f64 = 0.2;
/// A feature is a model's own below this `nu_reconstruction`.
pub const NU_RECONSTRUCTION: f64 = 0.5;
/// Positions on which a feature must fire before anything is certain.
pub const FEWEST_FIRINGS: u64 = 10;

/// Sums of a feature in a bucket for one pair of models: for each owner of the direction, those of the error and of the
/// reconstruction, each for the owner and for the other model.
const SUMS: usize = 8;

/// A ratio with its 95 % interval; NaN where it cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The ratio of the sums over all clusters.
    pub value: f64,
    /// The lower end.
    pub lo: f64,
    /// The upper end.
    pub hi: f64,
}

impl Ratio {
    /// The value and both ends, as reports write them.
    pub fn triple(self) -> [f64; 3] {
        [self.value, self.lo, self.hi]
    }
}

/// Whether a feature belongs to one of two models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// To the model alone.
    Own,
    /// Not to the model alone: to both, or to the other.
    Shared,
    /// An interval crosses a bound, or the feature fires too rarely.
    Uncertain,
}

impl Ownership {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Shared => "shared",
            Self::Uncertain => "uncertain",
        }
    }
}

/// What is known about a feature and one of two models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaledFeature {
    /// The feature.
    pub feature: u32,
    /// The model that it may belong to, `B`.
    pub model: usize,
    /// The model that it is compared with, `A`.
    pub reference: usize,
    /// The relative norm of the decoder's blocks, from 0 (only `A`'s) to 1 (only `B`'s).
    pub delta: f64,
    /// Positions on which the feature fires.
    pub firings: u64,
    /// Whether the rest of `A` lacks the direction.
    pub nu_error: Ratio,
    /// Whether the reconstruction of `A` lacks the direction.
    pub nu_reconstruction: Ratio,
    /// The share of its activation on template tokens.
    pub template_share: f64,
    /// The share of its activation on first positions of samples.
    pub first_share: f64,
}

impl ScaledFeature {
    /// Whether the feature is the model's own.
    pub fn ownership(&self) -> Ownership {
        let bounds = [(self.nu_error, NU_ERROR), (self.nu_reconstruction, NU_RECONSTRUCTION)];
        if self.delta < 0.5 {
            return Ownership::Shared;
        }
        if self.firings >= FEWEST_FIRINGS && bounds.iter().all(|(nu, bound)| nu.hi < *bound) {
            return Ownership::Own;
        }
        let above = bounds.iter().any(|(nu, bound)| nu.lo >= *bound);
        if self.firings >= FEWEST_FIRINGS && above { Ownership::Shared } else { Ownership::Uncertain }
    }
}

/// Observes a pass over the joined states of several models.
pub struct LatentScaling<'a> {
    weights: &'a Weights,
    /// The factor of each model's states in training.
    scales: &'a [f32],
    pairs: &'a [[usize; 2]],
    filter: PositionFilter,
    /// The bucket of each sample.
    buckets: &'a [u8],
    /// `[d_sae, BUCKETS, pairs, SUMS]`
    sums: Vec<f64>,
    /// Positions on which each feature fires, among those that the filter keeps.
    firings: Vec<u64>,
    /// The activation of each feature on all positions, on template tokens, on first positions.
    mass: Vec<[f64; 3]>,
}

impl<'a> LatentScaling<'a> {
    /// An observer that compares the models of each of the pairs. `buckets` has a number below [`BUCKETS`] for each sample, the
    /// same for all samples of a cluster; positions that `filter` leaves out count only for the shares of the activation.
    ///
    /// # Shapes
    /// `scales`: a factor for each model; `weights` is as wide as all models together.
    pub fn new(
        weights: &'a Weights,
        scales: &'a [f32],
        pairs: &'a [[usize; 2]],
        filter: PositionFilter,
        buckets: &'a [u8],
    ) -> Self {
        let f = weights.d_sae;
        let sums = vec![0.0; f * BUCKETS * pairs.len() * SUMS];
        Self { weights, scales, pairs, filter, buckets, sums, firings: vec![0; f], mass: vec![[0.0; 3]; f] }
    }

    fn width(&self) -> usize {
        self.weights.d_in / self.scales.len()
    }

    /// The products of a position's active features with what is left of the states and with their reconstruction: for each
    /// feature and pair, those of [`SUMS`].
    fn products(&self, x: &[f32], features: &[u32], values: &[f32], reconstruction: &mut [f32]) -> Vec<f64> {
        let width = self.width();
        self.weights.decode(x, features, values, reconstruction);
        let block = |row: &'_ [f32], model: usize| row[model * width..(model + 1) * width].to_vec();
        let scaled = |row: &[f32]| -> Vec<Vec<f32>> {
            let of_model = |(model, scale): (usize, &f32)| block(row, model).iter().map(|v| v * scale).collect();
            self.scales.iter().enumerate().map(of_model).collect()
        };
        let hat = scaled(reconstruction);
        let rest: Vec<Vec<f32>> = scaled(x)
            .into_iter()
            .zip(&hat)
            .map(|(x, hat)| x.iter().zip(hat).map(|(x, hat)| x - hat).collect())
            .collect();
        let mut out = Vec::with_capacity(features.len() * self.pairs.len() * SUMS);
        for (feature, f) in features.iter().zip(values) {
            let f = f64::from(*f);
            let rows = scaled(self.weights.direction(*feature as usize));
            for [a, b] in self.pairs.iter().copied() {
                let between = dot(&rows[a], &rows[b]);
                for [owner, other] in [[a, b], [b, a]] {
                    let direction = &rows[owner];
                    let own = dot(direction, direction);
                    out.push(f * (dot(direction, &rest[owner]) + f * own));
                    out.push(f * (dot(direction, &rest[other]) + f * between));
                    out.push(f * dot(direction, &hat[owner]));
                    out.push(f * dot(direction, &hat[other]));
                }
            }
        }
        out
    }

    /// What was found about every feature that fires, for each pair and each of its models.
    pub fn features(&self) -> Vec<ScaledFeature> {
        let width = self.width();
        let pairs = self.pairs.len();
        let of_feature = |feature: usize| -> Vec<ScaledFeature> {
            let norm = |model: usize| {
                let block = &self.weights.direction(feature)[model * width..(model + 1) * width];
                f64::from(self.scales[model]) * dot(block, block).sqrt()
            };
            let [all, template, first] = self.mass[feature];
            let mut found = Vec::with_capacity(2 * pairs);
            for (n, [a, b]) in self.pairs.iter().copied().enumerate() {
                for (owner, [model, reference]) in [[a, b], [b, a]].into_iter().enumerate() {
                    let ratio = |target: usize| {
                        let at = |bucket: usize| ((feature * BUCKETS + bucket) * pairs + n) * SUMS + 4 * owner + target;
                        let sums = (0..BUCKETS).map(|bucket| [self.sums[at(bucket) + 1], self.sums[at(bucket)]]);
                        jackknife(&sums.collect::<Vec<_>>())
                    };
                    let (own, other) = (norm(model), norm(reference));
                    found.push(ScaledFeature {
                        feature: feature as u32,
                        model,
                        reference,
                        delta: 0.5 * (1.0 + (own - other) / own.max(other).max(f64::MIN_POSITIVE)),
                        firings: self.firings[feature],
                        nu_error: ratio(0),
                        nu_reconstruction: ratio(2),
                        template_share: template / all,
                        first_share: first / all,
                    });
                }
            }
            found
        };
        let fires = (0..self.weights.d_sae).into_par_iter().filter(|feature| self.mass[*feature][0] > 0.0);
        fires.flat_map_iter(of_feature).collect()
    }
}

impl Observer for LatentScaling<'_> {
    fn observe(&mut self, block: &Block) -> Result<()> {
        let (d, per_feature) = (self.weights.d_in, self.pairs.len() * SUMS);
        let keeps = |r: usize, row: usize| {
            let (special, position) = (block.tokens.special[row], block.tokens.position[row]);
            self.filter.reasons(special, position, &block.hidden[r * d..(r + 1) * d]) == [false; 3]
        };
        let positions: Vec<(usize, usize)> = block.positions().collect();
        let products: Vec<Option<Vec<f64>>> = positions
            .par_iter()
            .map_init(
                || vec![0f32; d],
                |buffer, (r, row)| {
                    let (features, values) = block.active.row(*r);
                    keeps(*r, *row).then(|| self.products(&block.hidden[r * d..(r + 1) * d], features, values, buffer))
                },
            )
            .collect();
        // Summed in the order of the rows, so that the result is the same on any number of threads.
        for ((r, row), products) in positions.into_iter().zip(products) {
            let (features, values) = block.active.row(r);
            let kinds = [true, block.tokens.special[row], block.tokens.position[row] == 0];
            for (feature, f) in features.iter().zip(values) {
                let mass = self.mass[*feature as usize].iter_mut().zip(kinds).filter(|(_, is)| *is);
                mass.for_each(|(mass, _)| *mass += f64::from(*f));
            }
            let Some(products) = products else { continue };
            let bucket = self.buckets[block.tokens.sample[row] as usize] as usize;
            for (feature, products) in features.iter().zip(products.chunks_exact(per_feature.max(1))) {
                let feature = *feature as usize;
                self.firings[feature] += 1;
                let start = (feature * BUCKETS + bucket) * per_feature;
                self.sums[start..start + per_feature].iter_mut().zip(products).for_each(|(sum, v)| *sum += v);
            }
        }
        Ok(())
    }
}

/// `sum_i x_i y_i` in `f64`.
fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// The ratio of two sums over buckets, with the interval of the jackknife that leaves one bucket out at a time; buckets of zeros
/// do not count. With fewer than two buckets, or a denominator that is not positive, there is no interval.
pub fn jackknife(buckets: &[[f64; 2]]) -> Ratio {
    let used: Vec<[f64; 2]> = buckets.iter().copied().filter(|bucket| *bucket != [0.0; 2]).collect();
    let total = used.iter().fold([0.0; 2], |[n, d], [more_n, more_d]| [n + more_n, d + more_d]);
    let ratio = |[n, d]: [f64; 2]| if d > 0.0 { n / d } else { f64::NAN };
    let value = ratio(total);
    let without: Vec<f64> = used.iter().map(|[n, d]| ratio([total[0] - n, total[1] - d])).collect();
    jackknife_interval(value, &without)
}

/// An estimate with the 95 % interval of the jackknife, from the estimates that leave out one part of the data at a time. With
/// fewer than two of them, or some that are not numbers, there is no interval.
pub fn jackknife_interval(value: f64, without: &[f64]) -> Ratio {
    let count = without.len() as f64;
    let mean = without.iter().sum::<f64>() / count;
    let squares: f64 = without.iter().map(|v| (v - mean).powi(2)).sum();
    if without.len() < 2 || !squares.is_finite() {
        return Ratio { value, lo: f64::NAN, hi: f64::NAN };
    }
    let reach = student_bound(count - 1.0) * ((count - 1.0) / count * squares).sqrt();
    Ratio { value, lo: value - reach, hi: value + reach }
}
