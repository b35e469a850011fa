//! A budget of the Filter page: what is limited, what one limit after the other allows, and which selection the present limit
//! makes. Computes no selection and reads no file.

use super::format;
use super::score_filter::ScoreFilter;
use filters::select::Keep;
use filters::select::budget::{BudgetReport, BudgetRule, FrontierPoint, Limit, Side};
use sae_core::analysis::feature_sets::Part;
use sae_workbench::PromiseRule;

/// The scores and counts of tokens that may be limited and have `part` in their names, in the order in which they are offered.
pub fn numbers(filter: &ScoreFilter, part: &str) -> Vec<String> {
    let columns = filter.scores().columns.iter().map(|(name, _)| name.clone()).filter(|name| name != filter.name());
    let tokens = Part::NAMED.iter().map(|(part, _)| format!("{part}_tokens"));
    let part = part.trim().to_lowercase();
    columns.chain(tokens).filter(|name| name.to_lowercase().contains(&part)).collect()
}

/// What is set on the page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BudgetSettings {
    /// The number whose mean is limited, as typed; empty for no budget.
    pub column: String,
    /// Whether the mean has to be at least, rather than at most, the limit.
    pub at_least: bool,
    /// The limit; nothing until it is known which limits are possible.
    pub limit: Option<f64>,
}

impl BudgetSettings {
    /// What a link says. Shares of the mean are not moved by a slider.
    pub fn from_rule(rule: &BudgetRule) -> Option<Self> {
        let Limit::Mean(limit) = rule.limit else { return None };
        Some(Self { column: rule.column.clone(), at_least: rule.side == Side::AtLeast, limit: Some(limit) })
    }

    /// The side of the limit on which the mean has to be.
    pub fn side(&self) -> Side {
        if self.at_least { Side::AtLeast } else { Side::AtMost }
    }

    /// Whether there is a budget.
    pub fn is_set(&self) -> bool {
        !self.column.trim().is_empty()
    }

    /// The budget as `--budget` takes it, once there is a limit.
    pub fn rule(&self) -> Option<BudgetRule> {
        let limit = Limit::Mean(self.limit.filter(|_| self.is_set())?);
        Some(BudgetRule { column: self.column.trim().to_owned(), side: self.side(), limit })
    }

    /// Limits another number, or another side of it. The limit that fits is not known yet.
    pub fn change(&mut self, column: &str, at_least: bool) {
        if self.column.trim() != column.trim() || self.at_least != at_least {
            *self = Self { column: column.trim().to_owned(), at_least, limit: None };
        }
    }

    /// Sets the limit within a range, rounded to a length that a person reads, towards what is possible.
    pub fn set_limit(&mut self, limit: f64, [a, b]: [f64; 2]) {
        let limit = limit.max(a.min(b)).min(a.max(b));
        if !limit.is_finite() {
            return;
        }
        // Without a width there is one possible limit, whose own size says which of its digits matter.
        let width = (a - b).abs();
        let has_width = width > 1e-9 * limit.abs();
        let size = if has_width { width } else { limit.abs() };
        let step = 10f64.powf((if size > 0.0 { size.log10() } else { 0.0 } - 3.0).floor());
        // What is a step up to an error of rounding is not another step.
        let slack = if has_width { 1e-10 } else { 0.0 };
        let steps = if self.at_least { (limit / step + slack).floor() } else { (limit / step - slack).ceil() };
        // As text, so that the command line has no more digits than the step. Adding 0 makes 0 of -0.
        let rounded = steps * step + 0.0;
        let digits = (rounded.abs().log10() - step.log10()).round().clamp(0.0, 17.0) as usize;
        let rounded = format!("{rounded:.digits$e}").parse().ok();
        self.limit = rounded.filter(|limit: &f64| limit.is_finite()).or(Some(limit));
    }
}

/// What a worker is asked: what there is to choose from, how many samples are kept, and the limit.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetQuestion {
    /// What there is to choose from.
    pub source: BudgetSource,
    /// How much is kept.
    pub keep: Keep,
    /// The limit; nothing asks for the frontier alone.
    pub limit: Option<f64>,
}

impl BudgetQuestion {
    /// Whether the answers to both have the same frontier: they differ in the limit alone.
    pub fn has_frontier_of(&self, other: &Self) -> bool {
        (&self.source, self.keep) == (&other.source, other.keep)
    }

    /// Whether both are about the same score and the same side of the same number.
    pub fn has_axes_of(&self, other: &Self) -> bool {
        let axes = |question: &Self| {
            let BudgetSource { by, column, side, .. } = question.source.clone();
            (by, column, side)
        };
        axes(self) == axes(other)
    }
}

