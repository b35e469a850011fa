//! The budgets of a filter: the costs of samples, the units that are kept whole, and what people judged.

use super::SelectionRules;
use super::candidates::Candidates;
use super::sample_numbers::numbers;
use crate::Result;
use crate::error::FilterError;
use crate::probe;
use filters::score_names::PROBE;
use filters::select::budget::{Budget, BudgetRule, Budgets, Promise};
use filters::select::{Groups, field_value};
use sae_core::Run;
use sae_core::error::Setting;
use sae_core::store::sample::Sample;
use std::collections::BTreeSet;

/// What limits a selection.
#[derive(Clone, Debug, Default)]
pub struct BudgetRules {
    /// Limits on means over what is kept: of fields of the rows, columns of the score table, or token counts.
    pub limits: Vec<BudgetRule>,
    /// A field whose values, such as episodes, are kept or dropped whole.
    pub unit: Option<String>,
    /// Makes the only limit hold for what people judged.
    pub promise: Option<PromiseRule>,
}

/// What makes a limit hold for what people judged.
#[derive(Clone, Debug, PartialEq)]
pub struct PromiseRule {
    /// The probability with which the limit is kept, between 0 and 1.
    pub confidence: f64,
    /// The field that was judged.
    pub judged: String,
}

impl BudgetRules {
    /// Whether anything is limited.
    pub fn limit(&self) -> bool {
        !self.limits.is_empty() || self.unit.is_some()
    }
}

/// What is known about the samples for a selection within budgets.
pub(super) struct BudgetInput {
    limits: Vec<Budget>,
    units: Option<Groups>,
    promise: Option<Promise>,
    /// Judged samples that do not count, since a probe has seen them or their images.
    pub trained: usize,
}

impl BudgetInput {
    /// Reads costs, units and judgments; nothing if there is no limit.
    ///
    /// # Errors
    /// Numbers or fields that samples do not have; no judged sample that counts.
    pub fn read(rules: &SelectionRules, candidates: &Candidates, run: &Run, sae: &str) -> Result<Option<Self>> {
        let BudgetRules { limits, unit, promise } = &rules.budgets;
        if !rules.budgets.limit() {
            return Ok(None);
        }
        let cost = |rule: &BudgetRule| -> Result<Budget> {
            Ok(Budget { rule: rule.clone(), costs: numbers(&rule.column, Setting::Budget, candidates, run, sae)? })
        };
        let limits = limits.iter().map(cost).collect::<Result<Vec<Budget>>>()?;
        let units = unit.as_ref().map(|field| Groups::by_fields(&candidates.samples(), field)).transpose()?;
        let (promise, trained) = match promise {
            Some(rule) => {
                judged(rule, &limits, candidates, run, sae).map(|(promise, trained)| (Some(promise), trained))?
            }
            None => (None, 0),
        };
        Ok(Some(Self { limits, units, promise, trained }))
    }

    /// The only limit, the units and the promise; nothing if there are several limits or none.
    pub fn single(self) -> Option<(Budget, Option<Groups>, Option<Promise>)> {
        let [limit] = <[Budget; 1]>::try_from(self.limits).ok()?;
        Some((limit, self.units, self.promise))
    }

    /// The budgets of a selection.
    pub fn budgets(&self) -> Budgets<'_> {
        Budgets { limits: &self.limits, units: self.units.as_ref(), promise: self.promise.as_ref() }
    }
}

/// What was judged of samples that the probes of the limits were not fitted to, and how many others were judged.
fn judged(
    rule: &PromiseRule,
    limits: &[Budget],
    candidates: &Candidates,
    run: &Run,
    sae: &str,
) -> Result<(Promise, usize)> {
    let mut judged = numbers(&rule.judged, Setting::Judged, candidates, run, sae)?;
    let samples = candidates.samples();
    let mut labels = BTreeSet::new();
    for name in limits.iter().filter_map(|limit| limit.rule.column.strip_prefix(PROBE)) {
        labels.extend(probe::label_field(run, sae, name)?);
    }
    let fitted = |sample: &Sample| labels.iter().any(|label| field_value(&sample.meta, label).is_some());
    let images = |sample: &Sample| sample.images.iter().map(|image| image.sha256.clone()).collect::<Vec<_>>();
    let seen: BTreeSet<String> = samples.iter().filter(|sample| fitted(sample)).flat_map(images).collect();
    let mut trained = 0;
    for (judged, sample) in judged.iter_mut().zip(samples.iter()) {
        let known = fitted(sample) || images(sample).iter().any(|image| seen.contains(image));
        if known && judged.take().is_some() {
            trained += 1;
        }
    }
    if judged.iter().all(Option::is_none) {
        return Err(FilterError::NoJudged { field: rule.judged.clone(), trained }.into());
    }
    Ok((Promise { judged, confidence: rule.confidence }, trained))
}
