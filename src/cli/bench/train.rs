//! `sae bench train`: a training step beside the encoder's product alone.

use super::super::Outcome;
use super::{median, noise, threads};
use crate::cli::terminal::{count, table};
use anyhow::{Result, bail};
use burn::tensor::Device;
use clap::Args;
use sae_core::autoencoder::Architecture;
use sae_core::autoencoder::kernel::product::product;
use sae_core::autoencoder::kernel::{Panels, Rule, select};
use sae_core::device::DeviceChoice;
use sae_core::train::cpu::{CpuEngine, STAGES};
use sae_core::train::engine::{Batch, Engine};
use sae_core::train::{Decoder, Params, TrainConfig};
use sae_core::vector;
use serde_json::json;
use std::time::Instant;

/// `sae bench train`
#[derive(Args, Debug)]
pub struct BenchTrainArgs {
    /// Architecture: relu, topk, batch-topk, jumprelu, gated or matryoshka
    #[arg(long, default_value = "topk")]
    pub arch: Architecture,
    /// Width of the residual stream
    #[arg(long, default_value_t = 512)]
    pub d_in: usize,
    /// Number of features
    #[arg(long, default_value_t = 8_192)]
    pub features: usize,
    /// Active features a token, where they are chosen
    #[arg(long, default_value_t = 32)]
    pub k: usize,
    /// Active features a token, where they pass a threshold (relu, jumprelu, gated)
    #[arg(long, default_value_t = 32)]
    pub l0: usize,
    /// Tokens a step
    #[arg(long, default_value_t = 1_024)]
    pub batch: usize,
    /// Share of the features that are dead, for AuxK
    #[arg(long, default_value_t = 0.0)]
    pub dead: f64,
    /// relu, jumprelu, gated: make the step dense, or sparse, whatever L0 is
    #[arg(long)]
    pub dense: Option<bool>,
    /// Rounds of product and step
    #[arg(long, default_value_t = 15)]
    pub rounds: usize,
    /// Where to compute: cpu, or (topk, batch-topk, matryoshka) cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
}

/// `sae bench train`: tokens a second, the share of each stage, and the encoder's `f32` product alone.
pub fn train(args: &BenchTrainArgs, dry: bool) -> Result<Outcome> {
    let (d, f, rows) = (args.d_in, args.features, args.batch);
    let config = TrainConfig {
        features: f,
        k: args.k,
        batch: rows,
        lr: 1e-5,
        decoder: Decoder::Unit,
        sparsity_warmup_steps: 0,
        l1_coefficient: 1e-4,
        l0_coefficient: 1e-4,
        ..TrainConfig::for_architecture(args.arch)
    };
    config.check(d)?;
    if args.rounds == 0 || !(0.0..=1.0).contains(&args.dead) {
        bail!("at least one round, and a share of dead features between 0 and 1");
    }
    if dry {
        return Outcome::plan(json!({ "command": "bench train", "d_in": d, "rounds": args.rounds, "config": config }));
    }
    let device = args.device.open()?;
    let x = activations(rows, d);
    let mut params = Params::initial(d, &config);
    #[cfg(feature = "cuda")]
    if device != Device::flex() {
        return on_gpu(args, &config, params, &x, &device);
    }
    debug_assert!(device == Device::flex());
    if !config.is_topk() {
        let bias = -threshold(&x, &params, args.l0);
        params.scalars[0].fill(bias);
    }
    let w_enc = params.w_enc.clone();
    let mut fused = CpuEngine::new(&config, params);
    if let Some(dense) = args.dense {
        fused.force(dense);
    }
    let dead: Vec<u32> = (0..f as u32).take((args.dead * f as f64) as usize).collect();
    let ends = if args.arch == Architecture::Matryoshka { config.prefixes(f) } else { vec![f] };
    let mut dense = vec![0f32; rows * f];
    let (mut floor, mut whole, mut stages, mut l0) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    // The first round warms up.
    for t in 1..=args.rounds as u64 + 1 {
        let start = Instant::now();
        product([rows, f, d], (&x, [d, 1]), (&w_enc, [d, 1]), (&mut dense, [f, 1]), false);
        let alone = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let batch = Batch { x: &x, t, lr: config.lr, sparsity: config.sparsity_at(0), ends: &ends, dead: &dead };
        let outcome = fused.step(&batch)?;
        if t > 1 {
            floor.push(alone);
            whole.push(start.elapsed().as_secs_f64());
            stages.push(fused.seconds());
        }
        l0 = outcome.l0;
    }
    let (floor, whole) = (median(floor), median(whole));
    let stage = |n: usize| median(stages.iter().map(|s| s[n]).collect());
    let tokens_per_s = rows as f64 / whole;
    let flops = 2.0 * (rows * d * f) as f64;
    let json = json!({
        "arch": args.arch, "d_in": d, "features": f, "k": args.k, "l0": l0, "batch": rows, "dead": dead.len(),
        "threads": threads(), "tokens_per_s": tokens_per_s, "seconds": whole,
        "product_seconds": floor, "product_tokens_per_s": rows as f64 / floor, "product_gflops": flops / floor / 1e9,
        "of_product": floor / whole,
        "stages": STAGES.iter().enumerate().map(|(n, name)| (name.to_string(), json!(stage(n)))).collect::<serde_json::Map<_, _>>(),
    });
    let mut lines = vec![["stage", "ms", "share"].map(String::from).to_vec()];
    for (n, name) in STAGES.iter().enumerate() {
        lines.push(vec![
            (*name).into(),
            format!("{:.1}", 1e3 * stage(n)),
            format!("{:.0} %", 100.0 * stage(n) / whole),
        ]);
    }
    let text = format!(
        "{} d_in {d}, {} features, L0 {l0:.1}, batch {}, {} dead, {} threads; medians of {} rounds\n\
         step     {:.1} ms = {} tokens/s\n\
         product  {:.1} ms = {} tokens/s = {:.0} GFLOP/s, the encoder's in f32 alone: {:.0} % of it reached\n{}",
        args.arch.name(),
        count(f as u64),
        count(rows as u64),
        count(dead.len() as u64),
        threads(),
        args.rounds,
        1e3 * whole,
        count(tokens_per_s as u64),
        1e3 * floor,
        count((rows as f64 / floor) as u64),
        flops / floor / 1e9,
        100.0 * floor / whole,
        table(&lines),
    );
    Outcome::new(json, text)
}

