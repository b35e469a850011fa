//! Selects the features of each token that take part in a step, by the rule of each architecture. Computes no gradient.

use super::architecture::ArchitectureRule;
use super::config::TrainConfig;
use super::feature_share::FeatureShare;
use super::params::{B_ENC, Params, THRESHOLD};
use crate::Result;
use crate::autoencoder::Architecture;
use crate::autoencoder::kernel::{self, Panels, Rule};
use crate::autoencoder::sparse::Sparse;
use crate::vector::norm_sq;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The starting point of the search for a batch's threshold, from the last batch. It affects only speed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ThresholdHint(Option<f32>);

/// Pre-activations (bias included) that have an activation or a gradient, and the least activation that a batch chose.
///
/// `k` is the number of active features per token in this step, for architectures that select the strongest.
///
/// # Shapes
/// `x`: `[rows, d_in]`, what the encoder reads; `norms`: `[d_sae]`, of the decoder's rows.
///
/// # Errors
/// A rank that is lost.
#[expect(clippy::too_many_arguments, reason = "all of them change from step to step, and none belongs to another")]
pub fn select(
    config: &TrainConfig,
    k: usize,
    method: &ArchitectureRule,
    params: &Params,
    panels: &Panels,
    norms: &[f32],
    x: &[f32],
    hint: &mut ThresholdHint,
    share: &FeatureShare,
) -> Result<(Sparse, Option<f32>)> {
    let gain = config.weighs_by_norm().then_some(norms);
    let rows = x.len() / params.d_in;
    let with = |x: &[f32], rule: Rule| kernel::select(x, &params.w_enc, &params.scalars[B_ENC], gain, panels, rule);
    let (mut chosen, least) = match config.arch {
        Architecture::TopK => {
            let rule = hint.0.map_or(Rule::TopK(k), |least| Rule::TopKOver(k, least));
            let mut chosen = with(x, rule);
            hint.0 = Some(expected(&chosen, x, params.d_in, k));
            share.keep_top_k(&mut chosen, k)?;
            (chosen, None)
        }
        Architecture::BatchTopK | Architecture::Matryoshka => {
            let sample = |k: usize| {
                let few = rows.min(64);
                let top = with(&x[..few * params.d_in], Rule::TopK(2 * k));
                let mut values = top.values().to_vec();
                values.sort_unstable_by(|a, b| b.total_cmp(a));
                values.get(few * k).copied().unwrap_or_default()
            };
            strongest(k * rows, hint, || sample(k), |floor| with(x, Rule::Over(floor)), share)?
        }
        Architecture::JumpRelu => {
            let floors: Vec<f32> = params.scalars[THRESHOLD].iter().map(|t| method.floor(*t)).collect();
            (with(x, Rule::Above(&floors)), None)
        }
        Architecture::Relu | Architecture::Gated => (with(x, Rule::Over(0.0)), None),
    };
    if gain.is_some() {
        chosen.map(|feature, value| value / norms[feature as usize]);
    }
    Ok((chosen, least))
}

/// What every row's weakest choice was above, as a multiple of the row's norm, less a little since batches differ.
fn expected(chosen: &Sparse, x: &[f32], d_in: usize, k: usize) -> f32 {
    let of_row = |(r, x): (usize, &[f32])| {
        let values = chosen.row(r).1;
        let least = values.iter().copied().fold(f32::INFINITY, f32::min);
        // With fewer than k positive values in a row the next batch is looked at from zero on.
        if values.len() == k { least / norm_sq(x).sqrt().max(f32::MIN_POSITIVE) } else { 0.0 }
    };
    0.95 * x.chunks_exact(d_in).enumerate().map(of_row).fold(f32::INFINITY, f32::min)
}

/// The `count` largest positive values of all rows together; ties are broken by position. The result is exact for any hint:
/// a floor that is too high is lowered until enough values are above it on all ranks.
fn strongest(
    count: usize,
    hint: &mut ThresholdHint,
    first: impl Fn() -> f32,
    over: impl Fn(f32) -> Sparse,
    share: &FeatureShare,
) -> Result<(Sparse, Option<f32>)> {
    // A little below the last threshold, since batches differ.
    let mut floor = 0.95 * share.maximum(hint.0.unwrap_or_else(first))?.max(0.0);
    let mut found = over(floor);
    while share.total(found.len() as f64)? < count as f64 && floor > 0.0 {
        floor = if floor > 1e-6 { floor * 0.7 } else { 0.0 };
        found = over(floor);
    }
    let least = share.keep_largest(&mut found, count)?;
    hint.0 = least;
    Ok((found, least))
}

/// Ends of Matryoshka's prefixes at a step, ascending, the whole dictionary last; other architectures have only the latter.
pub fn prefixes(config: &TrainConfig, d_sae: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    match (config.arch, config.random_prefixes) {
        (Architecture::Matryoshka, 0) => config.prefixes(d_sae),
        (Architecture::Matryoshka, count) => {
            // Pareto with exponent 1/2, cut at both ends: small prefixes often, large ones now and then.
            let draw = |_| {
                let (low, high) = (1.0, (d_sae as f64).powf(-0.5));
                let u: f64 = rng.random_range(0.0..1.0);
                ((low - u * (low - high)).powf(-2.0) as usize).clamp(1, d_sae)
            };
            let mut ends: Vec<usize> = (0..count).map(draw).collect();
            ends.push(d_sae);
            ends.sort_unstable();
            ends.dedup();
            ends
        }
        _ => vec![d_sae],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn a_batch_s_strongest_are_found_from_any_hint() {
        let dense: Vec<f32> = (0..60).map(|i| ((i * 37) % 41) as f32 / 10.0 - 1.0).collect();
        let over = |floor: f32| {
            let mut all = Sparse::from_dense(&dense, 12);
            all.retain(|_, _, v| v > floor);
            all
        };
        let mut sorted: Vec<f32> = dense.iter().copied().filter(|v| *v > 0.0).collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for count in [1, 7, 20, 1000] {
            for hint in [None, Some(0.0), Some(0.7), Some(1e9)] {
                let whole = FeatureShare::whole(12);
                let (found, least) = strongest(count, &mut ThresholdHint(hint), || 2.0, over, &whole).unwrap();
                let expected = count.min(sorted.len());
                assert_eq!((found.len(), least), (expected, Some(sorted[expected - 1])), "{count} from {hint:?}");
            }
        }
    }

    #[test]
    fn random_prefixes_are_ascending_and_end_with_all() {
        let config = TrainConfig { random_prefixes: 9, ..TrainConfig::for_architecture(Architecture::Matryoshka) };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..50 {
            let ends = prefixes(&config, 500, &mut rng);
            assert!(ends.is_sorted_by(|a, b| a < b) && ends.last() == Some(&500), "{ends:?}");
        }
    }
}
