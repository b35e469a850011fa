//! `sae bench`: the speed of this machine, compared with a lower bound.

use super::{Invocation, Outcome};
use crate::cli::terminal::{count, table};
use anyhow::Result;
use clap::{Args, Subcommand};
use harvest::ComputeDtype;
use sae_core::autoencoder::Architecture;
use sae_core::device::DeviceChoice;
use sae_workbench::bench::{
    BenchGenerateReport, BenchGenerateRequest, BenchHarvestReport, BenchHarvestRequest, BenchModel, BenchScoreReport,
    BenchScoreRequest, BenchServeReport, BenchServeRequest, BenchTrainReport, BenchTrainRequest, ModelShape, PRODUCT,
    Stages,
};
use std::path::PathBuf;

/// `sae bench`
#[derive(Subcommand, Debug)]
pub enum Bench {
    /// Measure a training step and, in turns with it, the matrix product of the encoder alone
    #[command(after_help = "\
Examples:
  sae bench train                                             topk, d_in 512, 8,192 features, k 32, batch 1,024
  sae bench train --arch relu --l0 200
  sae bench train --arch batch-topk --models 2 --d-in 1024    a crosscoder of two models of width 512
  sae bench train --d-in 768 --features 32768 --k 64 --batch 2048 --json")]
    Train(BenchTrainArgs),
    /// Measure a model's forward pass, at full and at half depth, and, in turns with it, a matrix product alone
    #[command(after_help = "\
Examples:
  sae bench harvest                                           a LLaVA of 160M random parameters in f32
  sae bench harvest --dtype bf16
  sae bench harvest --model llava-1.5-7b-hf --samples 1 --json
  sae bench harvest --shape llava-next-7b --dtype bf16 --device cuda")]
    Harvest(BenchHarvestArgs),
    /// Measure how fast a model reads prompts and writes answers on the CPU and, in turns with it, how fast memory is read
    #[command(after_help = "\
Each token of an answer needs all weights once, for one prompt as for several at the same time. The rate of the memory is what that \
would allow if nothing else took time.

Examples:
  sae bench generate                                          a decoder of 135M random parameters in f32
  sae bench generate --model SmolLM2-135M-Instruct --dtype bf16
  sae bench generate --batch 1,4,16 --prompt 512 --tokens 32 --json")]
    Generate(BenchGenerateArgs),
    /// Measure scoring (pass, cross-modal weights, scores, pmi) and, in turns with it, the encoder's matrix product over the same shards
    #[command(after_help = "\
Examples:
  sae bench score                                             topk, d_in 512, 8,192 features, k 32, 32,768 tokens
  sae bench score --d-in 64 --features 65536 --tokens 1200000 --rounds 1 --json")]
    Score(BenchScoreArgs),
    /// Measure how long the pages of `sae serve` take on a run of a given size, with synthetic tables
    #[command(after_help = "\
Examples:
  sae bench serve                                             65,536 features, 1,000,000 samples of 16 tokens (3 GB on disk)
  sae bench serve --features 8192 --samples 20000 --json
  sae bench serve --run /tmp/synthetic                          the run stays, and is used again")]
    Serve(BenchServeArgs),
}

/// `sae bench train`
#[derive(Args, Debug)]
pub struct BenchTrainArgs {
    /// Architecture: relu, topk, batch-topk, jumprelu, gated or matryoshka
    #[arg(long, default_value = "topk")]
    pub arch: Architecture,
    /// Models that are read at once: more than 1 for a crosscoder (--arch batch-topk)
    #[arg(long, default_value_t = 1)]
    pub models: usize,
    /// Width of the residual stream, of all models together
    #[arg(long, default_value_t = 512)]
    pub d_in: usize,
    /// Number of features
    #[arg(long, default_value_t = 8_192)]
    pub features: usize,
    /// Active features per token, for architectures with a top-k
    #[arg(long, default_value_t = 32)]
    pub k: usize,
    /// Active features per token, for architectures with a threshold (relu, jumprelu, gated)
    #[arg(long, default_value_t = 32)]
    pub l0: usize,
    /// Tokens per step
    #[arg(long, default_value_t = 1_024)]
    pub batch: usize,
    /// Share of the features that are dead, for AuxK
    #[arg(long, default_value_t = 0.0)]
    pub dead: f64,
    /// relu, jumprelu, gated: use the dense step (true) or the sparse one (false) whatever the L0; chosen by L0 if left out
    #[arg(long)]
    pub dense: Option<bool>,
    /// Rounds of product and step
    #[arg(long, default_value_t = 15)]
    pub rounds: usize,
    /// Where to compute: cpu, or a GPU such as cuda or vulkan (always the sparse step)
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
}

