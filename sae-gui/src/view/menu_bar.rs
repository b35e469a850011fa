//! The bar on top: menus, back and forward, the tabs of the pages, the run and its autoencoder.

use super::Action;
use super::theme::{self, Direction};
use crate::state::command::{Command, Menu};
use crate::state::effect::Theme;
use crate::state::location::{Location, Page};
use crate::state::open_run::OpenRun;
use crate::state::session::Session;
use egui::{Align, Button, ComboBox, Layout, Response, RichText, Role, Ui, Vec2, WidgetInfo};

/// Width from which on everything is in one row.
const ONE_ROW: f32 = 1000.0;
/// Visits in the menu of the history at most, and its width.
const HISTORY: usize = 25;
const HISTORY_WIDTH: f32 = 320.0;

/// Draws the bar.
pub fn show(ui: &mut Ui, session: &Session) -> Option<Action> {
    let mut action = None;
    let one_row = ui.available_width() >= ONE_ROW;
    ui.horizontal_wrapped(|ui| {
        egui::MenuBar::new().ui(ui, |ui| {
            for menu in Menu::ALL {
                ui.menu_button(menu.title(), |ui| {
                    for command in Command::ALL.into_iter().filter(|command| command.menu() == menu) {
                        if entry(ui, session, command).clicked() {
                            action = Some(Action::Command(command));
                            ui.close();
                        }
                    }
                    if let Some(run) = session.run().filter(|_| menu == Menu::Go) {
                        ui.menu_button("History", |ui| action = history(ui, run).or(action.take()));
                    }
                });
            }
            ui.separator();
            for (command, direction) in [(Command::Back, Direction::Left), (Command::Forward, Direction::Right)] {
                let arrow = arrow(ui, session.allows(command), command, direction);
                if let Some(run) = session.run() {
                    arrow.context_menu(|ui| action = history(ui, run).or(action.take()));
                }
                if arrow.clicked() {
                    action = Some(Action::Command(command));
                }
            }
            if let Some(run) = session.run().filter(|_| one_row) {
                ui.separator();
                action = pages(ui, run).or(action.take());
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let command = Command::Shortcuts;
                if ui.add(Button::new("?").min_size(Vec2::splat(22.0))).on_hover_text(tip(command)).clicked() {
                    action = Some(Action::Command(command));
                }
            });
        });
    });
    if let Some(run) = session.run().filter(|_| !one_row) {
        ui.horizontal_wrapped(|ui| action = pages(ui, run).or(action.take()));
    }
    action
}

/// The tabs of the pages, the run and its autoencoder.
fn pages(ui: &mut Ui, run: &OpenRun) -> Option<Action> {
    let action = tabs(ui, run);
    ui.separator();
    let name = RichText::new(run.info.name()).strong();
    ui.add(egui::Label::new(name).truncate()).on_hover_text(run.info.path().display().to_string());
    autoencoder(ui, run).or(action)
}

/// The visits of the history as entries of a menu, the latest first.
fn history(ui: &mut Ui, run: &OpenRun) -> Option<Action> {
    let mut action = None;
    ui.set_max_width(HISTORY_WIDTH);
    for (visit, location) in run.history.visits().enumerate().rev().take(HISTORY) {
        let button = Button::selectable(run.history.number() == Some(visit), run.title(location)).truncate();
        if ui.add(button).clicked() {
            action = Some(Action::GoToVisit(visit));
            ui.close();
        }
    }
    action
}

fn tabs(ui: &mut Ui, run: &OpenRun) -> Option<Action> {
    let mut action = None;
    for page in Page::ALL {
        let tab = ui.selectable_label(run.page() == page, page.title());
        tab.widget_info(|| WidgetInfo::selected(Role::Tab, true, run.page() == page, page.title()));
        if tab.on_hover_text(tip(Command::Page(page))).clicked() {
            action = Some(Action::Go(Location::Page(page)));
        }
    }
    action
}

fn entry(ui: &mut Ui, session: &Session, command: Command) -> Response {
    let chosen = match command {
        Command::ToggleTable => !session.table_hidden,
        Command::ThemeSystem => session.theme.is_none(),
        Command::ThemeLight => session.theme == Some(Theme::Light),
        Command::ThemeDark => session.theme == Some(Theme::Dark),
        _ => false,
    };
    let mut button = Button::selectable(chosen, command.title());
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

/// All autoencoders of the run, each with what it lacks.
fn autoencoder(ui: &mut Ui, run: &OpenRun) -> Option<Action> {
    let current = run.info.sae.as_ref()?;
    let mut action = None;
    // Two rows have no room for a word that the tooltip says as well.
    if ui.max_rect().width() >= ONE_ROW {
        ui.label(theme::small(ui, "autoencoder"));
    }
    if run.info.saes.len() < 2 {
        ui.label(RichText::new(current).color(theme::muted(ui)));
        return None;
    }
    let combo = ComboBox::from_id_salt("autoencoder").selected_text(current.as_str());
    let shown = combo.show_ui(ui, |ui| {
        for sae in &run.info.saes {
            let text = match sae.remark() {
                "" => sae.name.clone(),
                remark => format!("{} ({remark})", sae.name),
            };
            if ui.selectable_label(sae.name == *current, text).clicked() && sae.name != *current {
                action = Some(Action::Sae(sae.name.clone()));
            }
        }
    });
    shown.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Autoencoder"));
    shown.response.on_hover_text("The autoencoder whose features are shown");
    action
}
