//! Measures a model's forward pass in tokens per second, at full depth and at half depth, and compares it with a matrix
//! product alone.

use super::model::{BenchModel, Found, input};
use super::{median, noise, threads};
use crate::control::Control;
use crate::{Error, Result};
use burn::tensor::{DType, Device, Distribution, Tensor};
use harvest::ComputeDtype;
use harvest::model::{Compute, Input, Model, ModelConfig, Weights, flops};
use sae_core::autoencoder::kernel::product::product;
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use serde::Serialize;
use std::time::Instant;

/// Sides of the matrix product that the model is compared with: those of a batch through the MLP of a 7B model.
pub const PRODUCT: [usize; 3] = [2_048, 2_048, 2_048];

/// Which forward pass to time.
#[derive(Clone, Debug)]
pub struct BenchHarvestRequest {
    /// The model.
    pub model: BenchModel,
    /// Samples of a batch, each with one image.
    pub samples: usize,
    /// Tokens of text in each.
    pub text: usize,
    /// The precision of the computation.
    pub dtype: ComputeDtype,
    /// Rounds of product, whole depth and half depth.
    pub rounds: usize,
    /// Where to compute.
    pub device: DeviceChoice,
}

/// What would be timed.
#[derive(Clone, Debug, Serialize)]
pub struct BenchHarvestPlan {
    /// `bench harvest`.
    pub command: &'static str,
    /// The model.
    pub model: String,
    /// Its architecture.
    pub architecture: String,
    /// Its decoder blocks.
    pub blocks: usize,
    /// Samples of the batch.
    pub samples: usize,
    /// Token positions of the batch.
    pub tokens: usize,
    /// The precision of the computation.
    pub dtype: ComputeDtype,
    /// The device.
    pub device: String,
    /// Floating-point operations of the whole depth.
    pub flops: f64,
}

/// What was timed; rates are medians of the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct BenchHarvestReport {
    /// What was run.
    #[serde(flatten)]
    pub plan: BenchHarvestPlan,
    /// Threads.
    pub threads: usize,
    /// GFLOP per second of the product alone.
    pub product_gflops: f64,
    /// The whole depth.
    pub whole: DepthRate,
    /// Half of it.
    pub half: DepthRate,
    /// Tokens per second of the whole depth.
    pub tokens_per_s: f64,
    /// In bf16, the relative error of the hidden states after every block, compared with f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_error_by_layer: Option<Vec<f64>>,
    /// Rounds.
    #[serde(skip)]
    pub rounds: usize,
    /// Whether it ran on a CPU.
    #[serde(skip)]
    pub on_cpu: bool,
}

/// How fast a depth of the model is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DepthRate {
    /// Seconds of the batch.
    pub seconds: f64,
    /// Tokens per second.
    pub tokens_per_s: f64,
    /// Its rate of operations as a share of the product's.
    pub of_product: f64,
    /// GFLOP per second.
    #[serde(skip)]
    pub gflops: f64,
}

/// A model that is ready to be loaded, with a batch for it.
struct Prepared {
    config: ModelConfig,
    weights: Weights,
    inputs: Vec<Input>,
    /// Operations of the whole depth and of half of it.
    operations: [f64; 2],
    plan: BenchHarvestPlan,
}

impl BenchHarvestRequest {
    /// What [`BenchHarvestRequest::run`] would time.
    ///
    /// # Errors
    /// A model that is not supported or has not been downloaded; invalid sizes.
    pub fn plan(&self) -> Result<BenchHarvestPlan> {
        Ok(self.prepare(None)?.plan)
    }

    /// Times the forward pass at full and at half depth, and the product, in turns.
    ///
    /// # Errors
    /// As [`BenchHarvestRequest::plan`]; a device that does not exist.
    pub fn run(&self, control: &mut Control) -> Result<BenchHarvestReport> {
        let Prepared { config, weights, inputs, operations, plan } = self.prepare(Some(control))?;
        let inputs: Vec<&Input> = inputs.iter().collect();
        let layers = layers(plan.blocks);
        let device = self.device.open()?;
        let load = |compute: &Compute| Model::load(&config, &weights, Some(plan.blocks - 1), compute);
        let model = load(&Compute::on(&device, self.dtype.into()))?;
        let mut floor = Floor::new(&device, self.dtype);
        let (mut rates, mut seconds) = (Vec::new(), [Vec::new(), Vec::new()]);
        // The first round is a warm-up.
        for round in 0..=self.rounds {
            let rate = floor.rate()?;
            for (layer, seconds) in layers.iter().zip(&mut seconds) {
                let start = Instant::now();
                model.hidden(&inputs, &[Hook::block(*layer)])?;
                if round > 0 {
                    seconds.push(start.elapsed().as_secs_f64());
                }
            }
            if round > 0 {
                rates.push(rate);
            }
        }
        let rate = median(rates);
        let depth = |seconds: Vec<f64>, operations: f64| {
            let seconds = median(seconds);
            let tokens_per_s = plan.tokens as f64 / seconds;
            let of_product = operations / seconds / rate;
            DepthRate { seconds, tokens_per_s, of_product, gflops: operations / seconds / 1e9 }
        };
        let [whole, half] = seconds;
        let (whole, half) = (depth(whole, operations[0]), depth(half, operations[1]));
        let relative_error_by_layer = match self.dtype {
            ComputeDtype::F32 => None,
            ComputeDtype::Bf16 => Some(errors(&model, &load(&exact(&device))?, inputs[0])?),
        };
        Ok(BenchHarvestReport {
            threads: threads(),
            product_gflops: rate / 1e9,
            tokens_per_s: whole.tokens_per_s,
            whole,
            half,
            relative_error_by_layer,
            rounds: self.rounds,
            on_cpu: device == Device::flex(),
            plan,
        })
    }

