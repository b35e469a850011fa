//! Forward and backward of a batch through *all* features of a block, as five matrix products: for architectures whose
//! activations are not sparse yet, and for the dead features of AuxK. Works on some tokens at a time, so that no array of size
//! `[batch, d_sae]` is allocated; only the block's gradient, which has the size of its parameters.

use super::architecture::{ArchitectureRule, FeatureGrad};
use super::feature_share::FeatureShare;
use super::params::{B_ENC, Params, SCALARS};
use super::sparse_step::TokenLoss;
use crate::Result;
use crate::autoencoder::kernel::{self, product::product};
use crate::vector;
use rayon::prelude::*;

/// Tokens at a time.
const TOKENS: usize = 256;
/// Features that a thread takes at once.
const FEATURES: usize = 64;
/// Tokens that a thread takes at once.
const ROWS: usize = 16;

/// The gradient of some features.
#[derive(Clone, Debug, Default)]
pub struct DenseGradients {
    /// Which features; ascending.
    pub features: Vec<u32>,
    /// `[features, d_in]`
    pub w_enc: Vec<f32>,
    /// `[features, d_out]`
    pub w_dec: Vec<f32>,
    /// One for each feature, summed over the tokens; `enc` is the sum of the gradients of its pre-activations.
    pub back: Vec<FeatureGrad>,
    /// Whether the feature was active on some token.
    pub fired: Vec<bool>,
}

/// Some features of an autoencoder, and what a token's activations are.
pub struct Dense<'a> {
    /// All parameters.
    pub params: &'a Params,
    /// Norms of the decoder's rows, `[d_sae]`.
    pub norms: &'a [f32],
    /// How activations are computed.
    pub kind: DensePass<'a>,
    /// Which features; ascending.
    pub features: Vec<u32>,
    /// The largest number of features on any rank, so that all ranks take the same tokens at a time.
    pub largest_share: usize,
    /// The factor of the gradient of the squared error: `2 / rows` for a mean.
    pub scale: f32,
    /// The ranks that have the other features.
    pub share: &'a FeatureShare,
}

/// How activations are computed.
#[derive(Clone, Copy)]
pub enum DensePass<'a> {
    /// By the rule of the architecture.
    Method(&'a ArchitectureRule),
    /// Only the strongest of a token.
    Strongest {
        /// How many.
        k: usize,
        /// Whether they are weighted by the norms.
        by_norm: bool,
        /// Whether negative ones are set to zero.
        positive: bool,
    },
}

