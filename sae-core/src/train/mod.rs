//! Training: from a stored hook's activations to an autoencoder, with a log. Plain Burn autodiff, on any device.
//!
//! Where the method has been published as one thing and released as another, this follows `TrainConfig`'s documentation.
//! Never reads a model and never writes into the store.

mod config;
mod log;

pub use config::{Exclude, TrainConfig};
pub use log::{Log, StepLog, read_log};

use crate::adam::{Adam, Parameter};
use crate::sae::Weights;
use crate::store::Store;
use crate::stream::Stream;
use crate::{Error, Result};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use std::time::Instant;

/// Trains an autoencoder and returns its weights in the units of the store; `report` sees every step.
///
/// # Errors
/// A configuration that makes no sense, an unreadable store, a device that fails, or a loss that is no longer finite.
pub fn train(
    store: &Store,
    config: &TrainConfig,
    device: &Device,
    report: &mut dyn FnMut(&StepLog),
) -> Result<Weights> {
    let d = store.manifest().d_in;
    config.check(d)?;
    let scale = input_scale(d, store.manifest().mean_norm)?;
    let mut stream = Stream::new(store, config.buffer, rng(config.seed, 1))?;
    let mut trainer = Trainer::new(d, config, device);
    let mut batch = Vec::with_capacity(config.batch * d);
    for step in 0..config.steps {
        let start = Instant::now();
        batch.clear();
        stream.next(config.batch, &mut batch)?;
        batch.iter_mut().for_each(|v| *v *= scale);
        let mut entry = trainer.step(step, &batch)?;
        entry.tokens_per_s = config.batch as f64 / start.elapsed().as_secs_f64();
        report(&entry);
    }
    trainer.weights(scale)
}

/// `sqrt(d_in) / mean_norm`: scaled inputs have a mean norm of `sqrt(d_in)`.
fn input_scale(d_in: usize, mean_norm: f64) -> Result<f32> {
    let scale = ((d_in as f64).sqrt() / mean_norm) as f32;
    match scale.is_normal() {
        true => Ok(scale),
        false => Err(Error::Config(format!("activations of mean norm {mean_norm} cannot be scaled"))),
    }
}

/// Independent random numbers for each purpose, from one seed.
fn rng(seed: u64, purpose: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose);
    rng
}

/// Decoder rows uniformly random, scaled to norm `init_norm`; the encoder its transpose; biases zero.
fn initial(d_in: usize, config: &TrainConfig) -> Weights {
    let d_sae = config.d_sae(d_in);
    let mut rng = rng(config.seed, 0);
    let mut w_dec: Vec<f32> = (0..d_sae * d_in).map(|_| rng.random_range(-1.0..1.0)).collect();
    for row in w_dec.chunks_exact_mut(d_in) {
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        row.iter_mut().for_each(|v| *v *= config.init_norm as f32 / norm);
    }
    let w_enc = w_dec.clone();
    Weights { d_in, d_sae, w_enc, b_enc: vec![0.0; d_sae], w_dec, b_dec: vec![0.0; d_in], ..Weights::default() }
}

/// The state of a run: parameters with their moments, and when each feature last fired.
struct Trainer<'a> {
    config: &'a TrainConfig,
    device: &'a Device,
    d_in: usize,
    /// `W_enc [d_sae, d_in]`, `b_enc [1, d_sae]`, `W_dec [d_sae, d_in]`, `b_dec [1, d_in]`
    parameters: [Parameter; 4],
    last_fired: Vec<u64>,
}

impl<'a> Trainer<'a> {
    fn new(d_in: usize, config: &'a TrainConfig, device: &'a Device) -> Self {
        let d_sae = config.d_sae(d_in);
        let w = initial(d_in, config);
        let parameter = |values: Vec<f32>, shape: [usize; 2]| {
            Parameter::new(Tensor::from_data(TensorData::new(values, shape), device))
        };
        let parameters = [
            parameter(w.w_enc, [d_sae, d_in]),
            parameter(w.b_enc, [1, d_sae]),
            parameter(w.w_dec, [d_sae, d_in]),
            parameter(w.b_dec, [1, d_in]),
        ];
        Self { config, device, d_in, parameters, last_fired: vec![0; d_sae] }
    }

