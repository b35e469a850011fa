//! `sae contrast --runs`: what differs between models; prints a report and draws the features by latent scaling.

use super::contrast::ContrastArgs;
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted, table};
use crate::plots::{self, Ownerships};
use anyhow::{Result, bail};
use sae_core::analysis::latent_scaling::{NU_ERROR, NU_RECONSTRUCTION, Ownership, ScaledFeature};
use sae_workbench::models::ownership::{OwnFeatures, PairReport};
use sae_workbench::models::patch::{MovedFeatures, PatchedKl};
use sae_workbench::models::series::{HalfWay, UNSEEN};
use sae_workbench::models::{Checkpoints, PatchReport, PatchRequest};
use sae_workbench::{ModelsChoice, OwnershipReport, OwnershipRequest, SeriesReport, SeriesRequest};
use std::path::Path;

/// Draws of random features for `--patch`.
const DRAWS: usize = 5;

/// Runs the command.
pub fn run(args: &ContrastArgs, invocation: &mut Invocation) -> Result<Outcome> {
    if args.runs.len() < 2 {
        bail!("--runs needs two runs or more, the first with the crosscoder: --runs base chat");
    }
    let models = ModelsChoice {
        runs: args.runs.clone(),
        sae: args.sae.sae.clone(),
        name: args.name.clone(),
        cluster: args.cluster.clone(),
        device: args.sae.device.device,
    };
    let checkpoints = args.data.as_ref().map(|data| Checkpoints {
        models: args.models.clone(),
        reading: args.reading.plan(Path::new(""), data, args.limit, args.sae.device),
    });
    if models.is_of_crosscoder()? {
        ownership(args, models, checkpoints, invocation)
    } else {
        series(args, models, checkpoints, invocation)
    }
}

/// The features of a crosscoder that belong to one model.
fn ownership(
    args: &ContrastArgs,
    models: ModelsChoice,
    checkpoints: Option<Checkpoints>,
    invocation: &mut Invocation,
) -> Result<Outcome> {
    if !args.tuned.is_empty() {
        bail!("--tuned is about an autoencoder of one model, and this is a crosscoder");
    }
    if checkpoints.is_some() && args.patch.is_none() {
        bail!("--models needs --patch here: a crosscoder itself is compared without the models");
    }
    let patch = checkpoints.zip(args.patch).map(|(checkpoints, features)| PatchRequest {
        features: features as usize,
        draws: DRAWS,
        seed: args.seed,
        checkpoints,
    });
    let request = OwnershipRequest { models, null: args.null.clone(), patch };
    let report = |report: &OwnershipReport| {
        let plot = report.folder.join("models.png");
        draw(report, &plot)?;
        Ok(format!("{}  {}\n  {}", describe(report), report.folder.display(), plot.display()))
    };
    invocation.outcome(|_| request.plan(), |control| request.run(control), report)
}

/// One autoencoder on the states of several models.
fn series(
    args: &ContrastArgs,
    models: ModelsChoice,
    checkpoints: Option<Checkpoints>,
    invocation: &mut Invocation,
) -> Result<Outcome> {
    for (flag, given) in [("--null", args.null.is_some()), ("--patch", args.patch.is_some())] {
        if given {
            bail!("{flag} is about a crosscoder, and this is an autoencoder of one model");
        }
    }
    let request = SeriesRequest { models, tuned_on: args.tuned.clone(), checkpoints };
    let report = |report: &SeriesReport| Ok(format!("{}  {}", describe_series(report), report.folder.display()));
    invocation.outcome(|_| request.plan(), |control| request.run(control), report)
}

