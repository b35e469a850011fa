//! What stands in the window when there is no table: the welcome, a failure, the sheet of shortcuts, the drop target.

use super::theme;
use crate::state::Command;
use crate::state::palette::{Choice, Palette};
use crate::state::session::{Phase, Session};
use egui::{Align2, Context, FontId, Grid, Id, LayerId, Modal, Order, RichText, TextEdit, Ui, vec2};

/// Draws what stands in for the table; returns a path that was entered.
pub fn stand_in(ui: &mut Ui, session: &Session, typed: &mut String, recents: &[String]) -> Option<String> {
    let mut entered = None;
    ui.vertical_centered(|ui| {
        ui.add_space((0.28 * ui.available_height()).max(8.0));
        ui.set_max_width(560.0_f32.min(ui.available_width()));
        match &session.phase {
            Phase::Opening => {
                ui.heading("Opening");
                let run = session.asked().map(|link| link.run.display().to_string()).unwrap_or_default();
                ui.label(RichText::new(run).color(theme::muted(ui)));
                return;
            }
            Phase::Failed(reason) => failure(ui, reason),
            _ => {
                ui.heading("SAE workbench");
                ui.label("What has this model learned across images and text?");
                ui.add_space(10.0);
                ui.label(RichText::new("Drop a run folder here, or name one:").color(theme::muted(ui)));
            }
        }
        ui.add_space(8.0);
        let field = TextEdit::singleline(typed).hint_text("path of a run folder, or a link: sae://RUN/f/1234");
        let response = ui.add(field.desired_width(420.0).margin(egui::Margin::symmetric(8, 6)));
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::TextInput, true, "Run to open"));
        let entry = response.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        ui.add_space(4.0);
        if (ui.button("Open").clicked() || entry) && !typed.trim().is_empty() {
            entered = Some(typed.trim().to_owned());
        }
        ui.add_space(8.0);
        entered = recent(ui, recents).or(entered.take());
        if matches!(session.phase, Phase::Empty) {
            ui.add_space(12.0);
            let first = "`sae demo` makes a run from the bundled model and data in a few minutes.";
            ui.label(RichText::new(first).small().color(theme::muted(ui)));
        }
    });
    entered
}

/// The reason in the words of whoever found it; hints stand apart.
fn failure(ui: &mut Ui, reason: &str) {
    ui.heading("This cannot be opened");
    ui.add_space(6.0);
    // An error ends in its hints, each on a line of its own: "cause: path\nhint: do this".
    for part in reason.lines() {
        match part.strip_prefix("hint: ") {
            Some(hint) => ui.label(RichText::new(hint).color(theme::muted(ui))),
            None => ui.label(sentence(part)),
        };
    }
}

/// With a capital letter, as it stands alone here.
fn sentence(text: &str) -> String {
    let mut signs = text.chars();
    signs.next().map(|first| first.to_uppercase().chain(signs).collect()).unwrap_or_default()
}

/// Draws the sheet of shortcuts; returns whether it is to be closed.
pub fn shortcuts(ctx: &Context) -> bool {
    let sheet = Modal::new(Id::unique("shortcuts")).show(ctx, |ui| {
        ui.set_width(430.0);
        ui.heading("Keyboard shortcuts");
        ui.add_space(6.0);
        Grid::new("keys").num_columns(2).spacing(vec2(18.0, 7.0)).show(ui, |ui| {
            for command in Command::ALL.into_iter().filter(|command| !command.keys().is_empty()) {
                ui.monospace(command.keys().join("  "));
                ui.label(command.hint());
                ui.end_row();
            }
        });
        ui.add_space(6.0);
        ui.button("Close").clicked()
    });
    sheet.inner || sheet.should_close()
}

/// Draws the field for another run; returns what was entered, and whether the sheet is to be closed.
pub fn open(ctx: &Context, typed: &mut String, recents: &[String]) -> (Option<String>, bool) {
    let mut entered = None;
    let sheet = Modal::new(Id::unique("open")).show(ctx, |ui| {
        ui.set_width(520.0);
        ui.heading("Open a run");
        let field = TextEdit::singleline(typed).hint_text("path of a run folder, or a link: sae://RUN/f/1234");
        let response = ui.add(field.desired_width(f32::INFINITY).margin(egui::Margin::symmetric(8, 6)));
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::TextInput, true, "Run to open"));
        let entry = response.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        response.request_focus();
        entered = recent(ui, recents);
        if (ui.button("Open").clicked() || entry) && !typed.trim().is_empty() {
            entered = Some(typed.trim().to_owned());
        }
    });
    (entered, sheet.should_close())
}

/// Runs that were open before, as buttons.
fn recent(ui: &mut Ui, recents: &[String]) -> Option<String> {
    let mut entered = None;
    if !recents.is_empty() {
        ui.label(theme::small(ui, "Lately"));
    }
    for run in recents {
        if ui.add(egui::Button::new(run.as_str()).frame(false).truncate()).clicked() {
            entered = Some(run.clone());
        }
    }
    entered
}

/// Draws the palette; returns what was chosen, and whether it is to be closed.
pub fn palette(ctx: &Context, session: &Session, palette: &mut Palette) -> (Option<Choice>, bool) {
    let mut chosen = None;
    let sheet = Modal::new(Id::unique("palette")).show(ctx, |ui| {
        ui.set_width(460.0);
        let field = TextEdit::singleline(&mut palette.text).hint_text("a command, a number, a label");
        let response = ui.add(field.desired_width(f32::INFINITY).margin(egui::Margin::symmetric(8, 6)));
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::SearchInput, true, "Command palette"));
        let entry = response.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        if response.changed() {
            palette.at = 0;
        }
        response.request_focus();
        let (list, samples) = session.run().map(|run| (&run.list, run.info.samples)).unzip();
        let lines = palette.lines(list, samples.unwrap_or(0), |command| session.allows(command));
        let (up, down) =
            ui.input(|input| (input.key_pressed(egui::Key::ArrowUp), input.key_pressed(egui::Key::ArrowDown)));
        palette.step(isize::from(down) - isize::from(up), lines.len());
        for (at, line) in lines.iter().enumerate() {
            let mut button = egui::Button::selectable(at == palette.at, line.title.as_str())
                .min_size(vec2(ui.available_width(), 0.0));
            if let Choice::Command(command) = line.choice
                && let Some(key) = command.keys().first()
            {
                button = button.shortcut_text(*key);
            }
            if ui.add(button).clicked() || (entry && at == palette.at) {
                chosen = Some(line.choice);
            }
        }
        if lines.is_empty() {
            ui.label(theme::small(ui, "Nothing is called so."));
        }
    });
    (chosen, sheet.should_close())
}

/// While a folder is held over the window: says what letting go will do.
pub fn drop_target(ctx: &Context) {
    if ctx.input(|input| input.raw.hovered_files.is_empty()) {
        return;
    }
    let screen = ctx.content_rect();
    let painter = ctx.layer_painter(LayerId::new(Order::Foreground, Id::unique("drop")));
    painter.rect_filled(screen, 0.0, egui::Color32::from_black_alpha(190));
    let font = FontId::proportional(22.0);
    painter.text(screen.center(), Align2::CENTER_CENTER, "Drop the run folder to open it", font, egui::Color32::WHITE);
}