impl Dense<'_> {
    /// Forward and backward: the block's gradient, residuals `scale (y_hat - y)` `[rows, channels, d_out]`, and costs.
    ///
    /// # Shapes
    /// `x`: `[rows, d_in]`, what the encoder reads; `base`: `[rows, d_out]`, to which the features' reconstruction is added
    /// to give the error.
    ///
    /// # Errors
    /// A rank that is lost.
    pub fn run(&self, x: &[f32], base: &[f32]) -> Result<(DenseGradients, Vec<f32>, Vec<TokenLoss>)> {
        let (d, d_out, n) = (self.params.d_in, self.params.d_out, self.features.len());
        let rows = x.len() / d;
        let channels = if let DensePass::Method(method) = self.kind { method.channels() } else { 1 };
        let gathered = n < self.params.d_sae;
        let gather = |matrix: &[f32], d: usize| -> Vec<f32> {
            let mut rows = Vec::with_capacity(n * d);
            self.features.iter().for_each(|k| rows.extend_from_slice(&matrix[*k as usize * d..(*k as usize + 1) * d]));
            rows
        };
        let copies = gathered.then(|| (gather(&self.params.w_enc, d), gather(&self.params.w_dec, d_out)));
        let (w_enc, w_dec) = match &copies {
            Some((enc, dec)) => (&enc[..], &dec[..]),
            None => (&self.params.w_enc[..], &self.params.w_dec[..]),
        };
        let mut block = DenseGradients {
            features: self.features.clone(),
            w_enc: vec![0.0; n * d],
            w_dec: vec![0.0; n * d_out],
            back: vec![FeatureGrad::default(); n],
            fired: vec![false; n],
        };
        let mut residuals = vec![0.0; rows * channels * d_out];
        let mut costs = vec![TokenLoss::default(); rows];
        let tokens = TOKENS.min((1 << 24) / self.largest_share.max(1)).max(16);
        // Feature-major, `[features, tokens]`: a feature's numbers are loaded once for all tokens.
        let mut p = vec![0.0; n * tokens];
        let mut z = vec![vec![0.0; n * tokens]; channels];
        let mut dz = vec![vec![0.0; n * tokens]; channels];
        for start in (0..rows).step_by(tokens) {
            let t = tokens.min(rows - start);
            let x = &x[start * d..(start + t) * d];
            product([n, t, d], (w_enc, [d, 1]), (x, [d, 1]), (&mut p, [t, 1]), false);
            let (p, costs) = (&mut p[..n * t], &mut costs[start..start + t]);
            self.activate(p, &mut z, t, costs, &mut block.fired)?;
            let residuals = &mut residuals[start * channels * d_out..(start + t) * channels * d_out];
            let at = [channels * d_out, 1];
            for channel in 0..channels {
                let d = d_out;
                if self.share.is_first() {
                    for (row, base) in residuals.chunks_exact_mut(channels * d).zip(base[start * d..].chunks_exact(d)) {
                        row[channel * d..(channel + 1) * d].copy_from_slice(base);
                    }
                }
                product([t, d, n], (&z[channel], [1, t]), (w_dec, [1, d]), (&mut residuals[channel * d..], at), true);
            }
            self.share.all_reduce(residuals)?;
            for channel in 0..channels {
                let d = d_out;
                let rows = residuals.par_chunks_exact_mut(channels * d).zip(costs.par_iter_mut());
                rows.with_min_len(ROWS).for_each(|(row, cost)| {
                    let row = &mut row[channel * d..(channel + 1) * d];
                    let squared = kernel::wide(
                        #[inline(always)]
                        || {
                            let squared = vector::norm_sq(row);
                            vector::scale(self.scale, row);
                            squared
                        },
                    );
                    cost.errors += squared;
                    if channel == 0 {
                        cost.error = squared;
                    }
                });
                let error = &residuals[channel * d..];
                product([n, t, d], (w_dec, [d, 1]), (error, at), (&mut dz[channel], [t, 1]), false);
                product([n, d, t], (&z[channel], [t, 1]), (error, [1, at[0]]), (&mut block.w_dec, [d, 1]), true);
            }
            self.backward(p, &z, &dz, t, costs, &mut block.back);
            product([n, d, t], (p, [t, 1]), (x, [1, d]), (&mut block.w_enc, [d, 1]), true);
        }
        if let DensePass::Method(method) = self.kind {
            costs.iter_mut().for_each(|cost| cost.penalty = method.of_token(cost.penalty));
        }
        Ok((block, residuals, costs))
    }

    /// Pre-activations without bias to pre-activations with it, and to activations.
    fn activate(
        &self,
        p: &mut [f32],
        z: &mut [Vec<f32>],
        t: usize,
        costs: &mut [TokenLoss],
        fired: &mut [bool],
    ) -> Result<()> {
        let (first, second) = z.split_at_mut(1);
        let first = &mut first[0][..p.len()];
        match self.kind {
            DensePass::Strongest { k, by_norm, positive } => {
                self.add_bias(p, t);
                let gain = |feature: u32| if by_norm { self.norms[feature as usize] } else { 1.0 };
                let cuts = self.cuts(p, t, k, &gain)?;
                let rows = first.par_chunks_exact_mut(t).zip(p.par_chunks_exact(t)).zip(&self.features);
                rows.with_min_len(FEATURES).for_each(|((z, p), feature)| {
                    let gain = gain(*feature);
                    kernel::wide(
                        #[inline(always)]
                        || {
                            for ((z, p), cut) in z.iter_mut().zip(p).zip(&cuts) {
                                *z = if (p * gain >= *cut) & ((*p > 0.0) | !positive) { *p } else { 0.0 };
                            }
                        },
                    );
                });
            }
            DensePass::Method(method) => {
                // Tokens' sums over some features at a time, added up in the order of the features.
                let pieces = p.par_chunks_mut(FEATURES * t).zip(first.par_chunks_mut(FEATURES * t));
                let pieces = pieces.zip(fired.par_chunks_mut(FEATURES)).zip(self.features.par_chunks(FEATURES));
                let sums: Vec<(Vec<f32>, Vec<f32>)> = pieces
                    .map(|(((p, z), fired), features)| {
                        let (mut active, mut penalty) = (vec![0f32; t], vec![0f32; t]);
                        kernel::wide(
                            #[inline(always)]
                            || {
                                let rows = p.chunks_exact_mut(t).zip(z.chunks_exact_mut(t));
                                for (((p, z), fired), k) in rows.zip(fired.iter_mut()).zip(features) {
                                    let (numbers, norm) = (self.params.numbers(*k as usize), self.norms[*k as usize]);
                                    let sums = active.iter_mut().zip(&mut penalty);
                                    for ((p, z), (active, penalty)) in p.iter_mut().zip(z.iter_mut()).zip(sums) {
                                        *p += numbers[B_ENC];
                                        let both = method.activate(*p, numbers);
                                        *z = both[0];
                                        *active += if both[0] > 0.0 { 1.0 } else { 0.0 };
                                        *penalty += method.penalty(both, norm);
                                    }
                                    *fired |= z.iter().any(|z| *z > 0.0);
                                }
                            },
                        );
                        (active, penalty)
                    })
                    .collect();
                for (active, penalty) in sums {
                    for (cost, (active, penalty)) in costs.iter_mut().zip(active.iter().zip(penalty)) {
                        cost.active += *active as u32;
                        cost.penalty += penalty;
                    }
                }
                if !self.share.is_whole() {
                    TokenLoss::all_reduce(costs, self.share)?;
                }
                for second in second {
                    let rows = second.par_chunks_exact_mut(t).zip(p.par_chunks_exact(t)).zip(&self.features);
                    rows.with_min_len(FEATURES).for_each(|((z, p), k)| {
                        let numbers = self.params.numbers(*k as usize);
                        z.iter_mut().zip(p).for_each(|(z, p)| *z = method.activate(*p, numbers)[1]);
                    });
                }
            }
        }
        Ok(())
    }

    fn add_bias(&self, p: &mut [f32], t: usize) {
        p.par_chunks_exact_mut(t).zip(&self.features).with_min_len(FEATURES).for_each(|(p, k)| {
            let bias = self.params.numbers(*k as usize)[B_ENC];
            p.iter_mut().for_each(|p| *p += bias);
        });
    }

    /// The `k`-th largest weighted pre-activation of every token, on all ranks.
    fn cuts(&self, p: &[f32], t: usize, k: usize, gain: &(dyn Fn(u32) -> f32 + Sync)) -> Result<Vec<f32>> {
        // As many tokens as fit into a cache line; their values are consecutive.
        const LINE: usize = 16;
        let n = self.features.len();
        let own = k.min(n);
        // Integers in the order of `f32::total_cmp` are compared faster. The same function turns them back.
        let ordered = |bits: i32| bits ^ ((bits >> 31) as u32 >> 1) as i32;
        let of_tokens = |tokens: &[usize]| {
            let mut values = vec![0i32; tokens.len() * n];
            for (at, (p, feature)) in p.chunks_exact(t).zip(&self.features).enumerate() {
                let gain = gain(*feature);
                for (row, token) in tokens.iter().enumerate() {
                    values[row * n + at] = ordered((p[*token] * gain).to_bits() as i32);
                }
            }
            let value = |bits: &i32| f32::from_bits(ordered(*bits) as u32);
            // One process needs the cut alone; ranks find it among the largest of all.
            let wanted = if self.share.is_whole() { 1 } else { own };
            let mut found = Vec::with_capacity(tokens.len() * wanted);
            for values in values.chunks_exact_mut(n.max(1)).filter(|_| own > 0) {
                values.select_nth_unstable(n - own);
                found.extend(values[n - own..][..wanted].iter().map(value));
            }
            found
        };
        let tokens: Vec<usize> = (0..t).collect();
        let found = tokens.par_chunks(LINE).map(of_tokens).collect::<Vec<_>>().concat();
        if self.share.is_whole() { Ok(found) } else { self.share.kth_largest(&found, t, k) }
    }

    /// Replaces pre-activations by their gradients, and sums the gradients of each feature's scalars.
    fn backward(
        &self,
        p: &mut [f32],
        z: &[Vec<f32>],
        dz: &[Vec<f32>],
        t: usize,
        costs: &[TokenLoss],
        sums: &mut [FeatureGrad],
    ) {
        let second = |channels: &[Vec<f32>], at: usize| channels.get(1).map_or(0.0, |values| values[at]);
        let weights: Vec<f32> = match self.kind {
            DensePass::Method(method) => costs.iter().map(|cost| method.weight(cost.penalty)).collect(),
            DensePass::Strongest { .. } => Vec::new(),
        };
        let rows = p.par_chunks_exact_mut(t).zip(sums).enumerate().zip(&self.features);
        rows.with_min_len(FEATURES).for_each(|((n, (p, sum)), k)| {
            kernel::wide(
                #[inline(always)]
                || {
                    let DensePass::Method(method) = self.kind else {
                        let (z, dz) = (&z[0][n * t..], &dz[0][n * t..]);
                        for ((p, z), dz) in p.iter_mut().zip(z).zip(dz) {
                            *p = if *z != 0.0 { *dz } else { 0.0 };
                        }
                        let enc = vector::sum(p);
                        sum.enc += enc;
                        sum.scalars[B_ENC] += enc;
                        return;
                    };
                    let (numbers, norm) = (self.params.numbers(*k as usize), self.norms[*k as usize]);
                    for (token, p) in p.iter_mut().enumerate() {
                        let at = n * t + token;
                        let (z, dz) = ([z[0][at], second(z, at)], [dz[0][at], second(dz, at)]);
                        let back = method.backward(*p, numbers, z, dz, norm, weights[token]);
                        *p = back.enc;
                        sum.enc += back.enc;
                        sum.norm += back.norm;
                        (0..SCALARS).for_each(|s| sum.scalars[s] += back.scalars[s]);
                    }
                },
            );
        });
    }
}
