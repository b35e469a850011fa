//! What is written about the feature: star, label, notes, as fields. Decides nothing about undo and files.

use super::theme;
use crate::state::format;
use crate::state::open_run::OpenRun;
use egui::{Button, Id, Role, TextEdit, Ui, WidgetInfo};

/// The id of the label's field, for putting the cursor into it.
pub fn field_id() -> Id {
    Id::unique("label of the feature")
}

/// Draws the fields; returns whether there is an edit.
pub fn show(ui: &mut Ui, run: &mut OpenRun, feature: u32) -> bool {
    let mut entry = run.labeling.entry(feature);
    let before = entry.clone();
    let mut done = false;
    ui.horizontal(|ui| {
        let star = ui.add(Button::new(if entry.star { "Starred" } else { "Star" }).selected(entry.star));
        if star.on_hover_text("To come back to; star:yes finds it (S)").clicked() {
            run.labeling.toggle_star(feature);
            entry = run.labeling.entry(feature);
            done = true;
        }
        let field = TextEdit::singleline(&mut entry.label).id(field_id()).hint_text("what does it fire on? (E)");
        let response = ui.add(field.desired_width((ui.available_width() - 150.0).clamp(120.0, 460.0)));
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Label"));
        done |= response.lost_focus();
        let score = entry.score.map(|score| format!(", score {}", format::real(score))).unwrap_or_default();
        if !entry.author.is_empty() && !entry.label.is_empty() {
            ui.label(theme::small(ui, &format!("by {}{score}", entry.author)));
        }
    });
    let rows = entry.notes.lines().count().clamp(1, 5);
    let notes =
        TextEdit::multiline(&mut entry.notes).hint_text("notes").desired_rows(rows).desired_width(f32::INFINITY);
    let response = ui.add(notes);
    response.widget_info(|| WidgetInfo::labeled(Role::MultilineTextInput, true, "Notes"));
    done |= response.lost_focus();
    if (&entry.label, &entry.notes) != (&before.label, &before.notes) {
        run.labeling.type_in(entry);
    }
    if done {
        run.labeling.commit();
    }
    done
}
