//! `sae probe`: fits a probe to labels; prints how good it is beside its baselines, and which features carry it.

use super::arguments::SaeArgs;
use super::{Invocation, Outcome};
use crate::cli::terminal::{aligned, count, counted, table};
use anyhow::Result;
use clap::Args;
use filters::probe::{Audit, Kind};
use sae_core::analysis::feature_sets::Part;
use sae_workbench::probe::{Quality, Suspect, WeightedFeature};
use sae_workbench::{ProbeReport, ProbeRequest};
use std::path::PathBuf;

/// Features that are printed; the file has all of them.
const SHOWN: usize = 20;
/// Promoted tokens of each that are printed.
const TOKENS: usize = 5;

/// `sae probe`
#[derive(Args, Debug)]
#[command(after_help = "\
A probe is a weighted sum of a few features, fitted to the samples that have a label. Every labeled sample is scored by a fit that \
has not seen it, nor any sample with the same image. The report compares the probe with hidden states, words, length and chance: \
do not trust a probe that is no better than length.

Kinds:
  binary    yes or no: --label unsafe, or --label category=animal
  ordinal   levels in order: --label severity (0, 1, 2, ...), or --label 'severity=none<mild<severe'
  linear    a number: --label rating
  pair      which of two answers is better: --rejected RUN, or --pair FIELD with a --label that is larger for the better one
  cost      a rate of harmlessness, negative for unsafe answers: --label harmless_rate with --pair or --rejected

Examples:
  sae probe --run run --name safe --kind binary --label is_response_safe=yes
  sae probe --run chosen --rejected rejected --name help --kind pair
  sae probe --run run --name cost --kind cost --label harmless_rate --pair question
  sae filter --run chosen --by margin_help --keep auto --out plausible         pairs whose labels are more likely right than flipped
  sae filter --run run --by probe_safe --keep '>=0.9' --out safe       a probe's scores are a column of the score table")]
