//! Captures a model's activations on a data set, trains an autoencoder on them, and measures how well it reconstructs them.
//!
//! ```sh
//! cargo run --release --example train_sae              # in a temporary folder
//! cargo run --release --example train_sae -- my-run    # keeps the run folder, which the other examples accept
//! ```
#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use sae_core::autoencoder::Architecture;
use sae_core::store::Hook;
use sae_core::train::TrainConfig;
use sae_workbench::train::Resume;
use sae_workbench::{Control, EvalRequest, HarvestRequest, SaeChoice, TrainRequest};
use std::path::{Path, PathBuf};

fn main() -> anyhow::Result<()> {
    let temporary = tempfile::tempdir()?;
    train(&std::env::args_os().nth(1).map_or_else(|| temporary.path().join("run"), PathBuf::from))
}

/// Makes a run with an autoencoder. A second call continues what an interrupted one left, and does nothing after a finished one.
pub fn train(run: &Path) -> anyhow::Result<()> {
    // A `Control` reports progress and can cancel an operation; the default one does neither.
    let mut control = Control::default();

    // 1. Run the bundled model, a LLaVA of 8.7 million parameters, on 400 image-text pairs, and store the residual stream
    //    after decoder block 4 (counted from 0) at every token position.
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    let data = assets.join("demo-data/constructed-swapped.jsonl");
    let mut harvest = HarvestRequest::new(assets.join("demo-mllm"), data, vec![Hook::block(4)], run);
    harvest.plan.limit = Some(400);
    // The score `pmi_blank`, which two other examples use, needs a second pass with blank images.
    harvest.blank_images = true;
    let captured = harvest.run(&mut control)?;
    println!("captured {} token positions of {} samples", captured.tokens, captured.samples);

    // 2. Train a TopK autoencoder. `TrainConfig` has every setting of the file `train.toml`.
    let defaults = TrainConfig::for_architecture(Architecture::TopK);
    let config =
        TrainConfig { features: 1024, k: 16, batch: 512, lr: 1e-3, buffer: 16_384, ..defaults }.with_steps(400);
    let mut training = TrainRequest::new(run, "layers.4", "example", config);
    training.resume = Resume::IfBegun;
    let trained = training.run(&mut control)?;
    let sae = &trained.saes[0];
    println!("trained {} features for {} steps: {}", sae.d_sae, sae.last.steps, sae.folder.display());

    // 3. Measure the reconstructions, separately for text and image tokens. L0 is the number of active features per token;
    //    FVU is the fraction of the variance that the reconstruction leaves unexplained (0 is perfect, 1 is the mean).
    let measured = EvalRequest::new(SaeChoice::new(run)).run(&mut control)?;
    for (modality, found) in &measured.report.by_modality {
        let modality = format!("{modality:?}").to_lowercase();
        println!("{modality}: {} tokens, L0 {:.1}, FVU {:.3}", found.tokens, found.l0, found.fvu);
    }
    Ok(())
}
