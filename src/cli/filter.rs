//! `sae filter`: decides which samples are kept, and writes the rows that are kept and those that are dropped.

use super::arguments::DeviceArg;
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted, table};
use crate::plots::{self, Frontier};
use anyhow::Result;
use clap::{Args, ValueEnum};
use filters::select::budget::{BudgetReport, BudgetRule};
use filters::select::{Keep, QUANTILES};
use sae_workbench::{
    BudgetRules, FilterBy, FilterReport, FilterRequest, FilterSeries, PromiseRule, QuantileReport, SelectionRule,
    SelectionRules, ShortlistReport, ShownFeatures,
};
use std::path::{Path, PathBuf};

/// `sae filter`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sae filter --run run --keep auto --out kept --dropped dropped
  sae filter --run run --by cosine_paper --keep 50% --by-group category --out kept
  sae filter --run run --by predicted_hard --keep 20% --within answer_tokens --out kept
  sae filter --run run --by l0_paper --keep 10000 --dedup 0.9 --diverse --out kept --format parquet
  sae filter --run run --keep 10%,20%,30%,40%,50%,60%,70%,80%,90% --out deciles
  sae filter --run run --match target-run --keep 10% --out kept
  sae filter --run run --by probe_help --keep 30% --budget 'probe_harm<=0.10' --out kept
  sae filter --run run --by pmi --keep '>=0.3' --out kept --format sharegpt --images reference

--diverse and --match look for the best set with a greedy algorithm. Up to 100,000 samples it is exact. With more samples, each \
step looks at a random part of them (--seed).")]
pub struct FilterArgs {
    /// Run folder
    #[arg(long)]
    pub run: PathBuf,
    /// Autoencoder whose scores or features decide; may be left out if the run has only one
    #[arg(long)]
    pub sae: Option<String>,
    /// Column of the score table, such as cosine_paper (default: pmi_blank, or pmi without it; with --diverse, --match or --rule greedselect features alone decide)
    #[arg(long)]
    pub by: Option<String>,
    /// How much to keep: 50% (best share), 1000 (best N), '>=0.3' (threshold) or auto. Several shares or numbers (10%,20%,30%) each get a folder in --out, such as 10-percent, and share their image files
    #[arg(long, value_delimiter = ',', required_unless_present_any = ["decisions", "quota"])]
    pub keep: Vec<Keep>,
    /// Keep the samples that a CSV or Parquet file names in a column sample, id or key; with a column keep or stays (true or false), those with true
    #[arg(long, value_name = "FILE", conflicts_with_all = ["by", "keep", "by_group", "quota", "equal_groups", "within", "dedup", "rule", "diverse", "match_run", "shortlist", "seed"])]
    pub decisions: Option<PathBuf>,
    /// Keep the same share of every group. Groups are values of columns, such as category or category,country; year:4 divides numbers into four groups
    #[arg(long, value_name = "FIELDS")]
    pub by_group: Option<String>,
    /// Keep the same number of samples of every group, rather than the same share
    #[arg(long, requires = "by_group", conflicts_with = "quota")]
    pub equal_groups: bool,
    /// Keep the best N of every group (category=20), or of one group of --by-group (people=20); '*=5' is for all others
    #[arg(long, value_name = "NAME=N", value_parser = quota)]
    pub quota: Vec<(String, usize)>,
    /// Keep the same share inside each of 20 quantiles of a number: a field of the rows, a score, or answer_tokens (user_tokens, image_tokens, all_tokens)
    #[arg(long, value_name = "FIELD")]
    pub within: Option<String>,
    /// Keep the mean of a field, score or token count at most or at least at a limit, at the smallest loss of score: 'probe_harm<=0.10', 'help>=2', or relative to the mean of all samples, 'probe_harm<=20%'
    #[arg(long, value_name = "COLUMN<=X", requires = "by", conflicts_with_all = ["decisions", "dedup", "rule", "diverse", "match_run"])]
    pub budget: Vec<BudgetRule>,
    /// Keep or drop samples with the same value of this field together, such as the steps of an episode; --keep then counts these units
    #[arg(long, value_name = "FIELD", requires = "by", conflicts_with_all = ["decisions", "by_group", "quota", "within", "dedup", "rule", "diverse", "match_run"])]
    pub unit: Option<String>,
    /// Make the budget hold for what people judged, with this probability, such as 95%
    #[arg(long, value_name = "PROBABILITY", value_parser = probability, requires = "budget", requires = "judged")]
    pub promise: Option<f64>,
    /// Field with the judged numbers of some samples, in the units of the budget
    #[arg(long, value_name = "FIELD", requires = "promise")]
    pub judged: Option<String>,
    /// Drop near-duplicates: samples whose features are at least this similar (Jaccard, 0 to 1) to those of a better sample of their group
    #[arg(long, value_name = "SIMILARITY", value_parser = similarity)]
    pub dedup: Option<f64>,
    /// What to choose: score (the highest), diverse (see --diverse), or greedselect (each sample in turn has the most features that are new; the published SAE-GreedSelect)
    #[arg(long, value_name = "RULE")]
    pub rule: Option<RuleArg>,
    /// Choose the samples that together show the most features, rather than those with the highest scores
    #[arg(long, conflicts_with = "rule")]
    pub diverse: bool,
    /// Choose the samples whose features are distributed like those of the samples of this run (same model and layer)
    #[arg(long = "match", value_name = "TARGET_RUN", conflicts_with_all = ["rule", "diverse"])]
    pub match_run: Option<PathBuf>,
    /// For millions of samples: hold the features of only this many times the samples to keep, such as 4, rather than of all. With --diverse, each block of 100,000 samples proposes its share; without it, the best are taken
    #[arg(long, value_name = "TIMES", value_parser = times, conflicts_with_all = ["match_run", "budget", "unit"])]
    pub shortlist: Option<f64>,
    /// Seed of the random parts that --diverse and --match look at above 100,000 samples
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// New folder for the rows that are kept
    #[arg(long)]
    pub out: PathBuf,
    /// New folder for the rows that are dropped
    #[arg(long)]
    pub dropped: Option<PathBuf>,
    /// Format of the rows: same (as in the data set), parquet, jsonl, llava, sharegpt, trl or webdataset
    #[arg(long, default_value = "same")]
    pub format: filters::write::Format,
    /// copy (images are copied) or reference (they stay where they are, and rows name their paths)
    #[arg(long, default_value = "copy")]
    pub images: filters::write::Images,
    #[command(flatten)]
    pub device: DeviceArg,
}

