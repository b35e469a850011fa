//! Turns the sparse gradients of a batch into new weights: the entries of each feature are summed, clipped by the global
//! norm, and applied (Adam, decoder norm, packing for the next product) in one visit to its rows. The gradients of the rows
//! are summed twice, for the norm and for the step, rather than stored, because they would be as large as the parameters.

use super::adam::Adam;
use super::architecture::FeatureGrad;
use super::config::{Decoder, TrainConfig};
use super::dense_step::DenseGradients;
use super::engine::TrainState;
use super::feature_share::FeatureShare;
use super::params::{Params, SCALARS, THRESHOLD, scalar_names};
use super::sparse_step::{Entry, SparseGradients};
use crate::Result;
use crate::autoencoder::Architecture;
use crate::autoencoder::kernel::{self, Panels, panels::WIDTH, product::product};
use crate::autoencoder::sparse::ByFeature;
use crate::vector;
use rayon::prelude::*;

/// Everything that a step changes, with what is derived from it.
#[derive(Clone, Debug)]
pub struct OptimizerState {
    /// What is trained, with its moments.
    pub state: TrainState,
    /// The encoder as integers.
    pub panels: Panels,
    /// Norms of the decoder's rows: see [`vector::sum_of_norms`].
    pub norms: Vec<f32>,
}

/// What a step is to apply: traces by token, and blocks of gradients that are summed already.
pub struct StepGradient<'a> {
    config: &'a TrainConfig,
    traces: &'a SparseGradients,
    blocks: &'a [DenseGradients],
    /// Where each block holds a feature.
    places: Vec<Vec<u32>>,
    /// What the encoder read, `[rows, d_in]`.
    x: &'a [f32],
    /// The entries of each feature, in the order of the tokens.
    by_feature: ByFeature,
    /// What came back to each feature, summed over the tokens.
    backs: Vec<FeatureGrad>,
    b_dec: Vec<f32>,
    /// `[d_out, d_in]`; empty without a skip connection.
    w_skip: Vec<f32>,
    /// The ranks that have the other features.
    share: &'a FeatureShare,
}

/// Not in a block.
const NOWHERE: u32 = u32::MAX;

impl OptimizerState {
    /// The beginning, or a state that was stored.
    pub fn new(config: &TrainConfig, state: TrainState) -> Self {
        let panels = Panels::new(&state.params.w_enc, state.params.d_in);
        let norms = state.params.dec_norms(config.models);
        Self { state, panels, norms }
    }
}

/// Buffers of a thread: the gradient of a feature's two rows.
struct Rows {
    enc: Vec<f32>,
    dec: Vec<f32>,
}

impl Rows {
    fn new(d_in: usize, d_out: usize) -> Self {
        Self { enc: vec![0.0; d_in], dec: vec![0.0; d_out] }
    }
}

impl<'a> StepGradient<'a> {
    /// Groups the entries by feature. `block_residuals` are of the tokens that went through a block instead of traces.
    ///
    /// # Errors
    /// A rank that is lost.
    pub fn new(
        config: &'a TrainConfig,
        params: &Params,
        traces: &'a SparseGradients,
        blocks: &'a [DenseGradients],
        block_residuals: &[f32],
        x: &'a [f32],
        share: &'a FeatureShare,
    ) -> Result<Self> {
        let f = params.d_sae;
        let by_feature = ByFeature::new(traces.features.iter().copied().zip(0..), f);
        let places = blocks.iter().map(|block| {
            let mut places = vec![NOWHERE; f];
            block.features.iter().zip(0..).for_each(|(k, n)| places[*k as usize] = n);
            places
        });
        let places = places.collect();
        let (backs, b_dec, w_skip) = Default::default();
        let mut gradient = Self { config, traces, blocks, places, x, by_feature, backs, b_dec, w_skip, share };
        gradient.backs = (0..f).into_par_iter().with_min_len(256).map(|k| gradient.back(k)).collect();
        gradient.b_dec = gradient.of_b_dec(params, block_residuals)?;
        if !params.w_skip.is_empty() {
            gradient.w_skip = gradient.of_w_skip(params, block_residuals)?;
        }
        Ok(gradient)
    }

    /// The decoder's bias answers to every reconstruction; where it is subtracted from the input, to the encoder as well.
    fn of_b_dec(&self, params: &Params, block_residuals: &[f32]) -> Result<Vec<f32>> {
        let (d, slots, used) = (params.d_out, self.traces.slots, self.used_slots());
        let mut sum = vec![0f32; d];
        if self.share.is_first() {
            kernel::wide(
                #[inline(always)]
                || {
                    for token in self.traces.residuals.chunks_exact((slots * d).max(1)) {
                        let residuals = token[..used * d].chunks_exact(d);
                        vector::add_weighted(residuals.map(|e| (1.0, e)), &mut sum);
                    }
                    vector::add_weighted(block_residuals.chunks_exact(d).map(|e| (1.0, e)), &mut sum);
                },
            );
        }
        if self.config.subtract_b_dec {
            // In pieces of a fixed size, summed in order: the same numbers on any number of threads.
            let piece = |(backs, rows): (&[FeatureGrad], &[f32])| {
                let mut sum = vec![0f32; d];
                kernel::wide(
                    #[inline(always)]
                    || {
                        let terms = backs.iter().zip(rows.chunks_exact(d)).filter(|(back, _)| back.enc != 0.0);
                        vector::add_weighted(terms.map(|(back, row)| (-back.enc, row)), &mut sum);
                    },
                );
                sum
            };
            let pieces: Vec<Vec<f32>> =
                self.backs.par_chunks(512).zip(params.w_enc.par_chunks(512 * d)).map(piece).collect();
            vector::add_weighted(pieces.iter().map(|piece| (1.0, &piece[..])), &mut sum);
        }
        self.share.all_reduce(&mut sum)?;
        Ok(sum)
    }

