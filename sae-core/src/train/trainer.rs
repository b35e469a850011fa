//! One autoencoder in training: the schedule, dead features and their revival, the learned threshold, and the log. An engine
//! computes the step.

use super::autodiff::AutodiffEngine;
use super::config::{TrainConfig, TrainingScale};
use super::cpu::CpuEngine;
use super::engine::{Batch, Engine, StepStats, TrainState, total_variance};
use super::feature_share::FeatureShare;
use super::log::{Log, StepLog};
use super::params::{B_ENC, Params};
use super::ranks::Ranks;
use super::selection::prefixes;
use super::statistics::{Statistics, scale_blocks, standardize};
use crate::autoencoder::{Activation, Architecture, Weights};
use crate::error::{Cause, Hint, Setting};
use crate::random::{self, ChaChaState};
use crate::vector;
use crate::{Error, Result};
use burn::tensor::Device;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// One autoencoder in training.
pub struct Trainer {
    config: TrainConfig,
    engine: Box<dyn Engine>,
    d_in: usize,
    progress: TrainerState,
    rng: ChaCha8Rng,
    log: Log,
}

/// The state of a trainer besides its parameters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainerState {
    /// Steps done.
    step: u64,
    /// The factor for the activations of each model, and that of a transcoder's target.
    scales: Vec<f32>,
    /// BatchTopK's threshold, as learned so far.
    #[serde(with = "bits")]
    threshold: f64,
    /// Step, counted from 1, at which each feature last fired; 0 for never. A tensor of the checkpoint: see
    /// [`super::checkpoint`].
    #[serde(skip)]
    pub(super) last_fired: Vec<u64>,
    /// Random prefixes and revivals.
    rng: Option<ChaChaState>,
    /// Active features in the last step; below 0 before the first.
    #[serde(with = "bits")]
    l0: f64,
}

/// An `f64` as its bits: JSON readers may change the last digit of a decimal number.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:016x}", value.to_bits()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(f64::from_bits).map_err(serde::de::Error::custom)
    }
}

impl TrainerState {
    fn known_l0(&self) -> Option<f64> {
        (self.l0 >= 0.0).then_some(self.l0)
    }
}

/// What computes the steps on a device: [`CpuEngine`] on a CPU, the engines of `super::gpu` on a GPU, and Burn's autodiff on
/// everything else.
///
/// # Errors
/// A configuration that cannot be trained on this device or with several ranks; fewer features than ranks; a GPU with too little
/// free memory.
pub(super) fn engine(
    config: &TrainConfig,
    params: Params,
    device: &Device,
    ranks: &Arc<dyn Ranks>,
) -> Result<Box<dyn Engine>> {
    let share = FeatureShare::new(ranks.clone(), params.d_sae)?;
    if *device == Device::flex() {
        return Ok(Box::new(CpuEngine::with_share(config, params, share)));
    }
    check_off_cpu(config, ranks.count())?;
    #[cfg(feature = "gpu")]
    if let Some(gpu) = crate::device::Gpu::from_device(device) {
        return super::gpu::engine(config, params, device, &gpu, share);
    }
    Ok(Box::new(AutodiffEngine::new(config, params, &device.clone().autodiff())))
}

/// Checks that a training can be done on another device than a CPU, by this number of processes.
///
/// # Errors
/// A crosscoder or a transcoder; several processes, if the architecture learns its sparsity.
pub fn check_off_cpu(config: &TrainConfig, ranks: usize) -> Result<()> {
    let learns = ranks > 1 && !config.is_topk();
    let on_cpu = [
        (config.models > 1, "a crosscoder can only be trained on a CPU"),
        (config.is_transcoder(), "a transcoder can only be trained on a CPU"),
        (learns, "several processes can only train topk, batch-topk and matryoshka on GPUs"),
    ];
    let Some((_, text)) = on_cpu.into_iter().find(|(is, _)| *is) else { return Ok(()) };
    Err(Error::config(Cause::with_hint(text, Hint::set(Setting::Device, "cpu"))))
}

impl Trainer {
    /// A trainer with initial parameters from the seed of the configuration and the statistics of the data, or with those of an
    /// autoencoder that is trained on.
    pub fn new(
        d_in: usize,
        config: &TrainConfig,
        statistics: &Statistics,
        base: Option<&Weights>,
        device: &Device,
        ranks: &Arc<dyn Ranks>,
    ) -> Result<Self> {
        config.check(d_in)?;
        let scales = statistics.scales(config)?;
        if let Some(base) = base {
            let params = Params::from_weights(base, config, &scales)?;
            let mut trainer = Self::from_params(config, params, scales, device, ranks)?;
            if let (Activation::JumpRelu { threshold }, true) = (&base.activation, config.is_topk()) {
                trainer.progress.threshold = f64::from(threshold.first().copied().unwrap_or_default());
            }
            return Ok(trainer);
        }
        let mut params = Params::initial(d_in, config);
        params.b_dec = statistics.b_dec(config, &scales);
        Self::from_params(config, params, scales, device, ranks)
    }