/// `sae bench harvest`
#[derive(Args, Debug)]
pub struct BenchHarvestArgs {
    /// Shape of the model, with random weights: llava-160m or llava-next-7b
    #[arg(long, default_value = "llava-160m")]
    pub shape: ModelShape,
    /// A checkpoint in place of the shape
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Samples of a batch, each with one image
    #[arg(long, default_value_t = 4)]
    pub samples: usize,
    /// Tokens of text in each
    #[arg(long, default_value_t = 128)]
    pub text: usize,
    /// Number type to compute in: f32 or bf16
    #[arg(long, default_value = "f32")]
    pub dtype: ComputeDtype,
    /// Rounds of product, whole depth and half depth
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Where to compute: cpu, or a GPU such as cuda or vulkan
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
}

/// `sae bench generate`
#[derive(Args, Debug)]
pub struct BenchGenerateArgs {
    /// Shape of the model, with random weights: llava-160m or llava-next-7b; its images are not used
    #[arg(long, default_value = "llava-160m")]
    pub shape: ModelShape,
    /// A checkpoint in place of the shape
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// How many prompts are answered at the same time
    #[arg(long, value_name = "PROMPTS", value_delimiter = ',', default_value = "1,8")]
    pub batch: Vec<usize>,
    /// Tokens of a prompt
    #[arg(long, default_value_t = 128)]
    pub prompt: usize,
    /// Tokens of an answer
    #[arg(long, default_value_t = 64)]
    pub tokens: usize,
    /// Number type of the weights: f32 or bf16
    #[arg(long, default_value = "f32")]
    pub dtype: ComputeDtype,
    /// Rounds of memory, prompts and answers
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
}

/// `sae bench score`
#[derive(Args, Debug)]
pub struct BenchScoreArgs {
    /// Width of the residual stream
    #[arg(long, default_value_t = 512)]
    pub d_in: usize,
    /// Number of features
    #[arg(long, default_value_t = 8_192)]
    pub features: usize,
    /// Active features per token
    #[arg(long, default_value_t = 32)]
    pub k: usize,
    /// Tokens of the store, in samples of 512
    #[arg(long, default_value_t = 32_768)]
    pub tokens: usize,
    /// Rounds of product and scoring
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
}

/// `sae bench serve`
#[derive(Args, Debug)]
pub struct BenchServeArgs {
    /// Number of features
    #[arg(long, default_value_t = 65_536)]
    pub features: usize,
    /// Samples of the run
    #[arg(long, default_value_t = 1_000_000)]
    pub samples: usize,
    /// Tokens of a sample
    #[arg(long, default_value_t = 16)]
    pub tokens: usize,
    /// Width of the activations
    #[arg(long, default_value_t = 8)]
    pub d_in: usize,
    /// Requests of each page
    #[arg(long, default_value_t = 50)]
    pub requests: usize,
    /// Folder for the run, which is kept (default: a temporary one)
    #[arg(long)]
    pub run: Option<PathBuf>,
}

/// Runs the command.
pub fn run(bench: &Bench, invocation: &mut Invocation) -> Result<Outcome> {
    match bench {
        Bench::Train(args) => train(args, invocation),
        Bench::Harvest(args) => harvest(args, invocation),
        Bench::Generate(args) => generate(args, invocation),
        Bench::Score(args) => score(args, invocation),
        Bench::Serve(args) => serve(args, invocation),
    }
}

fn serve(args: &BenchServeArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = BenchServeRequest {
        features: args.features,
        samples: args.samples,
        tokens: args.tokens,
        d_in: args.d_in,
        requests: args.requests,
        run: args.run.clone(),
    };
    invocation.outcome(|_| request.plan(), |_| request.run(), |report| Ok(describe_serve(report)))
}

