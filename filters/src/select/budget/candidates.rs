//! What a selection with budgets chooses from: candidates with scores and costs, in cells that each have a quota. Finds the best
//! selection, and what other prices would choose.

use super::exchange;
use super::master::{self, Mixture, Vertex};

/// The prices of a frontier are powers of 2 between these, relative to the ranges of scores and costs; with the square roots.
const PRICES: std::ops::RangeInclusive<i32> = -16..=16;
/// A price at which scores only break ties.
const SAFEST: f64 = (1u64 << 40) as f64;

/// The smallest of some numbers, and how far the largest is above it (1 if all are equal).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    least: f64,
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
    score_scale: Scale,
}

/// A selection, with what it is worth.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// Whether each candidate is chosen.
    pub chosen: Vec<bool>,
    /// By how much the mean score would rise per unit of each limit.
    pub prices: Vec<f64>,
    /// No selection that keeps the limits has a higher mean score.
    pub bound: f64,
}

/// Why no selection keeps all budgets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Impossible {
    /// A budget that no selection of this size keeps.
    Alone {
        /// Which.
        budget: usize,
        /// The smallest mean cost of a selection of this size.
        smallest: f64,
    },
    /// Each budget can be kept, but not all of them.
    Together,
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
    fn best(&self, worth: impl Fn(usize) -> f64) -> Vec<bool> {
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

    /// The best selection that keeps all limits, to within a few candidates of the linear program's optimum.
    pub fn choose(&self) -> Result<Choice, Impossible> {
        for (budget, costs) in self.costs.iter().enumerate() {
            let smallest = self.mean(costs, &self.best(|n| -costs[n]));
            if smallest > self.limits[budget] + 1e-12 * self.scales[budget].width {
                return Err(Impossible::Alone { budget, smallest });
            }
        }
        // In units of the ranges, so that one tolerance serves all.
        let unit = |budget: usize| self.score_scale.width / self.scales[budget].width;
        let raw = |prices: &[f64]| prices.iter().enumerate().map(|(n, price)| price * unit(n)).collect::<Vec<f64>>();
        let relative = |budget: usize, cost: f64| (cost - self.scales[budget].least) / self.scales[budget].width;
        let limits: Vec<f64> = self.limits.iter().enumerate().map(|(n, limit)| relative(n, *limit).max(0.0)).collect();
        let mut safe: Option<(f64, Vec<bool>)> = None;
        let mixture = master::maximize(&limits, |prices| {
            let chosen = self.at_prices(&raw(prices));
            let score = self.mean(&self.scores, &chosen);
            let spent: Vec<f64> =
                self.costs.iter().enumerate().map(|(n, costs)| relative(n, self.mean(costs, &chosen))).collect();
            let keeps = spent.iter().zip(&limits).all(|(spent, limit)| spent <= limit);
            if keeps && safe.as_ref().is_none_or(|(best, _)| *best < score) {
                safe = Some((score, chosen.clone()));
            }
            Vertex { selection: chosen, profit: (score - self.score_scale.least) / self.score_scale.width, spent }
        });
        if !mixture.feasible {
            return Err(Impossible::Together);
        }
        let prices = raw(&mixture.prices);
        let bound = self.score_scale.least + mixture.bound * self.score_scale.width;
        let mut chosen = self.mix(mixture);
        let keeps = exchange::improve(self, &mut chosen, &prices);
        let score = self.mean(&self.scores, &chosen);
        match safe {
            Some((best, safe)) if !keeps || best > score => Ok(Choice { chosen: safe, prices, bound }),
            _ if keeps => Ok(Choice { chosen, prices, bound }),
            _ => Err(Impossible::Together),
        }
    }

    /// A selection near a mixture: from part to part, exchanges as many candidates as the weights say.
    fn mix(&self, mixture: Mixture<Vec<bool>>) -> Vec<bool> {
        let mut parts = mixture.parts.into_iter();
        let Some((mut weight, first)) = parts.next() else { return vec![false; self.len()] };
        let mut chosen = first.selection;
        for (other, part) in parts {
            weight += other;
            let share = other / weight;
            let exchanged = |k: usize| ((k + 1) as f64 * share) as usize > (k as f64 * share) as usize;
            for members in &self.members {
                let side = |inside: bool| -> Vec<usize> {
                    let members = members.iter().map(|n| *n as usize);
                    members.filter(|n| chosen[*n] == inside && part.selection[*n] != inside).collect()
                };
                let pairs: Vec<(usize, usize)> = side(true).into_iter().zip(side(false)).collect();
                for (_, (leaves, enters)) in pairs.into_iter().enumerate().filter(|(k, _)| exchanged(*k)) {
                    (chosen[leaves], chosen[enters]) = (false, true);
                }
            }
        }
        chosen
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
