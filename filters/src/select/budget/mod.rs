//! Selections with budgets: the highest mean score of as many samples as are to be kept, among those whose mean costs stay within
//! limits. Reads and writes no files.
//!
//! A budget has a price: what a unit of its cost is worth in score. Given prices, the best samples are those with the highest
//! scores less the prices of their costs, and a linear program finds the prices (`master`). Its optimum bounds what any
//! selection can reach; the selection that is found is below it by what a few samples are worth.

mod candidates;
mod exchange;
mod master;
mod movable;
mod promise;
mod rule;
mod solve;
#[cfg(test)]
mod tests;

pub use movable::{MovableBudget, MovableInput};
pub use promise::{Promise, PromiseReport};
pub use rule::{BudgetRule, Limit, Side};

use super::{Decision, Groups, Keep, Rules, by_id};
use crate::{Error, Result};
use candidates::Candidates;
use promise::Risks;
use sae_core::error::{Cause, Hint, Setting};
use serde::Serialize;
use solve::{Choice, Impossible, solve};

/// A limit on the mean cost of what is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// The limit.
    pub rule: BudgetRule,
    /// The cost of each sample, where it is known. Samples without one are not kept.
    pub costs: Vec<Option<f64>>,
}

/// What limits a selection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budgets<'a> {
    /// The limits; without any, the highest scores are kept.
    pub limits: &'a [Budget],
    /// The units that are kept or dropped whole, such as episodes; by default each sample is one. Their scores and costs are the
    /// means of their samples', and the amount to keep counts units.
    pub units: Option<&'a Groups>,
    /// Makes the only limit hold for what people judged.
    pub promise: Option<&'a Promise>,
}

/// A selection within budgets.
#[derive(Clone, Debug)]
pub struct Budgeted {
    /// The decision about each sample.
    pub decisions: Vec<Decision>,
    /// What it is worth and costs.
    pub report: BudgetReport,
    /// What other limits would allow.
    pub frontier: Vec<FrontierPoint>,
}

/// What a selection within budgets is worth and costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BudgetReport {
    /// The field whose values are kept or dropped whole.
    pub unit: Option<String>,
    /// Units that were kept.
    pub kept: usize,
    /// Units that could be kept: those with a score and all costs.
    pub of: usize,
    /// The mean score of the units that were kept.
    pub score: f64,
    /// The mean score of as many units without budgets.
    pub score_without: f64,
    /// No selection within the budgets has a higher mean score; null with a promise, which no bound belongs to.
    pub bound: Option<f64>,
    /// The budgets.
    pub budgets: Vec<Spent>,
    /// What is known of a promised selection.
    pub promise: Option<PromiseReport>,
}

/// A budget, and what was spent of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spent {
    /// The budget, as it was given.
    pub budget: String,
    /// The limit of the mean.
    pub limit: f64,
    /// The mean of the units that were kept.
    pub mean: f64,
    /// The mean of all units that could be kept.
    pub mean_of_all: f64,
    /// The mean of as many units without budgets.
    pub mean_without: f64,
    /// By how much the mean score would rise if the limit were one unit looser.
    pub price: f64,
}

/// What another limit of a budget would allow, if the prices of the others stay as they are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrontierPoint {
    /// The number that is limited.
    pub column: String,
    /// Its price.
    pub price: f64,
    /// Its mean.
    pub mean: f64,
    /// The mean score.
    pub score: f64,
}

/// Decides about every sample. Samples without a score or a cost are not kept (a unit is ranked by those of its samples that have
/// both, and is kept whole).
///
/// # Errors
/// An amount that is a threshold, or rules that choose by features; budgets that no selection of this size keeps, with what would be
/// possible.
pub fn choose(scores: &[(String, Option<f64>)], rules: &Rules, budgets: &Budgets) -> Result<Budgeted> {
    let units = Units::new(scores, rules, budgets)?;
    let free = units.free();
    let (choice, promise) = units.choose(budgets.promise)?;
    Ok(Budgeted {
        frontier: units.frontier(&choice.prices),
        report: units.report(&choice, &free, promise),
        decisions: units.decisions(scores, &choice.chosen, &free),
    })
}

fn check_limit(rule: &BudgetRule, limit: f64) -> Result<()> {
    if limit.is_finite() {
        return Ok(());
    }
    Err(Error::request(format!("invalid limit {limit} of {}: expected a finite number", rule.column)))
}

/// The units of a selection.
#[derive(Clone, Debug)]
struct Units {
    /// The limits.
    rules: Vec<BudgetRule>,
    /// Whether a unit is not simply a sample.
    grouped: bool,
    /// The unit of each sample.
    of: Vec<u32>,
    /// The candidate that each unit is, if it has a score and all costs.
    candidate: Vec<Option<u32>>,
    candidates: Candidates,
}

