//! The training step in Burn's autodiff, dense, on any device. It is also the reference for tests of the other engines:
//! every loss is written as in its paper, and the gradients are Burn's.

use super::adam::Parameter;
use super::config::{Decoder, JumpReluPenalty, TrainConfig};
use super::engine::{Batch, Engine, StepStats, TrainState, aux_weight, clipped, finite};
use super::params::{ARRAYS, B_ENC, B_MAG, Params, R_MAG, SCALARS, THRESHOLD};
use crate::autoencoder::Architecture;
use crate::device::failed;
use crate::{Error, Result};
use burn::tensor::activation::relu;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use std::borrow::Cow;

/// The step on a device.
pub struct AutodiffEngine {
    config: TrainConfig,
    device: Device,
    d_in: usize,
    d_out: usize,
    d_sae: usize,
    /// In the order of [`Params::arrays`]: `W_enc` `[d_sae, d_in]`, `W_dec` `[d_sae, d_out]`, `b_dec` `[1, d_out]`, numbers
    /// `[1, d_sae]`, `W_skip` `[d_out, d_in]`.
    parameters: Vec<Option<Parameter>>,
}

impl AutodiffEngine {
    /// An engine that starts with these parameters.
    pub fn new(config: &TrainConfig, params: Params, device: &Device) -> Self {
        let zeros = Params::zeros(params.d_in, config);
        let state = TrainState { params, first: zeros.clone(), second: zeros, l0: None };
        let (config, device) = (config.clone(), device.clone());
        let mut plain = Self { config, device, d_in: 0, d_out: 0, d_sae: 0, parameters: Vec::new() };
        plain.take(&state);
        plain
    }

    fn take(&mut self, state: &TrainState) {
        let TrainState { params, first, second, .. } = state;
        (self.d_in, self.d_out, self.d_sae) = (params.d_in, params.d_out, params.d_sae);
        let columns = [self.d_in, self.d_out, self.d_out, self.d_sae, self.d_sae, self.d_sae, self.d_in];
        let arrays = params.arrays().into_iter().zip(first.arrays()).zip(second.arrays()).zip(columns);
        self.parameters = arrays
            .map(|(((value, first), second), columns)| {
                let tensor = |values: &[f32]| self.tensor(values, columns);
                (!value.is_empty()).then(|| Parameter {
                    value: tensor(value),
                    first: tensor(first),
                    second: tensor(second),
                })
            })
            .collect();
    }

    fn tensor(&self, values: &[f32], columns: usize) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / columns, columns]), &self.device)
    }

    /// Entries that are among the `k` largest of all, or of their row. The device's sort breaks ties.
    fn strongest(&self, values: Tensor<2>, k: usize, by_row: bool) -> Tensor<2, Bool> {
        let [rows, columns] = values.dims();
        let flat = if by_row { values.clone() } else { values.clone().reshape([1, rows * columns]) };
        let [lines, width] = flat.dims();
        let (_, indices) = flat.topk_with_indices(k.min(width), 1);
        let ones = Tensor::<2>::ones(indices.dims(), &self.device);
        let chosen = Tensor::<2>::zeros([lines, width], &self.device);
        let chosen = chosen.scatter(1, indices, ones, burn::tensor::IndexingUpdateOp::Add);
        chosen.reshape([rows, columns]).greater_elem(0.5)
    }
}

/// The value of `x` with the gradient of `surrogate`: a straight-through estimator.
fn straight_through(x: Tensor<2>, surrogate: Tensor<2>) -> Tensor<2> {
    surrogate.clone() + (x - surrogate).detach()
}

