//! What a filter did, for programs and people: `manifest.json`. It depends on the data and the arguments alone, so that the
//! same command gives the same.

use super::FilterArgs;
use super::input::Input;
use super::rows::Data;
use crate::cli::terminal::count;
use anyhow::Result;
use filters::select::{Decision, Ties, lowest};
use filters::write::{Format, Images, Report, Shape, Written, card};
use sae_core::store::StoreRecord;
use sae_core::store::sample::Sample;
use sae_core::{Run, file};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Images that did not come along which a manifest lists.
const LISTED: usize = 100;

/// What a filter did.
#[derive(Serialize)]
pub struct Filtered {
    schema_version: u32,
    program: String,
    /// The folder of the rows, relative to the manifest.
    data: &'static str,
    run: PathBuf,
    sae: Option<String>,
    by: Option<String>,
    keep: Option<String>,
    by_group: Option<String>,
    equal_groups: bool,
    quotas: BTreeMap<String, usize>,
    dedup: Option<f64>,
    diverse: bool,
    /// The file of decisions that were made elsewhere.
    decisions: Option<PathBuf>,
    /// And its BLAKE3.
    decisions_blake3: Option<String>,
    format: Format,
    images: Images,
    /// Lowest score that stayed.
    pub threshold: Option<f64>,
    /// Samples between which ids decided.
    pub ties: Option<Ties>,
    /// How the scores were made: `score/<sae>` of run.json, with threshold and seed.
    score: Value,
    /// BLAKE3 of the score table that decided.
    scores_blake3: Option<String>,
    /// Rows and images that stayed.
    pub kept: Written,
    /// Rows that went.
    pub dropped: u64,
    /// And why.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Samples without a score, which never stay.
    without_score: u64,
    /// Rows that never became samples when the run was made: neither kept nor dropped.
    skipped_at_harvest: u64,
    /// Group by group.
    pub groups: Vec<Group>,
    /// Images of kept rows that did not come along.
    images_left_behind: LeftBehind,
    /// Columns of the data set that are written under another name, since theirs was taken.
    renamed_columns: BTreeMap<String, String>,
    /// What readers should know about the files.
    notes: Vec<String>,
    /// The folder that paths of images in copied rows are relative to; null where that is the folder of their file.
    images_root: Option<PathBuf>,
    /// The folder that the data lay in.
    data_root: PathBuf,
    /// The files that rows came from.
    sources: Vec<Source>,
}

/// Images that rows name by a path that a copy cannot have: an absolute one, or one that leads out of the data set.
#[derive(Serialize)]
struct LeftBehind {
    count: u64,
    /// The first of them.
    paths: Vec<PathBuf>,
}

/// What became of a group.
#[derive(Serialize)]
pub struct Group {
    /// Its name; empty where nothing was grouped.
    pub name: String,
    /// Samples in it.
    pub samples: u64,
    with_score: u64,
    /// Those that stayed.
    pub kept: u64,
    /// Lowest score that stayed.
    pub threshold: Option<f64>,
}

/// A file of the data set.
#[derive(Serialize)]
struct Source {
    file: PathBuf,
    blake3: String,
    kept: u64,
    dropped: u64,
}

