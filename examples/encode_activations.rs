//! Encodes activations that you have in memory with an autoencoder that another tool trained. No run folder is needed.
//!
//! ```sh
//! cargo run --release --example encode_activations
//! cargo run --release --example encode_activations -- path/to/autoencoder    # any format that `sae info` knows
//! ```
#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use sae_core::autoencoder::{Encoder, formats};
use sae_core::device::DeviceChoice;
use sae_core::tensors::Tensors;
use std::path::{Path, PathBuf};

fn main() -> anyhow::Result<()> {
    // A small BatchTopK autoencoder from dictionary_learning, with activations and what that package computes from them.
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/saes/other/dl_batchtopk");
    let folder = std::env::args_os().nth(1).map_or_else(|| bundled.clone(), PathBuf::from);

    // The format is recognized by the files. Whatever it subtracts or rescales is folded into the weights, so that all
    // formats are used in the same way.
    let saved = formats::load(&folder)?;
    let weights = &saved.weights;
    println!("{:?}: {} features of activations {} wide", saved.architecture, weights.d_sae, weights.d_in);

    // Activations are rows of `d_in` numbers, one row after the other. These are in a safetensors file. For an autoencoder
    // of yours, there are two made-up rows here: put your model's in their place.
    let expected = (folder == bundled).then(|| Tensors::open(&folder.join("io.safetensors"))).transpose()?;
    let hidden = match &expected {
        Some(file) => file.f32("x", &[10, weights.d_in])?,
        None => (0..2 * weights.d_in).map(|n| (n as f32).sin()).collect(),
    };

    // `encode` returns only the active features of each row: their numbers, ascending, and their activations.
    let encoder = Encoder::new(weights, &DeviceChoice::Auto.open()?);
    let active = encoder.encode(&hidden)?;
    for row in 0..active.rows().min(3) {
        let (features, values) = active.row(row);
        let pairs = features.iter().zip(values).map(|(feature, value)| format!("{feature}: {value:.3}"));
        println!("row {row}  {}", pairs.collect::<Vec<_>>().join("  "));
    }

    // `reconstruct` encodes and decodes. The result has the shape of the input, `[rows, d_in]`.
    let reconstructed = encoder.reconstruct(&hidden)?;
    println!("reconstruction of row 0: {:.3?}", &reconstructed[..weights.d_in.min(8)]);
    if let Some(file) = expected {
        let expected = file.f32("x_hat", &[10, weights.d_in])?;
        let difference = reconstructed.iter().zip(&expected).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        println!("largest difference from dictionary_learning's own reconstructions: {difference:.0e}");
    }
    Ok(())
}
