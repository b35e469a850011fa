//! `sae eval`: how well an autoencoder reconstructs the activations of its run, and how a model's predictions change. Draws
//! `curves.png` next to the weights. With `--models`, how well models predict text; with `--table`, how well autoencoders work on
//! other models.

use super::arguments::{ReadingArgs, SaeArgs};
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted, table};
use crate::plots;
use anyhow::{Result, bail};
use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};
use sae_core::Run;
use sae_core::analysis::eval::{Estimate, Evaluation, LossReport, Report, Variant};
use sae_core::train::read_log;
use sae_workbench::eval::{ModelEffect, TextLikelihood};
use sae_workbench::{
    EvalModelsReport, EvalModelsRequest, EvalReport, EvalRequest, SaeChoice, TransferReport, TransferRequest,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `sae eval`
#[derive(Args, Debug)]
#[command(mut_arg("run", |arg| arg.required(false).default_value_if("models", ArgPredicate::IsPresent, ".").required_unless_present("models")), after_help = "\
Cross-entropies are in nats and count text tokens that follow text tokens: neither tokens of the template nor tokens that \
follow an image. The reconstruction replaces the activations at every position that is not excluded, their mean and zeros replace them at \
every position; of a transcoder, those of its target. Bits per byte are over the same tokens and the UTF-8 bytes of their text.

Examples:
  sae eval --run run                                      the activations of the run, no model
  sae eval --run run --model llava-1.5-7b-hf --data test.jsonl --limit 1000
  sae eval --run run --exclude special,first --max-norm 10 --saebench core.json
  sae eval --run run --sae a,b --model llava-1.5-7b-hf,llava-v1.6-vicuna-7b-hf --data test.jsonl --limit 200 --table
  sae eval --models base aligned tuned --data test.jsonl --data chat.jsonl --out models.json")]
pub struct EvalArgs {
    #[command(flatten)]
    pub sae: SaeArgs,
    /// Positions to leave out: special, first, or none; as in training if this is left out
    #[arg(long, value_delimiter = ',', value_name = "WHICH")]
    pub exclude: Option<Vec<Excluded>>,
    /// Leave out positions whose norm is over X times the median norm, 0 for none; as in training if this is left out
    #[arg(long, value_name = "X")]
    pub max_norm: Option<f64>,
    /// Checkpoint, as for `sae harvest`, whose predictions are compared, with the autoencoder's reconstructions in place and without
    #[arg(long, requires = "data", group = "reader")]
    pub model: Option<PathBuf>,
    /// Print a table of autoencoders and models instead: --sae and --model may name several, separated by commas. Writes nothing
    #[arg(long, requires = "model", conflicts_with_all = ["exclude", "max_norm", "saebench"])]
    pub table: bool,
    /// Checkpoints whose bits per byte of text are measured, without a run; the first is what the others are compared with
    #[arg(long, value_name = "MODEL", num_args = 1.., requires = "data", group = "reader", conflicts_with_all = ["run", "sae", "exclude", "max_norm", "saebench"])]
    pub models: Vec<PathBuf>,
    /// Data set that is read, as for `sae harvest`; with --models there may be several
    #[arg(long, requires = "reader")]
    pub data: Vec<PathBuf>,
    /// Read only the first rows of the data
    #[arg(long, requires = "reader")]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Write a result file of SAEBench's `core` evaluation
    #[arg(long, value_name = "FILE")]
    pub saebench: Option<PathBuf>,
    /// With --models: also write the result to a file, as JSON
    #[arg(long, value_name = "FILE", requires = "models")]
    pub out: Option<PathBuf>,
}

/// What `--exclude` names.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excluded {
    /// Nothing
    None,
    /// Template, begin, end and newline positions
    Special,
    /// The first position of every sample
    First,
}

impl EvalArgs {
    fn request(&self) -> Result<EvalRequest> {
        if self.data.len() > 1 {
            bail!("--model reads one data set, and --data names {}; --models reads several", self.data.len());
        }
        let leaves_out = |what| self.exclude.as_ref().map(|named| named.contains(&what));
        let read = self.model.as_ref().zip(self.data.first());
        Ok(EvalRequest {
            sae: self.sae.choice(),
            special: leaves_out(Excluded::Special),
            first: leaves_out(Excluded::First),
            max_norm: self.max_norm,
            model: read.map(|(model, data)| self.reading.plan(model, data, self.limit, self.sae.device)),
            saebench: self.saebench.clone(),
        })
    }