    /// Residuals of a token that the decoder's bias and the skip connection answer to. Slot 0 is the sum over all prefixes; Gated's two
    /// reconstructions stand in a slot each.
    fn used_slots(&self) -> usize {
        let slots = self.traces.slots;
        if self.config.arch == Architecture::Gated { slots } else { slots.min(1) }
    }

    /// The skip connection is in every reconstruction, as the decoder's bias is.
    fn of_w_skip(&self, params: &Params, block_residuals: &[f32]) -> Result<Vec<f32>> {
        let (d, d_out) = (params.d_in, params.d_out);
        let rows = self.x.len() / d;
        let mut sum = vec![0f32; d_out * d];
        let of_blocks = block_residuals.len() / (rows * d_out);
        for (residuals, slots, used) in [
            (&self.traces.residuals[..], self.traces.slots, self.used_slots()),
            (block_residuals, of_blocks, of_blocks),
        ] {
            // Computed once, because other processors may compute other bits.
            for slot in (0..used).filter(|_| self.share.is_first()) {
                let residuals = (&residuals[slot * d_out..], [1, slots * d_out]);
                product([d_out, d, rows], residuals, (self.x, [1, d]), (&mut sum, [d, 1]), true);
            }
        }
        self.share.all_reduce(&mut sum)?;
        Ok(sum)
    }

    #[inline(always)]
    fn entries(&self, feature: usize) -> impl Iterator<Item = &Entry> {
        self.by_feature.of(feature).iter().map(|n| &self.traces.entries[*n as usize])
    }

    /// A feature's place in each block that holds it.
    #[inline(always)]
    fn held(&self, feature: usize) -> impl Iterator<Item = (&DenseGradients, usize)> {
        let held = self.blocks.iter().zip(&self.places).map(move |(block, places)| (block, places[feature]));
        held.filter(|(_, place)| *place != NOWHERE).map(|(block, place)| (block, place as usize))
    }

    fn back(&self, feature: usize) -> FeatureGrad {
        let mut sum = FeatureGrad::default();
        let of_blocks = self.held(feature).map(|(block, place)| &block.back[place]);
        for back in self.entries(feature).map(|entry| &entry.back).chain(of_blocks) {
            sum.enc += back.enc;
            sum.norm += back.norm;
            (0..SCALARS).for_each(|s| sum.scalars[s] += back.scalars[s]);
        }
        sum
    }

    /// The gradient of a feature's rows. The part along a decoder row of fixed norm is removed.
    #[inline(always)]
    fn rows(&self, dec: &[f32], norm: f32, feature: usize, rows: &mut Rows) {
        let (d, d_out, slots) = (rows.enc.len(), dec.len(), self.traces.slots);
        rows.enc.fill(0.0);
        rows.dec.fill(0.0);
        let read = self.entries(feature).filter(|entry| entry.back.enc != 0.0);
        let read = read.map(|entry| (entry.back.enc, &self.x[entry.row as usize * d..(entry.row as usize + 1) * d]));
        vector::add_weighted(read, &mut rows.enc);
        let residual = |slot: usize| &self.traces.residuals[slot * d_out..(slot + 1) * d_out];
        let answered = self.entries(feature).flat_map(|entry| {
            let first = entry.row as usize * slots + entry.slot as usize;
            entry.z.into_iter().zip(first..).filter(|(z, _)| *z != 0.0)
        });
        vector::add_weighted(answered.map(|(z, slot)| (z, residual(slot))), &mut rows.dec);
        for (block, place) in self.held(feature) {
            vector::axpy(1.0, &block.w_enc[place * d..(place + 1) * d], &mut rows.enc);
            vector::axpy(1.0, &block.w_dec[place * d_out..(place + 1) * d_out], &mut rows.dec);
        }
        let back = self.backs[feature].norm;
        if back != 0.0 && norm > 0.0 {
            vector::axpy(back / norm, dec, &mut rows.dec);
        }
        if self.config.decoder == Decoder::Unit {
            let along = vector::dot(&rows.dec, dec) / vector::norm_sq(dec).max(f32::MIN_POSITIVE);
            vector::axpy(-along, dec, &mut rows.dec);
        }
    }

    #[inline(always)]
    fn is_empty(&self, feature: usize) -> bool {
        self.by_feature.of(feature).is_empty() && self.held(feature).next().is_none()
    }