fn describe_series(report: &SeriesReport) -> String {
    let mut text = String::new();
    for (n, model) in report.models.iter().enumerate() {
        let same = if report.found.same_model.contains(&n) { ", the same model as 0" } else { "" };
        text += &format!("model {n}: {}, FVU {:.4}{same}\n", model.model, model.fvu);
    }
    for model in &report.found.unseen {
        text += &format!(
            "warning: FVU of model {model} exceeds that of model 0 by more than {UNSEEN}: it may have features that {} lacks\n",
            report.sae
        );
    }
    let mut rows = vec![
        ["distance from model 0", "hidden states", "95 % interval", "weights", "KL", "95 % interval"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(report.found.distances.iter().map(|at| {
        let first = vec![format!("model {}", at.model)];
        let weights = vec![at.weights.map_or("-".into(), |weights| format!("{weights:.4}"))];
        [first, interval(Some(at.hidden_states)), weights, interval(at.kl)].concat()
    }));
    text += &table(&rows);
    if report.found.rebound.is_empty() {
        return text;
    }
    let measures = ["features", "mean hidden state", "hidden states", "weights", "KL"];
    let mut rows =
        vec![[&["back from model 1 to 0", "tuned on"][..], &measures].concat().into_iter().map(String::from).collect()];
    let bracketed = |measure: Option<[f64; 3]>| match measure {
        Some([back, lo, hi]) if lo.is_finite() => format!("{back:.3} ({lo:.3} to {hi:.3})"),
        Some([back, ..]) => format!("{back:.3}"),
        None => "-".into(),
    };
    rows.extend(report.found.rebound.iter().map(|at| {
        let weights = at.weight_distance.map_or("-".into(), |back| format!("{back:.3}"));
        let [features, mean, states] = [at.features, at.hidden_states, at.state_distance].map(|r| bracketed(Some(r)));
        let tuned = at.tuned_on.map_or("-".into(), count);
        vec![format!("model {}", at.model), tuned, features, mean, states, weights, bracketed(at.kl)]
    }));
    if report.found.rebound.iter().any(|at| at.tuned_on.is_some()) {
        let HalfWay { features, hidden_states, state_distance, weight_distance, kl } = report.found.half_way;
        let halves = [features, hidden_states, state_distance, weight_distance, kl];
        let halves = halves.map(|samples| samples.map_or("-".into(), |samples| format!("{samples:.0}")));
        rows.push([&["half-way after".into(), String::new()][..], &halves].concat());
    }
    text + &table(&rows)
}

/// A measure and its interval, which a single sample does not have.
fn interval(measure: Option<[f64; 3]>) -> Vec<String> {
    let Some([value, lo, hi]) = measure else { return vec!["-".into(); 2] };
    vec![format!("{value:.3}"), if lo.is_finite() { format!("{lo:.3} to {hi:.3}") } else { "-".into() }]
}

/// What the second model predicts from states of the first that features moved.
fn patches(report: &PatchReport) -> String {
    let head = format!("model 1 from states of model 0 on {}, moved by", report.data);
    let names = [&head[..], "KL to model 1", "95 % interval", "removed", "95 % interval"];
    let mut rows = vec![names.map(String::from).to_vec()];
    rows.extend(report.patches.iter().map(|patch: &PatchedKl| {
        let features = counted(patch.features as u64, "feature");
        let name = match patch.moved {
            MovedFeatures::None => "nothing".into(),
            MovedFeatures::Own => format!("{features} of model 1"),
            MovedFeatures::Top => format!("the {features} that move it most"),
            MovedFeatures::Random => format!("{features} at random, {} draws", report.draws),
            MovedFeatures::All => format!("all {features}"),
        };
        [vec![name], interval(Some(patch.kl)), interval(Some(patch.removed))].concat()
    }));
    table(&rows)
}

fn draw(report: &OwnershipReport, path: &Path) -> Result<()> {
    let points = |rows: &[ScaledFeature], pair: Option<[usize; 2]>| -> Vec<plots::OwnershipPoint> {
        let rows = rows.iter().filter(|row| pair.is_none_or(|pair| pair == [row.model, row.reference]));
        rows.map(|row| (row.nu_error.value, row.nu_reconstruction.value, row.ownership() == Ownership::Own)).collect()
    };
    let sides = report.found.pairs.iter().flat_map(|pair| [[pair.model, pair.reference], [pair.reference, pair.model]]);
    let plot = |[model, reference]: [usize; 2]| Ownerships {
        title: format!("features of model {model} in model {reference}"),
        features: points(&report.found.features, Some([model, reference])),
        null: report.found.null_features.as_ref().map(|(_, null)| points(null, None)).unwrap_or_default(),
    };
    let plots: Vec<Ownerships> = sides.take(8).map(plot).collect();
    plots::ownerships(path, &format!("{}: {}", report.name, report.sae), &plots, (NU_ERROR, NU_RECONSTRUCTION))
}

fn describe(report: &OwnershipReport) -> String {
    let mut text = String::new();
    for (n, model) in report.models.iter().enumerate() {
        text += &format!("model {n}: {}, FVU {:.4}\n", model.model, model.fvu);
    }
    for pair in &report.found.pairs {
        text += &sentence(pair);
    }
    match &report.found.null {
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
    if let Some(patch) = &report.found.patch {
        text += &patches(patch);
    }
    for pair in &report.found.pairs {
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
