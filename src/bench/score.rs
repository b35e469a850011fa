//! Measures a scoring pass over a store, and compares it with the encoder's `f32` product alone over the same shards.

use super::{Stages, median, noise, threads};
use crate::{Error, Result};
use burn::tensor::Device;
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
use sae_core::store::{Hook, Part, Store, StoreDtype, StoreSpec, StoreWriter};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// Positions of a sample; the first eighth are text.
const POSITIONS: usize = 512;
/// Samples of a shard.
const SHARD: usize = 32;
/// Rows of the product at once.
const ROWS: usize = 1024;
/// The stages of scoring.
const STAGES: [&str; 4] = ["pass", "weights", "rankings", "pmi"];

/// Which store to score.
#[derive(Clone, Debug)]
pub struct BenchScoreRequest {
    /// Width of the residual stream.
    pub d_in: usize,
    /// Number of features.
    pub features: usize,
    /// Active features per token.
    pub k: usize,
    /// Tokens of the store, in samples of 512.
    pub tokens: usize,
    /// Rounds of product and scoring.
    pub rounds: usize,
}

/// What would be timed.
#[derive(Clone, Debug, Serialize)]
pub struct BenchScorePlan {
    /// `bench score`.
    pub command: &'static str,
    /// Width of the residual stream.
    pub d_in: usize,
    /// Number of features.
    pub features: usize,
    /// Active features per token.
    pub k: usize,
    /// Tokens.
    pub tokens: usize,
}

/// What was timed; seconds are medians of the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct BenchScoreReport {
    /// Width of the residual stream.
    pub d_in: usize,
    /// Number of features.
    pub features: usize,
    /// Active features per token.
    pub k: usize,
    /// Tokens.
    pub tokens: usize,
    /// Samples.
    pub samples: usize,
    /// Threads.
    pub threads: usize,
    /// Tokens per second.
    pub tokens_per_s: f64,
    /// Seconds of scoring.
    pub seconds: f64,
    /// Seconds of the product alone.
    pub product_seconds: f64,
    /// Tokens per second of the product alone.
    pub product_tokens_per_s: f64,
    /// GFLOP per second of the product alone.
    pub product_gflops: f64,
    /// Seconds of the product over those of scoring.
    pub of_product: f64,
    /// Peak memory of the process, if the system reports it.
    pub peak_memory_bytes: Option<u64>,
    /// Seconds by stage.
    pub stages: Stages,
    /// Rounds.
    #[serde(skip)]
    pub rounds: usize,
}

impl BenchScoreRequest {
    /// What [`BenchScoreRequest::run`] would time.
    ///
    /// # Errors
    /// Invalid sizes.
    pub fn plan(&self) -> Result<BenchScorePlan> {
        let tokens = self.samples()? * POSITIONS;
        Ok(BenchScorePlan { command: "bench score", d_in: self.d_in, features: self.features, k: self.k, tokens })
    }

    /// Times scoring and the product, in turns, on a store in a temporary folder.
    ///
    /// # Errors
    /// Invalid sizes, a full disk.
    pub fn run(&self) -> Result<BenchScoreReport> {
        let samples = self.samples()?;
        let tokens = samples * POSITIONS;
        let folder = std::env::temp_dir().join(format!("sae-bench-score-{}", std::process::id()));
        let measured = measure(self, samples, &folder);
        let cleared = std::fs::remove_dir_all(&folder);
        let (floor, stages) = measured?;
        cleared.map_err(sae_core::Error::io("remove", &folder))?;
        let (floor, total) = (median(floor), median(stages.iter().map(|s| s.iter().sum()).collect()));
        Ok(BenchScoreReport {
            d_in: self.d_in,
            features: self.features,
            k: self.k,
            tokens,
            samples,
            threads: threads(),
            tokens_per_s: tokens as f64 / total,
            seconds: total,
            product_seconds: floor,
            product_tokens_per_s: tokens as f64 / floor,
            product_gflops: 2.0 * (tokens * self.d_in) as f64 * self.features as f64 / floor / 1e9,
            of_product: floor / total,
            peak_memory_bytes: peak(),
            stages: Stages::medians(STAGES, &stages),
            rounds: self.rounds,
        })
    }

    fn samples(&self) -> Result<usize> {
        if self.rounds == 0 || self.d_in == 0 || self.k == 0 || self.k > self.features || self.tokens < POSITIONS * 2 {
            return Err(Error::Bench { expected: "at least one round, 1,024 tokens, and 0 < k <= features" });
        }
        Ok(self.tokens / POSITIONS)
    }
}

/// Seconds of the product alone, and of each stage of scoring, for each round.
fn measure(request: &BenchScoreRequest, samples: usize, folder: &Path) -> Result<(Vec<f64>, Vec<[f64; 4]>)> {
    let (d, f) = (request.d_in, request.features);
    let (run, kept) = store(request, samples, folder)?;
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
        activation: Activation::TopK { k: request.k },
        ..Weights::default()
    };
    let mut dense = vec![0f32; ROWS * f];
    let (mut floor, mut stages, mut x) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..request.rounds {
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
fn store(request: &BenchScoreRequest, samples: usize, folder: &Path) -> Result<(Run, Vec<Sample>)> {
    let run = Run::create(folder)?;
    let spec = StoreSpec {
        model: "noise".into(),
        architecture: "none".into(),
        hooks: vec![Hook::block(0)],
        d_in: request.d_in,
        dtype: StoreDtype::F32,
        slice: None,
        pieces: false,
        critiques: false,
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
        piece: None,
    };
    let mut noise = noise(3);
    let mut writer = StoreWriter::open(&run, spec)?;
    for from in (0..samples).step_by(SHARD) {
        let numbers = from..(from + SHARD).min(samples);
        // A few large dimensions in each sample, so that samples differ in their features.
        let mut states = Vec::with_capacity(numbers.len() * POSITIONS * request.d_in);
        for _ in numbers.clone() {
            let loud: Vec<f32> = (0..request.d_in).map(|_| noise().max(0.8) * 4.0 - 3.2).collect();
            states.extend((0..POSITIONS).flat_map(|_| loud.iter().map(|l| l + noise()).collect::<Vec<_>>()));
        }
        let rows = numbers.clone().map(|n| (sample(n), (0..POSITIONS).map(token).collect())).collect();
        let source_rows = numbers.len() as u64;
        writer.write_part(&Part { samples: rows, activations: vec![states], source_rows, skipped: Vec::new() })?;
    }
    writer.finish()?;
    Ok((run, (0..samples).map(sample).collect()))
}

/// Peak memory of this process, including mapped files, if the system reports it.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}
