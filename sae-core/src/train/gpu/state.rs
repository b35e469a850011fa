//! The engine: keeps parameters and Adam's moments on the device, and updates them by a step from a batch.

use super::entries::Entries;
use super::memory::{Buffer, fetch, room, upload};
use super::{blocks, cubes, sparse, units, update};
use crate::Result;
use crate::autoencoder::sparse::ByFeature;
use crate::train::adam::Adam;
use crate::train::engine::{Batch, Engine, StepStats, TrainState, clipped, finite};
use crate::train::{Decoder, Params, TrainConfig};
use cubecl::client::Client;
use cubecl::prelude::*;
use std::borrow::Cow;

/// Bytes that the product of some tokens may take.
pub const PRODUCT_BYTES: usize = 1 << 30;

/// Rows that one cube sums.
const PIECE: usize = 512;

/// Parameters with Adam's moments.
pub struct Trained {
    pub value: Buffer,
    first: Buffer,
    second: Buffer,
}

impl Trained {
    fn new(client: &Client, value: &[f32], first: &[f32], second: &[f32]) -> Self {
        Self { value: upload(client, value), first: upload(client, first), second: upload(client, second) }
    }
}

/// The sparse step on a GPU.
pub struct GpuEngine {
    pub(super) config: TrainConfig,
    pub(super) client: Client,
    /// The type of the encoder's product.
    pub(super) narrow: ElemType,
    pub(super) budget: usize,
    pub(super) d: usize,
    pub(super) f: usize,
    /// Tokens of the batch at hand.
    pub(super) rows: usize,
    pub(super) w_enc: Trained,
    pub(super) w_dec: Trained,
    pub(super) bias: Trained,
    pub(super) narrow_enc: Buffer,
    /// Of the decoder's rows.
    pub(super) norms: Buffer,
    /// The end of the only prefix: all features.
    pub(super) whole: Buffer,
    /// The decoder's bias and its moments, which are small, on the host.
    b_dec: [Vec<f32>; 3],
    /// The threshold of the last batch.
    pub(super) threshold_hint: Option<f32>,
    /// Most candidates of a token, for architectures that select from a batch.
    pub(super) most_candidates: usize,
    l0: Option<f64>,
}

impl GpuEngine {
    /// Begins at these parameters. `narrow` is the type of the encoder's product, `budget` the bytes it may take.
    pub fn new(config: &TrainConfig, params: Params, client: Client, narrow: ElemType, budget: usize) -> Self {
        let none = || Trained::new(&client, &[], &[], &[]);
        let empty = || upload::<f32>(&client, &[]);
        let zeros = Params::zeros(params.d_in, config);
        let mut engine = Self {
            config: config.clone(),
            narrow,
            budget,
            d: params.d_in,
            f: params.d_sae,
            rows: 0,
            w_enc: none(),
            w_dec: none(),
            bias: none(),
            narrow_enc: empty(),
            norms: empty(),
            whole: upload(&client, &[params.d_sae as u32]),
            b_dec: [Vec::new(), Vec::new(), Vec::new()],
            threshold_hint: None,
            most_candidates: 4 * config.k + 16,
            l0: None,
            client: client.clone(),
        };
        engine.load(&TrainState { params, first: zeros.clone(), second: zeros, l0: None });
        engine
    }

    fn load(&mut self, state: &TrainState) {
        let TrainState { params, first, second, l0 } = state;
        let client = &self.client;
        self.w_enc = Trained::new(client, &params.w_enc, &first.w_enc, &second.w_enc);
        self.w_dec = Trained::new(client, &params.w_dec, &first.w_dec, &second.w_dec);
        self.bias = Trained::new(client, &params.scalars[0], &first.scalars[0], &second.scalars[0]);
        self.b_dec = [params.b_dec.clone(), first.b_dec.clone(), second.b_dec.clone()];
        self.norms = upload(client, &params.dec_norms());
        let len = self.f * self.d;
        self.narrow_enc = room(client, len, self.narrow.size());
        let count = CubeCount::Static(len.div_ceil(super::select::UNITS) as u32, 1, 1);
        sparse::narrowed::launch(client, count, units(), self.w_enc.value.arg(), self.narrow_enc.arg(), self.narrow);
        (self.threshold_hint, self.l0) = (None, *l0);
    }

    /// Sums of rows `[rows, stride]`, each times its weight, from column `first` on.
    fn column_sums(
        &self,
        a: &Buffer,
        rows: usize,
        stride: usize,
        first: usize,
        weights: Option<&Buffer>,
    ) -> Result<Vec<f32>> {
        let (client, d) = (&self.client, self.d);
        let pieces = rows.div_ceil(PIECE);
        let (parts, out) = (room(client, pieces * d, 4), room(client, d, 4));
        let by = weights.unwrap_or(&self.norms).arg();
        let (to, weighed) = (parts.arg(), weights.is_some());
        let count = blocks(pieces, d);
        sparse::column_sums::launch(client, count, units(), a.arg(), by, to, rows, stride, first, d, PIECE, weighed);
        let (from, none, to) = (parts.arg(), self.norms.arg(), out.arg());
        sparse::column_sums::launch(client, blocks(1, d), units(), from, none, to, pieces, d, 0, d, pieces, false);
        fetch(client, &out)
    }