    fn prepare(&self, control: Option<&mut Control>) -> Result<Prepared> {
        if self.rounds == 0 || self.samples == 0 {
            return Err(Error::Bench { expected: "at least one round of one sample" });
        }
        let Found { name, config, images, weights } = self.model.open(control)?;
        let inputs = (0..self.samples).map(|n| input(&config, images.as_ref(), self.text, n as u64));
        let inputs: Vec<Input> = inputs.collect::<Result<_>>()?;
        let batch: Vec<&Input> = inputs.iter().collect();
        let blocks = config.text.layers.len();
        let operations = layers(blocks).map(|layer| flops::operations(&config, &batch, layer + 1));
        let plan = BenchHarvestPlan {
            command: "bench harvest",
            model: name,
            architecture: config.architecture.clone(),
            blocks,
            samples: self.samples,
            tokens: inputs.iter().map(|input| input.ids.len()).sum(),
            dtype: self.dtype,
            device: self.device.to_string(),
            flops: operations[0],
        };
        Ok(Prepared { config, weights, inputs, operations, plan })
    }
}

/// The last block, and the middle one.
fn layers(blocks: usize) -> [usize; 2] {
    [blocks - 1, (blocks / 2).max(1) - 1]
}

/// The same device in `f32`.
fn exact(device: &Device) -> Compute {
    Compute::on(device, DType::F32)
}

/// `||a - b|| / ||b||` of the hidden states of two models, after every block.
fn errors(a: &Model, b: &Model, input: &Input) -> Result<Vec<f64>> {
    let hooks: Vec<Hook> = (0..a.config().text.layers.len()).map(Hook::block).collect();
    let (a, b) = (a.hidden(&[input], &hooks)?, b.hidden(&[input], &hooks)?);
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let error = |layer: usize| {
        let (a, b) = (a.hook(layer), b.hook(layer));
        let difference = square(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        (difference / square(&mut b.iter().map(|b| f64::from(*b)))).sqrt()
    };
    Ok((0..hooks.len()).map(error).collect())
}

/// A matrix product alone, on the device of the model.
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum Floor {
    Host { a: Vec<f32>, b: Vec<f32>, c: Vec<f32> },
    Device { a: Tensor<2>, b: Tensor<2> },
}

impl Floor {
    fn new(device: &Device, dtype: ComputeDtype) -> Self {
        let [m, n, k] = PRODUCT;
        if *device == Device::flex() {
            let mut noise = noise(1);
            let mut values = |n: usize| (0..n).map(|_| noise()).collect::<Vec<f32>>();
            return Self::Host { a: values(m * k), b: values(n * k), c: vec![0.0; m * n] };
        }
        let dtype: DType = dtype.into();
        // Large enough to fill a GPU.
        let random = || Tensor::<2>::random([4 * n, 4 * k], Distribution::Normal(0.0, 1.0), device).cast(dtype);
        Self::Device { a: random(), b: random() }
    }

    /// Operations per second.
    fn rate(&mut self) -> Result<f64> {
        let [m, n, k] = PRODUCT;
        let start = Instant::now();
        let flops = match self {
            Self::Host { a, b, c } => {
                product([m, n, k], (a, [k, 1]), (b, [k, 1]), (c, [n, 1]), false);
                2.0 * (m * n * k) as f64
            }
            Self::Device { a, b } => {
                let sum = a.clone().matmul(b.clone()).slice([0..1, 0..1]);
                let failed = |e| sae_core::Error::device(format!("the device failed: {e:?}"));
                sum.try_into_data().map_err(failed)?;
                2.0 * 64.0 * (n * n * k) as f64
            }
        };
        Ok(flops / start.elapsed().as_secs_f64())
    }
}