    fn transfer_request(&self) -> Result<TransferRequest> {
        let [data] = &self.data[..] else {
            bail!("--table reads one data set, and --data names {}", self.data.len());
        };
        let saes = self.sae.sae.as_deref().map_or(vec![None], |names| names.split(',').map(Some).collect());
        let sae = |name: Option<&str>| SaeChoice { sae: name.map(str::to_owned), ..self.sae.choice() };
        // A path that is not Unicode names one model.
        let models = self.model.iter().flat_map(|model| match model.to_str() {
            Some(names) => names.split(',').map(PathBuf::from).collect(),
            None => vec![model.clone()],
        });
        let plan = |model: PathBuf| self.reading.plan(&model, data, self.limit, self.sae.device);
        Ok(TransferRequest { saes: saes.into_iter().map(sae).collect(), models: models.map(plan).collect() })
    }

    fn models_request(&self) -> EvalModelsRequest {
        let reading = self.reading.plan(Path::new(""), Path::new(""), self.limit, self.sae.device);
        let request = EvalModelsRequest::new(self.models.clone(), self.data.clone(), reading);
        EvalModelsRequest { out: self.out.clone(), ..request }
    }
}

/// Runs the command.
pub fn run(args: &EvalArgs, invocation: &mut Invocation) -> Result<Outcome> {
    if !args.models.is_empty() {
        let request = args.models_request();
        let report = |report: &EvalModelsReport| Ok(describe_models(report));
        return invocation.outcome(|_| request.plan(), |control| request.run(control), report);
    }
    if args.table {
        let request = args.transfer_request()?;
        let report = |report: &TransferReport| Ok(describe_transfers(report));
        return invocation.outcome(|_| request.plan(), |control| request.run(control), report);
    }
    let request = args.request()?;
    let report = |report: &EvalReport| {
        if report.written {
            draw(&args.sae.run, &report.sae, &report.report)?;
        } else {
            eprintln!("warning: the run is read-only, so eval.json and curves.png were not written");
        }
        Ok(text(report))
    };
    invocation.outcome(|_| request.plan(), |control| request.run(control), report)
}

/// Draws `curves.png` into the folder of an autoencoder.
pub fn draw(run: &Path, sae: &str, report: &Report) -> Result<()> {
    let run = Run::open(run)?;
    let folder = run.sae_dir(sae);
    let log = folder.join("log.parquet");
    // Autoencoders of other tools come without a log.
    let log = if log.exists() { read_log(&log)? } else { Vec::new() };
    let _lock = run.lock()?;
    plots::curves(&folder.join("curves.png"), sae, &log, report)
}

fn text(found: &EvalReport) -> String {
    let dir = &found.folder;
    let target = found.target.as_ref().map_or(String::new(), |target| format!(" for {target}"));
    let mut text = format!("{} on {}{target}\n{}\n", found.sae, found.hook, describe(&found.report));
    text += &more(&found.report);
    if let Some(model) = &found.model {
        text += &describe_model(model);
    }
    if found.written {
        text += &format!("\n  {}\n  {}", dir.join("eval.json").display(), dir.join("curves.png").display());
    }
    text
}

/// The report as a table with a row for each modality.
pub fn describe(report: &Report) -> String {
    let header = ["positions", "tokens", "L0", "FVU", "cosine", "norm ratio", "dead"];
    rows(report, &header, &|e| {
        vec![
            count(e.tokens),
            format!("{:.1}", e.l0),
            format!("{:.4}", e.fvu),
            format!("{:.4}", e.cosine),
            format!("{:.3}", e.relative_norm),
            percent(e.dead),
        ]
    })
}

/// More measurements, in a second table with the same rows.
fn more(report: &Report) -> String {
    let header =
        ["positions", "left out", "median norm", "MSE", "L1", "explained", "(legacy)", "on > 1 %", "on > 10 %"];
    rows(report, &header, &|e| {
        vec![
            count(e.excluded.positions),
            figures(e.median_norm),
            figures(e.mse),
            figures(e.l1),
            format!("{:.4}", e.explained_variance),
            format!("{:.4}", e.explained_variance_legacy),
            percent(e.density.over_1_percent),
            percent(e.density.over_10_percent),
        ]
    })
}

fn rows(report: &Report, header: &[&str], cells: &dyn Fn(&Evaluation) -> Vec<String>) -> String {
    let row = |name: String, evaluation| std::iter::once(name).chain(cells(evaluation)).collect();
    let mut rows = vec![header.iter().map(|name| name.to_string()).collect()];
    rows.extend(report.by_modality.iter().map(|(m, e)| row(format!("{m:?}").to_lowercase(), e)));
    rows.push(row("all".into(), &report.all));
    table(&rows)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Four significant figures, whatever the magnitude.
fn figures(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 || (v < 1e-3 && v > 0.0) => format!("{value:.3e}"),
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.*}", 3 - v.log10() as usize),
        _ => format!("{value:.4}"),
    }
}

