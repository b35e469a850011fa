//! What is shown over the pages, and in place of them while no run is open: the start page, a failure, the shortcuts, questions,
//! the command palette, the drop target.

use super::theme;
use super::{folders, widgets};
use crate::state::Command;
use crate::state::invocation::Invocation;
use crate::state::open_dialog::OpenDialog;
use crate::state::overlay::{SavePictureDialog, UnsavedDialog};
use crate::state::palette::{Choice, Palette};
use crate::state::session::{Phase, Session};
use egui::{
    Align2, Area, Button, Context, FontId, Grid, Id, Key, LayerId, Modal, Order, Popup, Rect, RichText, Role,
    ScrollArea, Sense, TextEdit, Ui, WidgetInfo, pos2, vec2,
};
use std::path::PathBuf;

/// A modal that is fixed at the top, so that its field stays in place while its content grows.
pub fn modal(name: &'static str) -> Modal {
    let area: Area = Modal::default_area(Id::unique(name)).anchor(Align2::CENTER_TOP, vec2(0.0, 70.0));
    Modal::new(Id::unique(name)).area(area)
}

/// The width of a modal: as given, or what the window has room for.
pub fn set_width(ui: &mut Ui, width: f32) {
    let room = ui.ctx().content_rect().width() - 60.0;
    ui.set_width(width.min(room.max(120.0)));
}

/// Draws what stands in for the pages while no run is open. Returns a path or link that was entered.
pub fn start_page(ui: &mut Ui, session: &Session, dialog: &mut OpenDialog, recents: &[String]) -> Option<String> {
    let mut entered = None;
    ui.vertical_centered(|ui| {
        ui.add_space((0.16 * ui.available_height()).max(8.0));
        ui.set_max_width(560.0_f32.min(ui.available_width()));
        match &session.phase {
            Phase::Opening => {
                ui.heading("Opening");
                let run = session.requested().map(|link| link.run.display().to_string()).unwrap_or_default();
                ui.label(RichText::new(run).color(theme::muted(ui)));
                return;
            }
            Phase::Failed(reason) => {
                ui.heading("This cannot be opened");
                ui.add_space(6.0);
                widgets::reason(ui, reason);
            }
            _ => {
                ui.heading("SAE workbench");
                ui.label("What has this model learned across images and text?");
                ui.add_space(10.0);
                ui.label(RichText::new("Drop a run folder here, or name one:").color(theme::muted(ui)));
            }
        }
        ui.add_space(8.0);
        let response = folders::field(ui, dialog, 420.0);
        let entry = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        ui.add_space(4.0);
        if (ui.button("Open").clicked() || entry) && !dialog.text.trim().is_empty() {
            entered = Some(dialog.text.trim().to_owned());
        }
        ui.add_space(8.0);
        entered = recent_runs(ui, recents).or(entered.take());
        ui.add_space(8.0);
        entered = folders::show(ui, dialog).or(entered.take());
        if matches!(session.phase, Phase::Empty) {
            ui.add_space(12.0);
            widgets::hint(ui, "`sae demo` makes a run from the bundled model and data in a few minutes.");
        }
    });
    entered
}

/// Draws the shortcuts. Returns whether to close them.
pub fn shortcuts(ctx: &Context) -> bool {
    let shown = modal("shortcuts").show(ctx, |ui| {
        set_width(ui, 470.0);
        ui.heading("Keyboard shortcuts");
        ui.add_space(6.0);
        let height = (ui.ctx().content_rect().height() - 220.0).max(120.0);
        ScrollArea::vertical().max_height(height).show(ui, |ui| {
            Grid::new("keys").num_columns(2).spacing(vec2(18.0, 5.0)).show(ui, |ui| {
                for command in Command::ALL.into_iter().filter(|command| !command.keys().is_empty()) {
                    ui.monospace(command.keys().join("  "));
                    ui.label(command.hint());
                    ui.end_row();
                }
                for (keys, hint) in [
                    ("Ctrl+click", "Select several rows of the table"),
                    ("Shift+click", "Select the rows between two"),
                    ("Ctrl+Plus", "Enlarge everything (Ctrl+Minus, Ctrl+0)"),
                ] {
                    ui.monospace(keys);
                    ui.label(hint);
                    ui.end_row();
                }
            });
        });
        ui.add_space(6.0);
        ui.button("Close").clicked()
    });
    shown.inner || shown.should_close()
}