/// Which samples there are to choose from, and what is limited.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetSource {
    /// The score that ranks samples.
    pub by: String,
    /// The columns that divide the samples into groups.
    pub by_group: Option<String>,
    /// Whether every group keeps equally many.
    pub equal_groups: bool,
    /// The number whose quantiles each keep their share.
    pub within: Option<String>,
    /// The number whose mean is limited.
    pub column: String,
    /// The side of the limit on which the mean has to be.
    pub side: Side,
    /// The field whose values are kept or dropped whole.
    pub unit: Option<String>,
    /// What makes the limit hold for what people judged.
    pub promise: Option<PromiseRule>,
}

impl BudgetSource {
    /// All samples, of which each is kept or dropped by itself.
    pub fn new(by: &str, column: &str, side: Side) -> Self {
        let (by, column) = (by.to_owned(), column.to_owned());
        Self { by, by_group: None, equal_groups: false, within: None, column, side, unit: None, promise: None }
    }
}

/// What the worker answers.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetAnswer {
    /// The question.
    pub question: BudgetQuestion,
    /// What every limit would allow, from the safest one to none; or why there is no budget.
    pub frontier: Result<Vec<FrontierPoint>, String>,
    /// The selection at the limit, and whether each sample is kept; or why there is none. Nothing without a limit.
    pub selection: Option<Result<(BudgetReport, Vec<bool>), String>>,
}

impl BudgetAnswer {
    /// The means that limits can have: the safest one, and the one without a limit.
    pub fn range(&self) -> Option<[f64; 2]> {
        let frontier = self.frontier.as_ref().ok()?;
        Some([frontier.first()?.mean, frontier.last()?.mean])
    }

    /// What is kept at the limit, in sentences.
    pub fn sentences(&self) -> Vec<String> {
        let Some(Ok((report, _))) = &self.selection else { return Vec::new() };
        let (Some(spent), source) = (report.budgets.first(), &self.question.source) else { return Vec::new() };
        let [kept, of] = [report.kept, report.of].map(|number| format::count(number as u64));
        let units = source.unit.as_ref().map_or("samples".into(), |unit| format!("values of {unit}"));
        let [score, without] = [report.score, report.score_without].map(format::real);
        let [mean, mean_without, limit] = [spent.mean, spent.mean_without, spent.limit].map(format::real);
        let (by, column) = (&source.by, &source.column);
        let mut lines = vec![
            format!("{kept} of {of} {units}: mean {by} {score}, mean {column} {mean} (limit {limit})."),
            format!("As many {units} without the budget: mean {by} {without}, mean {column} {mean_without}."),
        ];
        if let Some(bound) = report.bound {
            let bound = format::real(bound);
            lines.push(format!("The best possible selection within the budget has a mean {by} of at most {bound}."));
        }
        if let (Some(found), Some(promise)) = (&report.promise, &source.promise) {
            let (percent, bound) = ((1000.0 * found.confidence).round() / 10.0, format::real(found.bound));
            let end = if source.side == Side::AtMost { "most" } else { "least" };
            let judged = format::count(found.judged_kept as u64);
            lines.push(format!(
                "With a probability of {percent}%, the mean {} of all that are kept is at {end} {bound} ({judged} of them are judged).",
                promise.judged
            ));
        }
        lines.push(if spent.price > 0.0 {
            let step = self.step();
            let (price, gain) = (format::real(spent.price), format::real(step * spent.price));
            let looser = if source.side == Side::AtMost { "higher" } else { "lower" };
            format!("A limit that is {step} {looser} would raise the mean {by} by about {gain} (a price of {price} per unit).")
        } else {
            "The budget costs nothing here: its price is 0.".into()
        });
        lines
    }

