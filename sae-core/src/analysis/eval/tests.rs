//! Evaluation against plain loops, and the counting of what is left out.

use super::*;
use crate::analysis::pass;
use crate::autoencoder::Encoder;
use crate::fixture;
use crate::store::PositionRule;
use burn::tensor::Device;

const D: usize = 8;

/// Some features of random directions.
fn weights() -> Weights {
    let d_sae = 40;
    let w_dec: Vec<f32> = fixture::hidden(d_sae, D, 77).iter().map(|v| v * 0.2).collect();
    let (w_enc, b_enc, b_dec) = (w_dec.clone(), vec![-0.5; d_sae], vec![0.1; D]);
    Weights { d_in: D, d_sae, w_enc, b_enc, w_dec, b_dec, ..Weights::default() }
}

fn evaluate(store: &crate::store::Store, weights: &Weights, rule: PositionRule) -> Report {
    let mut evaluator = Evaluator::without(weights, PositionFilter::new(store, rule).unwrap());
    pass::run(store, weights, &Device::flex(), &mut [&mut evaluator], &mut |_| ()).unwrap();
    let report = evaluator.report();
    let fires: f64 = evaluator.firing().iter().map(|f| f.density).sum();
    assert!(report.all.tokens == 0 || (fires - report.all.l0).abs() < 1e-9, "densities of features add up to L0");
    report
}

/// A position, computed alone.
struct Position {
    shard: usize,
    image: bool,
    x: Vec<f64>,
    x_hat: Vec<f64>,
    z: Vec<f64>,
}

fn positions(store: &crate::store::Store, weights: &Weights) -> Vec<Position> {
    let encoder = Encoder::new(weights, &Device::flex());
    let wide = |x: &[f32]| x.iter().map(|v| *v as f64).collect::<Vec<_>>();
    let mut all = Vec::new();
    for number in 0..store.shards() {
        let (shard, tokens) = (store.shard(number).unwrap(), store.tokens(number).unwrap());
        for row in 0..shard.rows() {
            let (mut x, mut x_hat) = (Vec::new(), vec![0.0; D]);
            shard.read(row..row + 1, &mut x);
            let active = encoder.encode(&x).unwrap();
            let (features, values) = active.row(0);
            weights.decode(&x, features, values, &mut x_hat);
            let image = tokens.modality[row] == Modality::Image;
            all.push(Position { shard: number, image, x: wide(&x), x_hat: wide(&x_hat), z: wide(values) });
        }
    }
    all
}

fn mean(of: &[&Position]) -> Vec<f64> {
    (0..D).map(|i| of.iter().map(|p| p.x[i]).sum::<f64>() / of.len() as f64).collect()
}

/// Of the rows of each shard about their own mean.
fn legacy(of: &[&Position]) -> f64 {
    let mut explained = Vec::new();
    for shard in 0..3 {
        let rows: Vec<_> = of.iter().copied().filter(|p| p.shard == shard).collect();
        if rows.len() >= SMALLEST_BATCH {
            let mean = mean(&rows);
            explained.extend(rows.iter().map(|p| 1.0 - distance(&p.x, &p.x_hat) / distance(&p.x, &mean)));
        }
    }
    explained.iter().sum::<f64>() / explained.len() as f64
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    square(a.iter().zip(b).map(|(a, b)| a - b))
}

fn square(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|v| v * v).sum()
}

#[test]
fn every_figure_is_what_a_plain_loop_says() {
    let (_dir, store) = fixture::store(D);
    let weights = weights();
    let report = evaluate(&store, &weights, PositionRule::default());
    let all = positions(&store, &weights);
    for (evaluation, kept) in [
        (&report.all, all.iter().collect::<Vec<_>>()),
        (&report.by_modality[&Modality::Text], all.iter().filter(|p| !p.image).collect()),
        (&report.by_modality[&Modality::Image], all.iter().filter(|p| p.image).collect()),
    ] {
        let n = kept.len() as f64;
        let center = mean(&kept);
        let sum = |value: &dyn Fn(&Position) -> f64| kept.iter().map(|p| value(p)).sum::<f64>();
        let error = sum(&|p| distance(&p.x, &p.x_hat));
        let dot = sum(&|p| p.x.iter().zip(&p.x_hat).map(|(a, b)| a * b).sum());
        let norm = |x: &[f64]| square(x.iter().copied()).sqrt();
        let mut norms: Vec<f64> = kept.iter().map(|p| norm(&p.x)).collect();
        norms.sort_by(f64::total_cmp);
        assert_eq!(evaluation.tokens, kept.len() as u64);
        for (name, found, expected) in [
            ("L0", evaluation.l0, sum(&|p| p.z.len() as f64) / n),
            ("L1", evaluation.l1, sum(&|p| p.z.iter().sum()) / n),
            ("MSE", evaluation.mse, error / n),
            ("FVU", evaluation.fvu, error / sum(&|p| distance(&p.x, &center))),
            ("legacy", evaluation.explained_variance_legacy, legacy(&kept)),
            ("mean norm", evaluation.mean_norm, norms.iter().sum::<f64>() / n),
            ("ratio", evaluation.mean_norm_ratio, sum(&|p| norm(&p.x_hat) / norm(&p.x)) / n),
            ("relative norm", evaluation.relative_norm, sum(&|p| norm(&p.x_hat)) / sum(&|p| norm(&p.x))),
            ("bias", evaluation.reconstruction_bias, sum(&|p| square(p.x_hat.iter().copied())) / dot),
        ] {
            assert!((found - expected).abs() <= 1e-6 * expected.abs(), "{name}: {found}, not {expected}");
        }
        assert!((evaluation.median_norm / norms[(norms.len() - 1) / 2] - 1.0).abs() < 3e-4);
        assert!((evaluation.density.shares.iter().sum::<f64>() + evaluation.dead - 1.0).abs() < 1e-9);
    }
}

#[test]
fn what_is_excluded_is_counted_and_not_measured() {
    let (_dir, store) = fixture::store(D);
    let weights = weights();
    let none = evaluate(&store, &weights, PositionRule::default());
    let samples = fixture::SAMPLES as u64;
    let special = evaluate(&store, &weights, PositionRule { special: true, first: true, norm: 0.0 });
    let excluded = ExcludedCounts { positions: samples, special: samples, first: samples, norm: 0 };
    assert_eq!(special.all.excluded, excluded, "the begin token of a sample has two reasons and counts once");
    assert_eq!(special.by_modality[&Modality::Text].excluded, excluded);
    assert_eq!(special.by_modality[&Modality::Image], none.by_modality[&Modality::Image]);
    assert_eq!(special.all.tokens + samples, none.all.tokens);

    let loud = evaluate(&store, &weights, PositionRule { norm: 1.5, ..PositionRule::default() });
    let norms = positions(&store, &weights).into_iter().map(|p| square(p.x.into_iter()).sqrt());
    let over = norms.filter(|n| *n > 1.5 * none.all.median_norm).count() as u64;
    assert!(over > 0);
    assert_eq!((loud.all.excluded.norm, loud.all.excluded.positions), (over, over));
    assert!(loud.all.mean_norm < none.all.mean_norm);

    let nothing = evaluate(&store, &weights, PositionRule { norm: 1e-3, ..PositionRule::default() });
    assert!(nothing.all.tokens == 0 && nothing.all.fvu.is_nan());
    assert!(serde_json::to_value(&nothing).unwrap()["all"]["fvu"].is_null());
}
