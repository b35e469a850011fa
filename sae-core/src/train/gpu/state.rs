//! The engine: keeps parameters and Adam's moments on the device, and updates them by a step from a batch.

use super::memory::{Buffer, allocate, fetch, fetch_all, upload};
use super::{cubes, elements, sparse, units, update};
use crate::error::{Cause, Hint, Setting};
use crate::train::engine::{Batch, Engine, StepStats, TrainState, clipped, finite};
use crate::train::feature_share::FeatureShare;
use crate::train::params::B_ENC;
use crate::train::{Params, TrainConfig};
use crate::{Error, Result};
use cubecl::client::Client;
use cubecl::prelude::*;
use std::borrow::Cow;

/// Bytes that the product of some tokens may take.
pub const PRODUCT_BYTES: usize = 1 << 30;

/// Parameters with Adam's moments.
pub struct Trained {
    pub value: Buffer,
    pub first: Buffer,
    pub second: Buffer,
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
    /// Features on this device.
    pub(super) f: usize,
    pub(super) share: FeatureShare,
    /// Tokens of the batch at hand.
    pub(super) rows: usize,
    pub(super) w_enc: Trained,
    pub(super) w_dec: Trained,
    /// Of each feature, in the order of [`Params::scalars`].
    pub(super) scalars: Vec<Trained>,
    pub(super) narrow_enc: Buffer,
    /// Of the encoder's rows.
    pub(super) enc_norms: Buffer,
    /// Of the decoder's rows.
    pub(super) norms: Buffer,
    /// The end of the only prefix: all features of the share.
    pub(super) whole: Buffer,
    /// The decoder's bias and its moments, which are small, on the host.
    pub(super) b_dec: [Vec<f32>; 3],
    /// What the products of candidates are above, for architectures with one threshold for a batch.
    pub(super) floor: f32,
    /// Most candidates of a token, for architectures without a fixed number of active features.
    pub(super) most_candidates: usize,
    l0: Option<f64>,
}

impl GpuEngine {
    /// Begins at these parameters. `narrow` is the type of the encoder's product, `budget` the bytes it may take.
    pub fn new(config: &TrainConfig, params: Params, client: Client, narrow: ElemType, budget: usize) -> Self {
        let share = FeatureShare::whole(params.d_sae);
        Self::with_share(config, params, share, client, narrow, budget)
    }

    /// The same for the features of a share; the parameters are those of all features.
    pub(in crate::train) fn with_share(
        config: &TrainConfig,
        params: Params,
        share: FeatureShare,
        client: Client,
        narrow: ElemType,
        budget: usize,
    ) -> Self {
        let none = || Trained::new(&client, &[], &[], &[]);
        let empty = || upload::<f32>(&client, &[]);
        let state = share.initial_state(params);
        let (d, f) = (state.params.d_in, state.params.d_sae);
        let mut engine = Self {
            config: config.clone(),
            narrow,
            budget,
            d,
            f,
            share,
            rows: 0,
            w_enc: none(),
            w_dec: none(),
            scalars: Vec::new(),
            narrow_enc: empty(),
            enc_norms: empty(),
            norms: empty(),
            whole: upload(&client, &[f as u32]),
            b_dec: [Vec::new(), Vec::new(), Vec::new()],
            floor: 0.0,
            most_candidates: 4 * config.k + 16,
            l0: None,
            client: client.clone(),
        };
        engine.load(&state);
        engine
    }

    /// The encoder's biases.
    pub(super) fn bias(&self) -> &Buffer {
        &self.scalars[B_ENC].value
    }

    /// Computed on the device, so that a restored state has the same bits as one that was not interrupted.
    fn row_norms(&self, matrix: &Trained) -> Buffer {
        let norms = allocate(&self.client, self.f, 4);
        update::row_norms::launch(&self.client, cubes(self.f), units(), matrix.value.arg(), norms.arg(), self.d);
        norms
    }

