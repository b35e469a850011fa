//! `sae bench harvest`: tokens a second through a model, at its whole depth and at half of it, beside the rate of a product
//! of matrices alone.

use super::super::{Outcome, model};
use super::{median, noise, threads};
use crate::cli::terminal::{count, table};
use anyhow::{Result, bail};
use burn::tensor::{DType, Device, Distribution, Tensor};
use clap::Args;
use harvest::model::{Compute, Image, Input, Model, ModelConfig, Weights, flops};
use harvest::pixels::ImageProcessor;
use harvest::{Checkpoint, ComputeDtype};
use sae_core::autoencoder::kernel::product::product;
use sae_core::device::DeviceChoice;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// `sae bench harvest`
#[derive(Args, Debug)]
pub struct BenchHarvestArgs {
    /// Shape of the model, with random weights: llava-160m or llava-next-7b
    #[arg(long, default_value = "llava-160m", value_parser = ["llava-160m", "llava-next-7b"])]
    pub shape: String,
    /// A checkpoint in its place
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Samples of a batch, each with one image
    #[arg(long, default_value_t = 4)]
    pub samples: usize,
    /// Tokens of text in each
    #[arg(long, default_value_t = 128)]
    pub text: usize,
    /// What to compute in: f32 or bf16
    #[arg(long, default_value = "f32")]
    pub dtype: harvest::ComputeDtype,
    /// Rounds of product, whole depth and half depth
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
}

/// Sides of the product that stands for what the machine can do: as large as those of a batch through a 7B model's MLP.
const PRODUCT: [usize; 3] = [2_048, 2_048, 2_048];

/// Times the forward pass at whole and at half depth, and the floor, in turns.
pub fn harvest(args: &BenchHarvestArgs, dry: bool) -> Result<Outcome> {
    if args.rounds == 0 || args.samples == 0 {
        bail!("at least one round of one sample");
    }
    let (config, images, weights) = match &args.model {
        Some(name) => {
            let folder = &model::folder(name, dry)?;
            let checkpoint = Checkpoint::open(folder)?;
            (checkpoint.config().clone(), checkpoint.images().cloned(), Weights::open(folder)?)
        }
        None => {
            let (config, processor) = shape(&args.shape);
            let config = ModelConfig::parse(&config).map_err(anyhow::Error::msg)?;
            let vision = config.vision.as_ref();
            let images = vision.map(|vision| ImageProcessor::parse(processor, vision)).transpose();
            (config, images.map_err(anyhow::Error::msg)?, Weights::random())
        }
    };
    let blocks = config.text.layers.len();
    let inputs: Vec<Input> = (0..args.samples).map(|n| input(&config, images.as_ref(), args.text, n as u64)).collect();
    let inputs: Vec<&Input> = inputs.iter().collect();
    let tokens: usize = inputs.iter().map(|input| input.ids.len()).sum();
    let name = args.model.as_ref().map_or(args.shape.clone(), |folder| folder.display().to_string());
    let half = blocks / 2;
    let layers = [blocks - 1, half.max(1) - 1];
    let operations = layers.map(|layer| flops::operations(&config, &inputs, layer + 1));
    let plan = json!({
        "command": "bench harvest", "model": name, "architecture": config.architecture, "blocks": blocks,
        "samples": args.samples, "tokens": tokens, "dtype": args.dtype, "device": args.device.to_string(),
        "flops": operations[0],
    });
    if dry {
        return Outcome::plan(plan);
    }
    let device = args.device.open()?;
    let model = Model::load(&config, &weights, Some(blocks - 1), &Compute::on(&device, args.dtype.into()))?;
    let mut floor = Floor::new(&device, args.dtype);
    let (mut rates, mut seconds) = (Vec::new(), [Vec::new(), Vec::new()]);
    // The first round warms up.
    for round in 0..=args.rounds {
        let rate = floor.rate()?;
        for (layer, seconds) in layers.iter().zip(&mut seconds) {
            let start = Instant::now();
            model.hidden(&inputs, &[*layer])?;
            if round > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
        if round > 0 {
            rates.push(rate);
        }
    }
    let rate = median(rates);
    let mut found = plan;
    found["threads"] = threads().into();
    found["product_gflops"] = (rate / 1e9).into();
    let mut lines = vec![["depth", "ms", "tokens/s", "GFLOP/s", "of the product's"].map(String::from).to_vec()];
    for ((depth, seconds), flops) in ["whole", "half"].into_iter().zip(seconds).zip(operations) {
        let seconds = median(seconds);
        let tokens_per_s = tokens as f64 / seconds;
        found[depth] =
            json!({ "seconds": seconds, "tokens_per_s": tokens_per_s, "of_product": flops / seconds / rate });
        lines.push(vec![
            depth.into(),
            format!("{:.0}", 1e3 * seconds),
            count(tokens_per_s as u64),
            format!("{:.0}", flops / seconds / 1e9),
            format!("{:.0} %", 100.0 * flops / seconds / rate),
        ]);
    }
    found["tokens_per_s"] = found["whole"]["tokens_per_s"].clone();
    let mut accuracy = String::new();
    if args.dtype == ComputeDtype::Bf16 {
        let errors = errors(&model, &Model::load(&config, &weights, Some(blocks - 1), &exact(&device))?, inputs[0])?;
        let shown = [0, half, blocks - 1].map(|layer| format!("{:.4} behind block {layer}", errors[layer]));
        accuracy = format!("\nhidden states against f32, relative error: {}", shown.join(", "));
        found["relative_error_by_layer"] = errors.into();
    }
    let text = format!(
        "{name} in {}: {} samples, {} positions, {blocks} blocks, {}; medians of {} rounds\n\
         a product of {} x {} x {} alone: {:.0} GFLOP/s\n{}{accuracy}",
        if args.dtype == ComputeDtype::F32 { "f32" } else { "bf16" },
        args.samples,
        count(tokens as u64),
        if device == Device::flex() { format!("{} threads", threads()) } else { args.device.to_string() },
        args.rounds,
        PRODUCT[0],
        PRODUCT[1],
        PRODUCT[2],
        rate / 1e9,
        table(&lines),
    );
    Outcome::new(found, text)
}

/// The same place in `f32`.
fn exact(device: &Device) -> Compute {
    Compute::on(device, DType::F32)
}

/// `||a - b|| / ||b||` of the hidden states of two models behind every block.
fn errors(a: &Model, b: &Model, input: &Input) -> Result<Vec<f64>> {
    let layers: Vec<usize> = (0..a.config().text.layers.len()).collect();
    let (a, b) = (a.hidden(&[input], &layers)?, b.hidden(&[input], &layers)?);
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let of = |layer: &usize| {
        let (a, b) = (a.layer(*layer), b.layer(*layer));
        let difference = square(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        (difference / square(&mut b.iter().map(|b| f64::from(*b)))).sqrt()
    };
    Ok(layers.iter().map(of).collect())
}

/// A product of matrices alone, where the model computes.
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

    /// Operations a second.
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
                let failed = |e| anyhow::anyhow!("the device failed: {e:?}");
                sum.try_into_data().map_err(failed)?;
                2.0 * 64.0 * (n * n * k) as f64
            }
        };
        Ok(flops / start.elapsed().as_secs_f64())
    }
}

