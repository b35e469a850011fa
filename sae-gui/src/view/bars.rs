//! The menu bar on top and the line at the bottom.

use super::gallery;
use super::theme::{self, Direction};
use crate::state::command::{Command, Menu};
use crate::state::format;
use crate::state::session::{OpenRun, Session};
use egui::{Align, Button, ComboBox, Layout, Response, RichText, Role, Sense, Ui, Vec2, WidgetInfo};

/// What was clicked in the menu bar.
pub enum Click {
    /// A command.
    Command(Command),
    /// Another autoencoder of the run.
    Sae(String),
}

/// Draws the menu bar.
pub fn top(ui: &mut Ui, session: &Session) -> Option<Click> {
    let mut click = None;
    egui::MenuBar::new().ui(ui, |ui| {
        for menu in Menu::ALL {
            ui.menu_button(menu.title(), |ui| {
                for command in Command::ALL.into_iter().filter(|command| command.menu() == menu) {
                    if entry(ui, session, command).clicked() {
                        click = Some(Click::Command(command));
                        ui.close();
                    }
                }
            });
        }
        ui.separator();
        for (command, direction) in [(Command::Back, Direction::Left), (Command::Forward, Direction::Right)] {
            if arrow(ui, session.allows(command), command, direction).clicked() {
                click = Some(Click::Command(command));
            }
        }
        if let Some(run) = session.run() {
            ui.separator();
            ui.label(RichText::new(name(run)).strong()).on_hover_text(run.info.root.display().to_string());
            if let Some(sae) = autoencoder(ui, run) {
                click = Some(Click::Sae(sae));
            }
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let command = Command::Shortcuts;
            if ui.add(Button::new("?").min_size(Vec2::splat(22.0))).on_hover_text(tip(command)).clicked() {
                click = Some(Click::Command(command));
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
    let colour = if enabled { ui.visuals().text_color() } else { theme::muted(ui).gamma_multiply(0.5) };
    ui.painter().add(theme::triangle(response.rect, direction, colour));
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
    response.response.on_hover_text("The autoencoder whose features are listed");
    chosen
}

/// Draws the line at the bottom.
pub fn bottom(ui: &mut Ui, session: &Session, held: usize) {
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
        if let Some(notice) = &session.notice {
            ui.label(RichText::new(notice).small().strong());
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let held = format!("{:.0} of {} MB", held as f64 / f64::from(1 << 20), gallery::LIMIT >> 20);
            ui.add(egui::Label::new(small(held)).sense(Sense::hover()))
                .on_hover_text("Samples and pictures kept in memory; the longest unused go first");
        });
    });
}