    /// A power of ten that is small beside the range of limits.
    fn step(&self) -> f64 {
        let width = self.range().map_or(0.0, |[a, b]| (a - b).abs());
        let exponent = if width > 0.0 && width.is_finite() { width.log10().floor() as i32 - 1 } else { 0 };
        format!("1e{exponent}").parse().unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use filters::select::budget::{Budget, MovableBudget};
    use filters::select::{Groups, Rules};

    fn question(limit: Option<f64>) -> BudgetQuestion {
        BudgetQuestion { source: BudgetSource::new("pmi", "harm", Side::AtMost), keep: Keep::Count(2), limit }
    }

    #[test]
    fn limits_are_rounded_towards_what_is_possible() {
        let mut settings = BudgetSettings { column: " harm ".into(), ..BudgetSettings::default() };
        settings.set_limit(0.123_456, [0.0, 0.5]);
        assert_eq!(settings.rule().unwrap().to_string(), "harm<=0.1235");
        settings.set_limit(12_345.6, [10_000.0, 50_000.0]);
        assert_eq!(settings.rule().unwrap().to_string(), "harm<=12350");
        settings.change("harm", true);
        assert_eq!((settings.limit, settings.rule()), (None, None), "another side has other limits");
        settings.set_limit(-0.123_456, [0.0, -0.5]);
        assert_eq!(settings.rule().unwrap().to_string(), "harm>=-0.1235");
        let rule = settings.rule().unwrap();
        assert_eq!(BudgetSettings::from_rule(&rule).unwrap().rule(), Some(rule));
        assert_eq!(BudgetSettings::from_rule(&"harm<=20%".parse().unwrap()), None);
        settings.change("", false);
        assert!(!settings.is_set() && settings.rule().is_none());
    }

    #[test]
    fn limits_are_numbers_and_inside_their_range() {
        let limit = |limit: f64, range: [f64; 2]| {
            let mut settings = BudgetSettings { column: "harm".into(), ..BudgetSettings::default() };
            settings.set_limit(limit, range);
            settings.rule().map(|rule| rule.to_string())
        };
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(limit(0.300_001, [0.300_001; 2]), is("harm<=0.3001"), "a range without width");
        assert_eq!(limit(0.0, [0.0; 2]), is("harm<=0"));
        assert_eq!(limit(12.5, [3.0, 3.0]), is("harm<=3"));
        assert_eq!(limit(0.75, [0.0, 0.5]), is("harm<=0.5"), "beyond the end");
        assert_eq!(limit(-0.0001, [-1.0, 1.0]), is("harm<=0"), "no negative zero");
        assert_eq!(limit(5e-20, [0.0, 1e-19]), is("harm<=0.00000000000000000005"), "small numbers do not become 0");
        assert_eq!(limit(0.5, [0.5, 0.5 + f64::EPSILON]), is("harm<=0.5"));
        assert_eq!(limit(f64::NAN, [f64::NAN; 2]), None);
        assert_eq!(limit(f64::INFINITY, [0.0, f64::INFINITY]), None);
    }

    #[test]
    fn questions_with_another_limit_have_the_same_frontier() {
        let (other_keep, mut other_number) =
            (BudgetQuestion { keep: Keep::Count(3), ..question(None) }, question(None));
        other_number.source.column = "help".into();
        assert!(question(None).has_frontier_of(&question(Some(1.0))));
        assert!(!question(None).has_frontier_of(&other_keep) && question(None).has_axes_of(&other_keep));
        assert!(!question(None).has_frontier_of(&other_number) && !question(None).has_axes_of(&other_number));
    }

    #[test]
    fn an_answer_says_what_the_budget_costs() {
        let scores: Vec<_> = (0..4).map(|n| (n.to_string(), Some(f64::from(n)))).collect();
        let costs = (0..4).map(|n| Some(f64::from(n))).collect();
        let groups = Groups::one(4);
        let rule = "harm<=1.5".parse().unwrap();
        let budget = MovableBudget::new(&scores, &Rules::new(Keep::Count(2), &groups), Budget { rule, costs });
        let mut budget = budget.unwrap();
        let mut answer = |limit: f64| BudgetAnswer {
            question: question(Some(limit)),
            frontier: Ok(budget.frontier()),
            selection: Some(budget.at(limit).map_err(|error| error.to_string())),
        };
        let tight = answer(1.5);
        assert_eq!(tight.range(), Some([0.5, 2.5]));
        let lines = tight.sentences();
        assert_eq!(lines[0], "2 of 4 samples: mean pmi 1.50, mean harm 1.50 (limit 1.50).");
        assert_eq!(lines[1], "As many samples without the budget: mean pmi 2.50, mean harm 2.50.");
        assert!(lines[2].ends_with("has a mean pmi of at most 1.50."), "{}", lines[2]);
        let price = "A limit that is 0.1 higher would raise the mean pmi by about 0.100 (a price of 1.00 per unit).";
        assert_eq!(lines[3], price);
        assert!(answer(2.5).sentences()[3].ends_with("its price is 0."));
        let impossible = answer(0.2);
        assert!(impossible.sentences().is_empty() && impossible.selection.unwrap().is_err());
    }
}
