//! What is known after the comparisons of each topology, and at which price: `pairs.json`.

use super::Compared;
use super::reveal::Revealed;
use super::trees::{Costs, Trees};
use filters::pairs::Topology;
use sae_core::analysis::feature_sets::Part;
use serde::Serialize;
use std::path::PathBuf;

/// Which pairs were chosen, and how uncertain the reward of unrelated answers is after comparing them.
#[derive(Clone, Debug, Serialize)]
pub struct PairsReport {
    /// The version of the file.
    pub schema_version: u32,
    /// The run folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub run: PathBuf,
    /// The autoencoder.
    pub sae: String,
    /// The probe that says what is known so far.
    pub probe: Option<String>,
    /// Which positions of an answer are read.
    pub part: Part,
    /// The standard deviation of weights before any comparison.
    pub scale: f64,
    /// The seed.
    pub seed: u64,
    /// The number of pairs that was asked for.
    pub asked: usize,
    /// Whole answers.
    pub answers: usize,
    /// Trees that have answers.
    pub trees: usize,
    /// Features that the reward reads.
    pub features: usize,
    /// Unrelated pairs over which the uncertainty is averaged.
    pub targets: usize,
    /// Pairs among which the active topology chose.
    pub candidates: usize,
    /// The uncertainty before any comparison.
    pub uncertainty: f64,
    /// Pairs that were compared before.
    pub compared: usize,
    /// The uncertainty after them, with which the topologies begin.
    pub uncertainty_now: f64,
    /// The topologies, in the order in which they were asked for.
    pub topologies: Vec<TopologyReport>,
    /// What every topology can afford: the total prices of the cheapest one.
    pub equal_price: Prices<u64>,
    /// The topology with the lowest uncertainty at each equal price; ties are broken by position.
    pub best: Prices<Option<Topology>>,
    /// The field with the rewards that simulated labels follow.
    pub reveal: Option<String>,
}

/// A number for each price of comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Prices<T> {
    /// A comparison.
    pub comparisons: T,
    /// A text token that people read.
    pub tokens_read: T,
    /// A token that the model generated.
    pub tokens_generated: T,
}

impl<T> Prices<T> {
    fn map<U>(self, mut change: impl FnMut(T) -> U) -> Prices<U> {
        Prices {
            comparisons: change(self.comparisons),
            tokens_read: change(self.tokens_read),
            tokens_generated: change(self.tokens_generated),
        }
    }

    fn zip<U>(self, other: Prices<U>) -> Prices<(T, U)> {
        Prices {
            comparisons: (self.comparisons, other.comparisons),
            tokens_read: (self.tokens_read, other.tokens_read),
            tokens_generated: (self.tokens_generated, other.tokens_generated),
        }
    }
}

/// What comparing the pairs of a topology does.
#[derive(Clone, Debug, Serialize)]
pub struct TopologyReport {
    /// The topology.
    pub topology: Topology,
    /// Pairs of this kind that exist.
    pub exist: usize,
    /// Pairs that were chosen.
    pub pairs: usize,
    /// The uncertainty after all of them.
    pub uncertainty: f64,
    /// What all of them cost.
    pub price: Prices<u64>,
    /// The uncertainty after as many of them as the equal prices pay for.
    pub at_equal_price: Prices<f64>,
    /// By how much the uncertainty falls per comparison and per token, on average over all of them.
    pub reduction_per: Prices<f64>,
    /// The uncertainty and the price after 1, 2, 4, ... and all comparisons.
    pub curve: Vec<CurvePoint>,
    /// How well a reward fitted to simulated labels orders unrelated answers.
    pub revealed: Vec<Revealed>,
}

/// What is known after some comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// What they cost.
    #[serde(flatten)]
    pub price: Prices<u64>,
    /// The uncertainty after them.
    pub uncertainty: f64,
}

/// The uncertainty and the total price after each number of comparisons, from none.
fn curve(trees: &Trees, compared: &Compared, before: f64) -> Vec<CurvePoint> {
    let mut costs = Costs::default();
    let mut points = vec![CurvePoint { price: Prices::default(), uncertainty: before }];
    for (n, (pair, step)) in (1..).zip(compared.pairs.iter().zip(&compared.steps)) {
        costs.add(trees, &trees.divide(*pair));
        let (tokens_read, tokens_generated) = (costs.tokens_read, costs.tokens_generated);
        let price = Prices { comparisons: n, tokens_read, tokens_generated };
        points.push(CurvePoint { price, uncertainty: step.uncertainty_before - step.gain });
    }
    points
}

/// What the topologies do, the prices at which they are compared, and the best at each.
pub(super) fn compare(
    trees: &Trees,
    compared: &[Compared],
    before: f64,
) -> (Vec<TopologyReport>, Prices<u64>, Prices<Option<Topology>>) {
    let curves: Vec<Vec<CurvePoint>> = compared.iter().map(|compared| curve(trees, compared, before)).collect();
    let last = |curve: &Vec<CurvePoint>| curve[curve.len() - 1];
    let totals = curves.iter().filter(|curve| curve.len() > 1).map(|curve| last(curve).price);
    let equal = totals.reduce(|a, b| a.zip(b).map(|(a, b)| a.min(b))).unwrap_or_default();
    let report = |(compared, curve): (&Compared, &Vec<CurvePoint>)| {
        let end = last(curve);
        let after = |budget: u64, price: fn(&Prices<u64>) -> u64| {
            let affordable = curve.partition_point(|point| price(&point.price) <= budget);
            curve[affordable.saturating_sub(1)].uncertainty
        };
        let shown = |n: &usize| n.is_power_of_two() || *n + 1 == curve.len();
        TopologyReport {
            topology: compared.topology,
            exist: compared.exist,
            pairs: compared.pairs.len(),
            uncertainty: end.uncertainty,
            price: end.price,
            at_equal_price: Prices {
                comparisons: after(equal.comparisons, |price| price.comparisons),
                tokens_read: after(equal.tokens_read, |price| price.tokens_read),
                tokens_generated: after(equal.tokens_generated, |price| price.tokens_generated),
            },
            reduction_per: end.price.map(|price| (before - end.uncertainty) / price.max(1) as f64),
            curve: (1..curve.len()).filter(shown).map(|n| curve[n]).collect(),
            revealed: compared.revealed.clone(),
        }
    };
    let topologies: Vec<TopologyReport> = compared.iter().zip(&curves).map(report).collect();
    let best = |uncertainty: fn(&Prices<f64>) -> f64| {
        let chosen = topologies.iter().filter(|report| report.pairs > 0);
        let better = |a, b| if at(b, uncertainty) < at(a, uncertainty) { b } else { a };
        chosen.reduce(better).map(|report| report.topology)
    };
    let best = Prices {
        comparisons: best(|at| at.comparisons),
        tokens_read: best(|at| at.tokens_read),
        tokens_generated: best(|at| at.tokens_generated),
    };
    (topologies, equal, best)
}

fn at(report: &TopologyReport, uncertainty: fn(&Prices<f64>) -> f64) -> f64 {
    uncertainty(&report.at_equal_price)
}