fn describe_serve(report: &BenchServeReport) -> String {
    let plan = &report.plan;
    let mut lines = vec![["page", "first ms", "median ms", "worst ms", "bytes"].map(String::from).to_vec()];
    lines.extend(report.pages.iter().map(|page| {
        let times = [page.first_ms, page.median_ms, page.worst_ms].map(|ms| format!("{ms:.1}"));
        [&[page.page.to_owned()][..], &times, &[count(page.bytes as u64)]].concat()
    }));
    format!(
        "{} features, {} samples, {} positions; ready after {:.1} s; {} requests of each page\n{}",
        count(plan.features as u64),
        count(plan.samples as u64),
        count(plan.positions as u64),
        report.start_s,
        plan.requests,
        table(&lines)
    )
}

fn train(args: &BenchTrainArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = BenchTrainRequest {
        arch: args.arch,
        models: args.models,
        d_in: args.d_in,
        features: args.features,
        k: args.k,
        l0: args.l0,
        batch: args.batch,
        dead: args.dead,
        dense: args.dense,
        rounds: args.rounds,
        device: args.device,
    };
    invocation.outcome(|_| request.plan(), |_| request.run(), |report| Ok(describe_train(report)))
}

fn describe_train(report: &BenchTrainReport) -> String {
    let threads = report.threads.map(|threads| format!("{threads} threads"));
    let place = threads.or_else(|| report.device.clone()).unwrap_or_default();
    let dtype = if report.device.is_none() { "f32" } else { "bf16" };
    let models = if report.models > 1 { format!(" of {} models", report.models) } else { String::new() };
    let text = format!(
        "{}{models} d_in {}, {} features, L0 {:.1}, batch {}, {} dead, {place}; medians of {} rounds\n\
         step     {:.1} ms = {} tokens/s\n\
         product  {:.1} ms = {} tokens/s = {:.0} GFLOP/s, the encoder's in {dtype} alone: {:.0} % of it reached",
        report.arch.name(),
        report.d_in,
        count(report.features as u64),
        report.l0,
        count(report.batch as u64),
        count(report.dead as u64),
        report.rounds,
        1e3 * report.seconds,
        count(report.tokens_per_s as u64),
        1e3 * report.product_seconds,
        count(report.product_tokens_per_s as u64),
        report.product_gflops,
        100.0 * report.of_product,
    );
    match &report.stages {
        Some(stages) => {
            format!("{text}\n{}", rows(stages, report.seconds, "ms", |seconds| format!("{:.1}", 1e3 * seconds)))
        }
        None => text,
    }
}

fn generate(args: &BenchGenerateArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = BenchGenerateRequest {
        model: args.model.clone().map_or(BenchModel::Shape(args.shape), BenchModel::Checkpoint),
        prompt: args.prompt,
        tokens: args.tokens,
        batches: args.batch.clone(),
        dtype: args.dtype,
        rounds: args.rounds,
    };
    invocation.outcome(|_| request.plan(), |control| request.run(control), |report| Ok(describe_generate(report)))
}

fn describe_generate(report: &BenchGenerateReport) -> String {
    let plan = &report.plan;
    let mut lines =
        vec![["prompts", "prompt tokens/s", "answer tokens/s", "memory allows", "reached"].map(String::from).to_vec()];
    let number = |rate: f64| if rate < 100.0 { format!("{rate:.1}") } else { count(rate as u64) };
    lines.extend(report.rates.iter().map(|rate| {
        vec![
            rate.prompts.to_string(),
            number(rate.prompt_tokens_per_s),
            number(rate.tokens_per_s),
            number(rate.memory_tokens_per_s),
            format!("{:.0} %", 100.0 * rate.of_memory),
        ]
    }));
    format!(
        "{} in {}: {} blocks, {} tokens after {}, {} threads; medians of {} rounds\n\
         memory alone: {:.1} GB/s; a step reads {:.0} MB of weights\n{}",
        plan.model,
        if plan.dtype == ComputeDtype::F32 { "f32" } else { "bf16" },
        plan.blocks,
        plan.tokens,
        plan.prompt,
        report.threads,
        report.rounds,
        report.memory_bytes_per_s / 1e9,
        plan.bytes_per_step / 1e6,
        table(&lines),
    )
}

