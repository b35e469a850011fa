//! Latent scaling against dense formulas, on any number of threads.

use super::*;
use crate::analysis::pass;
use crate::autoencoder::Encoder;
use crate::fixture;
use burn::tensor::Device;

/// Five features of two models that are three wide.
fn weights() -> Weights {
    let wave = |n: usize, by: f32| (0..n).map(|i| ((i as f32 + 1.0) * by).sin()).collect::<Vec<_>>();
    Weights {
        d_in: 6,
        d_sae: 5,
        w_enc: wave(30, 0.7),
        b_enc: wave(5, 1.3),
        w_dec: wave(30, 1.9),
        b_dec: wave(6, 0.4),
        ..Weights::default()
    }
}

const SCALES: [f32; 2] = [1.5, 0.25];

fn buckets() -> Vec<u8> {
    (0..fixture::SAMPLES).map(|n| (n * 5 % 7) as u8).collect()
}

fn found(threads: usize) -> Vec<ScaledFeature> {
    let (_dir, store) = fixture::store(6);
    let (weights, buckets) = (weights(), buckets());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut scaling = LatentScaling::new(&weights, &SCALES, &[[0, 1]], PositionFilter::default(), &buckets);
        pass::run(&store, &weights, &Device::flex(), &mut [&mut scaling], &mut |_| ()).unwrap();
        scaling.features()
    })
}

/// `nu` of a feature without the samples of a bucket, by its definition: `beta^A / beta^B` over whole vectors; NaN if the feature
/// does not explain its own model.
fn dense(weights: &Weights, feature: usize, [a, b]: [usize; 2], of_error: bool, without: Option<u8>) -> f64 {
    let (_dir, store) = fixture::store(6);
    let encoder = Encoder::new(weights, &Device::flex());
    let buckets = buckets();
    let block = |row: &[f32], m: usize| -> Vec<f64> {
        row[3 * m..3 * m + 3].iter().map(|v| f64::from(*v) * f64::from(SCALES[m])).collect()
    };
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let beta = |m: usize| {
        let (mut above, mut below) = (0.0, 0.0);
        for number in 0..store.shards() {
            let (shard, tokens) = (store.shard(number).unwrap(), store.tokens(number).unwrap());
            for row in 0..shard.rows() {
                if Some(buckets[tokens.sample[row] as usize]) == without {
                    continue;
                }
                let mut x = Vec::new();
                shard.read(row..row + 1, &mut x);
                let active = encoder.encode(&x).unwrap();
                let mut hat = vec![0.0; 6];
                weights.decode(&x, active.row(0).0, active.row(0).1, &mut hat);
                let f = active.row(0).0.iter().position(|k| *k as usize == feature).map_or(0.0, |n| active.row(0).1[n]);
                let (f, d) = (f64::from(f), block(weights.direction(feature), b));
                let (x, hat, own) = (block(&x, m), block(&hat, m), block(weights.direction(feature), m));
                let target: Vec<f64> =
                    if of_error { (0..3).map(|i| x[i] - hat[i] + f * own[i]).collect() } else { hat };
                above += f * dot(&d, &target);
                below += f * f * dot(&d, &d);
            }
        }
        above / below
    };
    let own = beta(b);
    if own > 0.0 { beta(a) / own } else { f64::NAN }
}

#[test]
fn sums_of_active_features_are_the_dense_formulas() {
    let weights = weights();
    let rows = found(2);
    assert_eq!(rows.len(), 10, "five features that fire, for each of two models");
    let mut compared = 0;
    for row in rows {
        let pair = [row.reference, row.model];
        for (ratio, of_error) in [(row.nu_error, true), (row.nu_reconstruction, false)] {
            let all = dense(&weights, row.feature as usize, pair, of_error, None);
            if all.is_nan() {
                assert!(ratio.value.is_nan(), "{row:?}");
                continue;
            }
            // Reconstructions are `f32` in both.
            assert!((ratio.value - all).abs() < 1e-6 * all.abs().max(1.0), "{row:?}: {all}");
            compared += 1;
            if row.feature > 1 {
                continue;
            }
            let without: Vec<f64> =
                (0..7).map(|b| dense(&weights, row.feature as usize, pair, of_error, Some(b))).collect();
            if without.iter().any(|v| v.is_nan()) {
                assert!(ratio.lo.is_nan(), "{row:?}");
                continue;
            }
            let mean = without.iter().sum::<f64>() / 7.0;
            let variance = 6.0 / 7.0 * without.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
            let reach = 2.446_911_85 * variance.sqrt();
            assert!(((ratio.hi - ratio.lo) / 2.0 - reach).abs() < 1e-5 * reach, "{row:?}: {reach}");
        }
    }
    assert!(compared >= 5, "only {compared} ratios have a positive denominator");
}

#[test]
fn the_result_is_the_same_on_any_number_of_threads() {
    let bits = |rows: Vec<ScaledFeature>| format!("{rows:?}");
    assert_eq!(bits(found(1)), bits(found(5)));
}

#[test]
fn what_cannot_be_told_is_uncertain() {
    let ratio = |value: f64, reach: f64| Ratio { value, lo: value - reach, hi: value + reach };
    let row = |firings: u64, error: Ratio, reconstruction: Ratio| ScaledFeature {
        feature: 0,
        model: 1,
        reference: 0,
        delta: 0.5,
        firings,
        nu_error: error,
        nu_reconstruction: reconstruction,
        template_share: 0.0,
        first_share: 0.0,
    };
    let small = ratio(0.01, 0.02);
    assert_eq!(row(50, small, small).ownership(), Ownership::Own);
    assert_eq!(row(9, small, small).ownership(), Ownership::Uncertain);
    assert_eq!(row(50, ratio(0.19, 0.02), small).ownership(), Ownership::Uncertain);
    assert_eq!(row(50, small, ratio(0.9, 0.2)).ownership(), Ownership::Shared);
    let none = jackknife(&[[0.5, 1.0], [0.0, 0.0]]);
    assert!(none.value == 0.5 && none.lo.is_nan());
    assert_eq!(row(50, none, none).ownership(), Ownership::Uncertain);
}