    /// Adds to the gradients what a batch's entries say, grouped by feature on the host.
    fn accumulate(&self, of: &Back, read: &Buffer, ends: (&Buffer, usize), to: &Gradients, more: bool) -> Result<()> {
        let (client, width) = (&self.client, of.entries.width);
        let rows = of.features.chunks_exact(width).zip(&of.lens).zip((0u32..).step_by(width));
        let entries = rows.flat_map(|((row, len), first)| row[..*len as usize].iter().copied().zip(first..));
        let by_feature = ByFeature::new(entries, self.f);
        let (start, order) = (upload(client, by_feature.starts()), upload(client, by_feature.items()));
        let (z, dz, x, residuals) = (of.entries.values.arg(), of.back.arg(), read.arg(), of.residuals.arg());
        let (enc, dec, bias) = (to.enc.arg(), to.dec.arg(), to.bias.arg());
        let (start, order, d) = (start.arg(), order.arg(), self.d);
        let (count, slots, ends) = (blocks(self.f, d), ends.1, ends.0.arg());
        sparse::gradients::launch(
            client,
            count,
            units(),
            start,
            order,
            z,
            dz,
            x,
            residuals,
            ends,
            enc,
            dec,
            bias,
            d,
            slots,
            width,
            more,
        );
        Ok(())
    }

    /// What comes back to entries from residuals.
    fn back(&self, entries: Entries, residuals: Buffer, ends: (&Buffer, usize)) -> Result<Back> {
        let back = room(&self.client, self.rows * entries.width, 4);
        self.dots((&residuals, ends.1), (&self.w_dec.value, false), ends.0, &entries, &back);
        let features = fetch(&self.client, &entries.features)?;
        let lens = fetch(&self.client, &entries.lens)?;
        Ok(Back { entries, residuals, back, features, lens })
    }
}

/// Entries with what comes back to them; features and lengths on the host as well.
struct Back {
    entries: Entries,
    residuals: Buffer,
    back: Buffer,
    features: Vec<u32>,
    lens: Vec<u32>,
}

/// Gradients on the device.
struct Gradients {
    enc: Buffer,
    dec: Buffer,
    bias: Buffer,
}

