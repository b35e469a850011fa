//! A budget whose limit is moved: samples are ranked and their costs are read once, however many limits are tried. Decides nothing
//! that [`choose`](super::choose) does not decide.

use super::{Budget, BudgetReport, Budgets, FrontierPoint, Limit, Units, check_limit, sign};
use crate::Result;
use crate::select::Rules;

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
}

impl MovableBudget {
    /// Ranks samples by their scores, with the costs of the budget. The limit of its rule is the first one.
    ///
    /// # Errors
    /// An amount that is a threshold; no sample with a score and a cost that would be kept.
    pub fn new(scores: &[(String, Option<f64>)], rules: &Rules, budget: Budget) -> Result<Self> {
        let units = Units::new(scores, rules, &Budgets { limits: &[budget], ..Budgets::default() })?;
        Ok(Self { free: units.free(), units })
    }

    /// What every limit would allow, from the safest price to none. The first mean is the smallest (for a budget that is a minimum,
    /// the largest) that a selection of this size has, up to ties of scores; the last one is that without a limit.
    pub fn frontier(&self) -> Vec<FrontierPoint> {
        self.units.frontier(&[0.0])
    }

    /// The best selection at a limit of the mean cost: what it is worth, and whether each sample is kept.
    ///
    /// # Errors
    /// A limit that is not finite; no selection of this size keeps the limit, and what would be possible is said.
    pub fn at(&mut self, limit: f64) -> Result<(BudgetReport, Vec<bool>)> {
        let rule = &mut self.units.rules[0];
        check_limit(rule, limit)?;
        rule.limit = Limit::Mean(limit);
        self.units.candidates.limits[0] = sign(rule.side) * limit;
        let (choice, _) = self.units.choose(None)?;
        let kept = |unit: &u32| self.units.candidate[*unit as usize].is_some_and(|n| choice.chosen[n as usize]);
        Ok((self.units.report(&choice, &self.free, None), self.units.of.iter().map(kept).collect()))
    }
}
