//! The part of the Filter page that writes the kept samples as a new data set: options, the command line, its progress.

use super::theme::{self, note};
use super::{Action, widgets};
use crate::state::export_settings::{ExportSettings, FORMATS};
use crate::state::format;
use crate::state::job::{Job, JobState};
use crate::state::run_info::RunInfo;
use crate::state::score_filter::ScoreFilter;
use egui::{Button, ComboBox, Key, Label, ProgressBar, RichText, Role, Slider, TextEdit, Ui, WidgetInfo};

/// Draws the options and the button.
pub fn show(
    ui: &mut Ui,
    filter: &mut ScoreFilter,
    settings: &mut ExportSettings,
    info: &RunInfo,
    group_problem: Option<&str>,
    job: Option<&Job>,
) -> Option<Action> {
    let mut action = groups(ui, filter, settings, group_problem);
    redundancy(ui, settings);
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
    let problem = settings.problem(filter);
    let ready = filter.kept() > 0 && !job.is_some_and(Job::is_running) && problem.is_none();
    let title = format!("Write {}", format::counted(filter.kept(), "sample"));
    if ui.add_enabled(ready, Button::new(RichText::new(title).strong())).clicked() {
        action = Some(Action::Export(invocation.clone()));
    }
    if let Some(problem) = problem {
        ui.label(RichText::new(problem).color(ui.visuals().warn_fg_color));
    }
    if settings.dedup.is_some() || settings.diverse {
        note(
            ui,
            "Near-duplicates and diversity are decided while the data set is written; the lists here do not show them.",
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
        let field = TextEdit::singleline(&mut settings.group_by).hint_text("column, such as category").desired_width(150.0);
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

/// Near-duplicates and diversity.
fn redundancy(ui: &mut Ui, settings: &mut ExportSettings) {
    ui.horizontal_wrapped(|ui| {
        let mut dedup = settings.dedup.is_some();
        let hint = "Drop samples whose features are this similar (Jaccard) to those of a better one";
        if ui.checkbox(&mut dedup, "drop near-duplicates").on_hover_text(hint).changed() {
            settings.dedup = dedup.then_some(0.9);
        }
        if let Some(similarity) = &mut settings.dedup {
            ui.spacing_mut().slider_width = 80.0;
            ui.add(Slider::new(similarity, 0.5..=1.0).fixed_decimals(2));
        }
        ui.checkbox(&mut settings.diverse, "prefer diversity")
            .on_hover_text("Choose the samples that together show the most features, instead of the highest scores");
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