impl Units {
    fn new(scores: &[(String, Option<f64>)], rules: &Rules, budgets: &Budgets) -> Result<Self> {
        let single = rules.groups.names.len() == 1 && rules.within.is_none();
        if budgets.units.is_some() && !single {
            let text = "samples of one unit may be in different groups, so that units and groups cannot be combined";
            return Err(Error::request(text));
        }
        let ordered = by_id(scores);
        let of = budgets.units.map_or_else(|| (0..scores.len() as u32).collect(), |units| units.of.clone());
        let count = budgets.units.map_or(scores.len(), |units| units.names.len());
        // The means over those samples of each unit that have a score and all costs. Signs make every limit one from above.
        let mut sums = vec![(0.0f64, vec![0.0f64; budgets.limits.len()], 0usize); count];
        let sign = |n: usize| sign(budgets.limits[n].rule.side);
        for (sample, (_, score)) in scores.iter().enumerate() {
            let costs = budgets.limits.iter().map(|budget| budget.costs[sample].filter(|cost| cost.is_finite()));
            let costs: Option<Vec<f64>> = costs.collect();
            if let (Some(score), Some(costs)) = (score.filter(|score| score.is_finite()), costs) {
                let (sum, spent, samples) = &mut sums[of[sample] as usize];
                *sum += score;
                spent.iter_mut().zip(costs).enumerate().for_each(|(n, (sum, cost))| *sum += sign(n) * cost);
                *samples += 1;
            }
        }
        let mut candidate = vec![None; count];
        let (mut values, mut cells) = (Vec::new(), Vec::new());
        let mut costs = vec![Vec::new(); budgets.limits.len()];
        for sample in ordered {
            let unit = of[sample as usize] as usize;
            let (sum, spent, samples) = &sums[unit];
            if candidate[unit].is_none() && *samples > 0 {
                candidate[unit] = Some(values.len() as u32);
                values.push(sum / *samples as f64);
                costs.iter_mut().zip(spent).for_each(|(costs, sum)| costs.push(sum / *samples as f64));
                cells.push(if budgets.units.is_some() { 0 } else { rules.cells().of[sample as usize] });
            }
        }
        let total = match rules.keep {
            Keep::Share(share) => Some((share * count as f64).round() as usize),
            Keep::Count(count) => Some(count),
            Keep::Quotas => Some(0),
            Keep::AtLeast(_) | Keep::Auto => {
                let text = "a threshold keeps every sample above it, so that a budget has nothing to choose";
                return Err(Error::request(Cause::with_hint(text, Hint::set(Setting::Keep, "a share or a number"))));
            }
        };
        let quotas = rules.division.quotas(total, rules.groups)?;
        let quotas = match (budgets.units, rules.within) {
            (Some(_), _) => vec![total.unwrap_or(0)],
            (None, Some(within)) => within.divide(&quotas),
            (None, None) => quotas,
        };
        let limits = budgets.limits.iter().enumerate().map(|(n, budget)| {
            let limit = match budget.rule.limit {
                Limit::Mean(limit) => sign(n) * limit,
                Limit::Share(share) => share * costs[n].iter().sum::<f64>() / costs[n].len().max(1) as f64,
            };
            check_limit(&budget.rule, limit).map(|()| limit)
        });
        let limits = limits.collect::<Result<Vec<f64>>>()?;
        let units = Self {
            rules: budgets.limits.iter().map(|budget| budget.rule.clone()).collect(),
            grouped: budgets.units.is_some(),
            of,
            candidate,
            candidates: Candidates::new(values, costs, limits, cells, quotas),
        };
        if units.candidates.kept() == 0 {
            return Err(Error::request(Cause::with_hint(
                format!("none of the {} with a score and all costs would be kept", units.noun()),
                Hint::Raise(Setting::Keep),
            )));
        }
        Ok(units)
    }

    /// The selection without limits.
    fn free(&self) -> Vec<bool> {
        self.candidates.at_prices(&vec![0.0; self.candidates.costs.len()])
    }

    /// The selection that keeps the limits, and the promise if there is one.
    fn choose(&self, promise: Option<&Promise>) -> Result<(Choice, Option<PromiseReport>)> {
        let within = solve(&self.candidates);
        match promise {
            Some(promise) => {
                let (choice, report) = self.keep_promise(promise, within.ok())?;
                Ok((choice, Some(report)))
            }
            None => Ok((within.map_err(|why| self.impossible(why))?, None)),
        }
    }

    /// What a selection is worth and costs, beside the one without limits.
    fn report(&self, choice: &Choice, free: &[bool], promise: Option<PromiseReport>) -> BudgetReport {
        let Choice { chosen, prices, bound } = choice;
        let candidates = &self.candidates;
        let natural = |budget: usize, cost: f64| self.sign(budget) * cost;
        let spent = |(n, costs): (usize, &Vec<f64>)| Spent {
            budget: self.rules[n].to_string(),
            limit: natural(n, candidates.limits[n]),
            mean: natural(n, candidates.mean(costs, chosen)),
            mean_of_all: natural(n, costs.iter().sum::<f64>() / candidates.len() as f64),
            mean_without: natural(n, candidates.mean(costs, free)),
            price: prices[n],
        };
        BudgetReport {
            unit: None,
            kept: candidates.kept(),
            of: candidates.len(),
            score: candidates.mean(&candidates.scores, chosen),
            score_without: candidates.mean(&candidates.scores, free),
            bound: promise.is_none().then_some(*bound),
            budgets: candidates.costs.iter().enumerate().map(spent).collect(),
            promise,
        }
    }