/// The same on a GPU: the floor is the encoder's bf16 product alone, waited for on both sides, as the step is.
#[cfg(feature = "cuda")]
fn on_gpu(args: &BenchTrainArgs, config: &TrainConfig, params: Params, x: &[f32], device: &Device) -> Result<Outcome> {
    if !config.is_topk() {
        bail!("on a GPU only topk, batch-topk and matryoshka have a step of their own\nhint: --device cpu");
    }
    let (d, f, rows) = (args.d_in, args.features, args.batch);
    let mut sparse = sae_core::train::gpu::sparse(config, params, device)?;
    let dead: Vec<u32> = (0..f as u32).take((args.dead * f as f64) as usize).collect();
    let ends = if args.arch == Architecture::Matryoshka { config.prefixes(f) } else { vec![f] };
    let (mut floor, mut whole, mut l0) = (Vec::new(), Vec::new(), 0.0);
    // The first round compiles the kernels and warms up.
    for t in 1..=args.rounds as u64 + 1 {
        let alone = sparse.product_seconds(x)?;
        let start = Instant::now();
        let batch = Batch { x, t, lr: config.lr, sparsity: 0.0, ends: &ends, dead: &dead };
        let outcome = sparse.step(&batch)?;
        sparse.wait()?;
        if t > 1 {
            floor.push(alone);
            whole.push(start.elapsed().as_secs_f64());
        }
        l0 = outcome.l0;
    }
    let (floor, whole) = (median(floor), median(whole));
    let flops = 2.0 * (rows * d * f) as f64;
    let json = json!({
        "arch": args.arch, "device": args.device.to_string(), "d_in": d, "features": f, "k": args.k, "l0": l0,
        "batch": rows, "dead": dead.len(), "tokens_per_s": rows as f64 / whole, "seconds": whole,
        "product_seconds": floor, "product_tokens_per_s": rows as f64 / floor, "product_gflops": flops / floor / 1e9,
        "of_product": floor / whole,
    });
    let text = format!(
        "{} d_in {d}, {} features, L0 {l0:.1}, batch {}, {} dead, {}; medians of {} rounds\n\
         step     {:.1} ms = {} tokens/s\n\
         product  {:.1} ms = {} tokens/s = {:.0} GFLOP/s, the encoder's in bf16 alone: {:.0} % of it reached",
        args.arch.name(),
        count(f as u64),
        count(rows as u64),
        count(dead.len() as u64),
        args.device,
        args.rounds,
        1e3 * whole,
        count((rows as f64 / whole) as u64),
        1e3 * floor,
        count((rows as f64 / floor) as u64),
        flops / floor / 1e9,
        100.0 * floor / whole,
    );
    Outcome::new(json, text)
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
