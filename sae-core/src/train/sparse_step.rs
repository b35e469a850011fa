//! Forward and backward of a batch through the features that were chosen: reconstruction, errors, and for every chosen
//! feature of every token its part of the gradient. Costs `rows * L0 * d_in`, not `rows * d_sae * d_in`.

use super::architecture::{ArchitectureRule, FeatureGrad};
use super::feature_share::FeatureShare;
use super::params::Params;
use crate::Result;
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

impl TokenLoss {
    /// Adds up what ranks found for each token before the errors are known.
    pub(super) fn all_reduce(costs: &mut [Self], share: &FeatureShare) -> Result<()> {
        let mut sums: Vec<f32> = costs.iter().flat_map(|cost| [cost.penalty, cost.active as f32]).collect();
        share.all_reduce(&mut sums)?;
        for (cost, [penalty, active]) in costs.iter_mut().zip(sums.as_chunks().0) {
            (cost.penalty, cost.active) = (*penalty, *active as u32);
        }
        Ok(())
    }
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

/// Forward and backward. Between both, ranks add up their reconstructions.
///
/// # Shapes
/// `y`: `[rows, d_out]`, to be reconstructed; `ends`: ends of the prefixes, ascending, `d_sae` last; `norms`: `[d_sae]`.
///
/// # Errors
/// A rank that is lost.
pub fn traces(
    params: &Params,
    method: &ArchitectureRule,
    ends: &[usize],
    norms: &[f32],
    y: &[f32],
    chosen: &Sparse,
    share: &FeatureShare,
) -> Result<SparseGradients> {
    let (d, rows) = (params.d_out, chosen.rows());
    let slots = ends.len().max(method.channels());
    let context = BatchContext { params, method, ends, norms, rows, is_first: share.is_first() };
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
                        let (y, active, start) = (&y[row * d..(row + 1) * d], chosen.row(row), entries.len());
                        let mut cost = context.forward(y, active, row, residuals, &mut entries);
                        // While the rows of the decoder are still in the cache.
                        if share.is_whole() {
                            context.backward(active, residuals, &mut entries[start..], &mut cost);
                        }
                        costs.push(cost);
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
    if !share.is_whole() {
        share.all_reduce(&mut all.residuals)?;
        TokenLoss::all_reduce(&mut all.costs, share)?;
        let mut left = &mut all.entries[..];
        let of_rows = (0..rows).map(|row| left.split_off_mut(..chosen.range(row).len()).unwrap_or_default());
        let of_rows: Vec<&mut [Entry]> = of_rows.collect();
        let rows = all.residuals.par_chunks_mut(slots * d).zip(&mut all.costs).zip(of_rows).enumerate();
        rows.with_min_len(PIECE).for_each(|(row, ((residuals, cost), entries))| {
            kernel::wide(
                #[inline(always)]
                || context.backward(chosen.row(row), residuals, entries, cost),
            );
        });
    }
    Ok(all)
}

/// What the tokens of a batch have in common.
struct BatchContext<'a> {
    params: &'a Params,
    method: &'a ArchitectureRule,
    ends: &'a [usize],
    norms: &'a [f32],
    /// Tokens of the batch.
    rows: usize,
    /// Whether reconstructions begin with the bias, less what is to be reconstructed: on the first rank.
    is_first: bool,
}

impl BatchContext<'_> {
    /// Whether there is a second reconstruction, from the gate.
    #[inline(always)]
    fn is_gated(&self) -> bool {
        self.method.channels() == 2
    }

    /// One token's activations, and its residuals `y_hat - y` as far as the features of this rank make them.
    #[inline(always)]
    fn forward(
        &self,
        y: &[f32],
        (features, values): (&[u32], &[f32]),
        row: usize,
        residuals: &mut [f32],
        entries: &mut Vec<Entry>,
    ) -> TokenLoss {
        let Self { params, method, ends, norms, .. } = self;
        let (d, two) = (params.d_out, self.is_gated());
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
        let entries = &entries[start..];
        for slot in 0..residuals.len() / d {
            let (done, rest) = residuals.split_at_mut(slot * d);
            let error = &mut rest[..d];
            if slot > 0 && !two {
                error.copy_from_slice(&done[(slot - 1) * d..]);
            } else if self.is_first {
                error.iter_mut().zip(&params.b_dec).zip(y).for_each(|((e, b), y)| *e = b - y);
            }
            let terms = entries.iter().zip(features).filter(|(entry, _)| two || entry.slot as usize == slot);
            let terms =
                terms.map(|(entry, feature)| (entry.z[if two { slot } else { 0 }], params.dec(*feature as usize)));
            vector::add_weighted(terms.filter(|(z, _)| *z != 0.0), error);
        }
        cost
    }

    /// One token's loss, and what comes back to its features.
    #[inline(always)]
    fn backward(
        &self,
        (features, values): (&[u32], &[f32]),
        residuals: &mut [f32],
        entries: &mut [Entry],
        cost: &mut TokenLoss,
    ) {
        let Self { params, method, ends, norms, .. } = self;
        let (d, two) = (params.d_out, self.is_gated());
        for (slot, error) in residuals.chunks_exact(d).enumerate() {
            let squared = vector::norm_sq(error);
            cost.errors += squared;
            if slot == 0 || !two {
                cost.error = squared;
            }
        }
        vector::scale(2.0 / self.rows as f32, residuals);
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
    }
}
