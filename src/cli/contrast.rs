//! `sae contrast`: which features differ between groups of samples, along an order, or with a target; prints a report and
//! draws a volcano plot.

use super::arguments::{ReadingArgs, SaeArgs, Share, ThresholdArg};
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted, table};
use crate::plots::{self, Test, Volcano};
use anyhow::Result;
use clap::builder::ArgPredicate;
use clap::{ArgGroup, Args};
use sae_core::analysis::between::Markers;
use sae_core::analysis::contrast::{StudyOptions, TestedFeature};
use sae_core::analysis::feature_sets::{Measure, Part};
use sae_workbench::contrast::{LENGTH_EXPLAINS, PredictionReport, Question};
use sae_workbench::{ContrastReport, ContrastRequest};
use std::path::{Path, PathBuf};

/// `sae contrast`
#[derive(Args, Debug)]
#[command(mut_arg("run", |arg| arg.required(false).default_value_if("runs", ArgPredicate::IsPresent, ".").required_unless_present("runs")), group = ArgGroup::new("question").required(true).args(["groups", "order", "target", "runs"]), after_help = "\
A feature differs if it is active in more, or fewer, samples of a group than in comparable samples: those of the same length, \
and of the same values of --adjust. Samples of one --cluster count as dependent on each other. The same test with shuffled \
values shows how many features would seem to differ by chance.

Examples:
  sae contrast --run run --groups category --cluster author
  sae contrast --run run --groups pattern --pair question --part answer
  sae contrast --run run --groups correct --part think
  sae contrast --run run --groups correct --between '[PLAN]' '[/PLAN]'
  sae contrast --run run --order year --cluster president --bins 10
  sae contrast --run run --order 'size=small<medium<large'
  sae contrast --run run --target meta.pass_rate --part user
  sae contrast --run run --target reward --between-groups monologue,decomposition
  sae contrast --run run --target collision --lead 5 --cluster episode
  sae contrast --runs base chat --sae cc --null base-base
  sae contrast --runs base chat --sae cc --patch 64 --models base-7b chat-7b --data test.jsonl
  sae contrast --runs base aligned back-100 back-200 --sae base --tuned 100,200
  sae filter --run run --by predicted_pass_rate --keep 50% --out hard      the contrast's predictions are a score")]