/// Draws the field for another run. Returns what was entered, and whether to close the field.
pub fn open(ctx: &Context, dialog: &mut OpenDialog, opening: bool, recents: &[String]) -> (Option<String>, bool) {
    let mut entered = None;
    let shown = modal("open").show(ctx, |ui| {
        set_width(ui, 520.0);
        ui.heading("Open a run");
        let response = folders::field(ui, dialog, f32::INFINITY);
        let entry = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        if response.changed() {
            dialog.problem = None;
        }
        response.request_focus();
        if let Some(problem) = &dialog.problem {
            ui.label(RichText::new("This cannot be opened").strong());
            widgets::reason(ui, problem);
        }
        if opening {
            ui.horizontal(|ui| {
                ui.spinner();
                ui.label("Opening ...");
            });
        }
        entered = recent_runs(ui, recents);
        entered = folders::show(ui, dialog).or(entered.take());
        if (ui.button("Open").clicked() || entry) && !dialog.text.trim().is_empty() {
            entered = Some(dialog.text.trim().to_owned());
        }
    });
    (entered, shown.should_close())
}

/// Runs that were opened before, as buttons.
fn recent_runs(ui: &mut Ui, recents: &[String]) -> Option<String> {
    let mut entered = None;
    if !recents.is_empty() {
        ui.label(theme::small(ui, "Recent"));
    }
    for run in recents {
        if ui.add(Button::new(run.as_str()).frame(false).truncate()).clicked() {
            entered = Some(run.clone());
        }
    }
    entered
}

/// Draws the question whether to start a command. Returns the answer.
pub fn confirm(ctx: &Context, invocation: &Invocation) -> Option<bool> {
    let mut answer = None;
    let shown = modal("confirm").show(ctx, |ui| {
        set_width(ui, 520.0);
        ui.heading("Run this command?");
        ui.label("It may take minutes. The status bar shows its progress and can stop it.");
        ui.add_space(4.0);
        widgets::command_line(ui, &invocation.command_line());
        ui.add_space(8.0);
        ui.horizontal(|ui| {
            if ui.button(RichText::new("Start").strong()).clicked() {
                answer = Some(true);
            }
            if ui.button("Cancel").clicked() {
                answer = Some(false);
            }
        });
    });
    answer.or(shown.should_close().then_some(false))
}

/// What to do with edits that cannot be saved.
pub enum UnsavedAnswer {
    /// Try to save them again, and close the window if that works.
    Retry,
    /// Write the labels to this file instead, and close the window.
    WriteTo(String),
    /// Close the window without them.
    Quit,
    /// Do not close the window.
    Stay,
}

/// Draws the question what to do with edits that cannot be saved, and why. `files` is the number of label files that lack some of
/// them. Returns the answer.
pub fn unsaved(
    ctx: &Context,
    (count, reason): (usize, Option<String>),
    files: usize,
    dialog: &mut UnsavedDialog,
) -> Option<UnsavedAnswer> {
    let mut answer = None;
    let shown = modal("unsaved").show(ctx, |ui| {
        set_width(ui, 520.0);
        ui.heading(if count == 1 { "1 edit is not saved".into() } else { format!("{count} edits are not saved") });
        ui.label(reason.unwrap_or_default());
        if files > 1 {
            ui.label(format!(
                "They belong to {files} runs or autoencoders. If you save them elsewhere, each gets a file: labels.json, \
                 labels-2.json and so on."
            ));
        }
        ui.add_space(6.0);
        if ui.button(RichText::new("Try again").strong()).clicked() {
            answer = Some(UnsavedAnswer::Retry);
        }
        ui.horizontal(|ui| {
            let field = TextEdit::singleline(&mut dialog.path).hint_text("another file, such as /home/me/labels.json");
            let response = ui.add(field.desired_width((ui.available_width() - 130.0).max(80.0)));
            response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "File for the labels"));
            let ready = !dialog.path.trim().is_empty();
            if ui.add_enabled(ready, Button::new("Save there")).clicked() {
                answer = Some(UnsavedAnswer::WriteTo(dialog.path.trim().to_owned()));
            }
        });
        if let Some(problem) = &dialog.problem {
            ui.label(RichText::new(problem).color(ui.visuals().error_fg_color));
        }
        ui.add_space(6.0);
        ui.horizontal(|ui| {
            if ui.button("Quit without saving").clicked() {
                answer = Some(UnsavedAnswer::Quit);
            }
            if ui.button("Cancel").clicked() {
                answer = Some(UnsavedAnswer::Stay);
            }
        });
    });
    answer.or(shown.should_close().then_some(UnsavedAnswer::Stay))
}

