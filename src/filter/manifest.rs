//! The report of a filter, which is also `manifest.json` in the folders that it wrote. It depends only on the data and the
//! request, so that the same request gives the same bytes.

use super::input::{Chosen, Features, Input};
use super::{FilterRequest, SelectionRule, SelectionRules};
use crate::dataset::Dataset;
use crate::numbers::count;
use crate::score::step_name;
use crate::{Error, Result};
use filters::decisions::files;
use filters::select::budget::{BudgetReport, FrontierPoint};
use filters::select::shortlist::Shortlisted;
use filters::select::{Decision, Ties, lowest};
use filters::write::{Format, Images, Report, Shape, Written, card};
use sae_core::analysis::feature_sets::FeatureSets;
use sae_core::store::StoreRecord;
use sae_core::{Run, file};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Number of images in a manifest's list of those that were not copied.
const LISTED: usize = 100;

/// What a filter did: `manifest.json`.
#[derive(Clone, Debug, Serialize)]
pub struct FilterReport {
    /// Layout of the manifest.
    pub schema_version: u32,
    /// The program and its version.
    pub program: String,
    /// The folder of the rows, relative to the manifest.
    pub data: &'static str,
    /// The run folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub run: PathBuf,
    /// The autoencoder whose scores decided.
    pub sae: Option<String>,
    /// The column that decided.
    pub by: Option<String>,
    /// How much was to be kept.
    pub keep: Option<String>,
    /// Fields that samples were grouped by.
    pub by_group: Option<String>,
    /// Whether groups gave equally many samples.
    pub equal_groups: bool,
    /// How many samples of a group were to be kept, by its name.
    pub quotas: BTreeMap<String, usize>,
    /// The similarity from which samples count as near-duplicates.
    pub dedup: Option<f64>,
    /// What made a set of samples good: `score`, `diverse`, `greedselect` or `match`; `decisions` if that was decided elsewhere.
    pub rule: &'static str,
    /// The run whose features the selection was to match.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub match_run: Option<PathBuf>,
    /// Seed of the draws of a stochastic selection.
    pub seed: u64,
    /// The number whose quantiles each kept the same share.
    pub within: Option<QuantileReport>,
    /// What the selection is worth and costs; null without budgets and units.
    pub budget: Option<BudgetReport>,
    /// What other limits would allow: `frontier.parquet`.
    #[serde(skip)]
    pub frontier: Vec<FrontierPoint>,
    /// Judged samples that a promise could not use, since a probe has seen them or their images.
    pub judged_left_out: usize,
    /// How a shortlist was made; null without one.
    pub shortlist: Option<ShortlistReport>,
    /// The features that the kept samples show; null if the selection looked at no features.
    pub shown: Option<ShownFeatures>,
    /// The file of decisions that were made elsewhere.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub decisions: Option<PathBuf>,
    /// Its BLAKE3; of a folder, that of the hashes of its files.
    pub decisions_blake3: Option<String>,
    /// How rows are written.
    pub format: Format,
    /// What was done with images.
    pub images: Images,
    /// Lowest score that was kept.
    pub threshold: Option<f64>,
    /// Samples with equal scores, between which their ids decided.
    pub ties: Option<Ties>,
    /// How the scores were made: `score/<sae>` of run.json, with threshold and seed.
    pub score: Value,
    /// BLAKE3 of the score table that decided.
    pub scores_blake3: Option<String>,
    /// Rows and images that were kept.
    pub kept: Written,
    /// Rows that were dropped.
    pub dropped: u64,
    /// How many rows were dropped for each reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Samples without a score, which are never kept.
    pub without_score: u64,
    /// Rows that never became samples when the run was made: neither kept nor dropped.
    pub skipped_at_harvest: u64,
    /// The groups.
    pub groups: Vec<Group>,
    /// Images of kept rows that were not copied.
    pub images_left_behind: LeftBehind,
    /// Columns of the data set that are written under another name, because theirs has another meaning in the output.
    pub renamed_columns: BTreeMap<String, String>,
    /// What readers should know about the files.
    pub notes: Vec<String>,
    /// The folder that paths of images in copied rows are relative to; null if that is the folder of their file.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub images_root: Option<PathBuf>,
    /// The folder of the data set.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub data_root: PathBuf,
    /// The files that rows came from.
    pub sources: Vec<SourceFile>,
}

/// The quantiles that each kept the same share.
#[derive(Clone, Debug, Serialize)]
pub struct QuantileReport {
    /// The number that they were made of.
    pub field: String,
    /// How many there are. Equal numbers are in the same one.
    pub quantiles: usize,
    /// Samples without the number, which are together in a part of their own.
    pub without_number: usize,
}

/// A shortlist of samples, whose features alone were held.
#[derive(Clone, Debug, Serialize)]
pub struct ShortlistReport {
    /// How many times as many samples as are kept it was to have.
    pub factor: f64,
    /// How many it has.
    pub samples: usize,
    /// The number of blocks that it was chosen within; 0 if scores alone made it.
    pub blocks: usize,
    /// How many samples fewer than asked are kept, although there are others beyond the shortlist: it has too many near-duplicates.
    pub short: usize,
}