pub struct ContrastArgs {
    #[command(flatten)]
    pub sae: SaeArgs,
    /// Compare each group of a field with the others: a column of the rows, such as category; year:4 makes four groups of numbers
    #[arg(long, value_name = "FIELD")]
    pub groups: Option<String>,
    /// Find trends along a field of numbers, or of names in a given order: FIELD=a<b<c
    #[arg(long, value_name = "FIELD")]
    pub order: Option<String>,
    /// Relate features to a number of each sample: a field, or a column of the scores
    #[arg(long, value_name = "FIELD")]
    pub target: Option<String>,
    /// Compare models that read the same samples; the first run has the crosscoder, or an autoencoder that is shown the others too
    #[arg(long, value_name = "RUN", num_args = 1.., conflicts_with_all = ["run", "pair", "adjust"])]
    pub runs: Vec<PathBuf>,
    /// With --runs: a crosscoder that was trained in the same way on one model twice, such as in bf16 and f32
    #[arg(long, value_name = "SAE", requires = "runs")]
    pub null: Option<String>,
    /// With --runs base aligned ...: the number of samples that each checkpoint after the aligned model was tuned on
    #[arg(long, value_name = "N,..", value_delimiter = ',', requires = "runs")]
    pub tuned: Vec<u64>,
    /// With --runs: the checkpoint of each run, in the same order, for what needs the models themselves: --patch, and distances of weights and predictions
    #[arg(long, value_name = "MODEL", num_args = 1.., requires_all = ["runs", "data"], group = "reader")]
    pub models: Vec<PathBuf>,
    /// With --models: the data set that they read
    #[arg(long, requires = "models")]
    pub data: Option<PathBuf>,
    /// With --models: read only the first rows of the data
    #[arg(long, requires = "models")]
    pub limit: Option<u64>,
    /// With a crosscoder and --models: move the states of the first model by the N features that move them most, and let the second model continue from there
    #[arg(long, value_name = "N", requires = "models", value_parser = clap::value_parser!(u64).range(1..))]
    pub patch: Option<u64>,
    /// With --target: the largest value among the next N samples of the cluster, in place of the sample's own
    #[arg(long, value_name = "N", default_value_t = 0, requires = "target")]
    pub lead: usize,
    /// With --target: relate features of the question to the difference of the target between two groups of a set (--pair; default: set), FIELD=A,B, or A,B for melted samples
    #[arg(long, value_name = "A,B", requires = "target", conflicts_with = "lead")]
    pub between_groups: Option<String>,
    /// Which positions of a sample count: all (with content; the default), user (the default of --between-groups), answer, think (of the answer, between <think> and </think>), image or action
    #[arg(long)]
    pub part: Option<Part>,
    /// Of these positions, only those between two texts of the sample, however tokens divide them
    #[arg(long, num_args = 2, value_names = ["OPEN", "CLOSE"])]
    pub between: Vec<String>,
    /// Field of sets of samples that are compared with each other only, such as the question that several answers belong to
    #[arg(long, value_name = "FIELD")]
    pub pair: Option<String>,
    /// Field of clusters whose samples depend on each other (default: the pair, or each sample by itself)
    #[arg(long, value_name = "FIELD")]
    pub cluster: Option<String>,
    /// Fields whose values are adjusted for, as length always is
    #[arg(long, value_name = "FIELDS")]
    pub adjust: Option<String>,
    #[command(flatten)]
    pub threshold: ThresholdArg,
    /// What is measured of a feature in a sample: active (whether it is) or strength (ln(1 + largest activation), 0 if not active)
    #[arg(long, default_value = "active")]
    pub measure: Measure,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Name of the contrast in the run (default: the field)
    #[arg(long)]
    pub name: Option<String>,
    /// Expected share of false findings
    #[arg(long, value_name = "SHARE", default_value = "10%")]
    pub fdr: Share,
    /// Share of the clusters that confirm what the others find; 0% confirms nothing (default: 50% if each half has 100 clusters)
    #[arg(long, value_name = "SHARE")]
    pub confirm: Option<Share>,
    /// Number of repetitions with shuffled values
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub placebo: usize,
    /// Number of features of the prediction; 0 predicts nothing
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub select: usize,
    /// Number of bins along an order or a target
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=1000))]
    pub bins: u64,
    /// Seed of shuffles, of the division into clusters that find and that confirm, and of the random features of --patch
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl ContrastArgs {
    /// Whether models are compared, rather than samples.
    pub fn compares_models(&self) -> bool {
        !self.runs.is_empty()
    }

    fn request(&self) -> Result<ContrastRequest> {
        let between = match &self.between[..] {
            [open, close] => Some(Markers::new(open, close).map_err(anyhow::Error::msg)?),
            _ => None,
        };
        Ok(ContrastRequest {
            sae: self.sae.choice(),
            name: self.name.clone(),
            question: self.question()?,
            part: self.part.unwrap_or(if self.between_groups.is_some() { Part::User } else { Part::All }),
            between,
            pair: self.pair.clone().filter(|_| self.between_groups.is_none()),
            cluster: self.cluster.clone(),
            adjust: self.adjust.clone(),
            threshold: self.threshold.value,
            measure: self.measure,
            options: StudyOptions {
                false_discovery_rate: self.fdr.0,
                confirm: self.confirm.map(|share| share.0),
                shuffles: self.placebo,
                seed: self.seed,
            },
            bins: self.bins as usize,
            select: self.select,
        })
    }

    fn question(&self) -> Result<Question> {
        if let Some(field) = &self.groups {
            return Ok(Question::Groups { field: field.clone() });
        }
        if let Some(order) = &self.order {
            let (field, levels) = order.split_once('=').unwrap_or((order, ""));
            let levels = levels.split('<').map(|level| level.trim().to_owned()).filter(|level| !level.is_empty());
            return Ok(Question::Order { field: field.to_owned(), levels: levels.collect() });
        }
        let field = self.target.clone().unwrap_or_default();
        let Some(between) = &self.between_groups else { return Ok(Question::Target { field, lead: self.lead }) };
        let (group_field, groups) = match between.split_once('=') {
            Some((field, groups)) => (Some(field.trim().to_owned()), groups),
            None => (None, between.as_str()),
        };
        let groups: Vec<String> = groups.split(',').map(|group| group.trim().to_owned()).collect();
        let Ok(groups) = <[String; 2]>::try_from(groups) else {
            anyhow::bail!("invalid groups {between:?}: expected two groups, such as style=short,long");
        };
        let set = self.pair.clone().unwrap_or_else(|| harvest::data::SET.to_owned());
        Ok(Question::Difference { field, group_field, groups, set })
    }
}

/// Runs the command.
pub fn run(args: &ContrastArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = args.request()?;
    let report = |report: &ContrastReport| {
        let plot = report.folder.join("volcano.png");
        draw(report, &plot)?;
        Ok(format!("{}\n  {}\n  {}", describe(report), report.folder.display(), plot.display()))
    };
    invocation.outcome(|_| request.plan(), |control| request.run(control), report)
}

