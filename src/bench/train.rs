//! Measures a training step, and compares it with the encoder's product alone.

use super::{Stages, median, noise, threads};
use crate::{Error, Result};
use burn::tensor::Device;
use sae_core::autoencoder::Architecture;
use sae_core::autoencoder::kernel::product::product;
use sae_core::autoencoder::kernel::{Panels, Rule, select};
use sae_core::device::DeviceChoice;
use sae_core::train::cpu::{CpuEngine, STAGES};
use sae_core::train::engine::{Batch, Engine};
use sae_core::train::{Decoder, Params, TrainConfig};
use sae_core::vector;
use serde::Serialize;
use std::time::Instant;

/// Which step to time.
#[derive(Clone, Debug)]
pub struct BenchTrainRequest {
    /// The architecture.
    pub arch: Architecture,
    /// Models that are read at once: 1, or more for a crosscoder, which is BatchTopK.
    pub models: usize,
    /// Width of the residual stream; of all models together.
    pub d_in: usize,
    /// Number of features.
    pub features: usize,
    /// Active features per token, for architectures that select them.
    pub k: usize,
    /// Active features per token, for architectures with thresholds.
    pub l0: usize,
    /// Tokens per step.
    pub batch: usize,
    /// Share of the features that are dead, for AuxK.
    pub dead: f64,
    /// Whether the step is dense, if that does not depend on L0.
    pub dense: Option<bool>,
    /// Rounds of product and step.
    pub rounds: usize,
    /// Where to compute.
    pub device: DeviceChoice,
}

/// What would be timed.
#[derive(Clone, Debug, Serialize)]
pub struct BenchTrainPlan {
    /// `bench train`.
    pub command: &'static str,
    /// Width of the residual stream.
    pub d_in: usize,
    /// Rounds.
    pub rounds: usize,
    /// The configuration.
    pub config: TrainConfig,
}

/// What was timed; seconds are medians of the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct BenchTrainReport {
    /// The architecture.
    pub arch: Architecture,
    /// Models that are read at once.
    pub models: usize,
    /// The device, if it is not a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Width of the residual stream.
    pub d_in: usize,
    /// Number of features.
    pub features: usize,
    /// Active features per token, for architectures that select them.
    pub k: usize,
    /// Active features per token in the last step.
    pub l0: f64,
    /// Tokens per step.
    pub batch: usize,
    /// Dead features.
    pub dead: usize,
    /// Threads, on a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Tokens per second.
    pub tokens_per_s: f64,
    /// Seconds per step.
    pub seconds: f64,
    /// Seconds of the encoder's product alone: in f32 on a CPU, in bf16 on a GPU.
    pub product_seconds: f64,
    /// Tokens per second of the product alone.
    pub product_tokens_per_s: f64,
    /// GFLOP per second of the product alone.
    pub product_gflops: f64,
    /// Seconds of the product over those of the step.
    pub of_product: f64,
    /// Seconds by stage, on a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages: Option<Stages>,
    /// Rounds.
    #[serde(skip)]
    pub rounds: usize,
}

/// Seconds of each round.
#[derive(Default)]
struct Rounds {
    floor: Vec<f64>,
    whole: Vec<f64>,
    stages: Vec<[f64; STAGES.len()]>,
    l0: f64,
}

impl BenchTrainRequest {
    /// What [`BenchTrainRequest::run`] would time.
    ///
    /// # Errors
    /// An invalid configuration.
    pub fn plan(&self) -> Result<BenchTrainPlan> {
        let config = self.config()?;
        Ok(BenchTrainPlan { command: "bench train", d_in: self.d_in, rounds: self.rounds, config })
    }

    /// Times the step and the product, in turns.
    ///
    /// # Errors
    /// An invalid configuration, or a device that does not exist.
    pub fn run(&self) -> Result<BenchTrainReport> {
        let config = self.config()?;
        let device = self.device.open()?;
        let x = activations(self.batch, self.d_in);
        let mut params = Params::initial(self.d_in, &config);
        if !config.is_topk() {
            let bias = -threshold(&x, &params, self.l0);
            params.scalars[0].fill(bias);
        }
        #[cfg(feature = "gpu")]
        if device != Device::flex() {
            let rounds = self.on_gpu(&config, params, &x, &device)?;
            return Ok(BenchTrainReport { device: Some(self.device.to_string()), ..self.report(rounds) });
        }
        debug_assert!(device == Device::flex());
        let rounds = self.on_cpu(&config, params, &x)?;
        let stages = Stages::medians(STAGES, &rounds.stages);
        Ok(BenchTrainReport { threads: Some(threads()), stages: Some(stages), ..self.report(rounds) })
    }

    fn config(&self) -> Result<TrainConfig> {
        // A crosscoder's step after `k` has fallen to its final value.
        let of_models = |models| TrainConfig { arch: self.arch, k_start: 1.0, ..TrainConfig::crosscoder(models) };
        let defaults = match self.models {
            1 => TrainConfig { decoder: Decoder::Unit, ..TrainConfig::for_architecture(self.arch) },
            models => of_models(models),
        };
        let config = TrainConfig {
            features: self.features,
            k: self.k,
            batch: self.batch,
            lr: 1e-5,
            sparsity_warmup_steps: 0,
            l1_coefficient: 1e-4,
            l0_coefficient: 1e-4,
            ..defaults
        };
        config.check(self.d_in)?;
        if self.rounds == 0 || !(0.0..=1.0).contains(&self.dead) {
            return Err(Error::Bench { expected: "at least one round, and a share of dead features between 0 and 1" });
        }
        Ok(config)
    }