/// The rules that have a name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RuleArg {
    /// The highest scores.
    Score,
    /// The most features together.
    Diverse,
    /// The most new features, one sample after the other.
    #[value(name = "greedselect")]
    GreedSelect,
}

fn quota(text: &str) -> Result<(String, usize), String> {
    let parsed = text.rsplit_once('=').and_then(|(name, count)| Some((name, count.trim().parse().ok()?)));
    match parsed {
        Some((name, count)) if !name.is_empty() => Ok((name.to_owned(), count)),
        _ => Err(format!("invalid quota {text:?}: expected NAME=N, such as category=20")),
    }
}

fn probability(text: &str) -> Result<f64, String> {
    let number =
        text.strip_suffix('%').map_or_else(|| text.parse(), |text| text.parse().map(|percent: f64| percent / 100.0));
    match number {
        Ok(number) if number > 0.5 && number < 1.0 => Ok(number),
        _ => Err(format!("invalid probability {text:?}: expected a value above 50% and below 100%, such as 95%")),
    }
}

fn times(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(times) if (1.0..1e6).contains(&times) => Ok(times),
        _ => Err(format!("invalid number {text:?}: expected at least 1, such as 4")),
    }
}

fn similarity(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("invalid number {text:?}"))?;
    if value > 0.0 && value <= 1.0 {
        return Ok(value);
    }
    Err(format!("invalid similarity {text}: expected a number above 0, at most 1 (the same features)"))
}

impl FilterArgs {
    fn rule(&self) -> SelectionRule {
        match (&self.match_run, self.rule) {
            (Some(run), _) => SelectionRule::Match(run.clone()),
            (None, Some(RuleArg::GreedSelect)) => SelectionRule::GreedSelect,
            (None, Some(RuleArg::Diverse)) => SelectionRule::Diverse,
            (None, None) if self.diverse => SelectionRule::Diverse,
            (None, Some(RuleArg::Score) | None) => SelectionRule::Score,
        }
    }