/// Draws the tests of up to nine columns.
fn draw(report: &ContrastReport, path: &Path) -> Result<()> {
    let test = |row: &TestedFeature| Some(Test { effect: row.estimate.effect, p: row.p?, differs: row.differs() });
    let of = |rows: &[TestedFeature], column: usize| -> Vec<Test> {
        rows.iter().filter(|row| row.column == column).filter_map(test).collect()
    };
    let plots = report.columns.iter().enumerate().take(9).map(|(n, column)| Volcano {
        title: column.name.clone(),
        tests: of(&report.tests, n),
        chance: of(&report.chance, n),
    });
    let title = format!("{}: {} of {} features differ", report.name, report.differing, report.tested);
    plots::volcanoes(path, &title, &plots.collect::<Vec<_>>())
}

fn describe(report: &ContrastReport) -> String {
    let is_about_sets = matches!(report.question, Question::Difference { .. });
    let differing = count(report.differing as u64);
    let mut text = format!("{differing} of {} features differ", count(report.tested as u64));
    if report.columns.len() > 1 {
        text += &format!(" ({} in {} groups)", counted(report.findings as u64, "difference"), report.columns.len());
    }
    if let Some(mean) = report.mean_shuffled() {
        text += &format!("; with shuffled values: {mean:.1} on average ({} shuffles)", report.shuffled.len());
    }
    text += &format!(
        "\n{} in {} and {}",
        counted(report.samples as u64, if is_about_sets { "set" } else { "sample" }),
        counted((report.clusters + report.confirming_clusters) as u64, "cluster"),
        counted(report.strata as u64, "stratum").replace("stratums", "strata"),
    );
    if is_about_sets && report.left_out > 0 {
        text += &format!("; {} left out, which lack a group or the part", count(report.left_out as u64));
    } else if report.left_out > 0 {
        text += &format!("; {} left out, which lack the field or the part", count(report.left_out as u64));
    }
    if let (Some(markers), true) = (&report.between, report.unmatched_markers > 0) {
        text += &format!(
            "\n{} in {} without a partner, which delimit nothing ({} and {})",
            counted(report.unmatched_markers, "marker"),
            counted(report.samples_with_unmatched_markers, "sample"),
            markers.open,
            markers.close,
        );
    }
    if report.confirming_clusters > 0 {
        let confirming = count(report.confirming_clusters as u64);
        text += &format!("\nfound in {} clusters and confirmed in {confirming}", count(report.clusters as u64));
    }
    text.push('\n');
    for column in report.columns.iter().filter(|column| column.explained_by_length > LENGTH_EXPLAINS) {
        text += &format!(
            "warning: length explains {:.0} % of {}, so the two cannot be told apart\n",
            100.0 * column.explained_by_length,
            column.name
        );
    }
    text += &features(report);
    text += &predictions(&report.predictions);
    text + &forecast(report)
}

fn features(report: &ContrastReport) -> String {
    if report.strongest.is_empty() {
        return String::new();
    }
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut rows =
        vec![["feature", "in", "active there", "elsewhere", "effect", "95 % interval", "q"].map(String::from).to_vec()];
    rows.extend(report.strongest.iter().map(|feature| {
        let [effect, lo, hi] = feature.effect;
        vec![
            format!("{:>6}  {}", feature.feature, feature.words.chars().take(32).collect::<String>()),
            feature.column.chars().take(20).collect(),
            percent(feature.prevalence),
            feature.prevalence_rest.map_or("-".into(), percent),
            format!("{effect:+.4}"),
            format!("{lo:+.4} to {hi:+.4}"),
            feature.q.map_or("-".into(), |q| format!("{q:.1e}")),
        ]
    }));
    table(&rows)
}

fn predictions(predictions: &[PredictionReport]) -> String {
    if predictions.is_empty() {
        return String::new();
    }
    let value = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
    let mut rows =
        vec![["predicted, out of fold", "", "features", "words", "length", "hidden states"].map(String::from).to_vec()];
    rows.extend(predictions.iter().map(|prediction| {
        let name = format!("{}, by {} features", prediction.column, prediction.model.weights.len());
        let measure = if prediction.measure == "auc" { "AUC" } else { "R^2" };
        let all = [prediction.features, prediction.words, prediction.length, prediction.hidden].map(value);
        [vec![name, measure.into()], all.to_vec()].concat()
    }));
    table(&rows)
}

fn forecast(report: &ContrastReport) -> String {
    let Some(forecast) = &report.forecast else { return String::new() };
    let name = forecast.method.name();
    match forecast.skill {
        Some([skill, lo, hi]) if skill > 0.0 => {
            format!("forecast of the next bin by {name}: skill {skill:.2} ({lo:.2} to {hi:.2})\n")
        }
        Some([skill, ..]) => {
            format!("forecast of the next bin by {name}: skill {skill:.2}, no better than the last value\n")
        }
        None => String::new(),
    }
}