    /// One step on scaled inputs `[batch, d_in]`.
    fn step(&mut self, step: u64, batch: &[f32]) -> Result<StepLog> {
        let rows = batch.len() / self.d_in;
        let (lr, l1) = (self.config.lr_at(step), self.config.sparsity_at(step));
        let tracked = |p: &Parameter| Tensor::from_inner(p.value.clone()).require_grad();
        let tracked = self.parameters.each_ref().map(tracked);
        let [w_enc, b_enc, w_dec, b_dec] = tracked.clone();

        let x: Tensor<2> =
            Tensor::from_inner(Tensor::from_data(TensorData::new(batch.to_vec(), [rows, self.d_in]), self.device));
        let z = burn::tensor::activation::relu(x.clone().matmul(w_enc.transpose()) + b_enc);
        let error = z.clone().matmul(w_dec.clone()) + b_dec - x;
        let mse = error.square().sum() / rows as f64;
        let norms = w_dec.square().sum_dim(1).sqrt();
        let penalty = z.clone().matmul(norms).sum() / rows as f64;
        let loss = mse.clone() + penalty.clone() * l1;
        let gradients = loss.backward();

        let (mse, penalty) = (scalar(mse)?, scalar(penalty)?);
        let loss = mse + l1 * penalty;
        if !loss.is_finite() {
            let cause = format!("the loss is {loss} at step {step}\nhint: a lower --lr than {}", self.config.lr);
            return Err(Error::Config(cause));
        }
        let gradients = tracked.map(|p| p.grad(&gradients).expect("every parameter takes part in the loss"));
        let mut squares = 0.0;
        for gradient in &gradients {
            squares += scalar(gradient.clone().square().sum())?;
        }
        let grad_norm = squares.sqrt();
        let shrink = (self.config.clip / (grad_norm + 1e-6)).min(1.0);
        for (parameter, gradient) in self.parameters.iter_mut().zip(gradients) {
            let old = parameter.clone();
            *parameter = old.step(&Adam::default(), gradient * shrink, lr, step + 1);
        }

        let fired = z.inner().greater_scalar(0.0).float().sum_dim(0);
        let fired: Vec<f32> = values(fired)?;
        for (last, _) in self.last_fired.iter_mut().zip(&fired).filter(|(_, n)| **n > 0.0) {
            *last = step + 1;
        }
        let dead = self.last_fired.iter().filter(|last| step + 1 - **last >= self.config.dead_window).count();
        Ok(StepLog {
            step: step + 1,
            tokens: (step + 1) * self.config.batch as u64,
            loss,
            mse,
            l1: penalty,
            l0: fired.iter().map(|n| *n as f64).sum::<f64>() / rows as f64,
            fvu: mse * rows as f64 / total_variance(batch, self.d_in),
            dead: dead as f64 / self.last_fired.len() as f64,
            grad_norm,
            lr,
            l1_coefficient: l1,
            tokens_per_s: 0.0,
        })
    }

    /// The weights with the input scale `s` folded in: `W_enc * s`, `W_dec / s`, `b_dec / s`.
    fn weights(self, scale: f32) -> Result<Weights> {
        let d_sae = self.last_fired.len();
        let [w_enc, b_enc, w_dec, b_dec] = self.parameters.map(|p| values(p.value));
        let times = |mut v: Vec<f32>, by: f32| {
            v.iter_mut().for_each(|x| *x *= by);
            v
        };
        Ok(Weights {
            d_in: self.d_in,
            d_sae,
            w_enc: times(w_enc?, scale),
            b_enc: b_enc?,
            w_dec: times(w_dec?, 1.0 / scale),
            b_dec: times(b_dec?, 1.0 / scale),
            ..Weights::default()
        })
    }
}

/// `sum |x - mean|^2` over a batch.
fn total_variance(batch: &[f32], d_in: usize) -> f64 {
    let rows = (batch.len() / d_in) as f64;
    let (mut sums, mut squares) = (vec![0f64; d_in], 0f64);
    for row in batch.chunks_exact(d_in) {
        for (sum, v) in sums.iter_mut().zip(row) {
            *sum += *v as f64;
            squares += (*v as f64).powi(2);
        }
    }
    (squares - sums.iter().map(|s| s * s).sum::<f64>() / rows).max(f64::MIN_POSITIVE)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let data = tensor.try_into_data().map_err(|e| Error::Device(format!("the device failed: {e}")))?;
    data.try_into_vec().map_err(|e| Error::Device(format!("the device returned other data than f32: {e:?}")))
}

fn scalar(tensor: Tensor<1>) -> Result<f64> {
    Ok(values(tensor)?[0] as f64)
}

#[cfg(test)]
mod tests;