impl Engine for AutodiffEngine {
    fn step(&mut self, batch: &Batch) -> Result<StepStats> {
        let config = &self.config;
        let rows = batch.x.len() / self.d_in;
        let tracked: Vec<Option<Tensor<2>>> = self
            .parameters
            .iter()
            .map(|p| p.as_ref().map(|p| Tensor::from_inner(p.value.clone()).require_grad()))
            .collect();
        let parameter = |n: usize| tracked[n].clone().expect("every architecture has the parameters it names");
        let number = |s: usize| parameter(3 + s);
        let (w_enc, w_dec, b_dec) = (parameter(0), parameter(1), parameter(2));
        let x: Tensor<2> = Tensor::from_inner(self.tensor(batch.x, self.d_in));
        let y: Tensor<2> = Tensor::from_inner(self.tensor(batch.y, self.d_out));
        let norms_of = |rows: Tensor<2>| rows.square().sum_dim(1).sqrt();
        let norms = if config.models == 1 {
            // Without the sum over one block, whose kernel Burn 0.22 cannot make for a GPU.
            norms_of(w_dec.clone())
        } else {
            let blocks = w_dec.clone().reshape([self.d_sae * config.models, self.d_out / config.models]);
            norms_of(blocks).reshape([self.d_sae, config.models]).sum_dim(1)
        };
        let norms = norms.transpose();
        let input = if config.subtract_b_dec { x.clone() - b_dec.clone() } else { x.clone() };
        let inner = input.matmul(w_enc.transpose());
        let p = inner.clone() + number(B_ENC);
        let mean = |t: Tensor<2>| t.sum() / rows as f64;
        // What every reconstruction has: the bias, and the skip connection of a transcoder.
        let shared = match &tracked[3 + SCALARS] {
            Some(w_skip) => x.clone().matmul(w_skip.clone().transpose()) + b_dec.clone(),
            None => b_dec.clone(),
        };
        let decode = |z: Tensor<2>| z.matmul(w_dec.clone()) + shared.clone();
        let square = |z: Tensor<2>| (decode(z) - y.clone()).square();

        // Activations, the sparsity penalty, and the error of an additional reconstruction.
        let mut extra: Option<Tensor<1>> = None;
        let ranked = if config.weighs_by_norm() { p.clone() * norms.clone() } else { p.clone() };
        let mut least = None;
        let k = config.k_at(batch.t - 1, self.d_sae);
        let (z, penalty) = match config.arch {
            Architecture::Relu => {
                let z = relu(p.clone());
                (z.clone(), Some(mean(z * norms.clone())))
            }
            Architecture::TopK => {
                let chosen = self.strongest(ranked.clone().inner(), k, true);
                (relu(p.clone()) * Tensor::from_inner(chosen.float()), None)
            }
            Architecture::BatchTopK | Architecture::Matryoshka => {
                let positive = relu(ranked.clone().inner());
                let chosen = self.strongest(positive.clone(), k * rows, false);
                let kept = positive * chosen.clone().float();
                let over = kept.clone().mask_fill(kept.lower_equal_elem(0.0), f32::MAX);
                least = Some(scalar(over.min())?).filter(|v| *v < f64::from(f32::MAX)).map(|v| v as f32);
                (relu(p.clone()) * Tensor::from_inner(chosen.float()), None)
            }
            Architecture::JumpRelu => {
                let threshold = number(THRESHOLD);
                let gate = p.clone().inner().greater(threshold.clone().inner().expand([rows, self.d_sae])).float();
                let gate = Tensor::from_inner(gate);
                let apart = p.clone().inner() - threshold.clone().inner();
                let window = apart.abs().lower_elem(0.5 * config.bandwidth).float();
                let window = Tensor::from_inner(window) / config.bandwidth;
                // d z / d threshold = -threshold / bandwidth in the window, d H / d threshold = -1 / bandwidth.
                let slope = window.clone() * threshold.clone().detach() * threshold.clone();
                let z = straight_through(p.clone() * gate.clone(), p.clone() * gate.clone() - slope);
                let penalty = match config.jumprelu_penalty {
                    JumpReluPenalty::Tanh => mean((z.clone() * norms.clone() * config.tanh_scale).tanh()),
                    JumpReluPenalty::Step | JumpReluPenalty::Quadratic => {
                        let step = straight_through(gate, -(window * threshold));
                        let l0 = step.sum_dim(1);
                        match config.jumprelu_penalty {
                            JumpReluPenalty::Quadratic => {
                                mean((l0 - config.target_l0).square() * (2.0 / config.target_l0))
                            }
                            _ => mean(l0),
                        }
                    }
                };
                (z, Some(penalty))
            }
            Architecture::Gated => {
                let gate = Tensor::from_inner(p.clone().inner().greater_elem(0.0).float());
                let magnitude = inner * number(R_MAG).exp() + number(B_MAG);
                let open = relu(p.clone());
                extra = Some(mean(square(open.clone())));
                (gate * relu(magnitude), Some(mean(open * norms.clone())))
            }
        };
        let error = decode(z.clone()) - y.clone();
        let squares = error.clone().square();
        let mse = mean(squares.clone());
        let mut errors = mse.clone();
        for end in &batch.ends[..batch.ends.len() - 1] {
            let prefix = z.clone().narrow(1, 0, *end).matmul(w_dec.clone().narrow(0, 0, *end)) + shared.clone();
            errors = errors + mean((prefix - y.clone()).square());
        }
        if let Some(extra) = extra {
            errors = errors + extra;
        }
        let mut loss = errors.clone();
        if let Some(penalty) = &penalty {
            loss = loss + penalty.clone() * batch.sparsity;
        }
        let mut aux = None;
        if config.is_topk() && config.aux_loss_coefficient > 0.0 && !batch.dead.is_empty() {
            let k = config.aux_k(self.d_out);
            let residual = error.clone().detach();
            let error = if config.aux_relative { values(residual.clone().inner())? } else { Vec::new() };
            let weight = aux_weight(config, k, batch.dead.len(), &error, self.d_out);
            let features: Vec<i64> = batch.dead.iter().map(|k| i64::from(*k)).collect();
            let shape = [features.len()];
            let dead: Tensor<1, Int> = Tensor::from_data(TensorData::new(features, shape), &self.device);
            let of_dead = |t: Tensor<2>, dim: usize| t.select(dim, Tensor::from_inner(dead.clone()));
            let chosen = self.strongest(of_dead(ranked, 1).inner(), k.min(batch.dead.len()), true);
            let p = of_dead(p, 1);
            let acts = if config.aux_relative { relu(p) } else { p } * Tensor::from_inner(chosen.float());
            let remaining = acts.matmul(of_dead(w_dec.clone(), 0)) + residual;
            let term = mean(remaining.square()) * (config.aux_loss_coefficient * weight);
            loss = loss + term.clone();
            aux = Some(term);
        }

        let mut outcome = StepStats {
            mse: scalar(mse)?,
            errors: scalar(errors)?,
            penalty: penalty.map(scalar).transpose()?.unwrap_or_default(),
            aux: aux.map(scalar).transpose()?.unwrap_or_default(),
            least,
            token_errors: values(squares.inner().sum_dim(1))?,
            ..StepStats::default()
        };
        finite(&outcome, batch)?;
        let fired = values(z.inner().greater_elem(0.0).float().sum_dim(0))?;
        outcome.l0 = fired.iter().map(|n| f64::from(*n)).sum::<f64>() / rows as f64;
        outcome.fired = fired.iter().map(|n| *n > 0.0).collect();

        let gradients = loss.backward();
        let mut gradients: Vec<Option<Tensor<2>>> = tracked
            .iter()
            .map(|p| p.as_ref().map(|p| p.grad(&gradients).unwrap_or_else(|| p.clone().inner().zeros_like())))
            .collect();
        if config.decoder == Decoder::Unit {
            let row = self.parameters[1].as_ref().expect("there is a decoder").value.clone();
            let gradient = gradients[1].take().expect("there is a decoder");
            let along = (gradient.clone() * row.clone()).sum_dim(1) / row.clone().square().sum_dim(1);
            gradients[1] = Some(gradient - row * along);
        }
        let mut sum = 0.0;
        for gradient in gradients.iter().flatten() {
            sum += scalar(gradient.clone().square().sum())?;
        }
        outcome.grad_norm = sum.sqrt();
        let shrink = clipped(config, outcome.grad_norm, batch)?;
        for (parameter, gradient) in self.parameters.iter_mut().zip(gradients) {
            if let (Some(old), Some(gradient)) = (parameter.take(), gradient) {
                *parameter = Some(old.step(config, gradient * shrink, batch.lr, batch.t));
            }
        }
        if config.decoder == Decoder::Unit {
            let decoder = self.parameters[1].as_mut().expect("there is a decoder");
            let norms = decoder.value.clone().square().sum_dim(1).sqrt();
            decoder.value = decoder.value.clone() / norms;
        }
        if config.arch == Architecture::JumpRelu {
            let threshold = self.parameters[3 + THRESHOLD].as_mut().expect("JumpReLU has thresholds");
            threshold.value = threshold.value.clone().clamp_min(0.0);
        }
        Ok(outcome)
    }

    fn state(&self) -> Result<Cow<'_, TrainState>> {
        let mut state = TrainState::default();
        let all = [&mut state.params, &mut state.first, &mut state.second];
        for (n, params) in all.into_iter().enumerate() {
            (params.d_in, params.d_out, params.d_sae) = (self.d_in, self.d_out, self.d_sae);
            debug_assert_eq!(self.parameters.len(), ARRAYS);
            for (array, parameter) in params.arrays_mut().into_iter().zip(&self.parameters) {
                if let Some(p) = parameter {
                    *array = values([&p.value, &p.first, &p.second][n].clone())?;
                }
            }
        }
        Ok(Cow::Owned(state))
    }

    fn restore(&mut self, state: TrainState) -> Result<()> {
        self.take(&state);
        Ok(())
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let data = tensor.try_into_data().map_err(failed)?;
    data.try_into_vec().map_err(|e| Error::device(format!("the device returned other data than f32: {e:?}")))
}

fn scalar(tensor: Tensor<1>) -> Result<f64> {
    Ok(f64::from(values(tensor)?[0]))
}
