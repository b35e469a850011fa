//! What a feature index costs, on made-up activations: `index FEATURES TOKENS K [D_IN]`. Time to count, to find what fires
//! together, to find neighbors (of directions `D_IN` wide, 64 if left out), to write; size; peak memory; time to open it and
//! to look one feature up. Features are drawn with probabilities that fall as 1 over their number. The encoder's product is
//! left out: `sae bench score` measures it.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // a measurement for a terminal

use sae_core::analysis::index::{self, Bin, Coactive, FeatureRow, Index, Indexer, Row, Word};
use sae_core::analysis::pass::{Block, Observer};
use sae_core::autoencoder::Weights;
use sae_core::autoencoder::sparse::Sparse;
use sae_core::random::SplitMix64;
use sae_core::store::TokenColumns;
use sae_core::store::sample::{Modality, Role};
use std::path::Path;
use std::time::Instant;

/// Positions of a sample; the first eighth is text.
const POSITIONS: usize = 512;
const ROWS: usize = 4096;

/// Does something and says how long it took.
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    println!("{what:<34}{:>10.3} s   peak {:>5} MB", start.elapsed().as_secs_f64(), peak() >> 20);
    done
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10
}

fn count(d_sae: usize, tokens: usize, k: usize) -> (Indexer, f64) {
    let (mut indexer, mut random, mut seconds) = (Indexer::new(d_sae), SplitMix64::new(1), 0.0);
    for from in (0..tokens).step_by(ROWS) {
        let rows = from..(from + ROWS).min(tokens);
        let mut active = Sparse::default();
        for _ in rows.clone() {
            let features = (0..k).map(|_| ((d_sae as f64).powf(random.next_f64()) as u32).min(d_sae as u32) - 1);
            let mut features: Vec<u32> = features.collect();
            features.sort_unstable();
            features.dedup();
            // From a sixteenth to 16, around 1.
            active.push(features.into_iter().map(|k| (k, (8.0 * random.next_f64() - 4.0).exp2() as f32)));
        }
        let each = |of: &dyn Fn(usize) -> u32| rows.clone().map(of).collect::<Vec<_>>();
        let image = |n: usize| n % POSITIONS >= POSITIONS / 8;
        let tokens = TokenColumns {
            sample: each(&|n| (n / POSITIONS) as u32),
            position: each(&|n| (n % POSITIONS) as u32),
            modality: rows.clone().map(|n| if image(n) { Modality::Image } else { Modality::Text }).collect(),
            role: vec![Role::User; rows.len()],
            special: vec![false; rows.len()],
        };
        let block = Block::new(&tokens, 0..rows.len(), 0, &[], &active);
        let start = Instant::now();
        indexer.observe(&block).unwrap();
        seconds += start.elapsed().as_secs_f64();
    }
    indexer.end_shard(0).unwrap();
    (indexer, seconds)
}

fn main() {
    let argument = |n: usize| std::env::args().nth(n).map(|a| a.parse::<usize>().unwrap());
    let (d_sae, tokens, k) = (argument(1).unwrap(), argument(2).unwrap(), argument(3).unwrap());
    let d_in = argument(4).unwrap_or(64);
    let dir = std::env::temp_dir().join(format!("sae-index-{}", std::process::id()));
    let (indexer, seconds) = timed("drawing and counting", || count(d_sae, tokens, k));
    println!("{:<34}{seconds:>10.3} s", "of it counting");
    let coactive = timed("what fires together", || indexer.together.most());
    println!("{:<34}{:>10} positions, one in {}", "", indexer.together.counted(), indexer.together.one_in());
    let mut random = SplitMix64::new(2);
    let w_dec = (0..d_sae * d_in).map(|_| random.next_f64() as f32 - 0.5).collect();
    let weights = Weights { d_in, d_sae, w_dec, ..Weights::default() };
    let neighbors = timed("neighbors", || index::neighbors(&weights));
    timed("writing", || write(&dir, d_sae, &indexer, &coactive, &neighbors));
    drop((indexer, coactive, neighbors, weights));
    let mut total = 0;
    for entry in std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap()) {
        let bytes = entry.metadata().unwrap().len();
        println!("  {:<32}{:>10.1} MB", entry.file_name().display(), bytes as f64 / 1e6);
        total += bytes;
    }
    println!("{:<34}{:>10.1} MB", "all files", total as f64 / 1e6);
    let index = timed("opening, with the feature table", || Index::open(&dir).unwrap());
    let mut times: Vec<f64> = (0..200)
        .map(|_| {
            let feature = (random.next_f64() * d_sae as f64) as u32;
            let start = Instant::now();
            index.examples(feature).unwrap();
            index.neighbors(feature).unwrap();
            index.histogram(feature).unwrap();
            index.coactive(feature).unwrap();
            index.logits(feature).unwrap();
            1e3 * start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "{:<34}{:>10.2} ms median, {:.2} ms at most (200 features)",
        "everything of one feature", times[100], times[199]
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

fn write(dir: &Path, d_sae: usize, indexer: &Indexer, coactive: &[Vec<Coactive>], neighbors: &[Vec<index::Neighbor>]) {
    let at = |name: &str| dir.join(name);
    index::write_examples(&at("examples.parquet"), indexer).unwrap();
    index::write_neighbors(&at("neighbours.parquet"), neighbors).unwrap();
    index::write_lists(&at(Bin::FILE), d_sae, |k| indexer.histograms[k].bins().collect()).unwrap();
    index::write_lists(&at(Coactive::FILE), d_sae, |k| coactive[k].clone()).unwrap();
    let word = |k: usize, n: usize| {
        let mut random = SplitMix64::new((k * 32 + n) as u64);
        let token_id = (random.next_f64() * 128_000.0) as u32;
        Word {
            promoted: n < index::WORDS,
            token_id,
            piece: format!(" word{token_id}"),
            logit: random.next_f64() as f32,
        }
    };
    index::write_lists(&at(Word::FILE), d_sae, |k| (0..2 * index::WORDS).map(|n| word(k, n)).collect()).unwrap();
    let rows: Vec<_> = (0..d_sae).map(|k| FeatureRow::counted(indexer, k)).collect();
    index::write_features(&at("features.parquet"), &rows).unwrap();
}
