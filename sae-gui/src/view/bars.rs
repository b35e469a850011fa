//! The menu bar on top and the line at the bottom.

use super::Action;
use super::gallery;
use super::theme::{self, Direction};
use crate::state::command::{Command, Menu};
use crate::state::format;
use crate::state::job::State;
use crate::state::location::{Location, Page};
use crate::state::open_run::OpenRun;
use crate::state::session::Session;
use egui::{Align, Button, ComboBox, Layout, Response, RichText, Role, Sense, Ui, Vec2, WidgetInfo};

/// Draws the menu bar.
pub fn top(ui: &mut Ui, session: &Session) -> Option<Action> {
    let mut click = None;
    egui::MenuBar::new().ui(ui, |ui| {
        for menu in Menu::ALL {
            ui.menu_button(menu.title(), |ui| {
                for command in Command::ALL.into_iter().filter(|command| command.menu() == menu) {
                    if entry(ui, session, command).clicked() {
                        click = Some(Action::Command(command));
                        ui.close();
                    }
                }
            });
        }
        ui.separator();
        for (command, direction) in [(Command::Back, Direction::Left), (Command::Forward, Direction::Right)] {
            if arrow(ui, session.allows(command), command, direction).clicked() {
                click = Some(Action::Command(command));
            }
        }
        if let Some(run) = session.run() {
            ui.separator();
            for page in Page::ALL {
                let command = Command::Page(page);
                let tab = ui.selectable_label(run.page() == page, page.title());
                tab.widget_info(|| WidgetInfo::selected(Role::Tab, true, run.page() == page, page.title()));
                if tab.on_hover_text(tip(command)).clicked() {
                    click = Some(Action::Go(Location::Page(page)));
                }
            }
            ui.separator();
            ui.label(RichText::new(name(run)).strong()).on_hover_text(run.info.root.display().to_string());
            if let Some(sae) = autoencoder(ui, run) {
                click = Some(Action::Sae(sae));
            }
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let command = Command::Shortcuts;
            if ui.add(Button::new("?").min_size(Vec2::splat(22.0))).on_hover_text(tip(command)).clicked() {
                click = Some(Action::Command(command));
            }
        });
    });
    click
}

fn entry(ui: &mut Ui, session: &Session, command: Command) -> Response {
    let mut button = Button::new(command.title());
    if let Some(key) = command.keys().first() {
        button = button.shortcut_text(*key);
    }
    ui.add_enabled(session.allows(command), button).on_hover_text(command.hint())
}

/// The hint of a command with its keys.
fn tip(command: Command) -> String {
    match command.keys() {
        [] => command.hint().into(),
        keys => format!("{} ({})", command.hint(), keys.join(", ")),
    }
}

fn arrow(ui: &mut Ui, enabled: bool, command: Command, direction: Direction) -> Response {
    let response = ui.add_enabled(enabled, Button::new("").min_size(Vec2::splat(22.0)));
    response.widget_info(|| WidgetInfo::labeled(Role::Button, enabled, command.title()));
    let color = if enabled { ui.visuals().text_color() } else { theme::muted(ui).gamma_multiply(0.5) };
    ui.painter().add(theme::triangle(response.rect, direction, color));
    response.on_hover_text(tip(command))
}

/// The run's folder name.
fn name(run: &OpenRun) -> String {
    let name = run.info.root.file_name().unwrap_or(run.info.root.as_os_str());
    name.to_string_lossy().into_owned()
}

fn autoencoder(ui: &mut Ui, run: &OpenRun) -> Option<String> {
    let mut chosen = None;
    if run.info.indexed.len() < 2 {
        ui.label(RichText::new(&run.info.sae).color(theme::muted(ui))).on_hover_text("The autoencoder");
        return None;
    }
    let combo = ComboBox::from_id_salt("autoencoder").selected_text(run.info.sae.as_str());
    let response = combo.show_ui(ui, |ui| {
        for name in &run.info.indexed {
            if ui.selectable_label(*name == run.info.sae, name.as_str()).clicked() && *name != run.info.sae {
                chosen = Some(name.clone());
            }
        }
    });
    response.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Autoencoder"));
    response.response.on_hover_text("The autoencoder whose features are listed");
    chosen
}

/// Draws the line at the bottom; returns whether the command that runs is to be stopped.
pub fn bottom(ui: &mut Ui, session: &Session, held: usize) -> bool {
    let mut stop = false;
    let muted = theme::muted(ui);
    let small = |text: String| RichText::new(text).small().color(muted);
    ui.horizontal(|ui| {
        match session.run() {
            Some(run) => {
                let info = &run.info;
                let model = if info.model.is_empty() { "model unknown" } else { &info.model };
                ui.label(small(model.into())).on_hover_text("The model that the activations come from");
                let stored =
                    format!("{} samples, {} positions", format::count(info.samples), format::count(info.tokens));
                ui.label(small(stored));
            }
            None => drop(ui.label(small("Drop a run folder on this window to open it.".into()))),
        }
        if let Some(job) = session.job.as_ref().filter(|job| job.runs()) {
            ui.spinner();
            ui.label(small(job.order.title.clone())).on_hover_text(job.order.line());
            if let Some(line) = job.lines.last() {
                ui.label(small(line.clone()));
            }
            if ui.small_button("Stop").clicked() {
                stop = true;
            }
        }
        let failed = session.job.as_ref().and_then(|job| match &job.state {
            State::Failed(reason) => Some(reason.lines().next().unwrap_or_default()),
            _ => None,
        });
        if let Some(reason) = failed {
            ui.label(RichText::new(reason).small().color(ui.visuals().error_fg_color));
        }
        if let Some((count, Some(reason))) =
            session.run().map(|run| run.labeling.unsaved()).filter(|(count, _)| *count > 0)
        {
            let text = format!("{count} edits are not saved: {reason}");
            ui.label(RichText::new(text).small().strong().color(ui.visuals().error_fg_color));
        }
        if let Some(notice) = &session.notice {
            ui.label(RichText::new(notice).small().strong());
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let held = format!(
                "{:.0} of {} MB",
                held as f64 / f64::from(1 << 20),
                (gallery::LIMIT + gallery::ACTIVE_LIMIT) >> 20
            );
            ui.add(egui::Label::new(small(held)).sense(Sense::hover()))
                .on_hover_text("Samples, pictures and activations kept in memory; the longest unused go first");
        });
    });
    stop
}