    fn request(&self) -> FilterRequest {
        let by = match &self.decisions {
            Some(file) => FilterBy::Decisions(file.clone()),
            None => FilterBy::Rules(SelectionRules {
                sae: self.sae.clone(),
                column: self.by.clone(),
                keep: self.keep.first().copied(),
                by_group: self.by_group.clone(),
                equal_groups: self.equal_groups,
                quotas: self.quota.clone(),
                within: self.within.clone(),
                dedup: self.dedup,
                rule: self.rule(),
                shortlist: self.shortlist,
                budgets: BudgetRules {
                    limits: self.budget.clone(),
                    unit: self.unit.clone(),
                    promise: self
                        .promise
                        .zip(self.judged.clone())
                        .map(|(confidence, judged)| PromiseRule { confidence, judged }),
                },
                seed: self.seed,
            }),
        };
        FilterRequest {
            run: self.run.clone(),
            by,
            out: self.out.clone(),
            dropped: self.dropped.clone(),
            format: self.format,
            images: self.images,
            device: self.device.device,
        }
    }
}

/// Runs the command.
pub fn run(args: &FilterArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = args.request();
    let report = |report: &FilterReport, out: &Path| {
        draw_frontier(report, args, out)?;
        warnings(report).iter().for_each(|warning| eprintln!("warning: {warning}"));
        Ok(describe(report, out))
    };
    if args.keep.len() > 1 {
        let series = FilterSeries { filter: request, amounts: args.keep.clone() };
        let folders = args.keep.iter().map(|amount| args.out.join(FilterSeries::folder(*amount).unwrap_or_default()));
        let folders: Vec<PathBuf> = folders.collect();
        let describe_all = |reports: &Vec<FilterReport>| {
            let texts = reports.iter().zip(&folders).map(|(one, out)| report(one, out));
            Ok(texts.collect::<Result<Vec<_>>>()?.join("\n"))
        };
        return invocation.outcome(|_| series.plan(), |control| series.run(control), describe_all);
    }
    let report = |found: &FilterReport| report(found, &args.out);
    invocation.outcome(|_| request.plan(), |control| request.run(control), report)
}

/// What the user should know before using the written files.
fn warnings(report: &FilterReport) -> Vec<String> {
    let mut warnings = report.notes.clone();
    if report.images_left_behind.count > 0 {
        let count = count(report.images_left_behind.count);
        let why = "their rows name absolute paths, or paths outside the data set";
        warnings.push(format!("{count} images were left in place: {why} (listed in manifest.json)"));
    }
    if let Some(shortlist) = report.shortlist.as_ref().filter(|shortlist| shortlist.short > 0) {
        let short = counted(shortlist.short as u64, "sample");
        warnings.push(format!(
            "{short} fewer than asked: the shortlist has too many near-duplicates (a larger --shortlist has more)"
        ));
    }
    for (name, new) in &report.renamed_columns {
        warnings.push(format!("the data set's column {name} is written as {new}: {name} has a meaning of its own"));
    }
    warnings
}

fn describe_quantiles(within: &QuantileReport) -> String {
    let QuantileReport { field, quantiles, without_number } = within;
    let mut text = format!("the share was kept inside each of {quantiles} quantiles of {field}");
    if *quantiles < QUANTILES {
        text += &format!(" (not {QUANTILES}, since samples with equal numbers stay together)");
    }
    if *without_number > 0 {
        text += &format!("; {} without it are a part of their own", counted(*without_number as u64, "sample"));
    }
    text + "\n"
}

/// Draws what other limits would allow, beside the rows.
fn draw_frontier(report: &FilterReport, args: &FilterArgs, out: &Path) -> Result<()> {
    let Some(budget) = report.budget.as_ref().filter(|budget| !budget.budgets.is_empty()) else { return Ok(()) };
    let plots = args.budget.iter().zip(&budget.budgets).map(|(rule, spent)| Frontier {
        column: rule.column.clone(),
        points: report.frontier.iter().filter(|p| p.column == rule.column).map(|p| (p.mean, p.score)).collect(),
        limit: spent.limit,
        chosen: (spent.mean, budget.score),
        without: (spent.mean_without, budget.score_without),
    });
    let score = report.by.as_deref().unwrap_or_default();
    plots::frontiers(&out.join("frontier.png"), score, &plots.collect::<Vec<_>>())
}

