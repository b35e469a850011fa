//! What a selection with budgets chooses from: candidates with scores and costs, in cells that each have a quota, and what prices
//! choose.

/// The prices of a frontier are powers of 2 between these, relative to the ranges of scores and costs; with the square roots.
const PRICES: std::ops::RangeInclusive<i32> = -16..=16;
/// A price at which scores only break ties.
const SAFEST: f64 = (1u64 << 40) as f64;

/// The smallest of some numbers, and how far the largest is above it (1 if all are equal).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub least: f64,
    pub width: f64,
}

impl Scale {
    fn new(numbers: &[f64]) -> Self {
        let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let width = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max) - least;
        Self { least, width: if width > 0.0 { width } else { 1.0 } }
    }
}

/// Candidates of a selection, in the order that breaks ties.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    /// The score of each.
    pub scores: Vec<f64>,
    /// For each budget, the cost of each candidate.
    pub costs: Vec<Vec<f64>>,
    /// For each budget, the largest mean cost.
    pub limits: Vec<f64>,
    /// The cell of each candidate.
    pub cells: Vec<u32>,
    /// The candidates of each cell.
    pub members: Vec<Vec<u32>>,
    /// How many candidates of each cell are chosen.
    quotas: Vec<usize>,
    /// The ranges of the costs.
    pub scales: Vec<Scale>,
    /// The range of the scores.
    pub score_scale: Scale,
}

/// What a price chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// The price.
    pub price: f64,
    /// The mean score.
    pub score: f64,
    /// The mean cost.
    pub cost: f64,
}

impl Candidates {
    /// Candidates with their costs. Quotas larger than their cells are reduced to these.
    pub fn new(
        scores: Vec<f64>,
        costs: Vec<Vec<f64>>,
        limits: Vec<f64>,
        cells: Vec<u32>,
        mut quotas: Vec<usize>,
    ) -> Self {
        let mut members = vec![Vec::new(); quotas.len()];
        cells.iter().zip(0..).for_each(|(cell, n): (_, u32)| members[*cell as usize].push(n));
        quotas.iter_mut().zip(&members).for_each(|(quota, members)| *quota = (*quota).min(members.len()));
        let scales = costs.iter().map(|costs| Scale::new(costs)).collect();
        let score_scale = Scale::new(&scores);
        Self { scores, costs, limits, cells, members, quotas, scales, score_scale }
    }

    /// The number of candidates.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// The number that is chosen.
    pub fn kept(&self) -> usize {
        self.quotas.iter().sum()
    }

    /// The score of a candidate less the price of its costs.
    pub fn worth(&self, candidate: usize, prices: &[f64]) -> f64 {
        let paid = prices.iter().zip(&self.costs).map(|(price, costs)| price * costs[candidate]);
        self.scores[candidate] - paid.sum::<f64>()
    }

    /// The mean of some numbers over a selection.
    pub fn mean(&self, numbers: &[f64], chosen: &[bool]) -> f64 {
        let sum: f64 = numbers.iter().zip(chosen).filter(|(_, chosen)| **chosen).map(|(number, _)| number).sum();
        sum / self.kept().max(1) as f64
    }

    /// The selection with the largest sum of worths: the best of each cell.
    pub fn best(&self, worth: impl Fn(usize) -> f64) -> Vec<bool> {
        let worths: Vec<f64> = (0..self.len()).map(worth).collect();
        let mut chosen = vec![false; self.len()];
        for (members, &quota) in self.members.iter().zip(&self.quotas) {
            let mut members = members.clone();
            if quota < members.len() {
                let order = |a: &u32, b: &u32| worths[*b as usize].total_cmp(&worths[*a as usize]).then(a.cmp(b));
                members.select_nth_unstable_by(quota, order);
            }
            members[..quota].iter().for_each(|member| chosen[*member as usize] = true);
        }
        chosen
    }

    /// What some prices choose.
    pub fn at_prices(&self, prices: &[f64]) -> Vec<bool> {
        self.best(|n| self.worth(n, prices))
    }

    /// The prices of a budget's frontier, from the safest to none. They do not depend on what anybody judged.
    pub fn prices(&self, budget: usize) -> Vec<f64> {
        let unit = self.score_scale.width / self.scales[budget].width;
        let between = PRICES.rev().map(|power| unit * (f64::from(power) / 2.0).exp2());
        [unit * SAFEST].into_iter().chain(between).chain([0.0]).collect()
    }

    /// What the prices of one budget choose, if the other prices stay as they are. Prices that choose the same are left out.
    pub fn frontier(&self, budget: usize, prices: &[f64]) -> Vec<Point> {
        let mut points: Vec<Point> = Vec::new();
        let mut prices = prices.to_vec();
        for price in self.prices(budget) {
            prices[budget] = price;
            let chosen = self.at_prices(&prices);
            let point =
                Point { price, score: self.mean(&self.scores, &chosen), cost: self.mean(&self.costs[budget], &chosen) };
            if points.last().is_none_or(|last| (last.score, last.cost) != (point.score, point.cost)) {
                points.push(point);
            }
        }
        points
    }

    /// The largest number of candidates whose mean cost keeps a budget.
    pub fn most(&self, budget: usize) -> usize {
        let mut costs = self.costs[budget].clone();
        costs.sort_by(f64::total_cmp);
        let (mut sum, mut most) = (0.0, 0);
        for (n, cost) in costs.iter().enumerate() {
            sum += cost;
            if sum <= self.limits[budget] * (n + 1) as f64 {
                most = n + 1;
            }
        }
        most
    }
}
