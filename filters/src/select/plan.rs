//! A selection whose rules fit together: in which order it looks at samples, how many of each cell it may keep, and what it decides
//! about any of them. Knows no blocks of samples ([`super::shortlist`]).

use super::greedy::{self, Candidate};
use super::near_duplicates::Kept;
use super::{Decision, Keep, Rules, by_id, lowest, rank};
use crate::{Error, Result};
use sae_core::analysis::feature_sets::FeatureSets;
use sae_core::error::{Cause, Hint, Setting};

/// The place of a sample that is never kept.
const UNRANKED: u32 = u32::MAX;

/// A selection before it looks at features.
pub struct Plan<'a> {
    scores: &'a [(String, Option<f64>)],
    rules: Rules<'a>,
    /// The samples that may be kept, the best first.
    ranked: Vec<u32>,
    /// The place of each sample among these.
    places: Vec<u32>,
    quotas: Vec<usize>,
    threshold: f64,
}

impl<'a> Plan<'a> {
    /// Ranks the samples, and divides the amount to keep.
    ///
    /// # Errors
    /// The rules contradict each other, or they require an estimate that was not made.
    pub fn new(scores: &'a [(String, Option<f64>)], rules: &Rules<'a>) -> Result<Self> {
        let ranked = if rules.ranked { rank(scores) } else { by_id(scores) };
        let (total, threshold) = match rules.keep {
            Keep::Share(share) => (Some((share * scores.len() as f64).round() as usize), f64::NEG_INFINITY),
            Keep::Count(count) => (Some(count), f64::NEG_INFINITY),
            Keep::Quotas => (Some(0), f64::NEG_INFINITY),
            Keep::AtLeast(threshold) => (None, threshold),
            Keep::Auto => return Err(Error::request("the share to keep was not estimated before the selection")),
        };
        let contradiction = match (rules.rule.objective(), rules.within) {
            (Some(_), _) => {
                Some("a threshold keeps every sample above it, so that a selection by features has nothing to choose")
            }
            (None, Some(_)) => Some("a threshold keeps every sample above it, so that quantiles have no share to keep"),
            (None, None) => (!rules.ranked).then_some("a threshold needs a score"),
        };
        if let (None, Some(text)) = (total, contradiction) {
            let hint = Hint::set(Setting::Keep, "a share or a number");
            return Err(Error::request(Cause::with_hint(text, hint)));
        }
        let quotas = rules.division.quotas(total, rules.groups)?;
        let quotas = rules.within.map_or_else(|| quotas.clone(), |within| within.divide(&quotas));
        let mut places = vec![UNRANKED; scores.len()];
        ranked.iter().zip(0..).for_each(|(n, place)| places[*n as usize] = place);
        Ok(Self { scores, rules: *rules, ranked, places, quotas, threshold })
    }

    /// The rules.
    pub fn rules(&self) -> &Rules<'a> {
        &self.rules
    }

    /// How many samples of each cell may be kept.
    pub fn quotas(&self) -> &[usize] {
        &self.quotas
    }

    /// The samples that may be kept, the best first: those with a score at or above the threshold.
    pub(super) fn eligible(&self) -> &[u32] {
        let end = self.ranked.partition_point(|n| self.is_high(*n));
        &self.ranked[..end]
    }

    /// Whether a sample may be kept.
    pub(super) fn is_eligible(&self, sample: u32) -> bool {
        self.places[sample as usize] != UNRANKED && self.is_high(sample)
    }

    /// The cell of a sample.
    pub(super) fn cell(&self, sample: u32) -> usize {
        self.rules.cells().of[sample as usize] as usize
    }

    /// What a sample that may be kept is worth, above 0 and up to 1: the share of ranked samples that rank no better, or 1 if scores do
    /// not rank. Scores themselves have no fixed scale, and may be negative.
    pub fn value(&self, sample: u32) -> f64 {
        if self.rules.ranked {
            self.ranked.len().saturating_sub(self.place(sample)) as f64 / self.ranked.len() as f64
        } else {
            1.0
        }
    }

    fn place(&self, sample: u32) -> usize {
        self.places[sample as usize] as usize
    }

    /// The decision about a sample that nothing else decides about.
    pub(super) fn unlisted(&self, sample: u32) -> Decision {
        if self.places[sample as usize] == UNRANKED { Decision::NoScore } else { Decision::Below }
    }

    /// The number of samples.
    pub(super) fn samples(&self) -> usize {
        self.scores.len()
    }

    fn score(&self, sample: u32) -> f64 {
        self.scores[sample as usize].1.unwrap_or(f64::NEG_INFINITY)
    }

    fn is_high(&self, sample: u32) -> bool {
        self.score(sample) >= self.threshold
    }

    /// The decisions about some samples, as if there were no others but in their ranks. `samples` are ascending, `feature_sets` has
    /// their sets in this order, and up to `quotas` of each cell are kept. Without sets, rules that need them are left out.
    pub(super) fn decide(
        &self,
        samples: &[u32],
        feature_sets: Option<&FeatureSets>,
        quotas: &[usize],
    ) -> Vec<Decision> {
        let place = |local: &u32| self.place(samples[*local as usize]);
        let is_ranked = |local: &u32| place(local) != UNRANKED as usize;
        let mut order: Vec<u32> = (0..samples.len() as u32).filter(is_ranked).collect();
        order.sort_unstable_by_key(place);
        let groups: Vec<u32> = samples.iter().map(|n| self.rules.groups.of[*n as usize]).collect();
        let objective = self.rules.rule.objective();
        let mut decisions = vec![Decision::NoScore; samples.len()];
        let mut left = quotas.to_vec();
        let mut kept = self.rules.dedup.and_then(|similarity| Some(Kept::new(feature_sets?, &groups, similarity)));
        let mut candidates = Vec::new();
        for local in order {
            let sample = samples[local as usize];
            let cell = self.cell(sample);
            decisions[local as usize] = if left[cell] == 0 || !self.is_high(sample) {
                Decision::Below
            } else if let Some((of, similarity)) = kept.as_mut().and_then(|kept| kept.admit(local)) {
                Decision::Alike { of: samples[of as usize], similarity }
            } else if objective.is_some() {
                candidates.push(Candidate { sample: local, group: cell as u32, value: self.value(sample) });
                Decision::Covered
            } else {
                left[cell] -= 1;
                Decision::Kept
            };
        }
        if let (Some(feature_sets), Some(objective)) = (feature_sets, objective) {
            let chosen = greedy::select(feature_sets, objective, &candidates, quotas, self.rules.seed);
            chosen.iter().for_each(|local| decisions[*local as usize] = Decision::Kept);
        }
        decisions
    }

    /// Distinguishes, in the decisions about all samples, those with the same score as the last one that is kept.
    pub(super) fn mark_ties(&self, decisions: &mut [Decision]) {
        if self.rules.rule.objective().is_some() {
            return;
        }
        let lowest = lowest(self.scores, self.rules.cells(), decisions);
        for n in &self.ranked {
            if decisions[*n as usize] == Decision::Below && lowest[self.cell(*n)] == Some(self.score(*n)) {
                decisions[*n as usize] = Decision::Tied;
            }
        }
    }
}
