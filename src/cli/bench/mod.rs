//! `sae bench`: what this machine does, beside what it could do. The floor and our own work take turns in one process, so
//! that a machine whose speed drifts slows both.

mod harvest;
mod score;
mod train;

use clap::Subcommand;
use harvest::BenchHarvestArgs;
pub use harvest::harvest;
use score::BenchScoreArgs;
pub use score::score;
use train::BenchTrainArgs;
pub use train::train;

/// `sae bench`
#[derive(Subcommand, Debug)]
pub enum Bench {
    /// A training step beside the encoder's product alone, in turns
    #[command(after_help = "\
Examples:
  sae bench train                                             topk, d_in 512, 8,192 features, k 32, batch 1,024
  sae bench train --arch relu --l0 200
  sae bench train --d-in 768 --features 32768 --k 64 --batch 2048 --json")]
    Train(BenchTrainArgs),
    /// A model's forward pass, whole and half as deep, beside a product of matrices alone, in turns
    #[command(after_help = "\
Examples:
  sae bench harvest                                           a LLaVA of 160M random parameters in f32
  sae bench harvest --dtype bf16
  sae bench harvest --model llava-1.5-7b-hf --samples 1 --json
  sae bench harvest --shape llava-next-7b --dtype bf16 --device cuda")]
    Harvest(BenchHarvestArgs),
    /// Scoring a store - pass, weights, rankings, pmi - beside the encoder's product alone over the same shards, in turns
    #[command(after_help = "\
Examples:
  sae bench score                                             topk, d_in 512, 8,192 features, k 32, 32,768 tokens
  sae bench score --d-in 64 --features 65536 --tokens 1200000 --rounds 1 --json")]
    Score(BenchScoreArgs),
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Numbers between -1 and 1 from a counter: the same on every machine.
fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}
