//! What a probe is fitted to: the loss of linear scores. All of these losses are convex.

use serde::{Deserialize, Serialize};

/// Weight of the mean squared cost in the loss of costs (Safe RLHF, Dai et al. 2024).
const COST_DECAY: f64 = 0.001;

/// Kinds of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Yes or no: logistic regression.
    Binary,
    /// Ordered levels: proportional odds, `P(y >= j) = sigma(w x - t_j)` (McCullagh 1980).
    Ordinal,
    /// A number: least squares.
    Linear,
    /// Which of two samples is better: `-log sigma(w (x_better - x_worse))` (Bradley and Terry 1952).
    Pair,
    /// A cost that is positive for unsafe samples and larger for the less safe one of two (Safe RLHF, Dai et al. 2024).
    Cost,
}

impl Kind {
    /// All kinds with their names.
    pub const NAMED: [(&'static str, Self); 5] = [
        ("binary", Self::Binary),
        ("ordinal", Self::Ordinal),
        ("linear", Self::Linear),
        ("pair", Self::Pair),
        ("cost", Self::Cost),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::NAMED.map(|(name, _)| name).join(", ");
        let found = Self::NAMED.iter().find(|(other, _)| *other == name);
        found.map(|(_, kind)| *kind).ok_or_else(|| format!("unknown kind {name:?}: expected {known}"))
    }
}

/// What is known about the rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Whether each row has the property.
    Binary(Vec<bool>),
    /// The level of each row, from 0.
    Ordinal(Vec<u32>),
    /// The number of each row.
    Linear(Vec<f64>),
    /// Pairs of rows: the better one, and the worse one.
    Pair(Vec<[usize; 2]>),
    /// Pairs of rows, the less safe one first, and the rate of harmlessness of every row: negative if it is unsafe.
    Cost(Vec<[usize; 2]>, Vec<f64>),
}

impl Targets {
    /// The kind of probe that is fitted to them.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Binary(_) => Kind::Binary,
            Self::Ordinal(_) => Kind::Ordinal,
            Self::Linear(_) => Kind::Linear,
            Self::Pair(_) => Kind::Pair,
            Self::Cost(..) => Kind::Cost,
        }
    }

    /// The number of examples: rows, or pairs of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Binary(rows) => rows.len(),
            Self::Ordinal(rows) => rows.len(),
            Self::Linear(rows) => rows.len(),
            Self::Pair(pairs) | Self::Cost(pairs, _) => pairs.len(),
        }
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of an example: one, or two.
    pub fn rows(&self, example: usize) -> [usize; 2] {
        match self {
            Self::Pair(pairs) | Self::Cost(pairs, _) => pairs[example],
            _ => [example, example],
        }
    }

    /// The parameters besides the weights with which a fit begins: none, an intercept, or a threshold below each level but the
    /// lowest.
    pub fn offsets(&self) -> Vec<f64> {
        match self {
            Self::Ordinal(levels) => {
                let highest = levels.iter().max().copied().unwrap_or(0);
                (0..highest).map(|level| f64::from(level) - f64::from(highest - 1) / 2.0).collect()
            }
            Self::Pair(_) => Vec::new(),
            _ => vec![0.0],
        }
    }

    /// The mean loss of some examples. `scores` are those of the rows without offsets. Adds to `by_row` and `by_offset` the
    /// derivatives of the mean loss. The loss is infinite for thresholds out of order.
    pub fn loss(
        &self,
        examples: &[usize],
        scores: &[f64],
        offsets: &[f64],
        by_row: &mut [f64],
        by_offset: &mut [f64],
    ) -> f64 {
        let n = examples.len().max(1) as f64;
        let mut sum = 0.0;
        for example in examples {
            let [row, other] = self.rows(*example);
            match self {
                Self::Binary(of) => {
                    let sign = if of[row] { 1.0 } else { -1.0 };
                    let margin = sign * (scores[row] + offsets[0]);
                    sum += log_loss(margin);
                    let slope = -sign * sigmoid(-margin) / n;
                    by_row[row] += slope;
                    by_offset[0] += slope;
                }
                Self::Linear(of) => {
                    let error = scores[row] + offsets[0] - of[row];
                    sum += error * error / 2.0;
                    by_row[row] += error / n;
                    by_offset[0] += error / n;
                }
                Self::Ordinal(of) => {
                    let level = of[row] as usize;
                    // P(y = level) = sigma(above) - sigma(below): the distances to the thresholds on both sides.
                    let above = level.checked_sub(1).map(|j| scores[row] - offsets[j]);
                    let below = offsets.get(level).map(|t| scores[row] - t);
                    let (loss, [up, down]) = interval_loss(above, below);
                    sum += loss;
                    by_row[row] += (up + down) / n;
                    if let Some(j) = level.checked_sub(1) {
                        by_offset[j] -= up / n;
                    }
                    if below.is_some() {
                        by_offset[level] -= down / n;
                    }
                }
                Self::Pair(_) => {
                    let margin = scores[row] - scores[other];
                    sum += log_loss(margin);
                    let slope = -sigmoid(-margin) / n;
                    by_row[row] += slope;
                    by_row[other] -= slope;
                }
                Self::Cost(_, rates) => {
                    let margin = scores[row] - scores[other];
                    // Equal rates say nothing about which one is safer.
                    if rates[row] < rates[other] {
                        sum += log_loss(margin);
                        let slope = -sigmoid(-margin) / n;
                        by_row[row] += slope;
                        by_row[other] -= slope;
                    }
                    for row in [row, other] {
                        let cost = scores[row] + offsets[0];
                        let margin = -rates[row] * cost;
                        sum += log_loss(margin) + COST_DECAY * cost * cost / 2.0;
                        let slope = (rates[row] * sigmoid(-margin) + COST_DECAY * cost) / n;
                        by_row[row] += slope;
                        by_offset[0] += slope;
                    }
                }
            }
        }
        sum / n
    }
}

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// `-log sigma(margin)`.
fn log_loss(margin: f64) -> f64 {
    (-margin.abs()).exp().ln_1p() + (-margin).max(0.0)
}

