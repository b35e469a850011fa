//! The page of the run: how it came about, how the trainings went, how good the autoencoders are.

use super::plot::{self, Scale};
use super::theme::{self, say, section};
use crate::state::data::Report;
use crate::state::format;
use crate::state::open_run::OpenRun;
use egui::{CollapsingHeader, Grid, Label, RichText, ScrollArea, Ui, vec2};
use sae_core::train::StepLog;
use serde_json::Value;

/// What of an evaluation is shown, and what it means.
const MEASURES: [(&str, &str); 9] = [
    ("tokens", "Token positions that were evaluated"),
    ("l0", "Features that fire on a token, mean"),
    ("fvu", "Fraction of the variance that the reconstruction leaves unexplained"),
    ("explained_variance", "1 - fvu: what SAELens 6 calls so"),
    ("cosine", "Mean cosine of reconstruction and input"),
    ("relative_norm", "Norm of the reconstruction over norm of the input"),
    ("dead", "Share of features that fire nowhere here"),
    ("mse", "Squared error of a token, summed over dimensions"),
    ("mean_norm", "Mean norm of the inputs"),
];

/// One measured curve.
type Curve = (&'static str, Scale, fn(&StepLog) -> f64);

const CURVES: [Curve; 4] = [
    ("loss (log)", Scale::Logarithmic, |step| step.loss),
    ("L0", Scale::Linear, |step| step.l0),
    ("FVU (log)", Scale::Logarithmic, |step| step.fvu),
    ("dead share", Scale::Linear, |step| step.dead),
];

/// Draws the page.
pub fn show(ui: &mut Ui, run: &OpenRun) {
    let Some(report) = &run.report else {
        say(ui, "Reading ...");
        return;
    };
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        ui.set_max_width(ui.available_width() - 14.0);
        ui.heading("Run");
        ui.label(theme::small(ui, &run.info.root.display().to_string()));
        evaluations(ui, report);
        trainings(ui, report);
        provenance(ui, report);
    });
}

fn evaluations(ui: &mut Ui, report: &Report) {
    section(ui, "How good", "What sae eval found last");
    if report.evaluations.is_empty() {
        say(ui, "Nothing was evaluated yet.\n`sae eval` does it.");
    }
    for (sae, evaluation) in &report.evaluations {
        let evaluation = match evaluation {
            Ok(evaluation) => evaluation,
            Err(reason) => {
                say(ui, reason);
                continue;
            }
        };
        ui.label(RichText::new(sae).strong());
        let places = [
            ("all", &evaluation["all"]),
            ("text", &evaluation["by_modality"]["text"]),
            ("image", &evaluation["by_modality"]["image"]),
        ];
        Grid::new(("evaluation", sae)).num_columns(4).striped(true).spacing(vec2(26.0, 4.0)).show(ui, |ui| {
            ui.label("");
            for (name, _) in places {
                ui.label(RichText::new(name).color(theme::class(ui, name)));
            }
            ui.end_row();
            for (measure, hint) in MEASURES {
                ui.label(measure.replace('_', " ")).on_hover_text(hint);
                for (_, found) in places {
                    ui.monospace(number(measure, &found[measure]));
                }
                ui.end_row();
            }
            for (what, title) in [("cross_entropy", "cross-entropy"), ("loss_recovered", "loss recovered")] {
                let losses = &evaluation["model"]["text"][what];
                for (variant, value) in losses.as_object().into_iter().flatten() {
                    ui.label(format!("{title}, {}", variant.replace('_', " ")));
                    ui.monospace(format::maybe(value["value"].as_f64()));
                    ui.end_row();
                }
            }
        });
    }
}

fn number(measure: &str, value: &Value) -> String {
    match (measure, value.as_u64()) {
        ("tokens", Some(count)) => format::count(count),
        _ => format::maybe(value.as_f64()),
    }
}

fn trainings(ui: &mut Ui, report: &Report) {
    section(ui, "Training", "Read again whenever a training writes its log");
    if report.logs.is_empty() {
        say(ui, "No training has left a log here.");
    }
    for (sae, log) in &report.logs {
        ui.label(RichText::new(sae).strong());
        let log = match log {
            Ok(log) => log,
            Err(reason) => {
                say(ui, reason);
                continue;
            }
        };
        ui.horizontal_wrapped(|ui| {
            let width = ((ui.available_width() - 3.0 * 8.0) / 4.0).clamp(190.0, 340.0);
            for ((name, scale, value), class) in CURVES.into_iter().zip(["cross", "text", "image", "dead"]) {
                let points: Vec<_> = log.iter().map(|step| [step.step as f64, value(step)]).collect();
                plot::curve(ui, vec2(width, 130.0), name, &points, scale, theme::class(ui, class));
            }
        });
    }
}

fn provenance(ui: &mut Ui, report: &Report) {
    section(ui, "How it came about", "run.json: what was run, with which arguments, versions and hashes");
    match &report.record {
        Err(reason) => say(ui, reason),
        Ok(record) => {
            for (step, entry) in record {
                match entry {
                    Value::String(text) => {
                        ui.horizontal(|ui| {
                            ui.label(theme::small(ui, step));
                            ui.label(text);
                        });
                    }
                    entry => {
                        CollapsingHeader::new(step.as_str()).show(ui, |ui| {
                            ui.add(Label::new(RichText::new(pretty(entry)).monospace().small()).wrap());
                        });
                    }
                }
            }
        }
    }
}

/// Lines of an entry that are shown: some list every part of a store.
const LINES: usize = 200;

fn pretty(entry: &Value) -> String {
    let text = format!("{entry:#}");
    let lines = text.lines().count();
    match lines > LINES {
        true => format!(
            "{}\n... {} more lines in run.json",
            text.lines().take(LINES).collect::<Vec<_>>().join("\n"),
            lines - LINES
        ),
        false => text,
    }
}
