//! `sae bench score`: a scoring pass over a store beside the encoder's `f32` product alone over the same shards.

use super::super::Outcome;
use super::{median, noise, threads};
use crate::cli::terminal::{count, table};
use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use clap::Args;
use filters::Threshold;
use filters::definition::Definition;
use filters::pmi::{Folds, Options, Set};
use filters::pooling::SamplePooler;
use filters::scores;
use filters::top_tokens::TopTokens;
use filters::weights::Weights as CrossModal;
use sae_core::Run;
use sae_core::analysis::pass;
use sae_core::autoencoder::kernel::product::product;
use sae_core::autoencoder::{Activation, Weights};
use sae_core::store::sample::{Modality, Role, Sample, Token};
use sae_core::store::{Part, Store, StoreDtype, StoreSpec, StoreWriter};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// `sae bench score`
#[derive(Args, Debug)]
pub struct BenchScoreArgs {
    /// Width of the residual stream
    #[arg(long, default_value_t = 512)]
    pub d_in: usize,
    /// Number of features
    #[arg(long, default_value_t = 8_192)]
    pub features: usize,
    /// Active features a token
    #[arg(long, default_value_t = 32)]
    pub k: usize,
    /// Tokens of the store, in samples of 512
    #[arg(long, default_value_t = 32_768)]
    pub tokens: usize,
    /// Rounds of product and scoring
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
}

/// Positions of a sample; the first eighth are text.
const POSITIONS: usize = 512;
/// Samples of a shard.
const SHARD: usize = 32;
/// Rows of the product at once.
const ROWS: usize = 1024;
/// The stages behind the pass.
const STAGES: [&str; 4] = ["pass", "weights", "rankings", "pmi"];

/// Runs the command.
pub fn score(args: &BenchScoreArgs, dry: bool) -> Result<Outcome> {
    let (d, f) = (args.d_in, args.features);
    if args.rounds == 0 || d == 0 || args.k == 0 || args.k > f || args.tokens < POSITIONS * 2 {
        bail!("at least one round, {} tokens, and 0 < k <= features", POSITIONS * 2);
    }
    let samples = args.tokens / POSITIONS;
    let tokens = samples * POSITIONS;
    if dry {
        let plan = json!({ "command": "bench score", "d_in": d, "features": f, "k": args.k, "tokens": tokens });
        return Outcome::plan(plan);
    }
    let folder = std::env::temp_dir().join(format!("sae-bench-score-{}", std::process::id()));
    let measured = measure(args, samples, &folder);
    let cleared = std::fs::remove_dir_all(&folder);
    let (floor, stages) = measured?;
    cleared.with_context(|| format!("cannot remove {}", folder.display()))?;
    let (floor, total) = (median(floor), median(stages.iter().map(|s| s.iter().sum()).collect()));
    let stage = |n: usize| median(stages.iter().map(|s: &[f64; 4]| s[n]).collect());
    let gflops = 2.0 * (tokens * d) as f64 * f as f64 / floor / 1e9;
    let json = json!({
        "d_in": d, "features": f, "k": args.k, "tokens": tokens, "samples": samples, "threads": threads(),
        "tokens_per_s": tokens as f64 / total, "seconds": total,
        "product_seconds": floor, "product_tokens_per_s": tokens as f64 / floor, "product_gflops": gflops,
        "of_product": floor / total, "peak_memory_bytes": peak(),
        "stages": STAGES.iter().enumerate().map(|(n, name)| (name.to_string(), json!(stage(n)))).collect::<serde_json::Map<_, _>>(),
    });
    let mut lines = vec![["stage", "s", "share"].map(String::from).to_vec()];
    for (n, name) in STAGES.iter().enumerate() {
        lines.push(vec![(*name).into(), format!("{:.2}", stage(n)), format!("{:.0} %", 100.0 * stage(n) / total)]);
    }
    let text = format!(
        "d_in {d}, {} features, k {}, {} tokens in {} samples, {} threads; medians of {} rounds\n\
         scoring  {total:.2} s = {} tokens/s\n\
         product  {floor:.2} s = {} tokens/s = {gflops:.0} GFLOP/s, the encoder's in f32 alone: {:.0} % of it reached\n\
         memory   {} at most\n{}",
        count(f as u64),
        args.k,
        count(tokens as u64),
        count(samples as u64),
        threads(),
        args.rounds,
        count((tokens as f64 / total) as u64),
        count((tokens as f64 / floor) as u64),
        100.0 * floor / total,
        peak().map_or("unknown".into(), |bytes| format!("{:.2} GB", bytes as f64 / 1e9)),
        table(&lines),
    );
    Outcome::new(json, text)
}

