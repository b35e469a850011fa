//! The dialog that asks a language model for labels: the endpoint, the cost, and, once it was started, how far it is and what the
//! model said.

use super::overlays::{modal, set_width};
use super::theme;
use super::widgets;
use crate::state::format;
use crate::state::job::{Job, JobState};
use crate::state::label_dialog::{LabelCost, LabelDialog};
use crate::state::run_info::RunInfo;
use egui::{Button, Context, Label, ProgressBar, RichText, Role, TextEdit, Ui, WidgetInfo};
use sae_workbench::label::KEY_VARIABLE;

/// What to do about the dialog.
pub enum LabelAnswer {
    /// Send the questions.
    Start,
    /// Stop the command that runs.
    Stop,
    /// Close the dialog.
    Close,
}

/// Draws the dialog. `job` is the command that was started last.
pub fn show(ctx: &Context, dialog: &mut LabelDialog, info: &RunInfo, job: Option<&Job>) -> Option<LabelAnswer> {
    let mut answer = None;
    let shown = modal("ask for a label").show(ctx, |ui| {
        set_width(ui, 560.0);
        let features = &dialog.features;
        ui.heading(match features[..] {
            [feature] => format!("Ask a model for a label of feature {feature}"),
            _ => format!("Ask a model for labels of {} features", features.len()),
        });
        let text = "The model is shown the strongest examples of each feature and asked what they have in common. Then the label is \
                    tested on examples that it has not seen. Texts and pictures of the run are sent to the endpoint.";
        ui.add(Label::new(text).wrap());
        ui.add_space(6.0);
        let fields = [
            ("Endpoint", &mut dialog.endpoint.url, "base address, such as http://localhost:8000/v1"),
            ("Model", &mut dialog.endpoint.model, "its name at the endpoint"),
        ];
        for (name, value, hint) in fields {
            ui.horizontal(|ui| {
                ui.add_sized([70.0, 20.0], Label::new(name));
                let field = ui.add(TextEdit::singleline(value).hint_text(hint).desired_width(f32::INFINITY));
                field.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, format!("{name} to ask")));
            });
        }
        let set = std::env::var_os(KEY_VARIABLE).is_some_and(|key| !key.is_empty());
        let state = if set { "is set" } else { "is not set, so no key is sent" };
        ui.label(theme::small(ui, &format!("The key is taken from the environment variable {KEY_VARIABLE}, which {state}.")));
        ui.add_space(4.0);
        cost(ui, dialog);
        widgets::command_line(ui, &dialog.invocation(info).command_line());
        ui.add_space(8.0);
        let job = job.filter(|job| dialog.started && job.invocation.command() == "label");
        let running = job.is_some_and(Job::is_running);
        job.into_iter().for_each(|job| progress(ui, job));
        ui.horizontal(|ui| {
            let start = ui.add_enabled(dialog.is_ready() && !running, Button::new(RichText::new("Ask").strong()));
            if start.on_hover_text("Send the questions").clicked() {
                answer = Some(LabelAnswer::Start);
            }
            if running && ui.button("Stop").clicked() {
                answer = Some(LabelAnswer::Stop);
            }
            if ui.button("Close").on_hover_text("What was started goes on").clicked() {
                answer = Some(LabelAnswer::Close);
            }
        });
    });
    answer.or(shown.should_close().then_some(LabelAnswer::Close))
}

fn cost(ui: &mut Ui, dialog: &LabelDialog) {
    match &dialog.cost {
        None => {
            ui.horizontal(|ui| {
                ui.spinner();
                ui.label("Estimating the cost ...");
            });
        }
        Some(Err(reason)) => widgets::reason(ui, reason),
        Some(Ok(cost)) => drop(ui.add(Label::new(RichText::new(cost_text(cost)).strong()).wrap())),
    }
}

fn cost_text(cost: &LabelCost) -> String {
    let kept = match (cost.labeled_already, cost.to_label) {
        (0, _) => String::new(),
        (1, 0) => return "The feature has a label, which is kept. Remove it to ask for another one.".into(),
        (_, 0) => return "All of the features have labels, which are kept. Remove them to ask for others.".into(),
        (count, _) => format!(
            " {} a label, which is kept.",
            if count == 1 { "1 feature has".into() } else { format!("{count} features have") }
        ),
    };
    format!(
        "{} with {}: about {} tokens, and {} of answers.{kept}",
        format::counted(cost.requests as usize, "request"),
        format::counted(cost.pictures as usize, "picture"),
        format::count(cost.tokens_in),
        format::count(cost.tokens_out),
    )
}

/// How far the command is, or what it has said.
fn progress(ui: &mut Ui, job: &Job) {
    match &job.state {
        JobState::Running => {
            ui.horizontal(|ui| {
                match job.progress() {
                    Some(share) => drop(ui.add(ProgressBar::new(share).desired_width(160.0).show_percentage())),
                    None => drop(ui.spinner()),
                }
                ui.label(theme::small(ui, job.lines.last().map_or("asking ...", String::as_str)));
            });
        }
        JobState::Done(output) => {
            for line in output.lines() {
                ui.add(Label::new(RichText::new(line).monospace()).wrap());
            }
            ui.label(theme::small(ui, "The label is on the page of its feature, where it can be changed."));
        }
        JobState::Failed(reason) => widgets::reason(ui, reason),
        JobState::Stopped => drop(ui.label("Stopped. Labels that were made by then are saved.")),
    }
    ui.add_space(6.0);
}
