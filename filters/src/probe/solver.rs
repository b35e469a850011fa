//! Minimizes `loss + a |w|_1 + e/2 |w|^2` over the weights `w` of sparse rows and the offsets of the loss, on a descending path of
//! penalties.
//!
//! # Method
//! FISTA with backtracking (Beck and Teboulle 2009) and restarts (O'Donoghue and Candès 2015). For each penalty only the
//! features take part that have weights or could get some (the strong rules of Tibshirani et al. 2012), and the optimality of
//! all others is checked afterwards. Sums run in the order of the rows, so that the result does not depend on threads.

use super::loss::Targets;
use super::rows::Rows;

/// Penalties on the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalty {
    /// Of the sum of absolute weights: `a`.
    pub l1: f64,
    /// Of half the sum of squared weights: `e`.
    pub l2: f64,
}

/// Steps of FISTA for one penalty, at most.
const STEPS: usize = 2000;
/// Rounds in which features are added to those that take part, at most.
const ROUNDS: usize = 20;

/// A minimum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Solution {
    /// The weight of every feature.
    pub weights: Vec<f64>,
    /// The offsets of the loss.
    pub offsets: Vec<f64>,
}

impl Solution {
    /// Where a path begins: no weights.
    pub fn start(rows: &Rows, targets: &Targets) -> Self {
        Self { weights: vec![0.0; rows.width()], offsets: targets.offsets() }
    }

    /// The scores of all rows, without offsets.
    fn scores(&self, rows: &Rows) -> Vec<f64> {
        (0..rows.len()).map(|row| rows.dot(row, &self.weights)).collect()
    }

    /// The mean loss of some examples, without the penalty.
    pub fn loss(&self, problem: &Problem) -> f64 {
        let scores = self.scores(problem.rows);
        let (mut by_row, mut by_offset) = (vec![0.0; scores.len()], vec![0.0; self.offsets.len()]);
        problem.targets.loss(problem.examples, &scores, &self.offsets, &mut by_row, &mut by_offset)
    }
}

/// What is minimized.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// The rows, `[rows, features]`.
    pub rows: &'a Rows,
    /// What is known about them.
    pub targets: &'a Targets,
    /// The examples that count.
    pub examples: &'a [usize],
}

impl Problem<'_> {
    /// The smallest L1 penalty at which all weights are 0, and the solution there.
    pub fn largest_penalty(&self) -> (f64, Solution) {
        let start = Solution::start(self.rows, self.targets);
        let none = self.over(&[], &start, Penalty { l1: 1.0, l2: 0.0 }, 1e-9);
        let gradient = self.gradient(&none);
        (gradient.iter().fold(0.0, |most: f64, g| most.max(g.abs())), none)
    }

    /// The minimum for a penalty. `start` is the minimum for the larger penalty `before`. Ends when no coordinate of the
    /// gradient is off by more than `tolerance` times the penalty.
    pub fn minimize(&self, start: &Solution, before: f64, penalty: Penalty, tolerance: f64) -> Solution {
        let mut found = start.clone();
        let mut gradient = self.gradient(&found);
        let bound = (2.0 * penalty.l1 - before).max(0.0);
        let mut taking_part: Vec<bool> = (0..self.rows.width())
            .map(|feature| found.weights[feature] != 0.0 || gradient[feature].abs() >= bound)
            .collect();
        for _ in 0..ROUNDS {
            let features: Vec<u32> =
                (0..).zip(&taking_part).filter(|(_, takes)| **takes).map(|(feature, _)| feature).collect();
            found = self.over(&features, &found, penalty, tolerance);
            gradient = self.gradient(&found);
            let mut added = false;
            for (feature, takes) in taking_part.iter_mut().enumerate() {
                if !*takes && gradient[feature].abs() > penalty.l1 * (1.0 + tolerance) {
                    (*takes, added) = (true, true);
                }
            }
            if !added {
                break;
            }
        }
        found
    }

    /// The derivatives of the mean loss by all weights.
    fn gradient(&self, at: &Solution) -> Vec<f64> {
        let scores = at.scores(self.rows);
        let (mut by_row, mut by_offset) = (vec![0.0; scores.len()], vec![0.0; at.offsets.len()]);
        self.targets.loss(self.examples, &scores, &at.offsets, &mut by_row, &mut by_offset);
        let mut gradient = vec![0.0; self.rows.width()];
        add_rows(self.rows, &by_row, &mut gradient);
        gradient
    }

    /// The minimum where only some features may have weights.
    fn over(&self, features: &[u32], start: &Solution, penalty: Penalty, tolerance: f64) -> Solution {
        let rows = self.rows.columns(features, |_| 1.0);
        let inner = Descent { rows: &rows, targets: self.targets, examples: self.examples, penalty };
        let weights = features.iter().map(|feature| start.weights[*feature as usize]);
        let parameters = inner.run(weights.chain(start.offsets.iter().copied()).collect(), tolerance);
        let mut found =
            Solution { weights: vec![0.0; self.rows.width()], offsets: parameters[features.len()..].to_vec() };
        features.iter().zip(&parameters).for_each(|(feature, weight)| found.weights[*feature as usize] = *weight);
        found
    }
}

