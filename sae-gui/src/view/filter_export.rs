//! The part of the Filter page that writes the kept samples as a new data set: options, the command line, its progress.

use super::Action;
use super::theme::{self, note};
use super::widgets::{self, Field};
use crate::state::export_settings::{ExportRule, ExportSettings, FORMATS};
use crate::state::format;
use crate::state::job::{Job, JobState};
use crate::state::open_run::OpenRun;
use crate::state::score_filter::ScoreFilter;
use egui::{Button, ComboBox, Key, Label, ProgressBar, RichText, Role, Slider, TextEdit, Ui, WidgetInfo};

/// What the part remembers between two frames.
#[derive(Default)]
pub struct ExportView {
    /// Why the samples cannot be divided into groups.
    pub group_problem: Option<String>,
    /// What is being typed as the number with quantiles.
    within: Option<String>,
}

/// Draws the options and the button.
pub fn show(ui: &mut Ui, run: &mut OpenRun, view: &mut ExportView, job: Option<&Job>) -> Option<Action> {
    let OpenRun { filter: Some(Ok(filter)), export: settings, info, .. } = run else { return None };
    let mut action = groups(ui, filter, settings, view.group_problem.as_deref());
    within(ui, settings, &mut view.within);
    choice(ui, settings);
    ui.horizontal(|ui| {
        ui.label("Folder");
        let response = ui.add(TextEdit::singleline(&mut settings.out).desired_width(f32::INFINITY));
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Folder of the data set"));
        response.on_hover_text("A new folder. A relative path is relative to the folder that holds the run");
    });
    ui.horizontal_wrapped(|ui| {
        ui.label("Format");
        let title = FORMATS.iter().find(|(name, _)| *name == settings.format).map_or("", |(_, title)| title);
        let shown = ComboBox::from_id_salt("format").selected_text(title).show_ui(ui, |ui| {
            for (name, title) in FORMATS {
                ui.selectable_value(&mut settings.format, name, title);
            }
        });
        shown.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Format of the data set"));
        ui.checkbox(&mut settings.write_dropped, "also write the dropped rows")
            .on_hover_text("Into a folder beside it, so that nothing is lost");
    });
    let invocation = settings.invocation(info, filter);
    let (problem, decides_later, kept) = (settings.problem(filter), settings.decides_later(), filter.kept());
    let problem = problem.or_else(|| run.budget_problem());
    let ready = kept > 0 && !job.is_some_and(Job::is_running) && problem.is_none();
    let title = format!("Write {}", format::counted(kept, "sample"));
    if ui.add_enabled(ready, Button::new(RichText::new(title).strong())).clicked() {
        action = Some(Action::Export(invocation.clone()));
    }
    if let Some(problem) = problem {
        ui.label(RichText::new(problem).color(ui.visuals().warn_fg_color));
    }
    if decides_later {
        note(
            ui,
            "Near-duplicates, features and quantiles are decided while the data set is written; the lists here do not show them.",
        );
    }
    widgets::command_line(ui, &invocation.command_line());
    if let Some(job) = job.filter(|job| job.invocation.command() == "filter") {
        progress(ui, job);
    }
    action
}

/// The columns that divide the samples into groups, each of which keeps its share.
fn groups(
    ui: &mut Ui,
    filter: &mut ScoreFilter,
    settings: &mut ExportSettings,
    problem: Option<&str>,
) -> Option<Action> {
    let mut action = None;
    ui.horizontal_wrapped(|ui| {
        ui.label("By group");
        let field = TextEdit::singleline(&mut settings.group_by).hint_text("column, such as category").desired_width(180.0);
        let response = ui.add(field);
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Columns of the groups"));
        let hint = "Keep as large a share of every group. Columns of the data set, such as category or category,country; \
                    year:4 makes four groups of numbers";
        let entered = response.lost_focus() || ui.input(|input| input.key_pressed(Key::Enter));
        response.on_hover_text(hint);
        let (typed, used) = (settings.group_by.trim(), filter.grouping().map(|grouping| grouping.fields.as_str()));
        if entered && Some(typed).filter(|typed| !typed.is_empty()) != used {
            action = Some(Action::Groups(typed.to_owned()));
        }
        if let Some(mut grouping) = filter.grouping().cloned() {
            ui.label(theme::small(ui, &format::counted(grouping.groups.names.len(), "group")));
            let hint = "Keep equally many of every group, rather than in proportion to its size";
            if ui.checkbox(&mut grouping.equal, "equal").on_hover_text(hint).changed() {
                settings.equal_groups = grouping.equal;
                filter.set_grouping(Some(grouping));
            }
        }
    });
    if let Some(problem) = problem {
        ui.add(Label::new(RichText::new(problem).color(ui.visuals().warn_fg_color)).wrap());
    }
    action
}

/// What is chosen, and near-duplicates.
fn choice(ui: &mut Ui, settings: &mut ExportSettings) {
    ui.horizontal_wrapped(|ui| {
        let title = ExportRule::ALL.iter().find(|(rule, _)| *rule == settings.rule).map_or("", |(_, title)| title);
        let shown = ComboBox::from_id_salt("rule").selected_text(title).show_ui(ui, |ui| {
            for (rule, title) in ExportRule::ALL {
                ui.selectable_value(&mut settings.rule, rule, title);
            }
        });
        shown.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Which samples are chosen"));
        if settings.rule == ExportRule::Match {
            let field = TextEdit::singleline(&mut settings.target).hint_text("run folder").desired_width(100.0);
            let response = ui.add(field);
            response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Target run"));
            let hint =
                "A run of the same model and layer. A relative path is relative to the folder that holds this run";
            response.on_hover_text(hint);
        }
        let mut dedup = settings.dedup.is_some();
        let hint = "Drop samples whose features are this similar (Jaccard) to those of a better one";
        if ui.checkbox(&mut dedup, "drop near-duplicates").on_hover_text(hint).changed() {
            settings.dedup = dedup.then_some(0.9);
        }
        if let Some(similarity) = &mut settings.dedup {
            ui.spacing_mut().slider_width = 80.0;
            ui.add(Slider::new(similarity, 0.5..=1.0).fixed_decimals(2));
        }
    });
}

/// The number whose quantiles each keep the same share.
fn within(ui: &mut Ui, settings: &mut ExportSettings, typed: &mut Option<String>) {
    // A row of its own: the rest of another one would be too narrow for the field.
    ui.horizontal(|ui| {
        ui.label("Within quantiles of");
        let field = Field {
            name: "Number whose quantiles each keep their share",
            hint: "number, such as answer_tokens",
            width: f32::INFINITY,
        };
        widgets::entered(ui, field, &mut settings.within, typed).on_hover_text(
            "Keep the same share inside each of 20 quantiles of a number, so that a score cannot choose by it: a field of the \
             rows, a score, or answer_tokens",
        );
    });
}

/// How a command is doing.
pub fn progress(ui: &mut Ui, job: &Job) {
    match &job.state {
        JobState::Running => {
            match job.progress() {
                Some(share) => drop(ui.add(ProgressBar::new(share).show_percentage())),
                None => drop(ui.spinner()),
            }
            ui.add(Label::new(theme::small(ui, job.lines.last().map_or("Running ...", String::as_str))).wrap());
        }
        JobState::Done(output) => {
            ui.label(RichText::new("Done.").strong());
            ui.add(Label::new(RichText::new(output).monospace().small()).wrap());
        }
        JobState::Failed(reason) => {
            ui.add(Label::new(RichText::new(reason).color(ui.visuals().error_fg_color)).wrap());
        }
        JobState::Stopped => note(ui, "Stopped. Nothing was written."),
    }
}
