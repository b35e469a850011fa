//! Forward and backward of a batch through the features that were chosen: reconstruction, errors, and for every chosen
//! feature of every token its share of the gradient. Costs `rows * L0 * d_in`, not `rows * d_sae * d_in`.

use super::architecture::{ArchitectureRule, FeatureGrad};
use super::params::Params;
use crate::autoencoder::kernel;
use crate::autoencoder::sparse::Sparse;
use crate::vector;
use rayon::prelude::*;

/// Tokens that a thread takes at once.
const PIECE: usize = 32;

/// A feature that is active on one token.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The token.
    pub row: u32,
    /// The residual of the token that the activation depends on; a second activation depends on the next one.
    pub slot: u32,
    /// Activations.
    pub z: [f32; 2],
    /// The gradients.
    pub back: FeatureGrad,
}

/// The loss of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenLoss {
    /// Squared error of the whole reconstruction.
    pub error: f32,
    /// Squared errors of all reconstructions of the loss (prefixes, the gate's), including the whole one.
    pub errors: f32,
    /// Sparsity penalty, without its weight.
    pub penalty: f32,
    /// Active features.
    pub active: u32,
}

/// The gradient of a batch, still by token.
#[derive(Clone, Debug, Default)]
pub struct SparseGradients {
    /// `2 / rows (y_hat - y)`: `[rows, slots, d_out]`. With prefixes, slot `g` is the sum over all prefixes from `g` on:
    /// what a feature that first appears in prefix `g` answers to.
    pub residuals: Vec<f32>,
    /// Residuals of a token.
    pub slots: usize,
    /// In the order of the tokens.
    pub entries: Vec<Entry>,
    /// The feature of each entry.
    pub features: Vec<u32>,
    /// The loss of each token.
    pub costs: Vec<TokenLoss>,
}

/// Forward and backward.
///
/// # Shapes
/// `y`: `[rows, d_out]`, to be reconstructed; `ends`: ends of the prefixes, ascending, `d_sae` last; `norms`: `[d_sae]`.
pub fn traces(
    params: &Params,
    method: &ArchitectureRule,
    ends: &[usize],
    norms: &[f32],
    y: &[f32],
    chosen: &Sparse,
) -> SparseGradients {
    let (d, rows) = (params.d_out, chosen.rows());
    let slots = ends.len().max(method.channels());
    let mut residuals = vec![0f32; rows * slots * d];
    let pieces: Vec<(Vec<Entry>, Vec<TokenLoss>)> = residuals
        .par_chunks_mut(PIECE * slots * d)
        .enumerate()
        .map(|(piece, residuals)| {
            let mut entries = Vec::with_capacity(chosen.len() * PIECE / rows + 16);
            let mut costs = Vec::with_capacity(PIECE);
            kernel::wide(
                #[inline(always)]
                || {
                    for (row, residuals) in (piece * PIECE..).zip(residuals.chunks_exact_mut(slots * d)) {
                        let (y, active) = (&y[row * d..(row + 1) * d], chosen.row(row));
                        costs.push(trace(params, method, ends, norms, y, active, row, rows, residuals, &mut entries));
                    }
                },
            );
            (entries, costs)
        })
        .collect();
    let mut all =
        SparseGradients { residuals, slots, features: chosen.features().to_vec(), ..SparseGradients::default() };
    all.entries.reserve(chosen.len());
    for (entries, costs) in pieces {
        all.entries.extend(entries);
        all.costs.extend(costs);
    }
    all
}

/// One token.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a struct would be built and taken apart for every row
fn trace(
    params: &Params,
    method: &ArchitectureRule,
    ends: &[usize],
    norms: &[f32],
    y: &[f32],
    (features, values): (&[u32], &[f32]),
    row: usize,
    rows: usize,
    residuals: &mut [f32],
    entries: &mut Vec<Entry>,
) -> TokenLoss {
    let d = params.d_out;
    let mut cost = TokenLoss::default();
    let start = entries.len();
    let mut slot = 0;
    for (feature, p) in features.iter().zip(values) {
        let k = *feature as usize;
        while k >= ends[slot] {
            slot += 1;
        }
        let z = method.activate(*p, params.numbers(k));
        cost.active += (z[0] > 0.0) as u32;
        cost.penalty += method.penalty(z, norms[k]);
        entries.push(Entry { row: row as u32, slot: slot as u32, z, back: FeatureGrad::default() });
    }
    // Reconstructions: each prefix continues the one before it; the one from the gate starts from the bias again.
    let entries = &mut entries[start..];
    let two = method.channels() == 2;
    for slot in 0..residuals.len() / d {
        let (done, rest) = residuals.split_at_mut(slot * d);
        let error = &mut rest[..d];
        if slot == 0 || two {
            error.iter_mut().zip(&params.b_dec).zip(y).for_each(|((e, b), y)| *e = b - y);
        } else {
            error.copy_from_slice(&done[(slot - 1) * d..]);
        }
        let terms = entries.iter().zip(features).filter(|(entry, _)| two || entry.slot as usize == slot);
        let terms = terms.map(|(entry, feature)| (entry.z[if two { slot } else { 0 }], params.dec(*feature as usize)));
        vector::add_weighted(terms.filter(|(z, _)| *z != 0.0), error);
        let squared = vector::norm_sq(error);
        cost.errors += squared;
        if slot == 0 || !two {
            cost.error = squared;
        }
    }
    vector::scale(2.0 / rows as f32, residuals);
    if !two {
        for slot in (0..residuals.len() / d - 1).rev() {
            let (residual, rest) = residuals[slot * d..].split_at_mut(d);
            vector::axpy(1.0, &rest[..d], residual);
        }
    }
    let weight = method.weight(cost.penalty);
    let residual = |slot: usize| &residuals[slot * d..(slot + 1) * d];
    let mut back = |n: usize, dz: [f32; 2]| {
        let (entry, k) = (&mut entries[n], features[n] as usize);
        entry.back = method.backward(values[n], params.numbers(k), entry.z, dz, norms[k], weight);
    };
    let (row, count) = (|n: usize| params.dec(features[n] as usize), features.len());
    match (two, residuals.len() / d) {
        (true, _) => (0..count).for_each(|n| {
            let product = |slot: usize| vector::dot(residual(slot), row(n));
            back(n, [product(0), product(1)]);
        }),
        // One residual for all: two rows at a time.
        (false, 1) => (0..count).step_by(2).for_each(|n| {
            let [a, b] = vector::dots(residual(0), [row(n), row((n + 1).min(count - 1))]);
            back(n, [a, 0.0]);
            if n + 1 < count {
                back(n + 1, [b, 0.0]);
            }
        }),
        (false, _) => {
            let mut slot = 0;
            for (n, feature) in features.iter().enumerate() {
                while *feature as usize >= ends[slot] {
                    slot += 1;
                }
                back(n, [vector::dot(residual(slot), row(n)), 0.0]);
            }
        }
    }
    cost.penalty = method.of_token(cost.penalty);
    cost
}
