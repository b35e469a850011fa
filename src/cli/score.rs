//! `sae score`: scores of every sample by every method, in `scores/<name>.parquet`; with `--explain`, why a sample has its score.

use super::arguments::{ModelArgs, SaeArgs, ThresholdArg};
use super::{Invocation, Outcome};
use crate::cli::terminal::{columns, count, counted, table};
use anyhow::Result;
use clap::Args;
use filters::definition::{Definition, Sides};
use filters::pmi::Contribution;
use filters::score_names::{FINDERS, PMI_BLANK, PMI_RELATIVE, RECOMMENDED};
use sae_workbench::score::ScorePlan;
use sae_workbench::{Control, ExplainReport, ExplainRequest, ScoreOptions, ScoreReport, ScoreRequest};
use serde::Serialize;
use std::path::PathBuf;

/// `sae score`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sae score --run run --sae base                          every definition; pmi fitted to the run itself
  sae score --run new --sae base --calibrate run          weights and pmi fitted to another run
  sae score --run run --model llava-1.5 --data data.jsonl  also the likelihoods of the answers, and blurred and noisy images
  sae score --run new --probe run/probes/base/safe.json    what a probe says about the samples of another run
  sae score --run run --sae l4 --beside l2,l6 --calibrate run   pmi of the features of three layers together
  sae score --run chosen --rejected rejected              preferred and rejected answers separately, and their margin
  sae score --run run --explain row-17                    why a sample has its score")]
pub struct ScoreArgs {
    #[command(flatten)]
    pub scoring: ScoringArgs,
    /// Files of probes that were fitted to other runs of the same autoencoder: adds the columns probe_NAME
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    pub probe: Vec<PathBuf>,
    /// In a run harvested with --melt response,refinement,feedback:FIELD: adds the column feedback_fit, which says how well each critique fits what was changed
    #[arg(long, value_name = "FIELD")]
    pub feedback: Option<String>,
    /// Explain the pmi of one sample, named by key, id or number, by its components and features; nothing is scored
    #[arg(long, value_name = "KEY", conflicts_with_all = ["calibrate", "rejected", "beside", "probe", "feedback", "sides", "model"])]
    pub explain: Option<String>,
    /// With a model and the data set that the run was captured from: adds the likelihoods of the answers, and how sharp and noisy the images are. Each sample is read twice
    #[command(flatten)]
    pub model: ModelArgs,
}

/// What decides the scores that passes over the activations give, made at once or in parts.
#[derive(Args, Debug)]
pub struct ScoringArgs {
    #[command(flatten)]
    pub sae: SaeArgs,
    /// Whose definitions of the scores: paper, release, corrected or all
    #[arg(long, default_value = "all", value_parser = ["paper", "release", "corrected", "all"])]
    pub mode: String,
    /// Run whose samples pmi is fitted to, without labels; the cross-modal weights come from the first. Several are fitted together, and may include the scored run, which is the default
    #[arg(long, value_name = "RUN")]
    pub calibrate: Vec<PathBuf>,
    /// Run of the same data harvested with --answers rejected: adds the columns SCORE_rejected and SCORE_margin
    #[arg(long, value_name = "RUN")]
    pub rejected: Option<PathBuf>,
    /// Other autoencoders of the run, of other layers, to whose features the pmi columns are fitted as well. Finds nearly right texts better, takes longer, and leaves nothing to --explain
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub beside: Vec<String>,
    #[command(flatten)]
    pub threshold: ThresholdArg,
    /// Modalities whose features are compared, each side a list of text, image, audio, video and action (the patches of videos count as image)
    #[arg(long, default_value = "text:image", value_name = "SIDE:SIDE")]
    pub sides: Sides,
    /// Seed of the column `random`
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl ScoringArgs {
    /// The request.
    pub fn request(&self) -> Result<ScoreRequest> {
        let definitions = match self.mode.as_str() {
            "all" => Definition::ALL.to_vec(),
            mode => vec![mode.parse().map_err(anyhow::Error::msg)?],
        };
        let options = ScoreOptions {
            definitions,
            threshold: self.threshold.value,
            sides: self.sides.clone(),
            seed: self.seed,
            calibrate: self.calibrate.clone(),
            rejected: self.rejected.clone(),
            beside: self.beside.clone(),
            ..ScoreOptions::default()
        };
        Ok(ScoreRequest { sae: self.sae.choice(), options })
    }
}

impl ScoreArgs {
    fn request(&self) -> Result<ScoreRequest> {
        let mut request = self.scoring.request()?;
        request.options.probes.clone_from(&self.probe);
        request.options.feedback.clone_from(&self.feedback);
        request.options.reading = self.model.plan(self.scoring.sae.device);
        Ok(request)
    }
}

/// What `--dry-run` prints.
#[derive(Serialize)]
struct Planned<'a> {
    #[serde(flatten)]
    plan: ScorePlan,
    explain: Option<&'a str>,
}

/// Runs the command.
pub fn run(args: &ScoreArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = args.request()?;
    let plan = |_: &mut Control| Ok(Planned { plan: request.plan()?, explain: args.explain.as_deref() });
    match &args.explain {
        Some(sample) => {
            let request = ExplainRequest { sae: args.scoring.sae.choice(), sample: sample.clone() };
            invocation.outcome(plan, |_| request.run(), |report| Ok(explanation(report)))
        }
        None => {
            let describe = |report: &ScoreReport| Ok(describe(report, &request.options.definitions));
            invocation.outcome(plan, |control| request.run(control), describe)
        }
    }
}