/// `sum += rows^T by_row`
fn add_rows(rows: &Rows, by_row: &[f64], sum: &mut [f64]) {
    let changed = by_row.iter().enumerate().filter(|(_, slope)| **slope != 0.0);
    changed.for_each(|(row, slope)| rows.add_to(row, *slope, sum));
}

/// FISTA. Parameters are the weights followed by the offsets.
struct Descent<'a> {
    rows: &'a Rows,
    targets: &'a Targets,
    examples: &'a [usize],
    penalty: Penalty,
}

impl Descent<'_> {
    /// The loss with the quadratic penalty. Writes its derivatives.
    fn smooth(&self, parameters: &[f64], gradient: &mut [f64]) -> f64 {
        let width = self.rows.width();
        let (weights, offsets) = parameters.split_at(width);
        let scores: Vec<f64> = (0..self.rows.len()).map(|row| self.rows.dot(row, weights)).collect();
        let mut by_row = vec![0.0; scores.len()];
        gradient.fill(0.0);
        let (by_weight, by_offset) = gradient.split_at_mut(width);
        let loss = self.targets.loss(self.examples, &scores, offsets, &mut by_row, by_offset);
        add_rows(self.rows, &by_row, by_weight);
        by_weight.iter_mut().zip(weights).for_each(|(g, w)| *g += self.penalty.l2 * w);
        loss + self.penalty.l2 / 2.0 * weights.iter().map(|w| w * w).sum::<f64>()
    }

    fn run(&self, start: Vec<f64>, tolerance: f64) -> Vec<f64> {
        let width = self.rows.width();
        let mut point = start;
        let mut ahead = point.clone();
        let (mut gradient, mut scratch) = (vec![0.0; point.len()], vec![0.0; point.len()]);
        let (mut momentum, mut curvature) = (1.0f64, 1.0f64);
        for _ in 0..STEPS {
            let value = self.smooth(&ahead, &mut gradient);
            let next = loop {
                let next: Vec<f64> = ahead
                    .iter()
                    .zip(&gradient)
                    .enumerate()
                    .map(|(i, (p, g))| {
                        let moved = p - g / curvature;
                        let shrink = if i < width { self.penalty.l1 / curvature } else { 0.0 };
                        moved.signum() * (moved.abs() - shrink).max(0.0)
                    })
                    .collect();
                let change = || next.iter().zip(&ahead).map(|(n, p)| n - p);
                let linear: f64 = change().zip(&gradient).map(|(d, g)| d * g).sum();
                let bound = value + linear + curvature / 2.0 * change().map(|d| d * d).sum::<f64>();
                // Rounding must not reject a step that changes almost nothing.
                if self.smooth(&next, &mut scratch) <= bound + 1e-13 * value.abs().max(1.0) || curvature > 1e12 {
                    break next;
                }
                curvature *= 2.0;
            };
            let off = next.iter().zip(&ahead).fold(0.0f64, |most, (n, p)| most.max((n - p).abs())) * curvature;
            let goes_back = next.iter().zip(&point).zip(&ahead).map(|((n, p), a)| (a - n) * (n - p)).sum::<f64>() > 0.0;
            let following = if goes_back { 1.0 } else { (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) / 2.0 };
            let push = if goes_back { 0.0 } else { (momentum - 1.0) / following };
            ahead = next.iter().zip(&point).map(|(n, p)| n + push * (n - p)).collect();
            // Thresholds that the push brought out of order have no finite loss.
            if !ahead[width..].is_sorted_by(|a, b| a < b) {
                ahead.clone_from(&next);
            }
            (point, momentum) = (next, following);
            if off <= tolerance * self.penalty.l1 {
                break;
            }
            curvature *= 0.98;
        }
        point
    }
}