    /// What other limits of each budget would allow.
    fn frontier(&self, prices: &[f64]) -> Vec<FrontierPoint> {
        let of_budget = |n: usize| {
            let column = &self.rules[n].column;
            self.candidates.frontier(n, prices).into_iter().map(move |point| FrontierPoint {
                column: column.clone(),
                price: point.price,
                mean: self.sign(n) * point.cost,
                score: point.score,
            })
        };
        (0..self.rules.len()).flat_map(of_budget).collect()
    }

    /// What the units are called.
    fn noun(&self) -> &'static str {
        if self.grouped { "units" } else { "samples" }
    }

    fn sign(&self, budget: usize) -> f64 {
        sign(self.rules[budget].side)
    }

    /// The selection that keeps the limit for what people judged, beside the one that only the budget would allow.
    fn keep_promise(&self, promise: &Promise, within: Option<Choice>) -> Result<(Choice, PromiseReport)> {
        let [rule] = &self.rules[..] else {
            return Err(Error::request("a promise holds for one budget, neither for none nor for several"));
        };
        let candidates = &self.candidates;
        // The judged mean of each candidate.
        let mut sums = vec![(0.0, 0u32); candidates.len()];
        for (judged, unit) in promise.judged.iter().zip(&self.of) {
            if let (Some(judged), Some(candidate)) = (judged, self.candidate[*unit as usize]) {
                let (sum, count) = &mut sums[candidate as usize];
                *sum += self.sign(0) * judged;
                *count += 1;
            }
        }
        let judged = sums.iter().map(|(sum, count)| (*count > 0).then(|| sum / f64::from(*count))).collect();
        let risks = Risks::new(judged, rule.side == Side::AtLeast);
        let natural = |number: f64| self.sign(0) * number;
        let confidence = promise.confidence;
        let (price, chosen) = promise::promised(candidates, &risks, confidence).map_err(|(judged, bound)| {
            let text = format!(
                "{rule} cannot be promised with {}%: for the safest {} of {} {}, {judged} of them judged, the bound is {:.4}",
                confidence * 100.0,
                candidates.kept(),
                candidates.len(),
                self.noun(),
                natural(bound),
            );
            let judge_more = Hint::from("judge more samples");
            Error::request(Cause::with_hint(text, Hint::AnyOf(vec![Hint::Lower(Setting::Keep), judge_more])))
        })?;
        let (judged_kept, mean, bound) = risks.bound(&chosen, confidence);
        let report = PromiseReport {
            confidence,
            judged: risks.judged(),
            judged_kept,
            mean: mean.map(natural),
            bound: natural(bound),
            score_without: within.map(|within| candidates.mean(&candidates.scores, &within.chosen)),
        };
        Ok((Choice { chosen, prices: vec![price], bound: f64::INFINITY }, report))
    }

    fn impossible(&self, why: Impossible) -> Error {
        let candidates = &self.candidates;
        let (kept, of, noun) = (candidates.kept(), candidates.len(), self.noun());
        match why {
            Impossible::Alone { budget, smallest } => {
                let rule = &self.rules[budget];
                let (extreme, mean) = match rule.side {
                    Side::AtMost => ("smallest", smallest),
                    Side::AtLeast => ("largest", -smallest),
                };
                let most = match candidates.members.len() {
                    1 => format!("; at most {} can be kept within it", candidates.most(budget)),
                    _ => String::new(),
                };
                let text = format!(
                    "no selection of {kept} of {of} {noun} keeps the budget {rule}: the {extreme} mean of {} is {mean:.4}{most}",
                    rule.column
                );
                Error::request(Cause::with_hint(text, Hint::Lower(Setting::Keep)))
            }
            Impossible::Together => {
                let rules = self.rules.iter().map(BudgetRule::to_string);
                let text = format!(
                    "no selection of {kept} of {of} {noun} keeps all budgets, although each of them can be kept alone: {}",
                    rules.collect::<Vec<_>>().join(", ")
                );
                Error::request(Cause::with_hint(text, Hint::Lower(Setting::Keep)))
            }
        }
    }

    /// The decision about each sample. `free` is what would be chosen without budgets.
    fn decisions(&self, scores: &[(String, Option<f64>)], chosen: &[bool], free: &[bool]) -> Vec<Decision> {
        let decide = |(unit, (_, score)): (&u32, &(String, Option<f64>))| match self.candidate[*unit as usize] {
            Some(n) if chosen[n as usize] => Decision::Kept,
            Some(n) if free[n as usize] => Decision::OverBudget,
            Some(_) => Decision::Below,
            None if score.is_none_or(f64::is_nan) => Decision::NoScore,
            None => Decision::NoCost,
        };
        self.of.iter().zip(scores).map(decide).collect()
    }
}

/// Makes a limit from below one from above.
fn sign(side: Side) -> f64 {
    match side {
        Side::AtMost => 1.0,
        Side::AtLeast => -1.0,
    }
}