/// The report in words.
pub fn describe(report: &ScoreReport, definitions: &[Definition]) -> String {
    let header = ["score", "samples", "min", "median", "max", "rank corr. with tokens"];
    let mut lines = vec![header.map(String::from).to_vec()];
    for name in &report.columns {
        let mut values: Vec<f64> = report.scores.columns[name].iter().copied().flatten().collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get((share * (values.len() as f64 - 1.0)) as usize).copied().unwrap_or(f64::NAN);
        let cell = |share: f64| format!("{:.3}", at(share));
        let length = report.rank_correlation_with_tokens.get(name).map_or("-".into(), |r| format!("{r:.3}"));
        lines.push(vec![name.clone(), count(values.len() as u64), cell(0.0), cell(0.5), cell(1.0), length]);
    }
    let lacking = report.without_score;
    let finders = finders(report);
    let mut text = format!("{}  samples that lack scores (column reason says why): {lacking}\n", table(&lines));
    let few = Definition::ALL.iter().zip(report.too_few_tokens);
    for (definition, few) in few.filter(|(definition, _)| definitions.contains(definition)) {
        text += &format!("  features with too few tokens for a {} weight: {}\n", definition.name(), count(few));
    }
    for (definition, score) in &report.model_score {
        text += &format!(
            "  mean {definition} weight of {} features: {:.4} ± {:.4}; with the image tokens of other features {:.4} ± {:.4}\n",
            count(score.features as u64),
            score.mean,
            score.se,
            score.shuffled,
            score.shuffled_se
        );
    }
    for (column, why) in &report.without {
        text += &format!("  no {column}: {why}\n");
    }
    for (column, estimate) in &report.keep {
        text += &format!(
            "  by {column} about {:.0} %{} of the pairs are mismatched; --keep auto would keep {:.0} %\n",
            100.0 * estimate.mismatched,
            interval(estimate.interval),
            100.0 * estimate.share_kept
        );
        let fit = match &column[..] {
            PMI_RELATIVE => PMI_BLANK,
            other => other,
        };
        text += &report.calibration_samples.get(fit).map_or(String::new(), |pairs| doubt(column, *pairs));
    }
    text + &format!("{finders}  {}", report.file.display())
}

/// If `pmi_blank` was fitted to fewer pairs, the estimate of mismatched pairs is too high: by 18 to 30 points with 1,000, by 1 to
/// 3 with 10,000 (`docs/keep_share.py`).
const FEW_PAIRS: usize = 5000;

/// A line under an estimate that rests on a fit to few pairs.
fn doubt(column: &str, pairs: usize) -> String {
    if ![PMI_BLANK, PMI_RELATIVE].contains(&column) || pairs >= FEW_PAIRS {
        return String::new();
    }
    let pairs = counted(pairs as u64, "pair");
    format!(
        "    probably too high, since {column} was fitted to {pairs} only: add runs of thousands with --calibrate\n"
    )
}

/// The interval of a share, in percent, behind it.
pub fn interval(share: Option<[f64; 2]>) -> String {
    share.map_or(String::new(), |[low, high]| format!(" [{:.0}, {:.0}]", 100.0 * low, 100.0 * high))
}

/// A line for every kind of error with the column that finds it, and one with the column to filter by.
fn finders(report: &ScoreReport) -> String {
    let is_there = |name: &&str| {
        let values = report.scores.columns.get(*name);
        values.is_some_and(|values| values.iter().any(Option::is_some))
    };
    let first = |names: &[&'static str]| names.iter().copied().find(is_there);
    let mut lines = vec![["to find", "sort by", "of this table"].map(String::from).to_vec()];
    for (error, names) in FINDERS {
        let best = names.first().copied().unwrap_or_default();
        let here = match first(names) {
            Some(found) if found == best => "the same",
            Some(found) => found,
            None => "none yet: needs --model and --data",
        };
        lines.push([error, best, here].map(String::from).to_vec());
    }
    let by = first(&RECOMMENDED)
        .map_or(String::new(), |by| format!("  sae filter takes {by} unless --by names another column\n"));
    format!("{}{by}", columns(&lines))
}

fn explanation(report: &ExplainReport) -> String {
    let features = |parts: &[Contribution]| {
        let part = |p: &Contribution| format!("{}{}", if p.active { "" } else { "no " }, p.feature);
        parts.iter().map(part).collect::<Vec<_>>().join(", ")
    };
    let header = ["nats", "correlation", "image", "text", "image features", "text features"];
    let mut lines = vec![header.map(String::from).to_vec()];
    for c in report.explanation.carried.iter().chain(report.explanation.sank.iter().rev()) {
        lines.push(vec![
            format!("{:+.3}", c.nats),
            format!("{:.3}", c.correlation),
            format!("{:+.2}", c.image),
            format!("{:+.2}", c.text),
            features(&c.image_features),
            features(&c.text_features),
        ]);
    }
    format!(
        "{}: {} {:.3} nats\n  {}\ncomponents that raise and lower it (\"no 7\": feature 7 is absent, which counts as evidence too)\n{}",
        report.key,
        report.column,
        report.explanation.pmi,
        report.text.replace('\n', " / "),
        table(&lines)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_from_few_pairs_is_doubted() {
        let found = doubt(PMI_BLANK, 843);
        assert!(found.contains("fitted to 843 pairs only") && found.contains("--calibrate"), "{found}");
        // With this score the estimate is too low, if anything.
        assert_eq!(doubt("pmi", 843), "");
        assert_eq!(doubt(PMI_BLANK, 11_142), "");
    }
}
