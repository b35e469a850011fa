//! What a filter decides by: scores with the rules of a request, or decisions that were made elsewhere.

use super::{FilterBy, FilterRequest, ScoreRules};
use crate::control::{Control, Stage};
use crate::roles::Kind;
use crate::sae::{SaeChoice, choose};
use crate::score::step_name;
use crate::{Error, Result};
use filters::score_names::PMI_TOKEN_MIN;
use filters::select::{Decision, Division, Groups, Keep, Rules, Ties};
use filters::{column, decisions, keep, select};
use sae_core::Run;
use sae_core::analysis::feature_sets::{FeatureSetCollector, FeatureSets, Part};
use sae_core::store::load_samples;
use sae_core::store::sample::Sample;
use serde_json::Value;
use std::path::Path;

/// Samples with their scores and groups.
pub(super) struct Input {
    /// The samples of the run.
    pub samples: Vec<Sample>,
    /// Their ids and scores; without scores if decisions were made elsewhere.
    pub scores: Vec<(String, Option<f64>)>,
    /// Their groups.
    pub groups: Groups,
    /// The autoencoder whose scores are used.
    pub sae: Option<String>,
    basis: Basis,
}

enum Basis {
    Scores { keep: Keep, division: Division },
    Decisions(Vec<bool>),
}

impl Input {
    /// Reads the input of a filter.
    ///
    /// # Errors
    /// The table of scores or the decisions are missing, or of other samples; groups or quotas that do not exist.
    pub fn read(run: &Run, request: &FilterRequest) -> Result<Self> {
        let samples = load_samples(run)?;
        let ids = samples.iter().map(|sample| sample.id.clone());
        let rules = match &request.by {
            FilterBy::Scores(rules) => rules,
            FilterBy::Decisions(path) => {
                let basis = Basis::Decisions(decisions::read(path, &samples)?);
                let (scores, groups) = (ids.map(|id| (id, None)).collect(), Groups::one(samples.len()));
                return Ok(Self { samples, scores, groups, sae: None, basis });
            }
        };
        let tables = run.list("scores").into_iter().filter_map(|f| f.strip_suffix(".parquet").map(String::from));
        let sae = choose(&rules.sae, tables.collect(), Kind::ScoreTable)?;
        let table = run.scores(&sae);
        let scores: Vec<_> = ids.zip(column::read_column(&table, &rules.column, &samples)?).collect();
        let (groups, division) = groups(&samples, rules)?;
        let keep = decide(rules.keep.unwrap_or(Keep::Quotas), &rules.column, &table, &scores)?;
        Ok(Self { samples, scores, groups, sae: Some(sae), basis: Basis::Scores { keep, division } })
    }

    /// The decision about every sample; `None` if that needs a pass over the activations and `feature_sets` are not given.
    ///
    /// # Errors
    /// Rules that contradict each other; scores that cannot choose.
    pub fn choose(&self, request: &FilterRequest, feature_sets: Option<&FeatureSets>) -> Result<Option<Vec<Decision>>> {
        let (keep, division, rules) = match (&self.basis, &request.by) {
            (Basis::Scores { keep, division }, FilterBy::Scores(rules)) => (*keep, division, rules),
            (Basis::Decisions(kept), _) => {
                let decided = kept.iter().map(|stays| if *stays { Decision::Kept } else { Decision::Decided });
                return Ok(Some(decided.collect()));
            }
            (Basis::Scores { .. }, FilterBy::Decisions(_)) => return Ok(None),
        };
        let (groups, dedup, diverse) = (&self.groups, rules.dedup, rules.diverse);
        if feature_sets.is_none() && (dedup.is_some() || diverse) {
            return Ok(None);
        }
        let decided = select::choose(&self.scores, &Rules { keep, groups, division, feature_sets, dedup, diverse })?;
        let mut scores = self.scores.iter().filter_map(|(_, score)| *score);
        let first = scores.next();
        if let (Some(score), Some(_)) = (first, Ties::new(&self.scores, groups, &decided))
            && scores.all(|other| other == score)
        {
            let samples = self.scores.iter().filter(|(_, score)| score.is_some()).count();
            return Err(Error::EqualScores { column: rules.column.clone(), samples, score });
        }
        Ok(Some(decided))
    }
}

fn groups(samples: &[Sample], rules: &ScoreRules) -> Result<(Groups, Division)> {
    let quotas = || rules.quotas.iter().cloned().collect();
    Ok(match (&rules.by_group, &rules.quotas[..]) {
        (None, []) => (Groups::one(samples.len()), Division::Proportional),
        (None, [(field, quota)]) => {
            (Groups::by_fields(samples, field)?, Division::Quotas([("*".to_owned(), *quota)].into()))
        }
        (None, _) => return Err(Error::QuotasWithoutGroups),
        (Some(fields), []) => {
            let division = if rules.equal_groups { Division::Equal } else { Division::Proportional };
            (Groups::by_fields(samples, fields)?, division)
        }
        (Some(fields), _) => (Groups::by_fields(samples, fields)?, Division::Quotas(quotas())),
    })
}

/// The threshold for `auto`: the estimate of scoring for the column, or otherwise an estimate from the scores alone.
fn decide(keep: Keep, column: &str, table: &Path, scores: &[(String, Option<f64>)]) -> Result<Keep> {
    if keep != Keep::Auto {
        return Ok(keep);
    }
    if column == PMI_TOKEN_MIN {
        return Err(Error::NoEstimate { column: column.into() });
    }
    let estimate = match keep::saved(table, column)? {
        Some(saved) => Some(saved),
        None => keep::keep_auto(&scores.iter().map(|(_, score)| *score).collect::<Vec<_>>()),
    };
    let estimate = estimate.ok_or_else(|| Error::TooFewScores { column: column.into() })?;
    Ok(Keep::AtLeast(estimate.threshold))
}

impl FilterRequest {
    /// The features of every sample, from one pass over the activations with the threshold of the scores.
    ///
    /// # Errors
    /// The store or the autoencoder cannot be read; the threshold of the scores is not known.
    pub(super) fn feature_sets(&self, sae: &str, samples: usize, control: &mut Control) -> Result<FeatureSets> {
        let sae = SaeChoice { run: self.run.clone(), sae: Some(sae.into()), device: self.device }.load()?;
        let step: Value = sae.run.read_step(&step_name(&sae.name))?.unwrap_or_default();
        let threshold = step["threshold"].as_f64().ok_or(Error::NoThreshold)?;
        let mut collect =
            FeatureSetCollector::new(samples, sae.saved.weights.d_sae, threshold as f32, Part::Everything);
        sae.observe(Stage::Features, &mut [&mut collect], control)?;
        Ok(collect.finish())
    }
}