    /// A trainer with given parameters, in the units of activations that were multiplied by `scales`, one for each model, and one for
    /// the target of a transcoder.
    ///
    /// # Errors
    /// See `engine`.
    pub fn from_params(
        config: &TrainConfig,
        params: Params,
        scales: Vec<f32>,
        device: &Device,
        ranks: &Arc<dyn Ranks>,
    ) -> Result<Self> {
        let (d_in, d_sae) = (params.d_in, params.d_sae);
        let engine = engine(config, params, device, ranks)?;
        let last_fired = vec![0; d_sae];
        let progress = TrainerState { step: 0, scales, threshold: 0.0, last_fired, rng: None, l0: -1.0 };
        let rng = random::chacha(config.seed, 4);
        Ok(Self { config: config.clone(), engine, d_in, progress, rng, log: Log::new(config.steps) })
    }

    /// Its configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Width of what it reads.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.progress.step
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    pub(super) fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// The factor for the activations of each model, and that of a transcoder's target.
    pub fn scales(&self) -> &[f32] {
        &self.progress.scales
    }

    /// The autoencoder as it is now, in the units of the store.
    pub fn weights(&self) -> Result<Weights> {
        let state = self.engine.state()?;
        let weights = state.params.weights(&self.config, &self.progress.scales, self.progress.threshold as f32);
        weights.check()?;
        Ok(weights)
    }

    /// Everything that is needed to continue.
    pub fn snapshot(&self) -> Result<(Cow<'_, TrainState>, TrainerState)> {
        let progress =
            TrainerState { rng: Some(ChaChaState::new(&self.rng, self.config.seed)), ..self.progress.clone() };
        Ok((self.engine.state()?, progress))
    }

    /// Continues from the state of another trainer with the same configuration.
    pub fn restore(&mut self, state: TrainState, progress: TrainerState, log: Log) -> Result<()> {
        let other = || Error::config("the checkpoint is of another autoencoder");
        let fired = progress.last_fired.iter().all(|step| *step <= progress.step);
        let fits = fired
            && progress.scales.len() == self.config.models + usize::from(self.config.is_transcoder())
            && progress.last_fired.len() == state.params.d_sae
            && state.params.d_in == self.d_in;
        if !fits || state.params.d_sae != self.config.d_sae(self.d_in) || progress.step > self.config.steps {
            return Err(other());
        }
        self.rng = progress.rng.as_ref().and_then(ChaChaState::restore).ok_or_else(other)?;
        self.engine.restore(TrainState { l0: progress.known_l0(), ..state })?;
        (self.progress, self.log) = (progress, log);
        Ok(())
    }

    /// Whether a feature is dead: it has not fired within the window, and the window has passed.
    fn is_dead(&self, last_fired: u64) -> bool {
        self.progress.step - last_fired >= self.config.dead_window_steps
    }

    /// Scaled inputs `[rows, d_in]`, and the scaled targets of a transcoder, `[rows, d_out]`, from the activations of a store.
    fn scaled(&self, activations: &[f32]) -> (Vec<f32>, Option<Vec<f32>>) {
        let d = self.d_in;
        let (inputs, outputs) = self.config.split_scales(&self.progress.scales);
        let scaled = |mut rows: Vec<f32>, width: usize, scales: &[f32]| {
            rows.chunks_exact_mut(width).for_each(|row| scale_blocks(scales, row));
            rows
        };
        if self.config.is_transcoder() {
            let rows = || activations.chunks_exact(d + self.config.d_out);
            let x = rows().flat_map(|row| &row[..d]).copied().collect();
            let y = rows().flat_map(|row| &row[d..]).copied().collect();
            return (scaled(x, d, inputs), Some(scaled(y, self.config.d_out, outputs)));
        }
        let mut x = activations.to_vec();
        if self.config.normalize == TrainingScale::LayerNorm {
            x.chunks_exact_mut(d).for_each(standardize);
            return (x, None);
        }
        (scaled(x, d, inputs), None)
    }

    /// One step on activations as the store has them, `[rows, d_in]`; a transcoder's rows have its target after the input.
    pub fn step(&mut self, activations: &[f32]) -> Result<StepLog> {
        let d = self.d_in;
        let (x, target) = self.scaled(activations);
        let y = target.as_ref().unwrap_or(&x);
        let step = self.progress.step;
        let (lr, sparsity) = (self.config.lr_at(step), self.config.sparsity_at(step));
        let ends = prefixes(&self.config, self.progress.last_fired.len(), &mut self.rng);
        let dead: Vec<u32> =
            (0..).zip(&self.progress.last_fired).filter(|(_, last)| self.is_dead(**last)).map(|(k, _)| k).collect();
        let batch = Batch { x: &x, y, t: step + 1, lr, sparsity, ends: &ends, dead: &dead };
        let outcome = self.engine.step(&batch)?;
        self.note(&outcome);
        let every = self.config.resample_every_steps;
        if every > 0 && self.progress.step.is_multiple_of(every) && self.progress.step < self.config.steps {
            self.revive(&x, y, &outcome.token_errors)?;
        }
        let dead = self.progress.last_fired.iter().filter(|last| self.is_dead(**last)).count();
        let rows = (x.len() / d) as f64;
        Ok(StepLog {
            step: self.progress.step,
            tokens: self.progress.step * self.config.batch as u64,
            loss: outcome.loss(sparsity),
            mse: outcome.mse,
            l1: outcome.penalty,
            aux: outcome.aux,
            l0: outcome.l0,
            fvu: outcome.mse * rows / total_variance(y, self.config.width_out(d)),
            dead: dead as f64 / self.progress.last_fired.len() as f64,
            grad_norm: outcome.grad_norm,
            lr,
            l1_coefficient: sparsity,
            tokens_per_s: 0.0,
        })
    }

