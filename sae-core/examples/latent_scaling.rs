//! Measures latent scaling of a crosscoder with random weights: `latent_scaling [D_IN [FEATURES [K [TOKENS [MODELS]]]]]`, where `D_IN`
//! is the width of one model. The encoder's product, `f32` alone, takes turns with encoding and with the sums of latent scaling.

#![allow(clippy::print_stdout, reason = "a measurement for a terminal")]

use burn::tensor::Device;
use sae_core::analysis::latent_scaling::{BUCKETS, LatentScaling};
use sae_core::analysis::pass::{Block, Observer};
use sae_core::autoencoder::kernel::product::product;
use sae_core::autoencoder::{Activation, Encoder, Weights};
use sae_core::random::SplitMix64;
use sae_core::store::sample::{Modality, Role};
use sae_core::store::{PositionFilter, TokenColumns};
use std::error::Error;
use std::time::Instant;

/// Tokens of a block.
const ROWS: usize = 2048;
/// Tokens of a sample.
const SAMPLE: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let argument = |n: usize, default: usize| std::env::args().nth(n).map_or(Ok(default), |text| text.parse::<usize>());
    let (width, f, k) = (argument(1, 512)?, argument(2, 8192)?, argument(3, 32)?);
    let (tokens, models) = (argument(4, 16_384)?.next_multiple_of(ROWS), argument(5, 2)?);
    let d = width * models;

    let mut random = SplitMix64::new(1);
    let mut noise = |n: usize, scale: f64| -> Vec<f32> {
        (0..n).map(|_| (scale * (2.0 * random.next_f64() - 1.0)) as f32).collect()
    };
    let scale = (3.0 / d as f64).sqrt();
    let weights = Weights {
        d_in: d,
        d_sae: f,
        w_enc: noise(d * f, scale),
        b_enc: vec![0.0; f],
        w_dec: noise(d * f, scale),
        b_dec: vec![0.0; d],
        activation: Activation::TopK { k },
        ..Weights::default()
    };
    let hidden = noise(ROWS * d, 1.0);
    let columns = TokenColumns {
        sample: (0..ROWS as u32).map(|row| row / SAMPLE as u32).collect(),
        position: (0..ROWS as u32).map(|row| row % SAMPLE as u32).collect(),
        modality: vec![Modality::Text; ROWS],
        role: vec![Role::User; ROWS],
        special: vec![false; ROWS],
    };
    let buckets: Vec<u8> = (0..ROWS / SAMPLE).map(|sample| (sample % BUCKETS) as u8).collect();
    let scales = vec![1.0; models];
    let pairs: Vec<[usize; 2]> = (1..models).map(|model| [0, model]).collect();
    let encoder = Encoder::new(&weights, &Device::flex());
    let mut scaling = LatentScaling::new(&weights, &scales, &pairs, PositionFilter::default(), &buckets);
    let mut dense = vec![0f32; ROWS * f];
    let mut seconds = [0.0; 3];
    for _ in 0..tokens / ROWS {
        let start = Instant::now();
        product([ROWS, f, d], (&hidden, [d, 1]), (&weights.w_enc, [d, 1]), (&mut dense, [f, 1]), false);
        let alone = start.elapsed();
        let start = Instant::now();
        let active = encoder.encode(&hidden)?;
        let encoding = start.elapsed();
        let start = Instant::now();
        scaling.observe(&Block::new(&columns, 0..ROWS, 0, &hidden, &active))?;
        seconds.iter_mut().zip([alone, encoding, start.elapsed()]).for_each(|(sum, time)| *sum += time.as_secs_f64());
    }
    let start = Instant::now();
    let found = scaling.features().len();
    let ratios = start.elapsed().as_secs_f64();
    let [product, encoding, sums] = seconds;
    println!("{models} models of width {width}, {f} features, {k} active, {tokens} tokens");
    println!(
        "product {product:.2} s; encoding {encoding:.2} s; sums of latent scaling {sums:.2} s; ratios of {found} rows {ratios:.2} s"
    );
    println!(
        "the pass takes {:.0} % of the product's rate; latent scaling adds {:.0} % to encoding",
        100.0 * product / (encoding + sums),
        100.0 * sums / encoding
    );
    Ok(())
}