fn describe_budget(budget: &BudgetReport, left_out: usize) -> String {
    let mut text = format!("mean score {:.4}; without limits {:.4}", budget.score, budget.score_without);
    if let Some(bound) = budget.bound.filter(|_| !budget.budgets.is_empty()) {
        text += &format!("; no selection within them exceeds {bound:.4}");
    }
    text += "\n";
    if let Some(unit) = &budget.unit {
        text += &format!("kept {} of {} units ({unit})\n", count(budget.kept as u64), count(budget.of as u64));
    }
    for spent in &budget.budgets {
        text += &format!(
            "{}: mean {:.4} (all samples {:.4}, as many without limits {:.4}); one unit more would add {:.4} to the mean score\n",
            spent.budget, spent.mean, spent.mean_of_all, spent.mean_without, spent.price
        );
    }
    if let Some(promise) = &budget.promise {
        let mean = promise.mean.map_or("-".into(), |mean| format!("{mean:.4}"));
        let without =
            promise.score_without.map_or(String::new(), |score| format!("; mean score without the promise {score:.4}"));
        text += &format!(
            "promised with {}%: {} of {} judged are kept, with mean {mean} and bound {:.4}{without}\n",
            promise.confidence * 100.0,
            count(promise.judged_kept as u64),
            count(promise.judged as u64),
            promise.bound
        );
        if left_out > 0 {
            text += &format!(
                "{} were judged, but a probe of the budget has seen them or their images\n",
                counted(left_out as u64, "other sample")
            );
        }
    }
    text
}

fn describe_shortlist(shortlist: &ShortlistReport) -> String {
    let ShortlistReport { samples, blocks, .. } = shortlist;
    let listed = counted(*samples as u64, "sample");
    match blocks {
        0 => format!("chosen among a shortlist of {listed}\n"),
        blocks => {
            format!("chosen among a shortlist of {listed}, which {} proposed\n", counted(*blocks as u64, "block"))
        }
    }
}

fn describe_features(shown: &ShownFeatures) -> String {
    let (kept, all) = (count(shown.kept as u64), count(shown.all as u64));
    let mut text = format!("the kept samples show {kept} of the {all} features of all samples\n");
    if let (Some(kept), Some(all)) = (shown.divergence_kept, shown.divergence_all) {
        text += &format!("divergence from the target: {kept:.4} nats for the kept samples, {all:.4} for all samples\n");
    }
    text
}

fn describe(filtered: &FilterReport, out: &Path) -> String {
    let (kept, all) = (count(filtered.kept.rows), count(filtered.kept.rows + filtered.dropped));
    let mut text = match &filtered.by {
        Some(by) => {
            let lowest = filtered.threshold.map_or(String::new(), |score| format!(" (lowest score kept: {score:.4})"));
            format!("kept {kept} of {all} samples by {by}{lowest}\n")
        }
        None => format!("kept {kept} of {all} samples\n"),
    };
    if let Some(within) = &filtered.within {
        text += &describe_quantiles(within);
    }
    if let Some(budget) = &filtered.budget {
        text += &describe_budget(budget, filtered.judged_left_out);
    }
    if let Some(shortlist) = &filtered.shortlist {
        text += &describe_shortlist(shortlist);
    }
    if let Some(shown) = &filtered.shown {
        text += &describe_features(shown);
    }
    if let Some(ties) = filtered.ties {
        let score = match ties.score {
            Some(score) => format!("score {score:.4}, the threshold"),
            None => "score as much as the last of their group that stays".into(),
        };
        let (tied, stay) = (count(ties.samples), count(ties.stay));
        text += &format!("{tied} of {all} samples {score}; {stay} of them are kept, chosen by id\n");
    }
    let reasons = filtered.reasons.iter().filter(|(_, n)| **n > 0);
    let reasons: Vec<_> = reasons.map(|(reason, n)| format!("{} {reason}", count(*n))).collect();
    if !reasons.is_empty() {
        text += &format!("dropped: {}\n", reasons.join(", "));
    }
    if filtered.groups.len() > 1 {
        let mut rows = vec![["group", "samples", "kept", "lowest"].map(String::from).to_vec()];
        rows.extend(filtered.groups.iter().map(|group| {
            let lowest = group.threshold.map_or("-".into(), |score| format!("{score:.4}"));
            vec![group.name.clone(), count(group.samples), count(group.kept), lowest]
        }));
        text += &table(&rows);
    }
    text + &format!("  {}", out.display())
}
