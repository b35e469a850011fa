//! `sae contrast --runs`: what differs between models; prints a report and draws the features by latent scaling.

use super::contrast::ContrastArgs;
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted, table};
use crate::plots::{self, Ownerships};
use anyhow::{Result, bail};
use sae_core::analysis::latent_scaling::{NU_ERROR, NU_RECONSTRUCTION, Ownership, ScaledFeature};
use sae_workbench::models::{ModelContrastReport, ModelContrastRequest, OwnFeatures, PairReport};
use sae_workbench::series::{SeriesReport, SeriesRequest, UNSEEN};
use std::path::Path;

/// Runs the command.
pub fn run(args: &ContrastArgs, invocation: &mut Invocation) -> Result<Outcome> {
    if args.runs.len() < 2 {
        bail!("--runs needs two runs or more, the first with the crosscoder: --runs base chat");
    }
    let request = ModelContrastRequest {
        runs: args.runs.clone(),
        sae: args.sae.sae.clone(),
        null: args.null.clone(),
        name: args.name.clone(),
        cluster: args.cluster.clone(),
        device: args.sae.device.device,
    };
    if !request.is_of_crosscoder()? {
        return series(args, invocation);
    }
    if !args.tuned.is_empty() {
        bail!("--tuned is about an autoencoder of one model, and this is a crosscoder");
    }
    let report = |report: &ModelContrastReport| {
        let plot = report.folder.join("models.png");
        draw(report, &plot)?;
        Ok(format!("{}  {}\n  {}", describe(report), report.folder.display(), plot.display()))
    };
    invocation.outcome(|_| request.plan(), |control| request.run(control), report)
}

/// One autoencoder on the states of several models.
fn series(args: &ContrastArgs, invocation: &mut Invocation) -> Result<Outcome> {
    if args.null.is_some() {
        bail!("--null is about a crosscoder, and this is an autoencoder of one model");
    }
    let request = SeriesRequest {
        runs: args.runs.clone(),
        sae: args.sae.sae.clone(),
        tuned_on: args.tuned.clone(),
        name: args.name.clone(),
        cluster: args.cluster.clone(),
        device: args.sae.device.device,
    };
    let report = |report: &SeriesReport| Ok(format!("{}  {}", describe_series(report), report.folder.display()));
    invocation.outcome(|_| request.plan(), |control| request.run(control), report)
}

fn describe_series(report: &SeriesReport) -> String {
    let mut text = String::new();
    for (n, model) in report.models.iter().enumerate() {
        let same = if report.same_model.contains(&n) { ", the same model as 0" } else { "" };
        text += &format!("model {n}: {}, FVU {:.4}{same}\n", model.model, model.fvu);
    }
    for model in &report.unseen {
        text += &format!(
            "warning: FVU of model {model} exceeds that of model 0 by more than {UNSEEN}: it may have features that {} lacks\n",
            report.sae
        );
    }
    if report.rebound.is_empty() {
        return text;
    }
    let interval = |[r, lo, hi]: [f64; 3]| [format!("{r:.3}"), format!("{lo:.3} to {hi:.3}")];
    let names = ["back from model 1 to 0", "tuned on", "features", "95 % interval", "hidden states", "95 % interval"];
    let mut rows = vec![names.map(String::from).to_vec()];
    rows.extend(report.rebound.iter().map(|at| {
        let tuned = at.tuned_on.map_or("-".into(), count);
        let first = vec![format!("model {}", at.model), tuned];
        [first, interval(at.features).to_vec(), interval(at.hidden_states).to_vec()].concat()
    }));
    text += &table(&rows);
    if report.rebound.iter().any(|at| at.tuned_on.is_some()) {
        text += &match report.half_way {
            Some(samples) => format!("half-way back after {samples:.0} samples\n"),
            None => "never half-way back\n".into(),
        };
    }
    text
}

fn draw(report: &ModelContrastReport, path: &Path) -> Result<()> {
    let points = |rows: &[ScaledFeature], pair: Option<[usize; 2]>| -> Vec<plots::OwnershipPoint> {
        let rows = rows.iter().filter(|row| pair.is_none_or(|pair| pair == [row.model, row.reference]));
        rows.map(|row| (row.nu_error.value, row.nu_reconstruction.value, row.ownership() == Ownership::Own)).collect()
    };
    let sides = report.pairs.iter().flat_map(|pair| [[pair.model, pair.reference], [pair.reference, pair.model]]);
    let plot = |[model, reference]: [usize; 2]| Ownerships {
        title: format!("features of model {model} in model {reference}"),
        features: points(&report.features, Some([model, reference])),
        null: points(&report.null_features, None),
    };
    let plots: Vec<Ownerships> = sides.take(8).map(plot).collect();
    plots::ownerships(path, &format!("{}: {}", report.name, report.sae), &plots, (NU_ERROR, NU_RECONSTRUCTION))
}

fn describe(report: &ModelContrastReport) -> String {
    let mut text = String::new();
    for (n, model) in report.models.iter().enumerate() {
        text += &format!("model {n}: {}, FVU {:.4}\n", model.model, model.fvu);
    }
    for pair in &report.pairs {
        text += &sentence(pair);
    }
    match &report.null {
        Some(null) => {
            let own: usize = null.iter().map(|pair| pair.of_model.own + pair.of_reference.own).sum();
            let same =
                if null.iter().any(|pair| pair.same_model) { " (the same states, which cannot differ)" } else { "" };
            text += &format!("one model with itself: {own} own features{same}\n");
        }
        None => {
            text += "no null row: name a crosscoder of one model with itself to see what chance makes of equal models\n"
        }
    }
    for pair in &report.pairs {
        text += &strongest(&pair.of_model, pair.model, pair.reference);
        text += &strongest(&pair.of_reference, pair.reference, pair.model);
    }
    text
}

fn sentence(pair: &PairReport) -> String {
    let PairReport { reference, model, .. } = pair;
    if pair.same_model {
        return format!("models {reference} and {model} are the same model: no own features\n");
    }
    let side = |features: &OwnFeatures| {
        format!("{} ({} uncertain)", counted(features.own as u64, "own feature"), count(features.uncertain as u64))
    };
    format!(
        "model {model} has {}, model {reference} has {}, of those that the other lacks\n",
        side(&pair.of_model),
        side(&pair.of_reference)
    )
}

fn strongest(features: &OwnFeatures, model: usize, reference: usize) -> String {
    if features.strongest.is_empty() {
        return String::new();
    }
    let head = format!("of model {model}, not {reference}");
    let names = [&head[..], "firings", "nu error", "95 % interval", "nu reconstruction", "Delta", "template", "first"];
    let mut rows = vec![names.map(String::from).to_vec()];
    rows.extend(features.strongest.iter().map(|feature| {
        let [nu, lo, hi] = feature.nu_error;
        vec![
            feature.feature.to_string(),
            count(feature.firings),
            format!("{nu:.3}"),
            format!("{lo:.3} to {hi:.3}"),
            format!("{:.3}", feature.nu_reconstruction[0]),
            format!("{:.2}", feature.delta),
            format!("{:.0} %", 100.0 * feature.template_share),
            format!("{:.0} %", 100.0 * feature.first_share),
        ]
    }));
    table(&rows)
}