/// The losses as a table with a row for each variant.
fn describe_model(effect: &ModelEffect) -> String {
    let LossReport { tokens, samples, .. } = effect.text;
    let (tokens, samples) = (count(tokens), count(samples));
    let mut text =
        format!("\n{} on {}: {tokens} tokens of {samples} samples, nats per token", effect.name, effect.data);
    if effect.skipped > 0 {
        text += &format!(" ({} rows skipped)", count(effect.skipped));
    }
    text += &format!("\n{}", variants(&effect.text));
    if let Some(answers) = effect.answers.as_ref().filter(|answers| answers.tokens < effect.text.tokens) {
        text += &format!("  answers alone, {}:\n{}", counted(answers.tokens, "token"), variants(answers));
    }
    if effect.same_checkpoint == Some(false) {
        text += "  note: the run was captured from another checkpoint than this one\n";
    }
    text
}

fn variants(report: &LossReport) -> String {
    let show = |estimates: &BTreeMap<Variant, Estimate>, variant: &Variant| {
        estimates.get(variant).map_or(String::new(), |Estimate { value, se }| {
            se.map_or(format!("{value:.4}"), |se| format!("{value:.4} +-{se:.4}"))
        })
    };
    let header = ["at the hook", "cross-entropy", "increase", "KL from original", "loss recovered", "KL recovered"];
    let mut lines = vec![header.map(String::from).to_vec()];
    lines.extend(Variant::ALL.iter().map(|variant| {
        let name = match variant {
            Variant::Original => "original",
            Variant::Replaced => "reconstruction",
            Variant::ReplacedText => "  at text only",
            Variant::ReplacedImage => "  at images only",
            Variant::Mean => "mean",
            Variant::Zero => "zeros",
        };
        let columns =
            [&report.cross_entropy, &report.increase, &report.kl, &report.loss_recovered, &report.kl_recovered];
        std::iter::once(name.into()).chain(columns.map(|column| show(column, variant))).collect()
    }));
    table(&lines)
}

/// A row for each autoencoder and model.
fn describe_transfers(report: &TransferReport) -> String {
    let header =
        ["autoencoder", "model", "trained on", "positions", "L0", "FVU", "cross-entropy", "increase", "loss recovered"];
    let mut rows = vec![header.map(String::from).to_vec()];
    let estimate =
        |Estimate { value, se }: Estimate| se.map_or(format!("{value:.4}"), |se| format!("{value:.4} ±{se:.4}"));
    rows.extend(report.transfers.iter().map(|found| {
        let trained = match found.same_checkpoint {
            Some(true) => "this model",
            Some(false) => "another one",
            None => "not known",
        };
        vec![
            found.sae.clone(),
            found.model.clone(),
            trained.into(),
            count(found.positions),
            format!("{:.1}", found.l0),
            format!("{:.4}", found.fvu),
            estimate(found.cross_entropy),
            estimate(found.increase),
            found.loss_recovered.map_or("-".into(), estimate),
        ]
    }));
    table(&rows)
}

/// The likelihoods of texts, with a row for each data set and model.
fn describe_models(report: &EvalModelsReport) -> String {
    let names = [
        "data",
        "model",
        "samples",
        "tokens",
        "bytes",
        "bits per byte",
        "95 % interval",
        "over the first",
        "95 % interval",
    ];
    let mut rows = vec![names.map(String::from).to_vec()];
    let number = |value: f64, signed: bool| if signed { format!("{value:+.4}") } else { format!("{value:.4}") };
    let cells = |interval: Option<[f64; 3]>, signed: bool| {
        let Some([value, lo, hi]) = interval else { return ["-".into(), "-".into()] };
        // A single sample has no interval.
        let bounds =
            if lo.is_finite() { format!("{} to {}", number(lo, signed), number(hi, signed)) } else { "-".into() };
        [number(value, signed), bounds]
    };
    rows.extend(report.results.iter().map(|of: &TextLikelihood| {
        let first = [of.data.clone(), of.model.clone(), count(of.samples), count(of.tokens), count(of.bytes)];
        [&first[..], &cells(Some(of.bits_per_byte), false), &cells(of.difference, true)].concat()
    }));
    let mut text = table(&rows);
    for of in report.results.iter().filter(|of| of.skipped > 0) {
        text += &format!("{} of {} skipped by {}\n", counted(of.skipped, "row"), of.data, of.model);
    }
    text
}
