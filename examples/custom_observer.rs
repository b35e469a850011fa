//! Computes a statistic of your own in one pass over the stored activations: the mean activation of each feature on text
//! tokens and on image tokens.
//!
//! ```sh
//! cargo run --release --example custom_observer              # on a small run of the bundled model
//! cargo run --release --example custom_observer -- my-run    # on a run of yours with one autoencoder
//! ```
#![allow(clippy::print_stdout, reason = "an example prints what it found")]

mod shared;

use sae_core::analysis::pass::{Block, Observer};
use sae_core::store::sample::Modality;
use sae_workbench::control::Stage;
use sae_workbench::{Control, SaeChoice};

/// Sums of activations, and counts of tokens, of one modality.
struct Mean {
    modality: Modality,
    tokens: u64,
    /// A sum for each feature.
    sums: Vec<f64>,
}

impl Mean {
    fn new(modality: Modality, d_sae: usize) -> Self {
        Self { modality, tokens: 0, sums: vec![0.0; d_sae] }
    }

    fn of(&self, feature: usize) -> f64 {
        self.sums[feature] / self.tokens.max(1) as f64
    }
}

/// An observer sees every block of the pass once. Several observers can share one pass, so that the autoencoder encodes
/// each token only once, and memory does not grow with the store.
impl Observer for Mean {
    fn observe(&mut self, block: &Block) -> sae_core::Result<()> {
        for (row_in_block, row_in_shard) in block.positions() {
            // Template and begin tokens have no content.
            if block.tokens.modality[row_in_shard] != self.modality || block.tokens.special[row_in_shard] {
                continue;
            }
            self.tokens += 1;
            let (features, values) = block.active.row(row_in_block);
            for (feature, value) in features.iter().zip(values) {
                self.sums[*feature as usize] += f64::from(*value);
            }
        }
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let run = shared::RunFolder::from_arguments()?;
    let sae = SaeChoice::new(run.path()).load()?;
    let d_sae = sae.saved.weights.d_sae;

    let (mut text, mut image) = (Mean::new(Modality::Text, d_sae), Mean::new(Modality::Image, d_sae));
    // The stage is the name of the work that a progress bar would show.
    sae.observe(Stage::Features, &mut [&mut text, &mut image], &mut Control::default())?;
    println!("{} text tokens, {} image tokens", text.tokens, image.tokens);

    // The features that tell the two apart best.
    let mut features: Vec<usize> = (0..d_sae).collect();
    let difference = |feature: &usize| text.of(*feature) - image.of(*feature);
    features.sort_by(|a, b| difference(b).total_cmp(&difference(a)));
    println!("feature   mean on text   mean on images");
    for feature in features.iter().take(5).chain(features.iter().rev().take(5).rev()) {
        println!("{feature:>7}   {:>12.3}   {:>14.3}", text.of(*feature), image.of(*feature));
    }
    Ok(())
}