/// A sample with one image, where the model sees, and words behind it.
fn input(config: &ModelConfig, images: Option<&ImageProcessor>, words: usize, seed: u64) -> Input {
    let mut noise = noise(seed + 1);
    let image_token = config.vision.as_ref().map(|vision| vision.image_token_id);
    let image: Option<Image> = images.map(|images| images.blank(640, 480));
    let positions = image.as_ref().map_or(0, |image| image.sources.len());
    let mut ids: Vec<u32> = image_token.into_iter().flat_map(|id| std::iter::repeat_n(id, positions)).collect();
    let mut word = || ((noise() + 1.0) / 2.0 * (config.text.vocab_size - 1) as f32) as u32;
    while ids.len() < positions + words {
        ids.extend(Some(word()).filter(|word| Some(*word) != image_token));
    }
    Input { ids, images: image.into_iter().collect() }
}

/// `config.json` and `preprocessor_config.json` of a model of a known shape.
fn shape(name: &str) -> (Value, Value) {
    match name {
        // CLIP's ViT-B/16 in front of SmolLM2-135M's decoder.
        "llava-160m" => (
            json!({"model_type": "llava", "image_token_index": 49151,
                "vision_config": {"model_type": "clip_vision_model", "hidden_size": 384, "intermediate_size": 1536,
                    "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": 336, "patch_size": 14},
                "text_config": {"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
                    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
                    "max_position_embeddings": 8192}}),
            json!({"size": {"shortest_edge": 336}, "crop_size": 336}),
        ),
        _ => (
            json!({"model_type": "llava_next", "image_token_index": 32000,
                "text_config": {"model_type": "mistral", "vocab_size": 32064, "sliding_window": null}}),
            json!({"size": {"shortest_edge": 336}, "crop_size": 336}),
        ),
    }
}