impl Filtered {
    #[allow(clippy::too_many_arguments)] // each is a fact of its own
    pub(super) fn new(
        run: &Run,
        input: &Input,
        fates: &[Decision],
        args: &FilterArgs,
        record: &StoreRecord,
        data: &Data,
        shape: &Shape,
        report: Report,
    ) -> Result<Self> {
        let with_reason = |reason: &str| fates.iter().filter(|fate| fate.reason() == reason).count() as u64;
        let groups = groups(input, fates);
        let hash = |path: PathBuf| file::hash(&path);
        let rewritten = args.format != Format::Same;
        Ok(Self {
            schema_version: 2,
            program: format!("sae {}", env!("CARGO_PKG_VERSION")),
            data: card::ROWS,
            run: run.root().to_path_buf(),
            sae: input.sae.clone(),
            by: args.by.clone(),
            keep: args.keep.map(|keep| keep.to_string()),
            by_group: args.by_group.clone(),
            equal_groups: args.equal_groups,
            quotas: args.quota.iter().cloned().collect(),
            dedup: args.dedup,
            diverse: args.diverse,
            decisions: args.decisions.clone(),
            decisions_blake3: args.decisions.clone().map(hash).transpose()?,
            format: args.format,
            images: args.images,
            threshold: groups.iter().filter_map(|group| group.threshold).min_by(f64::total_cmp),
            ties: Ties::of(&input.scores, &input.groups, fates),
            score: match &input.sae {
                Some(sae) => run.read_step(&format!("score/{sae}"))?.unwrap_or_default(),
                None => Value::Null,
            },
            scores_blake3: input.sae.as_ref().map(|sae| hash(run.scores(sae))).transpose()?,
            kept: report.written,
            dropped: fates.iter().filter(|fate| **fate != Decision::Kept).count() as u64,
            reasons: Decision::REASONS.iter().map(|reason| (*reason, with_reason(reason))).collect(),
            without_score: with_reason(Decision::NoScore.reason()),
            skipped_at_harvest: record.progress().skipped(),
            groups,
            images_left_behind: LeftBehind {
                count: report.left_behind.len() as u64,
                paths: report.left_behind.into_iter().take(LISTED).collect(),
            },
            renamed_columns: if rewritten { shape.names.renamed().clone() } else { BTreeMap::new() },
            notes: report.contents.notes,
            images_root: data
                .images_root_of_copies()
                .filter(|_| !rewritten)
                .map(|root| Path::new(card::ROWS).join(root)),
            data_root: data.root.clone(),
            sources: sources(input, fates, &data.root)?,
        })
    }

    /// What people should know before they use what was written.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.notes.clone();
        if self.images_left_behind.count > 0 {
            let count = count(self.images_left_behind.count);
            let why = "their rows name absolute paths, or paths outside the data set";
            warnings.push(format!("{count} images stay where they lie: {why} (listed in manifest.json)"));
        }
        for (name, new) in &self.renamed_columns {
            warnings.push(format!("the data set's column {name} is written as {new}: {name} has a meaning of its own"));
        }
        warnings
    }

    /// A paragraph for the README of the kept rows, or of the dropped ones.
    pub(super) fn about(&self, kept: bool) -> String {
        let (stayed, all) = (self.kept.rows, self.kept.rows + self.dropped);
        let rows = if kept { stayed } else { self.dropped };
        let side = if kept { "kept" } else { "dropped" };
        let by = match &self.by {
            Some(by) => format!("by their score `{by}`"),
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

fn groups(input: &Input, fates: &[Decision]) -> Vec<Group> {
    let lowest = lowest(&input.scores, &input.groups, fates);
    let none = |(name, threshold): (&String, Option<f64>)| Group {
        name: name.clone(),
        samples: 0,
        with_score: 0,
        kept: 0,
        threshold,
    };
    let mut groups: Vec<Group> = input.groups.names.iter().zip(lowest).map(none).collect();
    for ((group, fate), (_, score)) in input.groups.of.iter().zip(fates).zip(&input.scores) {
        let group = &mut groups[*group as usize];
        group.samples += 1;
        group.with_score += score.is_some() as u64;
        group.kept += (*fate == Decision::Kept) as u64;
    }
    groups
}

fn sources(input: &Input, fates: &[Decision], root: &Path) -> Result<Vec<Source>> {
    let mut rows: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for (file, fate) in input.samples.iter().map(Sample::place).zip(fates) {
        if let Some((file, _)) = file {
            rows.entry(file).or_default()[(*fate != Decision::Kept) as usize] += 1;
        }
    }
    let source = |(file, [kept, dropped]): (&str, [u64; 2])| {
        Ok(Source { file: file.into(), blake3: file::hash(&root.join(file))?, kept, dropped })
    };
    rows.into_iter().map(source).collect()
}

/// Writes the manifest into a folder.
pub(super) fn write(folder: &Path, filtered: &Filtered) -> Result<()> {
    Ok(file::write_json(&folder.join("manifest.json"), filtered)?)
}
