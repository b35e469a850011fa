//! A budget of the Filter page: what is limited, what one limit after the other allows, and which selection the present limit
//! makes. Computes no selection and reads no file.

use super::format;
use filters::select::budget::{BudgetReport, BudgetRule, FrontierPoint, Limit, Side};

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

    /// Sets the limit, rounded to a length that a person reads, towards what is possible.
    pub fn set_limit(&mut self, limit: f64, [low, high]: [f64; 2]) {
        let step = 10f64.powf(((high - low).abs().max(f64::MIN_POSITIVE).log10() - 3.0).floor());
        let steps = limit / step;
        let rounded = if self.at_least { steps.floor() } else { steps.ceil() };
        // As a decimal, so that the command line has no more digits than the step.
        let decimals = usize::try_from(-(step.log10().round() as i64)).unwrap_or(0).min(15);
        let text = format!("{:.decimals$}", rounded * step);
        self.limit = text.parse().ok();
    }
}

/// What a worker is asked: the scores, how many samples are kept of them, and the budget.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetQuestion {
    /// Which samples there are to choose from, and how many are chosen.
    pub choice: BudgetChoice,
    /// The limit; nothing asks for the frontier alone.
    pub limit: Option<f64>,
}

/// Which samples there are to choose from, how many are chosen, and what is limited.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetChoice {
    /// The score that ranks samples.
    pub by: String,
    /// How many are kept.
    pub keep: usize,
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
        let (Some(spent), choice) = (report.budgets.first(), &self.question.choice) else { return Vec::new() };
        let [kept, of] = [report.kept, report.of].map(|number| format::count(number as u64));
        let [score, without] = [report.score, report.score_without].map(format::real);
        let [mean, mean_without, limit] = [spent.mean, spent.mean_without, spent.limit].map(format::real);
        let (by, column) = (&choice.by, &choice.column);
        let mut lines = vec![
            format!("{kept} of {of} samples: mean {by} {score}, mean {column} {mean} (limit {limit})."),
            format!("As many without the budget: mean {by} {without}, mean {column} {mean_without}."),
        ];
        if let Some(bound) = report.bound {
            lines.push(format!(
                "No selection of this size within the budget has a higher mean {by} than {}.",
                format::real(bound)
            ));
        }
        lines.push(if spent.price > 0.0 {
            let looser = if choice.side == Side::AtMost { "higher" } else { "lower" };
            format!("Price: the mean {by} would rise by {} per unit of a {looser} limit.", format::real(spent.price))
        } else {
            "Price: 0, the budget costs nothing here.".into()
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use filters::select::budget::{Budget, MovableBudget};
    use filters::select::{Groups, Keep, Rules};

    fn choice() -> BudgetChoice {
        let (by, column) = ("pmi".into(), "harm".into());
        BudgetChoice { by, keep: 2, by_group: None, equal_groups: false, within: None, column, side: Side::AtMost }
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
    fn an_answer_says_what_the_budget_costs() {
        let scores: Vec<_> = (0..4).map(|n| (n.to_string(), Some(f64::from(n)))).collect();
        let costs = (0..4).map(|n| Some(f64::from(n))).collect();
        let groups = Groups::one(4);
        let rule = "harm<=1.5".parse().unwrap();
        let budget = MovableBudget::new(&scores, &Rules::new(Keep::Count(2), &groups), Budget { rule, costs });
        let mut budget = budget.unwrap();
        let mut answer = |limit: f64| BudgetAnswer {
            question: BudgetQuestion { choice: choice(), limit: Some(limit) },
            frontier: Ok(budget.frontier()),
            selection: Some(budget.at(limit).map_err(|error| error.to_string())),
        };
        let tight = answer(1.5);
        assert_eq!(tight.range(), Some([0.5, 2.5]));
        let lines = tight.sentences();
        assert_eq!(lines[0], "2 of 4 samples: mean pmi 1.50, mean harm 1.50 (limit 1.50).");
        assert_eq!(lines[1], "As many without the budget: mean pmi 2.50, mean harm 2.50.");
        assert!(lines[2].ends_with("than 1.50.") && lines[3].contains("rise by 1.00 per unit of a higher limit"));
        assert!(answer(2.5).sentences()[3].starts_with("Price: 0"));
        let impossible = answer(0.2);
        assert!(impossible.sentences().is_empty() && impossible.selection.unwrap().is_err());
    }
}
