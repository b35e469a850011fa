//! Minima are those of scikit-learn, statsmodels and cvxpy (`tests/golden/make_probes.py`).

use super::loss::{Kind, Targets};
use super::rows::Rows;
use super::solver::{Penalty, Problem, Solution};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Vec<(u32, f32)>>,
    features: usize,
    binary: Vec<bool>,
    levels: Vec<u32>,
    numbers: Vec<f64>,
    pairs: Vec<[usize; 2]>,
    unsafe_first: Vec<[usize; 2]>,
    rates: Vec<f64>,
    cases: Vec<Case>,
    statsmodels: Unpenalized,
}

#[derive(Deserialize)]
struct Case {
    kind: Kind,
    l1: f64,
    l2: f64,
    objective: f64,
}

#[derive(Deserialize)]
struct Unpenalized {
    features: usize,
    loss: f64,
    weights: Vec<f64>,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/probes.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn rows(golden: &Golden, features: usize) -> Rows {
    let mut rows = Rows::new(features);
    golden.rows.iter().for_each(|row| rows.push(row.iter().copied().filter(|(f, _)| (*f as usize) < features)));
    rows
}

#[test]
fn minima_are_those_of_other_programs() {
    let golden = golden();
    let rows = rows(&golden, golden.features);
    for case in &golden.cases {
        let targets = match case.kind {
            Kind::Binary => Targets::Binary(golden.binary.clone()),
            Kind::Ordinal => Targets::Ordinal(golden.levels.clone()),
            Kind::Linear => Targets::Linear(golden.numbers.clone()),
            Kind::Pair => Targets::Pair(golden.pairs.clone()),
            Kind::Cost => Targets::Cost(golden.unsafe_first.clone(), golden.rates.clone()),
        };
        let examples: Vec<usize> = (0..targets.len()).collect();
        let problem = Problem { rows: &rows, targets: &targets, examples: &examples };
        let (largest, none) = problem.largest_penalty();
        let found = problem.minimize(&none, largest, Penalty { l1: case.l1, l2: case.l2 }, 1e-8);
        let sum = |of: fn(f64) -> f64| found.weights.iter().copied().map(of).sum::<f64>();
        let objective = found.loss(&problem) + case.l1 * sum(f64::abs) + case.l2 / 2.0 * sum(|w| w * w);
        let off = objective - case.objective;
        assert!(off.abs() < 1e-6, "{:?} at {}: off by {off:e}", case.kind, case.l1);
        // Just above the largest useful penalty, nothing has a weight.
        let above = problem.minimize(&none, largest, Penalty { l1: 1.001 * largest, l2: 0.0 }, 1e-6);
        assert!(above.weights.iter().all(|weight| *weight == 0.0), "{:?}", case.kind);
    }
}

#[test]
fn levels_without_a_penalty_are_those_of_statsmodels() {
    let golden = golden();
    let rows = rows(&golden, golden.statsmodels.features);
    let targets = Targets::Ordinal(golden.levels.clone());
    let examples: Vec<usize> = (0..targets.len()).collect();
    let problem = Problem { rows: &rows, targets: &targets, examples: &examples };
    let start = Solution::start(&rows, &targets);
    let found = problem.minimize(&start, 0.0, Penalty { l1: 1e-9, l2: 0.0 }, 1.0);
    assert!((found.loss(&problem) - golden.statsmodels.loss).abs() < 1e-6);
    for (own, other) in found.weights.iter().zip(&golden.statsmodels.weights) {
        assert!((own - other).abs() < 1e-4, "{own} {other}");
    }
    assert!(found.offsets.is_sorted());
}