    fn note(&mut self, outcome: &StepStats) {
        self.progress.step += 1;
        self.progress.l0 = outcome.l0;
        if let Some(least) = outcome.least {
            let rate = self.config.threshold_rate;
            self.progress.threshold += rate * (f64::from(least) - self.progress.threshold);
        }
        let step = self.progress.step;
        for (last, _) in self.progress.last_fired.iter_mut().zip(&outcome.fired).filter(|(_, fired)| **fired) {
            *last = step;
        }
    }

    /// Resets dead features to tokens with bad reconstructions (Bricken et al. 2023). Tokens are drawn with probability
    /// proportional to the square of their squared error. The decoder row becomes the direction of the token; the encoder
    /// row becomes the same direction with a fifth of the mean norm of the features that are alive (all of it for the TopK
    /// family); bias and moments become zero. Of a transcoder, the decoder row gets the direction of the target, less what the skip
    /// connection makes of the input, and the encoder row that of the input.
    fn revive(&mut self, x: &[f32], y: &[f32], errors: &[f32]) -> Result<()> {
        let d = self.d_in;
        let dead: Vec<usize> =
            (0..self.progress.last_fired.len()).filter(|k| self.is_dead(self.progress.last_fired[*k])).collect();
        if dead.is_empty() {
            return Ok(());
        }
        let mut state = self.engine.state()?.into_owned();
        let params = &state.params;
        let alive = (0..params.d_sae).filter(|k| dead.binary_search(k).is_err());
        let (mut enc_norm, mut dec_norm, mut count) = (0f64, 0f64, 0f64);
        for k in alive {
            enc_norm += f64::from(vector::norm_sq(params.enc(k)).sqrt());
            dec_norm += f64::from(vector::norm_sq(params.dec(k)).sqrt());
            count += 1.0;
        }
        let (enc_norm, dec_norm) = if count > 0.0 {
            (enc_norm / count, dec_norm / count)
        } else {
            (self.config.init_norm, self.config.init_norm)
        };
        let part = if self.config.is_topk() { 1.0 } else { 0.2 };
        let (enc_norm, dec_norm) = ((part * enc_norm) as f32, dec_norm as f32);
        let weights: Vec<f64> = errors.iter().map(|e| f64::from(*e).powi(2)).collect();
        let total: f64 = weights.iter().sum();
        for k in dead {
            let mut left = self.rng.random_range(0.0..1.0) * total;
            let drawn = weights.iter().position(|w| {
                left -= w;
                left < 0.0
            });
            let token = drawn.unwrap_or(0);
            let d_out = state.params.d_out;
            let (input, skip) = (&x[token * d..(token + 1) * d], state.params.w_skip.chunks_exact(d));
            let mut direction: Vec<f32> = y[token * d_out..(token + 1) * d_out].to_vec();
            direction.iter_mut().zip(&state.params.b_dec).for_each(|(v, b)| *v -= b);
            direction.iter_mut().zip(skip).for_each(|(v, row)| *v -= vector::dot(row, input));
            let unit = |v: &mut [f32]| vector::scale(1.0 / vector::norm_sq(v).sqrt().max(f32::MIN_POSITIVE), v);
            unit(&mut direction);
            let (enc_range, dec_range) = (k * d..(k + 1) * d, k * d_out..(k + 1) * d_out);
            for (row, v) in state.params.w_dec[dec_range.clone()].iter_mut().zip(&direction) {
                *row = v * dec_norm;
            }
            if self.config.is_transcoder() {
                direction = input.to_vec();
                unit(&mut direction);
            }
            for (row, v) in state.params.w_enc[enc_range.clone()].iter_mut().zip(&direction) {
                *row = v * enc_norm;
            }
            state.params.scalars[B_ENC][k] = 0.0;
            if self.config.arch == Architecture::JumpRelu {
                state.params.scalars[super::params::THRESHOLD][k] = self.config.threshold as f32;
            }
            for moment in [&mut state.first, &mut state.second] {
                moment.w_enc[enc_range.clone()].fill(0.0);
                moment.w_dec[dec_range.clone()].fill(0.0);
                moment.scalars.iter_mut().filter_map(|s| s.get_mut(k)).for_each(|v| *v = 0.0);
            }
            self.progress.last_fired[k] = self.progress.step;
        }
        self.engine.restore(TrainState { l0: self.progress.known_l0(), ..state })
    }
}
