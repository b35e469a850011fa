//! Folds what a format subtracts, rescales or normalizes by a constant into the weights, so that the plain form of
//! [`Weights`] gives the same activations and reconstructions. Reads no file.

use crate::autoencoder::{Activation, Weights};
use rayon::prelude::*;

/// Folds the subtraction of `b_dec` from inputs into the biases of the encoder.
pub fn center(weights: &mut Weights) {
    shift_biases(weights, -1.0);
}

/// The reverse of [`center`], for formats that always subtract.
pub fn uncenter(weights: &mut Weights) {
    shift_biases(weights, 1.0);
}

/// Adds `sign * W_enc b_dec` to the biases that are added to `W_enc x`.
fn shift_biases(weights: &mut Weights, sign: f64) {
    // In f64, so that folding here and unfolding in another program cancel.
    let dot = |row: &[f32]| row.iter().zip(&weights.b_dec).map(|(w, b)| *w as f64 * *b as f64).sum::<f64>();
    let shift: Vec<_> = weights.w_enc.par_chunks_exact(weights.d_in).map(|row| sign * dot(row)).collect();
    let add = |biases: &mut [f32], k: usize, by: f64| biases[k] = (biases[k] as f64 + by) as f32;
    for (k, shift) in shift.into_iter().enumerate() {
        add(&mut weights.b_enc, k, shift);
        if let Activation::Gated { scale, bias } = &mut weights.activation {
            add(bias, k, shift * scale[k] as f64);
        }
    }
}

/// The norms of the decoder directions, `[d_sae]`.
pub fn decoder_norms(weights: &Weights) -> Vec<f32> {
    let norm = |row: &[f32]| row.iter().map(|v| (*v as f64).powi(2)).sum::<f64>().sqrt() as f32;
    weights.w_dec.par_chunks_exact(weights.d_out()).map(norm).collect()
}

/// Normalizes every decoder direction to norm 1 and scales activations up by the norm, as TopK with `rescale_acts_by_decoder_norm`
/// compares them.
pub fn normalize_decoder(weights: &mut Weights) {
    let norms = decoder_norms(weights);
    let (d, d_out) = (weights.d_in, weights.d_out());
    for (k, norm) in norms.into_iter().enumerate() {
        weights.w_enc[k * d..(k + 1) * d].iter_mut().for_each(|v| *v *= norm);
        weights.b_enc[k] *= norm;
        // A feature with a zero direction contributes nothing in either form; in this one it never fires.
        if norm > 0.0 {
            weights.w_dec[k * d_out..(k + 1) * d_out].iter_mut().for_each(|v| *v /= norm);
        }
    }
}

/// Folds a factor `by` of the inputs into the encoder.
pub fn scale_input(weights: &mut Weights, by: f32) {
    weights.w_enc.iter_mut().for_each(|v| *v *= by);
}

/// Folds a factor `by` of the reconstructions into the decoder.
pub fn scale_output(weights: &mut Weights, by: f32) {
    weights.w_dec.iter_mut().chain(&mut weights.b_dec).for_each(|v| *v *= by);
}