/// Draws the question where to save a picture. Returns the file, and whether to close the question.
pub fn save_picture(ctx: &Context, dialog: &mut SavePictureDialog) -> (Option<PathBuf>, bool) {
    let (mut file, mut close) = (None, false);
    let shown = modal("save picture").show(ctx, |ui| {
        set_width(ui, 520.0);
        ui.heading("Save the picture");
        let response = ui.add(TextEdit::singleline(&mut dialog.path).desired_width(f32::INFINITY));
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "File of the picture"));
        let entered = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        if response.changed() {
            dialog.problem = None;
        }
        response.request_focus();
        ui.label(theme::small(
            ui,
            "A new PNG file of the picture as the data set has it, of at most 2048 pixels a side.",
        ));
        if let Some(problem) = &dialog.problem {
            ui.label(RichText::new(problem).color(ui.visuals().error_fg_color));
        }
        ui.add_space(6.0);
        ui.horizontal(|ui| {
            let path = dialog.path.trim();
            let save = ui.add_enabled(!path.is_empty(), Button::new(RichText::new("Save").strong()));
            if save.clicked() || (entered && !path.is_empty()) {
                file = Some(PathBuf::from(path));
            }
            close = ui.button("Cancel").clicked();
        });
    });
    (file, close || shown.should_close())
}

/// Draws the palette. Returns what was chosen, and whether to close it.
pub fn palette(ctx: &Context, session: &Session, palette: &mut Palette) -> (Option<Choice>, bool) {
    let mut chosen = None;
    let shown = modal("palette").show(ctx, |ui| {
        set_width(ui, 480.0);
        let hint = "a command, a number, a word, a link";
        let field = TextEdit::singleline(&mut palette.text).hint_text(hint);
        let response = ui.add(field.desired_width(f32::INFINITY).margin(egui::Margin::symmetric(8, 6)));
        response.widget_info(|| WidgetInfo::labeled(Role::SearchInput, true, "Command palette"));
        let entry = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        if response.changed() {
            palette.selected = 0;
        }
        response.request_focus();
        let (list, samples) = session.run().map(|run| (&run.list, run.info.samples)).unzip();
        let lines = palette.lines(list, samples.unwrap_or(0), |command| session.allows(command));
        let (up, down) = ui.input(|input| (input.key_pressed(Key::ArrowUp), input.key_pressed(Key::ArrowDown)));
        palette.step(isize::from(down) - isize::from(up), lines.len());
        for (at, line) in lines.iter().enumerate() {
            let mut button = Button::selectable(at == palette.selected, line.title.as_str())
                .truncate()
                .min_size(vec2(ui.available_width(), 0.0));
            if let Choice::Command(command) = line.choice
                && let Some(key) = command.keys().first()
            {
                button = button.shortcut_text(*key);
            }
            if ui.add(button).clicked() || (entry && at == palette.selected) {
                chosen = Some(line.choice.clone());
            }
        }
        if lines.is_empty() {
            ui.label(theme::small(ui, "No match."));
        }
    });
    (chosen, shown.should_close())
}

/// While a menu or drop-down is open, a click beside it closes it and does nothing else. The menus themselves stay reachable.
pub fn shield(ctx: &Context, top: f32) {
    if Popup::is_any_open(ctx) {
        let screen = ctx.content_rect();
        let area = Area::new(Id::unique("shield")).order(Order::Middle).fixed_pos(pos2(screen.left(), top));
        area.show(ctx, |ui| {
            let rect = Rect::from_min_max(pos2(screen.left(), top), screen.right_bottom());
            ui.allocate_rect(rect, Sense::click());
        });
    }
}

/// While a file is held over the window: says what letting go will do.
pub fn drop_target(ctx: &Context) {
    if ctx.input(|input| input.raw.hovered_files.is_empty()) {
        return;
    }
    let screen = ctx.content_rect();
    let painter = ctx.layer_painter(LayerId::new(Order::Foreground, Id::unique("drop")));
    painter.rect_filled(screen, 0.0, egui::Color32::from_black_alpha(190));
    let font = FontId::proportional(22.0);
    let text = "Drop a run folder to open it, or an image to try it";
    painter.text(screen.center(), Align2::CENTER_CENTER, text, font, egui::Color32::WHITE);
}