    fn dead(&self) -> Vec<u32> {
        (0..self.features as u32).take((self.dead * self.features as f64) as usize).collect()
    }

    /// Ends of the prefixes of a Matryoshka autoencoder.
    fn ends(&self, config: &TrainConfig) -> Vec<usize> {
        if self.arch == Architecture::Matryoshka { config.prefixes(self.features) } else { vec![self.features] }
    }

    fn on_cpu(&self, config: &TrainConfig, params: Params, x: &[f32]) -> Result<Rounds> {
        let (d, f, rows) = (self.d_in, self.features, self.batch);
        let w_enc = params.w_enc.clone();
        let mut engine = CpuEngine::new(config, params);
        if let Some(dense) = self.dense {
            engine.force(dense);
        }
        let (dead, ends) = (self.dead(), self.ends(config));
        let mut dense = vec![0f32; rows * f];
        let mut rounds = Rounds::default();
        // The first round is a warm-up.
        for t in 1..=self.rounds as u64 + 1 {
            let start = Instant::now();
            product([rows, f, d], (x, [d, 1]), (&w_enc, [d, 1]), (&mut dense, [f, 1]), false);
            let alone = start.elapsed().as_secs_f64();
            let start = Instant::now();
            let batch = Batch { x, y: x, t, lr: config.lr, sparsity: config.sparsity_at(0), ends: &ends, dead: &dead };
            rounds.l0 = engine.step(&batch)?.l0;
            if t > 1 {
                rounds.floor.push(alone);
                rounds.whole.push(start.elapsed().as_secs_f64());
                rounds.stages.push(engine.seconds());
            }
        }
        Ok(rounds)
    }

    /// The same on a GPU: the bound is the encoder's product alone, synchronized before and after, as the step is.
    #[cfg(feature = "gpu")]
    fn on_gpu(&self, config: &TrainConfig, params: Params, x: &[f32], device: &Device) -> Result<Rounds> {
        let mut engine = sae_core::train::gpu::sparse(config, params, device)?;
        let (dead, ends) = (self.dead(), self.ends(config));
        let mut rounds = Rounds::default();
        // The first round compiles the kernels and warms up.
        for t in 1..=self.rounds as u64 + 1 {
            let alone = engine.product_seconds(x)?;
            let start = Instant::now();
            let batch = Batch { x, y: x, t, lr: config.lr, sparsity: config.sparsity_at(0), ends: &ends, dead: &dead };
            rounds.l0 = engine.step(&batch)?.l0;
            engine.wait()?;
            if t > 1 {
                rounds.floor.push(alone);
                rounds.whole.push(start.elapsed().as_secs_f64());
            }
        }
        Ok(rounds)
    }

    fn report(&self, rounds: Rounds) -> BenchTrainReport {
        let (floor, whole) = (median(rounds.floor), median(rounds.whole));
        let flops = 2.0 * (self.batch * self.d_in * self.features) as f64;
        BenchTrainReport {
            arch: self.arch,
            models: self.models,
            device: None,
            d_in: self.d_in,
            features: self.features,
            k: self.k,
            l0: rounds.l0,
            batch: self.batch,
            dead: self.dead().len(),
            threads: None,
            tokens_per_s: self.batch as f64 / whole,
            seconds: whole,
            product_seconds: floor,
            product_tokens_per_s: self.batch as f64 / floor,
            product_gflops: flops / floor / 1e9,
            of_product: floor / whole,
            stages: None,
            rounds: self.rounds,
        }
    }
}

/// Rows that are sparse sums of twice as many directions as there are dimensions, plus a little noise.
fn activations(rows: usize, d: usize) -> Vec<f32> {
    let mut noise = noise(1);
    let directions: Vec<f32> = (0..2 * d * d).map(|_| noise() * (3.0 / d as f32).sqrt()).collect();
    let mut x = vec![0f32; rows * d];
    for row in x.chunks_mut(d) {
        for direction in directions.chunks(d) {
            let strength = noise();
            if strength > 0.95 {
                vector::axpy(1.0 + 20.0 * (strength - 0.95), direction, row);
            }
        }
        row.iter_mut().for_each(|v| *v += 0.05 * noise());
    }
    x
}

/// The pre-activation above which a token has `l0` features on average.
fn threshold(x: &[f32], params: &Params, l0: usize) -> f32 {
    let few = &x[..x.len().min(64 * params.d_in)];
    let panels = Panels::new(&params.w_enc, params.d_in);
    let found = select(few, &params.w_enc, &params.scalars[0], None, &panels, Rule::Over(0.0));
    let mut values = found.values().to_vec();
    values.sort_unstable_by(|a, b| b.total_cmp(a));
    values.get(l0 * few.len() / params.d_in).copied().unwrap_or_default()
}
