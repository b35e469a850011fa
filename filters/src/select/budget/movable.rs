//! A budget whose limit is moved: samples are ranked and their costs are read once, however many limits are tried. Decides nothing
//! that [`choose`](super::choose) does not decide.

use super::{Budget, BudgetReport, Budgets, FrontierPoint, Limit, Promise, Units, check_limit, sign};
use crate::Result;
use crate::select::{Division, Groups, Keep, Quantiles, Rules};

/// What a movable budget chooses from, for one amount to keep after the other.
#[derive(Clone, Debug)]
pub struct MovableInput {
    /// The id and the score of each sample.
    pub scores: Vec<(String, Option<f64>)>,
    /// The groups of the samples.
    pub groups: Groups,
    /// How the amount is divided among groups.
    pub division: Division,
    /// The quantiles among which the amount of each group is divided.
    pub within: Option<Quantiles>,
    /// The budget, with the cost of each sample.
    pub budget: Budget,
    /// The units that are kept or dropped whole; `None` if each sample is one.
    pub units: Option<Groups>,
    /// What makes the limit hold for what people judged.
    pub promise: Option<Promise>,
}

impl MovableInput {
    /// The budget of a selection that keeps this much.
    ///
    /// # Errors
    /// As [`MovableBudget::new`].
    pub fn keep(&self, keep: Keep) -> Result<MovableBudget> {
        let rules = Rules { within: self.within.as_ref(), division: &self.division, ..Rules::new(keep, &self.groups) };
        let limits = [self.budget.clone()];
        let budgets = Budgets { limits: &limits, units: self.units.as_ref(), promise: None };
        let units = Units::new(&self.scores, &rules, &budgets)?;
        Ok(MovableBudget { free: units.free(), units, promise: self.promise.clone() })
    }
}

/// One budget of a selection, for one limit after the other.
///
/// ```
/// use filters::select::budget::{Budget, MovableBudget};
/// use filters::select::{Groups, Keep, Rules};
///
/// // Of four samples, two are to be kept. The best two cost most.
/// let scores: Vec<(String, Option<f64>)> = (0..4).map(|n| (n.to_string(), Some(f64::from(n)))).collect();
/// let costs = (0..4).map(|n| Some(f64::from(n))).collect();
/// let groups = Groups::one(4);
/// let rules = Rules::new(Keep::Count(2), &groups);
/// let mut budget = MovableBudget::new(&scores, &rules, Budget { rule: "cost<=1.5".parse()?, costs })?;
/// let ends: Vec<f64> = budget.frontier().iter().map(|point| point.mean).collect();
/// assert_eq!((ends.first(), ends.last()), (Some(&0.5), Some(&2.5)));
/// let (report, kept) = budget.at(1.5)?;
/// assert_eq!((report.score, kept.iter().filter(|kept| **kept).count()), (1.5, 2));
/// assert!(budget.at(0.4).is_err(), "no two samples cost so little");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct MovableBudget {
    units: Units,
    free: Vec<bool>,
    promise: Option<Promise>,
}

impl MovableBudget {
    /// Ranks samples by their scores, with the costs of the budget. The limit of its rule is the first one.
    ///
    /// # Errors
    /// An amount that is a threshold; no sample with a score and a cost that would be kept.
    pub fn new(scores: &[(String, Option<f64>)], rules: &Rules, budget: Budget) -> Result<Self> {
        let units = Units::new(scores, rules, &Budgets { limits: &[budget], ..Budgets::default() })?;
        Ok(Self { free: units.free(), units, promise: None })
    }

    /// What every limit would allow, from the safest price to none. The first mean is the smallest (for a budget that is a minimum,
    /// the largest) that a selection of this size has, up to ties of scores; the last one is that without a limit.
    pub fn frontier(&self) -> Vec<FrontierPoint> {
        self.units.frontier(&[0.0])
    }

    /// The best selection at a limit of the mean cost: what it is worth, and whether each sample is kept.
    ///
    /// # Errors
    /// A limit that is not finite; no selection of this size keeps the limit, or the promise, and what would be possible is said.
    pub fn at(&mut self, limit: f64) -> Result<(BudgetReport, Vec<bool>)> {
        let rule = &mut self.units.rules[0];
        check_limit(rule, limit)?;
        rule.limit = Limit::Mean(limit);
        self.units.candidates.limits[0] = sign(rule.side) * limit;
        let (choice, promise) = self.units.choose(self.promise.as_ref())?;
        let kept = |unit: &u32| self.units.candidate[*unit as usize].is_some_and(|n| choice.chosen[n as usize]);
        Ok((self.units.report(&choice, &self.free, promise), self.units.of.iter().map(kept).collect()))
    }
}