impl Engine for GpuEngine {
    fn step(&mut self, batch: &Batch) -> Result<StepStats> {
        let client = self.client.clone();
        let (d, f) = (self.d, self.f);
        self.rows = batch.x.len() / d;
        let rows = self.rows as f64;
        let b_dec = upload(&client, &self.b_dec[0]);
        let inputs = self.inputs(batch.x, &b_dec);
        let slots = batch.ends.len();
        let ends: Vec<u32> = batch.ends.iter().map(|end| *end as u32).collect();
        let ends = upload(&client, &ends);
        let aux = if self.config.aux_loss_coefficient > 0.0 && !batch.dead.is_empty() {
            self.config.aux_k(d).min(batch.dead.len())
        } else {
            0
        };
        let (chosen, least, chosen_aux) = self.choose(&inputs, batch.dead, aux)?;
        let (residuals, costs) = self.residuals(&inputs, &b_dec, (&ends, slots), &chosen);
        let main = self.back(chosen, residuals, (&ends, slots))?;
        let costs: Vec<f32> = fetch(&client, &costs)?;
        let total = |column: usize| costs.iter().skip(column).step_by(2).map(|c| f64::from(*c)).sum::<f64>();
        let mut outcome = StepStats {
            mse: total(0) / rows,
            errors: total(1) / rows,
            l0: main.lens.iter().map(|n| f64::from(*n)).sum::<f64>() / rows,
            least,
            fired: vec![false; f],
            token_errors: costs.iter().step_by(2).copied().collect(),
            ..StepStats::default()
        };
        for (features, len) in main.features.chunks_exact(main.entries.width).zip(&main.lens) {
            features[..*len as usize].iter().for_each(|k| outcome.fired[*k as usize] = true);
        }
        let mut aux_gradients = None;
        if let Some(chosen) = chosen_aux {
            let weight = if self.config.aux_relative {
                // The error's total variance, from its squares and the sums of its columns.
                let sums = self.column_sums(&main.residuals, self.rows, slots * d, (slots - 1) * d, None)?;
                let squares: f64 = sums.iter().map(|s| (f64::from(*s) * rows / 2.0).powi(2)).sum();
                rows / (total(0) - squares / rows).max(f64::MIN_POSITIVE)
            } else {
                (batch.dead.len() as f64 / self.config.aux_k(d) as f64).min(1.0)
            };
            let weight = self.config.aux_loss_coefficient * weight;
            let scale = (weight * 2.0 / rows) as f32;
            let (residuals, costs) = self.aux_residuals((&main.residuals, slots), &b_dec, &chosen, scale);
            let costs: Vec<f32> = fetch(&client, &costs)?;
            outcome.aux = weight * costs.iter().step_by(2).map(|c| f64::from(*c)).sum::<f64>() / rows;
            aux_gradients = Some(self.back(chosen, residuals, (&self.whole, 1))?);
        }
        finite(&outcome, batch)?;

        let gradients =
            Gradients { enc: room(&client, f * d, 4), dec: room(&client, f * d, 4), bias: room(&client, f, 4) };
        self.accumulate(&main, &inputs.read, (&ends, slots), &gradients, false)?;
        if let Some(aux) = &aux_gradients {
            self.accumulate(aux, &inputs.read, (&self.whole, 1), &gradients, true)?;
        }
        // Slot 0 is the sum over all prefixes.
        let mut b_dec_gradient = self.column_sums(&main.residuals, self.rows, slots * d, 0, None)?;
        if self.config.subtract_b_dec {
            let through = self.column_sums(&self.w_enc.value, f, d, 0, Some(&gradients.bias))?;
            b_dec_gradient.iter_mut().zip(through).for_each(|(sum, own)| *sum -= own);
        }
        let squares = room(&client, f, 4);
        let unit = self.config.decoder == Decoder::Unit;
        let (enc, dec, bias) = (gradients.enc.arg(), gradients.dec.arg(), gradients.bias.arg());
        let (w, to) = (self.w_dec.value.arg(), squares.arg());
        update::norms_of_gradients::launch(&client, cubes(f), units(), enc, dec, bias, w, to, d, unit);
        let squares: Vec<f32> = fetch(&client, &squares)?;
        let all = squares.iter().map(|s| f64::from(*s)).sum::<f64>();
        outcome.grad_norm = (all + b_dec_gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>()).sqrt();
        let shrink = clipped(&self.config, outcome.grad_norm, batch)?;
        self.apply(&gradients, &b_dec_gradient, shrink as f32, batch);
        self.l0 = Some(outcome.l0);
        Ok(outcome)
    }

    fn state(&self) -> Result<Cow<'_, TrainState>> {
        let download = |array: fn(&Trained) -> &Buffer, b_dec: &[f32]| -> Result<Params> {
            Ok(Params {
                d_in: self.d,
                d_sae: self.f,
                w_enc: fetch(&self.client, array(&self.w_enc))?,
                w_dec: fetch(&self.client, array(&self.w_dec))?,
                scalars: [fetch(&self.client, array(&self.bias))?, Vec::new(), Vec::new()],
                b_dec: b_dec.to_vec(),
            })
        };
        Ok(Cow::Owned(TrainState {
            params: download(|t| &t.value, &self.b_dec[0])?,
            first: download(|t| &t.first, &self.b_dec[1])?,
            second: download(|t| &t.second, &self.b_dec[2])?,
            l0: self.l0,
        }))
    }

    fn restore(&mut self, state: TrainState) -> Result<()> {
        self.load(&state);
        Ok(())
    }
}

impl GpuEngine {
    /// Adam on everything.
    fn apply(&mut self, gradients: &Gradients, b_dec_gradient: &[f32], shrink: f32, batch: &Batch) {
        let config = &self.config;
        let adam = Adam::new(config, batch.lr, batch.t);
        let Adam { beta1, beta2, epsilon, rate, spread } = adam;
        let decoder = if config.decoder == Decoder::Unit { update::UNIT } else { update::FREE };
        let (d, f) = (self.d, self.f);
        let all = [
            (&self.w_enc, &gradients.enc, f, d, update::NARROWED),
            (&self.w_dec, &gradients.dec, f, d, decoder),
            (&self.bias, &gradients.bias, 1, f, update::PLAIN),
        ];
        for (trained, gradient, rows, d, then) in all {
            let (w, m, v, g) = (trained.value.arg(), trained.first.arg(), trained.second.arg(), gradient.arg());
            let (norms, narrow) = (self.norms.arg(), self.narrow_enc.arg());
            let (client, count) = (&self.client, cubes(rows));
            update::adam::launch(
                client,
                count,
                units(),
                w,
                m,
                v,
                g,
                norms,
                narrow,
                d,
                shrink,
                beta1,
                beta2,
                epsilon,
                rate,
                spread,
                then,
                self.narrow,
            );
        }
        let [w, m, v] = &mut self.b_dec;
        adam.step(w, m, v, b_dec_gradient, shrink);
    }
}
