//! The page of the run: how well the autoencoders reconstruct, how the trainings went, how everything was made.

use super::Action;
use super::plot::{self, Scale};
use super::theme::{self, note, section};
use super::widgets;
use crate::state::format;
use crate::state::invocation::Invocation;
use crate::state::job::Job;
use crate::state::open_run::OpenRun;
use crate::state::report::RunReport;
use egui::{Button, CollapsingHeader, Grid, Key, Label, RichText, Role, ScrollArea, TextEdit, Ui, WidgetInfo, vec2};
use sae_core::train::StepLog;
use serde_json::Value;

/// The measures of an evaluation: key, title, meaning.
const MEASURES: [(&str, &str, &str); 9] = [
    ("tokens", "positions", "Number of positions that were evaluated"),
    ("l0", "L0", "Mean number of features that fire at a position"),
    ("fvu", "FVU", "Fraction of the variance that the reconstruction leaves unexplained"),
    ("explained_variance", "explained variance", "1 - FVU, as SAELens 6 reports it"),
    ("cosine", "cosine", "Mean cosine of reconstruction and input"),
    ("relative_norm", "norm ratio", "Norm of the reconstruction divided by the norm of the input"),
    ("dead", "dead features", "Share of features that fire nowhere in this run"),
    ("mse", "MSE", "Squared error of a position, summed over dimensions"),
    ("mean_norm", "mean norm", "Mean norm of the inputs"),
];

/// One measured curve: title, scale, value.
type Curve = (&'static str, Scale, fn(&StepLog) -> f64);

const CURVES: [Curve; 4] = [
    ("loss (log scale)", Scale::Logarithmic, |step| step.loss),
    ("L0", Scale::Linear, |step| step.l0),
    ("FVU (log scale)", Scale::Logarithmic, |step| step.fvu),
    ("share of dead features", Scale::Linear, |step| step.dead),
];

/// What the page remembers between two frames.
#[derive(Default)]
pub struct ReportView {
    /// What is typed as the folder of the data set.
    data: String,
}

/// Draws the page.
pub fn show(ui: &mut Ui, run: &OpenRun, view: &mut ReportView, job: Option<&Job>) -> Option<Action> {
    let Some(report) = &run.report else {
        note(ui, "Reading ...");
        return None;
    };
    let mut action = None;
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        ui.set_max_width(ui.available_width() - 14.0);
        ui.heading(format!("Run {}", run.info.name()));
        ui.label(theme::small(ui, &run.info.path().display().to_string()));
        action = evaluations(ui, run, report, job);
        trainings(ui, report);
        action = data(ui, view).or(action.take());
        provenance(ui, run, report);
    });
    action
}

fn evaluations(ui: &mut Ui, run: &OpenRun, report: &RunReport, job: Option<&Job>) -> Option<Action> {
    section(ui, "Reconstruction quality", "The latest results of `sae eval`");
    let mut action = None;
    let busy = job.is_some_and(Job::is_running);
    let evaluated = |name: &str| report.evaluations.iter().any(|(sae, _)| sae == name);
    for sae in run.info.saes.iter().filter(|sae| sae.trained && !evaluated(&sae.name)) {
        ui.horizontal_wrapped(|ui| {
            note(ui, &format!("{} has not been evaluated yet.", sae.name));
            if ui.add_enabled(!busy, Button::new("Evaluate")).clicked() {
                action = Some(Action::Confirm(Invocation::eval(&run.info, &sae.name)));
            }
        });
    }
    for (sae, evaluation) in &report.evaluations {
        ui.label(RichText::new(sae).strong());
        match evaluation {
            Ok(evaluation) => measures(ui, sae, evaluation),
            Err(reason) => note(ui, reason),
        }
    }
    action
}

fn measures(ui: &mut Ui, sae: &str, evaluation: &Value) {
    let sides = [
        ("all", &evaluation["all"]),
        ("text", &evaluation["by_modality"]["text"]),
        ("image", &evaluation["by_modality"]["image"]),
    ];
    Grid::new(("evaluation", sae)).num_columns(4).striped(true).spacing(vec2(26.0, 4.0)).show(ui, |ui| {
        ui.label("");
        for (name, _) in sides {
            ui.label(RichText::new(name).color(theme::class(ui, name)));
        }
        ui.end_row();
        for (measure, title, hint) in MEASURES {
            ui.label(title).on_hover_text(hint);
            for (_, found) in sides {
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

fn number(measure: &str, value: &Value) -> String {
    match (measure, value.as_u64(), value.as_f64()) {
        ("tokens", Some(count), _) => format::count(count),
        ("dead", _, Some(share)) => format::percent(share),
        _ => format::maybe(value.as_f64()),
    }
}

fn trainings(ui: &mut Ui, report: &RunReport) {
    section(ui, "Training", "Read again whenever a training writes its log");
    if report.logs.is_empty() {
        note(ui, "No training has written a log here.");
    }
    for (sae, log) in &report.logs {
        ui.label(RichText::new(sae).strong());
        let log = match log {
            Ok(log) => log,
            Err(reason) => {
                note(ui, reason);
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

/// Where the pictures of the data set are looked for.
fn data(ui: &mut Ui, view: &mut ReportView) -> Option<Action> {
    section(ui, "Data set", "Where the pictures are looked for, if they are not where the run says");
    let mut action = None;
    ui.horizontal_wrapped(|ui| {
        let field = TextEdit::singleline(&mut view.data).hint_text("folder of the data set").desired_width(360.0);
        let response = ui.add(field);
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Folder of the data set"));
        let entered = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        let ready = !view.data.trim().is_empty();
        if (ui.add_enabled(ready, Button::new("Use")).clicked() || entered) && ready {
            action = Some(Action::SetData(view.data.trim().into()));
        }
    });
    action
}

fn provenance(ui: &mut Ui, run: &OpenRun, report: &RunReport) {
    section(ui, "Provenance", "run.json: what was run, with which arguments, versions and hashes");
    match &report.record {
        Err(reason) => note(ui, reason),
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
    widgets::hint(ui, &format!("`{}` prints a summary of the run.", Invocation::info(&run.info).command_line()));
}

/// Lines of an entry that are shown: some entries list every part of a store.
const LINES: usize = 200;

fn pretty(entry: &Value) -> String {
    let text = format!("{entry:#}");
    let lines = text.lines().count();
    if lines <= LINES {
        return text;
    }
    let first = text.lines().take(LINES).collect::<Vec<_>>().join("\n");
    format!("{first}\n... {} more lines in run.json", lines - LINES)
}