/// Seconds of the product alone, and of each stage of scoring, a round each.
fn measure(args: &BenchScoreArgs, samples: usize, folder: &Path) -> Result<(Vec<f64>, Vec<[f64; 4]>)> {
    let (d, f) = (args.d_in, args.features);
    let (run, kept) = store(args, samples, folder)?;
    let store = Store::open(&run, "layers.0")?;
    let mut noise = noise(7);
    let scale = (3.0 / d as f32).sqrt();
    let weights = Weights {
        d_in: d,
        d_sae: f,
        w_enc: (0..d * f).map(|_| noise() * scale).collect(),
        b_enc: vec![0.0; f],
        w_dec: vec![0.0; d * f],
        b_dec: vec![0.0; d],
        activation: Activation::TopK { k: args.k },
        ..Weights::default()
    };
    let mut dense = vec![0f32; ROWS * f];
    let (mut floor, mut stages, mut x) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let start = Instant::now();
        for number in 0..store.shards() {
            let shard = store.shard(number)?;
            for from in (0..shard.rows()).step_by(ROWS) {
                let rows = from..(from + ROWS).min(shard.rows());
                x.clear();
                shard.read(rows.clone(), &mut x);
                let shape = [rows.len(), f, d];
                product(shape, (&x, [d, 1]), (&weights.w_enc, [d, 1]), (&mut dense, [f, 1]), false);
            }
        }
        floor.push(start.elapsed().as_secs_f64());
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64();
        let threshold = Threshold::Auto.for_width(d);
        let mut pool = SamplePooler::new(samples, f, threshold, run.root())?;
        let mut tops = TopTokens::new(f, threshold);
        pass::run(&store, &weights, &Device::flex(), &mut [&mut pool, &mut tops], &mut |_| ())?;
        let pooled = pool.finish()?;
        let pass = lap();
        let weights = CrossModal::from_top_tokens(&tops, &store)?;
        let weighing = lap();
        let (table, _) = scores::score(&kept, &pooled, &weights, &Definition::ALL, None, 0)?;
        table.write(&run.root().join("scores.parquet"), "bench")?;
        let ranking = lap();
        let fit = Folds::fit(&[Set { samples: &kept, pooled: &pooled }], &kept, &Options::default());
        if let Ok(folds) = fit {
            folds.score(&kept, &pooled)?;
        }
        stages.push([pass, weighing, ranking, lap()]);
    }
    Ok((floor, stages))
}

/// A store of random samples, shard by shard.
fn store(args: &BenchScoreArgs, samples: usize, folder: &Path) -> Result<(Run, Vec<Sample>)> {
    let run = Run::create(folder)?;
    let spec = StoreSpec {
        model: "noise".into(),
        architecture: "none".into(),
        layers: vec![0],
        d_in: args.d_in,
        dtype: StoreDtype::F32,
        slice: None,
        fingerprint: String::new(),
        arguments: serde_json::Value::Null,
    };
    let token = |position: usize| {
        let image = position >= POSITIONS / 8;
        Token {
            position: position as u32,
            modality: if image { Modality::Image } else { Modality::Text },
            token_id: -1,
            piece: String::new(),
            role: Role::User,
            special: false,
            image: image.then_some(0),
            rect: None,
        }
    };
    let sample = |n: usize| Sample {
        id: format!("{n:08}"),
        key: String::new(),
        text: String::new(),
        images: Vec::new(),
        source: format!("noise:{n}"),
        meta: serde_json::Value::Null,
    };
    let mut noise = noise(3);
    let mut writer = StoreWriter::open(&run, spec)?;
    for from in (0..samples).step_by(SHARD) {
        let numbers = from..(from + SHARD).min(samples);
        // A few loud dimensions a sample, so that samples differ in their features.
        let mut states = Vec::with_capacity(numbers.len() * POSITIONS * args.d_in);
        for _ in numbers.clone() {
            let loud: Vec<f32> = (0..args.d_in).map(|_| noise().max(0.8) * 4.0 - 3.2).collect();
            states.extend((0..POSITIONS).flat_map(|_| loud.iter().map(|l| l + noise()).collect::<Vec<_>>()));
        }
        let rows = numbers.clone().map(|n| (sample(n), (0..POSITIONS).map(token).collect())).collect();
        let source_rows = numbers.len() as u64;
        writer.write_part(&Part { samples: rows, activations: vec![states], source_rows, skipped: Vec::new() })?;
    }
    writer.finish()?;
    Ok((run, (0..samples).map(sample).collect()))
}

/// The most memory that this process has held, mapped files included, where the system tells.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}
