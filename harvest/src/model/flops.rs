//! The number of operations of a forward pass, which benchmarks relate to its time. Counts matrix products, which are
//! nearly all of the work.

use super::config::{BlockConfig, Mlp, ModelConfig, ProjectorConfig, TowerConfig, VisionEncoder};
use super::input::Input;

/// Multiplications and additions of the first `depth` blocks over `inputs`, including the vision tower but not an image
/// tokenizer.
pub fn operations(config: &ModelConfig, inputs: &[&Input], depth: usize) -> f64 {
    let rows: usize = inputs.iter().map(|input| input.ids.len()).sum();
    let pairs = |window: Option<usize>| {
        let after = |input: &Input| (input.prefix + 1..=input.ids.len()).map(|row| row.min(window.unwrap_or(row)));
        inputs.iter().map(|input| input.prefix * input.prefix + after(input).sum::<usize>()).sum::<usize>()
    };
    let decoder: f64 =
        (0..depth).map(|n| products(&config.text.block(n), rows, pairs(config.text.layers[n].window))).sum();
    decoder + config.vision.as_ref().map_or(0.0, |vision| tower(&vision.kind, inputs, config.text.hidden_size))
}

/// The weights of matrices that a model multiplies with one row to predict the next token: those of all blocks and of the output head.
pub fn weights_of_step(config: &ModelConfig) -> f64 {
    let text = &config.text;
    (0..text.layers.len()).map(|n| products(&text.block(n), 1, 0)).sum::<f64>() / 2.0
        + (text.vocab_size * text.hidden_size) as f64
}

/// Operations of one block over `rows` rows, with `pairs` pairs of a query and a visible key.
fn products(block: &BlockConfig, rows: usize, pairs: usize) -> f64 {
    let queries = block.heads * block.head_dim;
    let attention = block.width * (queries + 2 * block.kv_heads * block.head_dim) + queries * block.width;
    let matrices = if matches!(block.names.mlp, Mlp::Gated(_)) { 3 } else { 2 };
    2.0 * (rows * (attention + matrices * block.width * block.d_ff)) as f64 + 4.0 * (pairs * queries) as f64
}

fn tower(kind: &VisionEncoder, inputs: &[&Input], d_out: usize) -> f64 {
    let VisionEncoder::Tower(tower, projector) = kind else { return 0.0 };
    let (rows, operations) = blocks(tower, inputs);
    let d = tower.block.width;
    let projected = match projector {
        ProjectorConfig::Mlp { features, .. } => rows * (d * features.len() * d_out + d_out * d_out),
        ProjectorConfig::Fused { second } => {
            let (rows, other) = blocks(second, inputs);
            let both = d + second.block.width;
            return operations + other + 2.0 * (rows * (4 * both * (both + d_out) + d_out * d_out)) as f64;
        }
        ProjectorConfig::Merge { patches, deep, .. } => {
            rows / patches * (d * patches * d * patches + d * patches * d_out) * (1 + deep.len())
        }
        ProjectorConfig::ShuffleMlp { patches, .. } => rows / patches * (d * patches * d_out + d_out * d_out),
        ProjectorConfig::PatchMerger { patches, .. } => rows / patches * (d * patches * d + d * d_out + d_out * d_out),
        ProjectorConfig::Shuffle { patches, .. } => rows / patches * (d * patches * d_out),
        ProjectorConfig::Pool { .. } => rows * d * d_out / 16,
        ProjectorConfig::PoolNative { patches, .. } => rows / patches * (d * d_out),
    };
    operations + 2.0 * projected as f64
}

/// The rows that go through the blocks of a tower, and the operations of its embedding and its blocks.
fn blocks(tower: &TowerConfig, inputs: &[&Input]) -> (usize, f64) {
    let views = || inputs.iter().flat_map(|input| &input.images).flat_map(|image| &image.views);
    let before = tower.prefix_rows();
    let rows: usize = views().map(|[height, width]| height * width + before).sum();
    let squares = |within: Option<usize>| {
        views().map(move |[height, width]| {
            (height * width + before) * (height * width + before).min(within.unwrap_or(usize::MAX))
        })
    };
    let blocks = (0..tower.layers).map(|n| {
        let windows = tower.windows.as_ref().filter(|windows| !windows.full.contains(&n));
        products(&tower.block, rows, squares(windows.map(|windows| windows.side * windows.side)).sum())
    });
    (rows, 2.0 * (rows * tower.patches.width() * tower.block.width) as f64 + blocks.sum::<f64>())
}