/// The features that samples show.
#[derive(Clone, Debug, Serialize)]
pub struct ShownFeatures {
    /// The number of features that kept samples show.
    pub kept: usize,
    /// The number of features that all samples show.
    pub all: usize,
    /// The divergence of the target's distribution of features from that of the kept samples, in nats.
    pub divergence_kept: Option<f64>,
    /// The same for all samples.
    pub divergence_all: Option<f64>,
}

impl ShownFeatures {
    fn new(features: &Features, decided: &[Decision]) -> Self {
        let all = 0..features.sets.len() as u32;
        let kept: Vec<u32> = all.clone().filter(|n| decided[*n as usize] == Decision::Kept).collect();
        let divergence = |samples: &mut dyn Iterator<Item = u32>| {
            features.target.as_ref().map(|target| target.divergence(&features.sets, samples))
        };
        Self {
            kept: shown(&features.sets, kept.iter().copied()),
            all: shown(&features.sets, all.clone()),
            divergence_kept: divergence(&mut kept.iter().copied()),
            divergence_all: divergence(&mut all.clone()),
        }
    }

    fn of_shortlist(listed: &Shortlisted, decided: &[Decision]) -> Self {
        let is_kept = |n: &u32| decided[listed.samples[*n as usize] as usize] == Decision::Kept;
        let kept = shown(&listed.sets, (0..listed.samples.len() as u32).filter(is_kept));
        Self { kept, all: listed.shown, divergence_kept: None, divergence_all: None }
    }
}

/// The number of features of some samples.
fn shown(sets: &FeatureSets, samples: impl Iterator<Item = u32>) -> usize {
    let mut seen = vec![false; sets.d_sae()];
    samples.flat_map(|n| sets.features(n as usize)).for_each(|feature| seen[feature as usize] = true);
    seen.into_iter().filter(|seen| *seen).count()
}

/// Images whose path a copy cannot have: an absolute path, or one that leads out of the data set.
#[derive(Clone, Debug, Serialize)]
pub struct LeftBehind {
    /// How many.
    pub count: u64,
    /// The first of them.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub paths: Vec<PathBuf>,
}

/// The result for a group.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Its name; empty without groups.
    pub name: String,
    /// Samples in it.
    pub samples: u64,
    /// Samples with a score.
    pub with_score: u64,
    /// Samples that were kept.
    pub kept: u64,
    /// Lowest score that was kept.
    pub threshold: Option<f64>,
}

/// A file of the data set.
#[derive(Clone, Debug, Serialize)]
pub struct SourceFile {
    /// The file, relative to the data set.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub file: PathBuf,
    /// Its BLAKE3.
    pub blake3: String,
    /// Rows of it that were kept.
    pub kept: u64,
    /// Rows of it that were dropped.
    pub dropped: u64,
}

/// Everything that a report is made from.
pub(super) struct Facts<'a> {
    pub run: &'a Run,
    pub input: &'a Input,
    pub chosen: &'a Chosen,
    pub features: Option<&'a Features>,
    pub record: &'a StoreRecord,
    pub data: &'a Dataset,
    pub shape: &'a Shape,
}