/// `-log(sigma(above) - sigma(below))`, with its derivatives by `above` and `below`. Without `above` the first term is 1, and
/// without `below` the second is 0.
fn interval_loss(above: Option<f64>, below: Option<f64>) -> (f64, [f64; 2]) {
    match (above, below) {
        (None, None) => (0.0, [0.0; 2]),
        (Some(a), None) => (log_loss(a), [-sigmoid(-a), 0.0]),
        (None, Some(b)) => (log_loss(-b), [0.0, sigmoid(b)]),
        (Some(a), Some(b)) if a > b => {
            // sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - exp(b - a)).
            let gap = (b - a).exp();
            let ratio = gap / (1.0 - gap);
            let loss = log_loss(a) + log_loss(-b) - (-gap).ln_1p();
            (loss, [-sigmoid(-a) - ratio, sigmoid(b) + ratio])
        }
        (Some(_), Some(_)) => (f64::INFINITY, [0.0; 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Losses of four rows, written down as in their papers.
    fn plain(targets: &Targets, s: &[f64], o: &[f64]) -> f64 {
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        let n = targets.len() as f64;
        match targets {
            Targets::Binary(y) => {
                (0..y.len())
                    .map(|i| if y[i] { -sigma(s[i] + o[0]).ln() } else { -(1.0 - sigma(s[i] + o[0])).ln() })
                    .sum::<f64>()
                    / n
            }
            Targets::Linear(y) => (0..y.len()).map(|i| (s[i] + o[0] - y[i]).powi(2) / 2.0).sum::<f64>() / n,
            Targets::Ordinal(y) => {
                let at_least = |i: usize, j: usize| match j {
                    0 => 1.0,
                    j if j > o.len() => 0.0,
                    j => sigma(s[i] - o[j - 1]),
                };
                (0..y.len()).map(|i| -(at_least(i, y[i] as usize) - at_least(i, y[i] as usize + 1)).ln()).sum::<f64>()
                    / n
            }
            Targets::Pair(pairs) => pairs.iter().map(|[a, b]| -sigma(s[*a] - s[*b]).ln()).sum::<f64>() / n,
            Targets::Cost(pairs, h) => {
                let c = |i: usize| s[i] + o[0];
                let row = |i: usize| -sigma(-h[i] * c(i)).ln() + 0.001 * c(i) * c(i) / 2.0;
                pairs.iter().map(|[u, v]| -sigma(c(*u) - c(*v)).ln() + row(*u) + row(*v)).sum::<f64>() / n
            }
        }
    }

    proptest! {
        #[test]
        fn losses_and_their_derivatives_are_those_of_the_formulas(
            scores in prop::array::uniform4(-4.0f64..4.0),
            offset in -2.0f64..2.0,
        ) {
            let all = [
                (Targets::Binary(vec![true, false, false, true]), vec![offset]),
                (Targets::Linear(vec![1.0, -2.0, 0.5, 3.0]), vec![offset]),
                (Targets::Ordinal(vec![0, 1, 2, 1]), vec![offset, offset + 0.7]),
                (Targets::Pair(vec![[0, 1], [3, 1], [2, 0]]), vec![]),
                (Targets::Cost(vec![[0, 1], [2, 3]], vec![-2.0, 1.0, -3.0, -1.0]), vec![offset]),
            ];
            for (targets, offsets) in all {
                let examples: Vec<usize> = (0..targets.len()).collect();
                let (mut by_row, mut by_offset) = (vec![0.0; 4], vec![0.0; offsets.len()]);
                let loss = targets.loss(&examples, &scores, &offsets, &mut by_row, &mut by_offset);
                prop_assert!((loss - plain(&targets, &scores, &offsets)).abs() < 1e-9, "{:?}", targets.kind());
                let step = 1e-5;
                for i in 0..4 + offsets.len() {
                    let at = |by: f64| {
                        let (mut s, mut o) = (scores.to_vec(), offsets.clone());
                        if i < 4 { s[i] += by } else { o[i - 4] += by }
                        plain(&targets, &s, &o)
                    };
                    let slope = (at(step) - at(-step)) / (2.0 * step);
                    let own = if i < 4 { by_row[i] } else { by_offset[i - 4] };
                    prop_assert!((own - slope).abs() < 1e-6, "{:?}, {i}: {own} {slope}", targets.kind());
                }
            }
        }
    }

    #[test]
    fn extreme_scores_have_finite_losses_and_thresholds_out_of_order_do_not() {
        let ordinal = Targets::Ordinal(vec![1]);
        let loss = |score: f64, offsets: [f64; 2]| ordinal.loss(&[0], &[score], &offsets, &mut [0.0], &mut [0.0; 2]);
        assert!(loss(800.0, [0.0, 1.0]).is_finite() && loss(-800.0, [0.0, 1.0]).is_finite());
        assert_eq!(loss(0.0, [1.0, 0.5]), f64::INFINITY);
        let binary = Targets::Binary(vec![false]);
        assert_eq!(binary.loss(&[0], &[1000.0], &[0.0], &mut [0.0], &mut [0.0]), 1000.0);
    }
}