    fn load(&mut self, state: &TrainState) {
        let TrainState { params, first, second, l0 } = state;
        let client = &self.client;
        self.w_enc = Trained::new(client, &params.w_enc, &first.w_enc, &second.w_enc);
        self.w_dec = Trained::new(client, &params.w_dec, &first.w_dec, &second.w_dec);
        let scalars = params.scalars.iter().zip(&first.scalars).zip(&second.scalars);
        self.scalars = scalars
            .filter(|((values, _), _)| !values.is_empty())
            .map(|((values, first), second)| Trained::new(client, values, first, second))
            .collect();
        self.b_dec = [params.b_dec.clone(), first.b_dec.clone(), second.b_dec.clone()];
        (self.enc_norms, self.norms) = (self.row_norms(&self.w_enc), self.row_norms(&self.w_dec));
        let len = self.f * self.d;
        self.narrow_enc = allocate(client, len, self.narrow.size());
        let count = elements(len);
        sparse::narrowed::launch(client, count, units(), self.w_enc.value.arg(), self.narrow_enc.arg(), self.narrow);
        (self.floor, self.l0) = (0.0, *l0);
    }
}

impl Engine for GpuEngine {
    fn step(&mut self, batch: &Batch) -> Result<StepStats> {
        self.rows = batch.x.len() / self.d;
        let most = self.client.properties().hardware.max_cube_count.0;
        if self.rows > most as usize {
            let text = format!("a step has {} tokens, and this GPU computes at most {most} at a time", self.rows);
            return Err(Error::device(Cause::with_hint(text, Hint::Lower(Setting::Batch))));
        }
        let b_dec = upload(&self.client, &self.b_dec[0]);
        let inputs = self.inputs(batch.x, &b_dec);
        loop {
            let (topk, mut exchanged) = (self.config.is_topk(), None);
            let pass = if !self.share.is_whole() {
                let (pass, stats) = self.exchanged_pass(&inputs, &b_dec, batch)?;
                exchanged = Some(stats);
                pass
            } else if topk {
                self.pass_of_strongest(&inputs, &b_dec, batch)?
            } else {
                self.pass_above_thresholds(&inputs, &b_dec, batch)?
            };
            let gradients = self.gradients(&pass, &inputs);
            // Without other ranks, the only place where the host waits for the device. Adam runs while the next batch is prepared.
            let measured = fetch_all(&self.client, pass.measured.iter().chain(gradients.measured()))?;
            let (of_pass, of_gradients) = measured.split_at(pass.measured.len());
            let stats = match exchanged {
                Some(stats) => Some(self.complete_stats(stats, of_pass)?),
                None if topk => self.stats_of_strongest(of_pass),
                None => self.stats_above_thresholds(of_pass, batch),
            };
            let Some(mut stats) = stats else { continue };
            finite(&stats, batch)?;
            let (b_dec, norm) = gradients.bias_and_norm(of_gradients, &self.share)?;
            let shrink = clipped(&self.config, norm, batch)?;
            self.apply(&gradients, &b_dec, shrink as f32, batch);
            (stats.grad_norm, self.l0) = (norm, Some(stats.l0));
            return Ok(stats);
        }
    }

    fn state(&self) -> Result<Cow<'_, TrainState>> {
        let download = |array: fn(&Trained) -> &Buffer, b_dec: &[f32]| -> Result<Params> {
            let mut params = Params {
                d_in: self.d,
                d_out: self.d,
                d_sae: self.f,
                w_enc: fetch(&self.client, array(&self.w_enc))?,
                w_dec: fetch(&self.client, array(&self.w_dec))?,
                scalars: Default::default(),
                b_dec: b_dec.to_vec(),
                w_skip: Vec::new(),
            };
            for (values, trained) in params.scalars.iter_mut().zip(&self.scalars) {
                *values = fetch(&self.client, array(trained))?;
            }
            Ok(params)
        };
        self.share.whole_state(Cow::Owned(TrainState {
            params: download(|t| &t.value, &self.b_dec[0])?,
            first: download(|t| &t.first, &self.b_dec[1])?,
            second: download(|t| &t.second, &self.b_dec[2])?,
            l0: self.l0,
        }))
    }

    fn restore(&mut self, state: TrainState) -> Result<()> {
        let local = self.share.local_state(state);
        self.load(&local);
        Ok(())
    }
}