impl FilterReport {
    pub(super) fn new(request: &FilterRequest, facts: &Facts, written: Report) -> Result<Self> {
        let Facts { run, input, chosen, features, record, data, shape } = facts;
        let decided = &chosen.decisions;
        let with_reason = |reason: &str| decided.iter().filter(|fate| fate.reason() == reason).count() as u64;
        let groups = groups(input, decided);
        let hash = |path: PathBuf| file::hash(&path);
        let rewritten = request.format != Format::Same;
        let rules: Option<&SelectionRules> = request.rules();
        let decisions = request.decisions().map(Path::to_path_buf);
        Ok(Self {
            schema_version: 3,
            program: format!("sae {}", env!("CARGO_PKG_VERSION")),
            data: card::ROWS,
            run: run.root().to_path_buf(),
            sae: input.sae.clone(),
            by: rules.and_then(|rules| rules.column.clone()),
            keep: rules.and_then(|rules| rules.keep).map(|keep| keep.to_string()),
            by_group: rules.and_then(|rules| rules.by_group.clone()),
            equal_groups: rules.is_some_and(|rules| rules.equal_groups),
            quotas: rules.iter().flat_map(|rules| rules.quotas.iter().cloned()).collect(),
            dedup: rules.and_then(|rules| rules.dedup),
            rule: rules.map_or("decisions", |rules| rules.rule.name()),
            match_run: rules.and_then(|rules| match &rules.rule {
                SelectionRule::Match(run) => Some(run.clone()),
                _ => None,
            }),
            seed: rules.map_or(0, |rules| rules.seed),
            within: rules.and_then(|rules| rules.within.clone()).zip(input.within.as_ref()).map(|(field, within)| {
                QuantileReport { field, quantiles: within.quantiles, without_number: within.without_number }
            }),
            budget: chosen.budget.clone(),
            frontier: chosen.frontier.clone(),
            judged_left_out: input.budget.as_ref().map_or(0, |budget| budget.trained),
            shortlist: chosen.shortlist.as_ref().zip(rules.and_then(|rules| rules.shortlist)).map(
                |(listed, factor)| ShortlistReport {
                    factor,
                    samples: listed.samples.len(),
                    blocks: listed.blocks,
                    short: listed.short,
                },
            ),
            shown: match &chosen.shortlist {
                Some(listed) => Some(ShownFeatures::of_shortlist(listed, decided)),
                None => features.map(|features| ShownFeatures::new(features, decided)),
            },
            decisions: decisions.clone(),
            decisions_blake3: decisions.map(|path| Ok::<_, Error>(file::hash_all(&files(&path)?)?)).transpose()?,
            format: request.format,
            images: request.images,
            threshold: groups.iter().filter_map(|group| group.threshold).min_by(f64::total_cmp),
            ties: Ties::new(&input.scores, input.cells(), decided),
            score: match &input.sae {
                Some(sae) => run.read_step(&step_name(sae))?.unwrap_or_default(),
                None => Value::Null,
            },
            scores_blake3: input
                .sae
                .as_ref()
                .filter(|_| rules.is_some_and(|rules| rules.column.is_some()))
                .map(|sae| hash(run.scores(sae)))
                .transpose()?,
            kept: written.written,
            dropped: dropped_rows(request, input, decided),
            reasons: Decision::REASONS.iter().map(|reason| (*reason, with_reason(reason))).collect(),
            without_score: with_reason(Decision::NoScore.reason()),
            skipped_at_harvest: record.progress().skipped(),
            groups,
            images_left_behind: LeftBehind {
                count: written.left_behind.len() as u64,
                paths: written.left_behind.into_iter().take(LISTED).collect(),
            },
            renamed_columns: if rewritten { shape.names.renamed().clone() } else { BTreeMap::new() },
            notes: written.contents.notes,
            images_root: data
                .images_root_of_copies()
                .filter(|_| !rewritten)
                .map(|root| Path::new(card::ROWS).join(root)),
            data_root: data.root.clone(),
            sources: sources(input, decided, &data.root)?,
        })
    }

    /// Writes the manifest into a folder.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        Ok(file::write_json(&folder.join("manifest.json"), self)?)
    }

    /// A paragraph for the README of the kept rows, or of the dropped ones.
    pub(super) fn about(&self, kept: bool) -> String {
        let (stayed, all) = (self.kept.rows, self.kept.rows + self.dropped);
        let rows = if kept { stayed } else { self.dropped };
        let side = if kept { "kept" } else { "dropped" };
        let by = match &self.by {
            Some(by) => format!("by their score `{by}`"),
            None if self.decisions.is_none() => format!("by their features (rule `{}`)", self.rule),
            None => "by decisions that were made elsewhere".into(),
        };
        let beside = if kept { "; `decisions.csv` and `decisions.parquet` tell of every sample" } else { "" };
        format!(
            "The {} rows of {} that `sae filter` {side} {by}. The rows are in `{}/` (format `{}`); `manifest.json` says how \
             they were chosen{beside}.",
            count(rows),
            count(all),
            self.data,
            self.format.name(),
        )
    }
}

fn groups(input: &Input, decided: &[Decision]) -> Vec<Group> {
    let cells = input.cells();
    let lowest = lowest(&input.scores, cells, decided);
    let none = |(name, threshold): (&String, Option<f64>)| Group {
        name: name.clone(),
        samples: 0,
        with_score: 0,
        kept: 0,
        threshold,
    };
    let mut groups: Vec<Group> = cells.names.iter().zip(lowest).map(none).collect();
    for ((group, fate), (_, score)) in cells.of.iter().zip(decided).zip(&input.scores) {
        let group = &mut groups[*group as usize];
        group.samples += 1;
        group.with_score += score.is_some() as u64;
        group.kept += (*fate == Decision::Kept) as u64;
    }
    groups
}

fn kept(decided: &[Decision]) -> Vec<bool> {
    decided.iter().map(|decision| *decision == Decision::Kept).collect()
}

/// The number of rows that are dropped. Those of trees that are written unchanged may belong to several paths, of which one is kept.
fn dropped_rows(request: &FilterRequest, input: &Input, decided: &[Decision]) -> u64 {
    let kept = kept(decided);
    if input.candidates.are_trees() && request.format == Format::Same {
        return input.candidates.rows(&kept).iter().filter(|(_, stays)| !stays).count() as u64;
    }
    kept.iter().filter(|stays| !**stays).count() as u64
}

fn sources(input: &Input, decided: &[Decision], root: &Path) -> Result<Vec<SourceFile>> {
    let mut rows: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    let (candidates, kept) = (&input.candidates, kept(decided));
    for (sample, stays) in candidates.rows(&kept) {
        if let Some((file, _)) = candidates.all()[sample as usize].place() {
            rows.entry(file).or_default()[usize::from(!stays)] += 1;
        }
    }
    let source = |(file, [kept, dropped]): (&str, [u64; 2])| {
        Ok(SourceFile { file: file.into(), blake3: file::hash(&root.join(file))?, kept, dropped })
    };
    rows.into_iter().map(source).collect()
}
