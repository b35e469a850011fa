//! `sae eval`: how well an autoencoder stands for the activations of its run, text and image apart, and with a model and
//! data what it costs the model's predictions. Writes `eval.json` and `curves.png` beside the weights.

mod losses;

use super::arguments::{ReadingArgs, SaeArgs};
use super::{Outcome, SaeReader};
use crate::cli::terminal::{count, table};
use crate::plots;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use losses::Effect;
use sae_core::analysis::eval::{Evaluation, Evaluator, Firing, Report};
use sae_core::analysis::saebench::Core;
use sae_core::file;
use sae_core::store::PositionFilter;
use sae_core::store::PositionRule;
use sae_core::store::run;
use sae_core::train::read_log;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;
use std::path::PathBuf;

/// `sae eval`
#[derive(Args, Debug)]
#[command(after_help = "\
Cross-entropies are over words behind words (template tokens and what follows an image are not counted), in nats.
Reconstructions stand in for the activations at every position that is not left out, zeros at every position.

Examples:
  sae eval --run run                                      the activations of the run, no model
  sae eval --run run --model llava-1.5-7b-hf --data test.jsonl --limit 1000
  sae eval --run run --exclude special,first --max-norm 10 --saebench core.json")]
pub struct EvalArgs {
    #[command(flatten)]
    pub of: SaeArgs,
    /// Positions to leave out: special, first, or none; as in training if this is left out
    #[arg(long, value_delimiter = ',', value_name = "WHICH")]
    pub exclude: Option<Vec<Excluded>>,
    /// Leave out positions whose norm is over X times the median norm, 0 for none; as in training if this is left out
    #[arg(long, value_name = "X")]
    pub max_norm: Option<f64>,
    /// Checkpoint, as for `sae harvest`, whose predictions are compared, with the autoencoder's reconstructions in place and without
    #[arg(long, requires = "data")]
    pub model: Option<PathBuf>,
    /// Data set for it, as for `sae harvest`
    #[arg(long, requires = "model")]
    pub data: Option<PathBuf>,
    /// Read only the first rows of the data
    #[arg(long, requires = "model")]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Write a result file of SAEBench's `core` evaluation
    #[arg(long, value_name = "FILE")]
    pub saebench: Option<PathBuf>,
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

/// `eval.json`.
#[derive(Serialize)]
struct Findings {
    sae: String,
    hook: String,
    created: String,
    exclude: PositionRule,
    /// The norm that `exclude` means here.
    max_norm: Option<f64>,
    #[serde(flatten)]
    report: Report,
    model: Option<Effect>,
    /// Whether it is in the run.
    #[serde(skip)]
    written: bool,
}

/// Runs the command.
pub fn run(args: &EvalArgs, dry: bool) -> Result<Outcome> {
    let opened = SaeReader::new(&args.of)?;
    let exclude = excluded(args, &opened)?;
    let plan = losses::plan(args, &opened, dry)?;
    if dry {
        let model = plan.as_ref().map(|plan| plan.preview()).transpose()?;
        return opened.plan("eval", json!({ "exclude": exclude, "model": model }));
    }
    let exclusion = PositionFilter::new(&opened.store, exclude)?;
    let (report, firing) = measure(&opened, exclusion)?;
    let model = plan.map(|plan| losses::measure(&plan, &opened, exclusion)).transpose()?;
    let findings = write(&opened, exclusion, report, model)?;
    if let Some(path) = &args.saebench {
        saebench(path, args, &opened, &findings, &firing)?;
    }
    let text = text(&opened, &findings);
    Outcome::new(findings, text)
}

/// Measures an autoencoder without a model and writes what was found.
pub(super) fn build(opened: &SaeReader) -> Result<Report> {
    let exclusion = PositionFilter::new(&opened.store, trained_without(opened)?)?;
    let (report, _) = measure(opened, exclusion)?;
    Ok(write(opened, exclusion, report, None)?.report)
}

fn measure(opened: &SaeReader, exclusion: PositionFilter) -> Result<(Report, Vec<Firing>)> {
    let mut evaluator = Evaluator::without(&opened.saved.weights, exclusion);
    opened.pass("eval", &mut [&mut evaluator])?;
    let report = evaluator.report();
    if report.all.tokens == 0 {
        bail!("no position is left to measure\nhint: a larger --max-norm, or --exclude none");
    }
    Ok((report, evaluator.firing()))
}

fn write(opened: &SaeReader, exclusion: PositionFilter, report: Report, model: Option<Effect>) -> Result<Findings> {
    let mut findings = Findings {
        sae: opened.name.clone(),
        hook: opened.store.manifest().hook.clone(),
        created: run::now(),
        exclude: exclusion.rule(),
        max_norm: exclusion.limit(),
        report,
        model,
        written: true,
    };
    match record(opened, &findings) {
        Ok(()) => {}
        Err(error) if is_read_only(&error) => {
            eprintln!("warning: the run is read-only, so that eval.json and curves.png were not written");
            findings.written = false;
        }
        Err(error) => return Err(error),
    }
    Ok(findings)
}

/// Writes `eval.json` and `curves.png`.
fn record(opened: &SaeReader, findings: &Findings) -> Result<()> {
    let dir = opened.run.sae_dir(&opened.name);
    let log = dir.join("log.parquet");
    // Autoencoders of other tools come without a log.
    let log = if log.exists() { read_log(&log)? } else { Vec::new() };
    let _lock = opened.run.lock()?;
    file::write_json(&dir.join("eval.json"), findings)?;
    plots::curves(&dir.join("curves.png"), &opened.name, &log, &findings.report)
}

fn is_read_only(error: &anyhow::Error) -> bool {
    error.downcast_ref::<sae_core::Error>().is_some_and(sae_core::Error::is_read_only)
}

/// The positions to leave out: those that training left out, unless the arguments say otherwise.
fn excluded(args: &EvalArgs, opened: &SaeReader) -> Result<PositionRule> {
    let mut exclude = trained_without(opened)?;
    if let Some(named) = &args.exclude {
        exclude.special = named.contains(&Excluded::Special);
        exclude.first = named.contains(&Excluded::First);
    }
    exclude.norm = args.max_norm.unwrap_or(exclude.norm);
    if !(exclude.norm >= 0.0 && exclude.norm.is_finite()) {
        bail!("--max-norm {} is no multiple of the median norm", exclude.norm);
    }
    Ok(exclude)
}

fn trained_without(opened: &SaeReader) -> Result<PositionRule> {
    #[derive(Deserialize)]
    struct Trained {
        #[serde(default)]
        exclude: PositionRule,
    }
    let path = opened.run.sae_dir(&opened.name).join("train.toml");
    if !path.exists() {
        return Ok(PositionRule::default());
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let trained: Trained =
        toml::from_str(&text).with_context(|| format!("no training configuration: {}", path.display()))?;
    Ok(trained.exclude)
}

fn saebench(path: &Path, args: &EvalArgs, opened: &SaeReader, findings: &Findings, firing: &[Firing]) -> Result<()> {
    let manifest = opened.store.manifest();
    let config: Value = file::read_json(&opened.run.sae_dir(&opened.name).join("cfg.json"), 1 << 24)?;
    let model = findings.model.as_ref();
    let dtype = match args.reading.dtype {
        ::harvest::ComputeDtype::F32 => "float32",
        ::harvest::ComputeDtype::Bf16 => "bfloat16",
    };
    let core = Core {
        name: &opened.name,
        model: model.map_or(&manifest.model, |model| &model.name),
        dtype,
        dataset: model.map_or("the activations of the run", |model| &model.data),
        weights: &opened.saved.weights,
        config,
        report: &findings.report,
        firing,
        losses: model.map(|model| &model.text),
        exclude_special: findings.exclude.special,
    };
    Ok(file::write_json(path, &core.result())?)
}

fn text(opened: &SaeReader, findings: &Findings) -> String {
    let dir = opened.run.sae_dir(&opened.name);
    let mut text = format!("{} on {}\n{}\n", opened.name, findings.hook, describe(&findings.report));
    text += &more(&findings.report);
    if let Some(model) = &findings.model {
        text += &losses::describe(model);
    }
    match findings.written {
        true => text + &format!("\n  {}\n  {}", dir.join("eval.json").display(), dir.join("curves.png").display()),
        false => text,
    }
}

/// The report as a table: a row a modality.
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

/// What else is worth a look, in a second table of the same rows.
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
