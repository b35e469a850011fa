//! What decides which samples stay: their scores with the rules that were asked for, or decisions that were made elsewhere.

use super::super::only;
use super::FilterArgs;
use crate::cli::SaeReader;
use crate::cli::arguments::SaeArgs;
use crate::cli::terminal::count;
use anyhow::{Context, Result, bail};
use filters::select::{Collect, Decision, Division, Groups, Keep, Rules, Signatures, Ties, choose};
use filters::{column, decisions, keep};
use sae_core::Run;
use sae_core::store::load_samples;
use sae_core::store::sample::Sample;
use serde_json::Value;
use std::path::Path;

/// Samples with what decides about them.
pub struct Input {
    /// The samples of the run.
    pub samples: Vec<Sample>,
    /// Their ids and scores; no scores where decisions were made elsewhere.
    pub scores: Vec<(String, Option<f64>)>,
    /// Their groups.
    pub groups: Groups,
    /// The autoencoder whose scores decide.
    pub sae: Option<String>,
    basis: Basis,
}

enum Basis {
    Scores { keep: Keep, division: Division },
    Decisions(Vec<bool>),
}

impl Input {
    /// Reads what a filter decides by.
    ///
    /// # Errors
    /// The table of scores or the decisions are missing, or of other samples; groups or quotas that there are not.
    pub fn read(run: &Run, args: &FilterArgs) -> Result<Self> {
        let samples = load_samples(run)?;
        let ids = samples.iter().map(|sample| sample.id.clone());
        if let Some(path) = &args.decisions {
            let basis = Basis::Decisions(decisions::read(path, &samples)?);
            let (scores, groups) = (ids.map(|id| (id, None)).collect(), Groups::one(samples.len()));
            return Ok(Self { samples, scores, groups, sae: None, basis });
        }
        let by = args.by.as_deref().context("a filter needs --by or --decisions")?;
        let tables = run.list("scores").into_iter().filter_map(|f| f.strip_suffix(".parquet").map(String::from));
        let sae = only(&args.sae, tables.collect(), "score table", "sae score")?;
        let table = run.scores(&sae);
        let scores: Vec<_> = ids.zip(column::read_column(&table, by, &samples)?).collect();
        let (groups, division) = groups(&samples, args)?;
        let keep = decide(args.keep.unwrap_or(Keep::Quotas), by, &table, &scores)?;
        Ok(Self { samples, scores, groups, sae: Some(sae), basis: Basis::Scores { keep, division } })
    }

    /// What becomes of every sample; nothing if only a pass over the activations can tell, and `signatures` are not given.
    ///
    /// # Errors
    /// Rules that contradict each other; scores that cannot choose.
    pub fn choose(&self, args: &FilterArgs, signatures: Option<&Signatures>) -> Result<Option<Vec<Decision>>> {
        let (keep, division) = match &self.basis {
            Basis::Decisions(kept) => {
                return Ok(Some(
                    kept.iter().map(|stays| if *stays { Decision::Kept } else { Decision::Decided }).collect(),
                ));
            }
            Basis::Scores { keep, division } => (*keep, division),
        };
        let (groups, dedup, diverse) = (&self.groups, args.dedup, args.diverse);
        if signatures.is_none() && (dedup.is_some() || diverse) {
            return Ok(None);
        }
        let fates = choose(&self.scores, &Rules { keep, groups, division, signatures, dedup, diverse })?;
        let mut there = self.scores.iter().filter_map(|(_, score)| *score);
        let first = there.next();
        if let (Some(score), Some(by), Some(_)) = (first, &args.by, Ties::of(&self.scores, groups, &fates))
            && there.all(|other| other == score)
        {
            let samples = count(self.scores.iter().filter(|(_, score)| score.is_some()).count() as u64);
            bail!(
                "all {samples} samples with a score {by} have the same, {score:.4}, which cannot choose among them\n\
                 hint: --by another column; --diverse chooses by features, --by random at random"
            );
        }
        Ok(Some(fates))
    }

    /// Warnings about the groups.
    pub fn warnings(&self, args: &FilterArgs) -> Vec<String> {
        let (singles, groups) = (self.groups.singles(), self.groups.names.len());
        let fields = args.by_group.as_deref().or_else(|| args.quota.first().map(|(field, _)| field.as_str()));
        match fields {
            Some(fields) if groups > 2 && 2 * singles > groups => vec![format!(
                "{} of the {} groups by {fields} have a single sample; {fields}:4 would divide numbers into four groups",
                count(singles as u64),
                count(groups as u64),
            )],
            _ => Vec::new(),
        }
    }
}

fn groups(samples: &[Sample], args: &FilterArgs) -> Result<(Groups, Division)> {
    let quotas = || args.quota.iter().cloned().collect();
    Ok(match (&args.by_group, &args.quota[..]) {
        (None, []) => (Groups::one(samples.len()), Division::Proportional),
        (None, [(field, quota)]) => {
            (Groups::by_fields(samples, field)?, Division::Quotas([("*".to_owned(), *quota)].into()))
        }
        (None, _) => bail!("several quotas are of groups\nhint: --by-group FIELD says which groups there are"),
        (Some(fields), []) => {
            let division = if args.equal_groups { Division::Equal } else { Division::Proportional };
            (Groups::by_fields(samples, fields)?, division)
        }
        (Some(fields), _) => (Groups::by_fields(samples, fields)?, Division::Quotas(quotas())),
    })
}

/// `auto` as a threshold: what `sae score` estimated for the column, or else what the scores alone suggest.
fn decide(keep: Keep, by: &str, table: &Path, scores: &[(String, Option<f64>)]) -> Result<Keep> {
    if keep != Keep::Auto {
        return Ok(keep);
    }
    if by == super::super::score::PMI_TOKEN {
        let blank = super::super::score::PMI_BLANK;
        bail!("--keep auto knows no {by} of mismatched pairs\nhint: --by {blank} --keep auto, or a share");
    }
    let estimate = match keep::saved(table, by)? {
        Some(saved) => Some(saved),
        None => keep::keep_auto(&scores.iter().map(|(_, score)| *score).collect::<Vec<_>>()),
    };
    let estimate = estimate.with_context(|| format!("too few samples have a score {by} to say how many to keep"))?;
    Ok(Keep::AtLeast(estimate.threshold))
}

/// The features of every sample, by one pass over the activations with the threshold that the scores were made with.
///
/// # Errors
/// The store or the autoencoder cannot be read; the scores' threshold is not known.
pub fn signatures(run: &Run, sae: &str, samples: usize, args: &FilterArgs) -> Result<Signatures> {
    let of = SaeArgs { run: run.root().to_path_buf(), sae: Some(sae.into()), device: args.device };
    let opened = SaeReader::new(&of)?;
    let note: Value = run.read_step(&format!("score/{sae}"))?.unwrap_or_default();
    let threshold =
        note["threshold"].as_f64().context("run.json lacks the scores' threshold\nhint: run `sae score`")?;
    let mut collect = Collect::new(samples, opened.saved.weights.d_sae, threshold as f32);
    opened.pass("features", &mut [&mut collect])?;
    Ok(collect.finish())
}