    /// Global norm of the gradient.
    ///
    /// # Errors
    /// A rank that is lost.
    pub fn norm(&self, optimizer: &OptimizerState) -> Result<f64> {
        let params = &optimizer.state.params;
        let count = scalar_names(self.config.arch).len();
        let of_features: Vec<f64> = (0..params.d_sae)
            .into_par_iter()
            .with_min_len(64)
            .map_init(
                || Rows::new(params.d_in, params.d_out),
                |rows, k| {
                    if self.is_empty(k) {
                        return 0.0;
                    }
                    let of_rows = kernel::wide(
                        #[inline(always)]
                        || {
                            self.rows(params.dec(k), optimizer.norms[k], k, rows);
                            f64::from(vector::norm_sq(&rows.enc)) + f64::from(vector::norm_sq(&rows.dec))
                        },
                    );
                    let numbers = self.backs[k].scalars[..count].iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
                    of_rows + numbers
                },
            )
            .collect();
        let shared: f64 = self.b_dec.iter().chain(&self.w_skip).map(|v| f64::from(*v).powi(2)).sum();
        Ok((self.share.total(of_features.iter().sum())? + shared).sqrt())
    }

    /// Applies the gradient times `shrink` at step `t`, counted from 1.
    pub fn apply(&self, optimizer: &mut OptimizerState, shrink: f32, lr: f64, t: u64) {
        let arch = kernel::arch();
        let adam = Adam::new(self.config, lr, t);
        let OptimizerState { state: TrainState { params, first, second, .. }, panels, norms } = optimizer;
        let (d, d_out) = (params.d_in, params.d_out);
        adam.step(&mut params.b_dec, &mut first.b_dec, &mut second.b_dec, &self.b_dec, shrink);
        adam.step(&mut params.w_skip, &mut first.w_skip, &mut second.w_skip, &self.w_skip, shrink);
        for (s, w) in params.scalars.iter_mut().enumerate().filter(|(_, w)| !w.is_empty()) {
            let gradient: Vec<f32> = self.backs.iter().map(|back| back.scalars[s]).collect();
            adam.step(w, &mut first.scalars[s], &mut second.scalars[s], &gradient, shrink);
            if s == THRESHOLD && self.config.arch == Architecture::JumpRelu {
                w.iter_mut().for_each(|t| *t = t.max(0.0));
            }
        }
        let w = params.w_enc.chunks_mut(WIDTH * d).zip(params.w_dec.chunks_mut(WIDTH * d_out));
        let m = first.w_enc.chunks_mut(WIDTH * d).zip(first.w_dec.chunks_mut(WIDTH * d_out));
        let v = second.w_enc.chunks_mut(WIDTH * d).zip(second.w_dec.chunks_mut(WIDTH * d_out));
        let rest = norms.chunks_mut(WIDTH).zip(panels.rest());
        let visits: Vec<Visit> =
            w.zip(m).zip(v).zip(rest).map(|(((w, m), v), (norms, panel))| Visit { w, m, v, norms, panel }).collect();
        let lost = visits
            .into_par_iter()
            .enumerate()
            .with_min_len(4)
            .map_init(
                || Rows::new(d, d_out),
                |rows, (n, visit)| {
                    arch.dispatch(
                        #[inline(always)]
                        || self.visit(&adam, shrink, n * WIDTH, visit, rows),
                    )
                },
            )
            .max_by(f32::total_cmp);
        panels.set_lost(lost.unwrap_or_default());
    }

    /// Sixteen features: their gradients, the step, their norms, and their panel. Returns what the panel lost.
    #[inline(always)]
    fn visit(&self, adam: &Adam, shrink: f32, first: usize, visit: Visit, rows: &mut Rows) -> f32 {
        let Visit { w: (enc, dec), m, v, norms, mut panel } = visit;
        let (d, d_out) = (rows.enc.len(), rows.dec.len());
        for (lane, norm) in norms.iter_mut().enumerate() {
            let (range, dec_range) = (lane * d..(lane + 1) * d, lane * d_out..(lane + 1) * d_out);
            let row = &mut dec[dec_range.clone()];
            self.rows(row, *norm, first + lane, rows);
            adam.step(&mut enc[range.clone()], &mut m.0[range.clone()], &mut v.0[range], &rows.enc, shrink);
            adam.step(row, &mut m.1[dec_range.clone()], &mut v.1[dec_range], &rows.dec, shrink);
            *norm = vector::sum_of_norms(row, self.config.models);
            if self.config.decoder == Decoder::Unit && *norm > 0.0 {
                vector::scale(1.0 / *norm, row);
                *norm = vector::norm_sq(row).sqrt();
            }
        }
        panel.pack(enc)
    }
}

/// Rows of the encoder and of the decoder.
type Pair<'a> = (&'a mut [f32], &'a mut [f32]);

/// What a visit to a panel's features changes.
struct Visit<'a> {
    w: Pair<'a>,
    m: Pair<'a>,
    v: Pair<'a>,
    norms: &'a mut [f32],
    panel: kernel::panels::Panel<'a>,
}