pub struct ProbeArgs {
    #[command(flatten)]
    pub sae: SaeArgs,
    /// Name of the probe; its scores are the column probe_NAME
    #[arg(long)]
    pub name: String,
    /// What the labels are: binary, ordinal, linear, pair or cost
    #[arg(long)]
    pub kind: Kind,
    /// The field with the labels: FIELD, FIELD=NAME or FIELD=a<b<c
    #[arg(long, value_name = "FIELD")]
    pub label: Option<String>,
    /// Which positions of a sample are read: all (with content), user, answer, think, image or action
    #[arg(long, default_value = "all")]
    pub part: Part,
    /// For pairs and costs: the field of sets within which samples are compared, such as the question
    #[arg(long, value_name = "FIELD", conflicts_with = "rejected")]
    pub pair: Option<String>,
    /// For pairs and costs: a run of the same rows with their rejected answers
    #[arg(long, value_name = "RUN")]
    pub rejected: Option<PathBuf>,
    /// Also report the quality for each value of this field
    #[arg(long, value_name = "FIELD")]
    pub category: Option<String>,
    /// What to do with labels of safety that contradict another field (is_safe, harmless_rate): keep uses them, although one of
    /// the two fields must be wrong; otherwise they are left out, and more than 5 % are an error
    #[arg(long, value_parser = ["keep"])]
    pub conflicts: Option<String>,
    /// Seed of the folds and of the interval
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Runs the command.
pub fn run(args: &ProbeArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = ProbeRequest {
        sae: args.sae.choice(),
        name: args.name.clone(),
        kind: args.kind,
        label: args.label.clone(),
        part: args.part,
        pair: args.pair.clone(),
        rejected: args.rejected.clone(),
        category: args.category.clone(),
        use_conflicts: args.conflicts.is_some(),
        seed: args.seed,
    };
    invocation.outcome(|_| request.plan(), |control| request.run(control), |report| Ok(describe(report)))
}

fn describe(report: &ProbeReport) -> String {
    let examples = if report.examples == report.samples {
        counted(report.samples as u64, "sample")
    } else {
        format!("{} of {}", counted(report.examples as u64, "pair"), counted(report.samples as u64, "sample"))
    };
    let mut text = format!(
        "a probe of {}, fitted to {examples} with {} different images or sets",
        counted(report.features as u64, "feature"),
        count(report.groups as u64),
    );
    if report.left_out > 0 {
        text += &format!("; {} left out, which lack a label, the part or a partner", count(report.left_out as u64));
    }
    text.push('\n');
    if let Some(conflicts) = report.conflicts.as_ref().filter(|conflicts| conflicts.count > 0) {
        let done = if conflicts.used { "used nevertheless" } else { "left out" };
        let (count, compared) = (count(conflicts.count as u64), count(conflicts.compared as u64));
        let keys = conflicts.keys.join(", ");
        text += &format!("{count} of {compared} labels contradict {} and were {done}: {keys}\n", conflicts.field);
    }
    text += &quality(&report.quality);
    if let Some(brier) = report.brier {
        text += &format!("Brier score of the calibrated probabilities: {brier:.4}\n");
    }
    let value = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
    if !report.by_category.is_empty() {
        let mut rows = vec![["category", "samples", report.quality.measure.title()].map(String::from).to_vec()];
        let row = |category: &sae_workbench::probe::CategoryReport| {
            vec![category.category.clone(), count(category.samples as u64), value(category.quality)]
        };
        rows.extend(report.by_category.iter().map(row));
        text += &table(&rows);
    }
    if let Some(audit) = &report.audit {
        text += &describe_audit(report, audit);
    }
    if report.weighted.is_empty() {
        text += "no feature has a weight: the labels cannot be predicted from features\n";
    } else {
        text += &features(&report.weighted);
    }
    format!("{text}\n  {}\n  score column {}", report.file.display(), report.column)
}

/// The features with the largest shares.
fn features(weighted: &[WeightedFeature]) -> String {
    let short = |text: &str| text.chars().take(40).collect::<String>();
    let mut rows = vec![["feature", "weight", "share of the decision", "promotes"].map(String::from).to_vec()];
    rows.extend(weighted.iter().take(SHOWN).map(|feature| {
        let promoted: Vec<&str> = feature.promoted.iter().take(TOKENS).map(|token| token.trim()).collect();
        vec![
            format!("{:>6}  {}", feature.feature, short(&feature.words)),
            format!("{:+.3}", feature.weight),
            format!("{:.1} %", 100.0 * feature.share),
            short(&promoted.join(" ")),
        ]
    }));
    let more = weighted.len().saturating_sub(SHOWN);
    let rest = if more > 0 {
        format!("  and {} with smaller shares\n", counted(more as u64, "feature"))
    } else {
        String::new()
    };
    aligned(&rows, |column| column == 1 || column == 2) + &rest
}

fn describe_audit(report: &ProbeReport, audit: &Audit) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut text = format!(
        "about {} of the labels are flipped ({} to {}); margins should find them with an AUC of {:.3}\n",
        percent(audit.flipped),
        percent(audit.interval[0]),
        percent(audit.interval[1]),
        audit.expected_auc,
    );
    if !report.suspects.is_empty() {
        let mut rows = vec![["least plausible labels", "preferred over", "margin"].map(String::from).to_vec()];
        let row = |suspect: &Suspect| {
            vec![suspect.preferred.clone(), suspect.other.clone(), format!("{:+.3}", suspect.margin)]
        };
        rows.extend(report.suspects.iter().map(row));
        text += &table(&rows);
    }
    if let Some(column) = report.margin_column.as_ref().filter(|_| !report.pieces) {
        text +=
            &format!("sae filter --by {column} --keep auto keeps the pairs that are more likely right than flipped\n");
    }
    text
}

fn quality(quality: &Quality) -> String {
    let value = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
    let interval = quality.interval.map_or_else(String::new, |[lo, hi]| format!(" ({lo:.3} to {hi:.3})"));
    let titles = ["out of fold", "features", "hidden states", "words", "length", "chance"];
    let values = [quality.dense, quality.words, quality.length, quality.random].map(value);
    let row = [vec![quality.measure.title().into(), value(quality.features) + &interval], values.to_vec()].concat();
    table(&[titles.map(String::from).to_vec(), row])
}
