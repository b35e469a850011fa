//! The best selection within budgets: the mixture of the linear program, rounded to whole candidates.

use super::candidates::Candidates;
use super::exchange;
use super::master::{self, Mixture, Vertex};

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

/// The best selection that keeps all limits, to within a few candidates of the linear program's optimum.
pub(super) fn solve(candidates: &Candidates) -> Result<Choice, Impossible> {
    for (budget, costs) in candidates.costs.iter().enumerate() {
        let smallest = candidates.mean(costs, &candidates.best(|n| -costs[n]));
        if smallest > candidates.limits[budget] + 1e-12 * candidates.scales[budget].width {
            return Err(Impossible::Alone { budget, smallest });
        }
    }
    // In units of the ranges, so that one tolerance serves all.
    let unit = |budget: usize| candidates.score_scale.width / candidates.scales[budget].width;
    let raw = |prices: &[f64]| prices.iter().enumerate().map(|(n, price)| price * unit(n)).collect::<Vec<f64>>();
    let relative =
        |budget: usize, cost: f64| (cost - candidates.scales[budget].least) / candidates.scales[budget].width;
    let limits: Vec<f64> =
        candidates.limits.iter().enumerate().map(|(n, limit)| relative(n, *limit).max(0.0)).collect();
    let mut safe: Option<(f64, Vec<bool>)> = None;
    let mixture = master::maximize(&limits, |prices| {
        let chosen = candidates.at_prices(&raw(prices));
        let score = candidates.mean(&candidates.scores, &chosen);
        let spent: Vec<f64> = candidates
            .costs
            .iter()
            .enumerate()
            .map(|(n, costs)| relative(n, candidates.mean(costs, &chosen)))
            .collect();
        let keeps = spent.iter().zip(&limits).all(|(spent, limit)| spent <= limit);
        if keeps && safe.as_ref().is_none_or(|(best, _)| *best < score) {
            safe = Some((score, chosen.clone()));
        }
        Vertex {
            selection: chosen,
            profit: (score - candidates.score_scale.least) / candidates.score_scale.width,
            spent,
        }
    });
    if !mixture.feasible {
        return Err(Impossible::Together);
    }
    let prices = raw(&mixture.prices);
    let bound = candidates.score_scale.least + mixture.bound * candidates.score_scale.width;
    let mut chosen = mix(candidates, mixture);
    let keeps = exchange::improve(candidates, &mut chosen, &prices);
    let score = candidates.mean(&candidates.scores, &chosen);
    match safe {
        Some((best, safe)) if !keeps || best > score => Ok(Choice { chosen: safe, prices, bound }),
        _ if keeps => Ok(Choice { chosen, prices, bound }),
        _ => Err(Impossible::Together),
    }
}

/// A selection near a mixture: from part to part, exchanges as many candidates as the weights say.
fn mix(candidates: &Candidates, mixture: Mixture<Vec<bool>>) -> Vec<bool> {
    let mut parts = mixture.parts.into_iter();
    let Some((mut weight, first)) = parts.next() else { return vec![false; candidates.len()] };
    let mut chosen = first.selection;
    for (other, part) in parts {
        weight += other;
        let share = other / weight;
        let exchanged = |k: usize| ((k + 1) as f64 * share) as usize > (k as f64 * share) as usize;
        for members in &candidates.members {
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