fn score(args: &BenchScoreArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let BenchScoreArgs { d_in, features, k, tokens, rounds } = *args;
    let request = BenchScoreRequest { d_in, features, k, tokens, rounds };
    invocation.outcome(|_| request.plan(), |_| request.run(), |report| Ok(describe_score(report)))
}

fn describe_score(report: &BenchScoreReport) -> String {
    format!(
        "d_in {}, {} features, k {}, {} tokens in {} samples, {} threads; medians of {} rounds\n\
         scoring  {:.2} s = {} tokens/s\n\
         product  {:.2} s = {} tokens/s = {:.0} GFLOP/s, the encoder's in f32 alone: {:.0} % of it reached\n\
         memory   {} at most\n{}",
        report.d_in,
        count(report.features as u64),
        report.k,
        count(report.tokens as u64),
        count(report.samples as u64),
        report.threads,
        report.rounds,
        report.seconds,
        count(report.tokens_per_s as u64),
        report.product_seconds,
        count(report.product_tokens_per_s as u64),
        report.product_gflops,
        100.0 * report.of_product,
        report.peak_memory_bytes.map_or("unknown".into(), |bytes| format!("{:.2} GB", bytes as f64 / 1e9)),
        rows(&report.stages, report.seconds, "s", |seconds| format!("{seconds:.2}")),
    )
}

/// Stages with their times and shares.
fn rows(stages: &Stages, total: f64, unit: &str, time: impl Fn(f64) -> String) -> String {
    let mut lines = vec![["stage", unit, "share"].map(String::from).to_vec()];
    let share = |seconds: f64| format!("{:.0} %", 100.0 * seconds / total);
    lines.extend(stages.0.iter().map(|(name, seconds)| vec![(*name).into(), time(*seconds), share(*seconds)]));
    table(&lines)
}

fn harvest(args: &BenchHarvestArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = BenchHarvestRequest {
        model: args.model.clone().map_or(BenchModel::Shape(args.shape), BenchModel::Checkpoint),
        samples: args.samples,
        text: args.text,
        dtype: args.dtype,
        rounds: args.rounds,
        device: args.device,
    };
    let describe = |report: &BenchHarvestReport| Ok(describe_harvest(report, args.dtype));
    invocation.outcome(|_| request.plan(), |control| request.run(control), describe)
}

fn describe_harvest(report: &BenchHarvestReport, dtype: ComputeDtype) -> String {
    let plan = &report.plan;
    let mut lines = vec![["depth", "ms", "tokens/s", "GFLOP/s", "of the product's"].map(String::from).to_vec()];
    lines.extend([("whole", report.whole), ("half", report.half)].map(|(depth, rate)| {
        vec![
            depth.into(),
            format!("{:.0}", 1e3 * rate.seconds),
            count(rate.tokens_per_s as u64),
            format!("{:.0}", rate.gflops),
            format!("{:.0} %", 100.0 * rate.of_product),
        ]
    }));
    let accuracy = report.relative_error_by_layer.as_ref().map_or(String::new(), |errors| {
        let blocks = [0, plan.blocks / 2, plan.blocks - 1];
        let shown = blocks.map(|layer| format!("{:.4} after block {layer}", errors[layer]));
        format!("\nhidden states against f32, relative error: {}", shown.join(", "))
    });
    format!(
        "{} in {}: {} samples, {} positions, {} blocks, {}; medians of {} rounds\n\
         a product of {} x {} x {} alone: {:.0} GFLOP/s\n{}{accuracy}",
        plan.model,
        if dtype == ComputeDtype::F32 { "f32" } else { "bf16" },
        plan.samples,
        count(plan.tokens as u64),
        plan.blocks,
        if report.on_cpu { format!("{} threads", report.threads) } else { plan.device.clone() },
        report.rounds,
        PRODUCT[0],
        PRODUCT[1],
        PRODUCT[2],
        report.product_gflops,
        table(&lines),
    )
}
