//! A selection by way of a shortlist: hands the features of one sample after the other to it. Decides nothing itself.

use super::input::{Chosen, Input};
use super::{FilterRequest, SelectionRules};
use crate::Result;
use crate::control::{Control, Stage};
use crate::error::FilterError;
use filters::select::shortlist::Shortlist;
use sae_core::analysis::between::Part;
use sae_core::analysis::summary::{SampleSummary, SummaryObserver};
use std::path::Path;

/// Hands the features of candidates to a shortlist.
struct Feed<'a, 'b> {
    shortlist: Shortlist<'b>,
    /// The numbers of the candidates, ascending.
    numbers: &'a [u32],
    /// The number above which an activation counts.
    threshold: f32,
    set: Vec<u32>,
    /// The run, which errors name.
    run: &'a Path,
}

impl SummaryObserver for Feed<'_, '_> {
    fn observe_sample(&mut self, summary: &SampleSummary) -> sae_core::Result<()> {
        let Ok(candidate) = self.numbers.binary_search(&summary.sample) else { return Ok(()) };
        let active = summary.peaks.iter().filter(|peak| peak.activation > self.threshold);
        self.set.clear();
        self.set.extend(active.map(|peak| peak.feature));
        self.shortlist.push(candidate as u32, &self.set).map_err(sae_core::Error::format(self.run))
    }
}

impl FilterRequest {
    /// The decisions about all candidates, from one reading of the features of all samples.
    ///
    /// # Errors
    /// A budget, and other rules that no shortlist approaches; a factor below 1; whatever ends a pass over the activations.
    pub(super) fn shortlisted(
        &self,
        input: &Input,
        sae: &str,
        rules: &SelectionRules,
        control: &mut Control,
    ) -> Result<Chosen> {
        let Some(factor) = rules.shortlist.filter(|_| input.budget.is_none()) else {
            return Err(FilterError::NoShortlist.into());
        };
        let (plan, numbers) = (input.plan(rules)?, input.candidates.numbers());
        let (sae, threshold) = self.load(sae)?;
        let mut feed = Feed {
            shortlist: Shortlist::new(&plan, factor, sae.saved.weights.d_sae)?,
            numbers: &numbers,
            threshold,
            set: Vec::new(),
            run: sae.run.root(),
        };
        sae.summarize(&sae.store, Stage::Features, &Part::Everything.into(), &mut [&mut feed], control)?;
        let mut found = feed.shortlist.finish();
        let decisions = std::mem::take(&mut found.decisions);
        input.check_ties(rules, &decisions)?;
        Ok(Chosen { decisions, shortlist: Some(found), ..Chosen::default() })
    }
}
