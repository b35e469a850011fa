//! The fields for what is written about a feature: star, label, notes, lists. Decides nothing about undo and files.

use super::theme;
use crate::state::Command;
use crate::state::format;
use crate::state::open_run::OpenRun;
use egui::{Button, Id, Key, Response, Role, TextEdit, Ui, WidgetInfo};

/// The id of the label's field. Every feature has a field of its own, so that undo in the field cannot bring back the label of
/// another feature.
pub fn field_id(feature: u32) -> Id {
    Id::unique(("label of feature", feature))
}

/// Draws star and label on one row. Returns whether there is an edit.
pub fn label_row(ui: &mut Ui, run: &mut OpenRun, feature: u32) -> bool {
    let mut entry = run.label_edits.entry(feature);
    let before = entry.label.clone();
    let mut edited = false;
    ui.horizontal(|ui| {
        let star =
            ui.add(Button::new(if entry.star { "\u{2605} Starred" } else { "\u{2606} Star" }).selected(entry.star));
        if star.on_hover_text(format!("{} (S). star:yes finds it", Command::Star.hint())).clicked() {
            run.label_edits.toggle_star(feature);
            edited = true;
        }
        let note = match (entry.label.is_empty(), entry.author.is_empty()) {
            (false, false) => {
                let score = entry.score.map(|score| format!(", score {}", format::real(score))).unwrap_or_default();
                format!("by {}{score}", entry.author)
            }
            _ => String::new(),
        };
        let room = if note.is_empty() { 0.0 } else { 150.0 };
        let hint = match run.list.typical_words(feature).map(|words| words.summary()).filter(|text| !text.is_empty()) {
            Some(words) => format!("no label (E to write one); typical words: {words}"),
            None => "no label (E to write one)".into(),
        };
        let field = TextEdit::singleline(&mut entry.label).id(field_id(feature)).hint_text(hint);
        let response = ui.add(field.desired_width((ui.available_width() - room).max(80.0)));
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Label"));
        let response = match &run.info.read_only {
            Some(reason) => response.on_hover_text(format!("Labels cannot be saved here: {reason}")),
            None => response.on_hover_text("Enter saves, Escape restores the label"),
        };
        if entry.label != before {
            run.label_edits.set_draft(entry);
        }
        edited |= finish(ui, run, &response);
        if !note.is_empty() {
            let hint = "The author of the label. The score is the share of examples that the model had not seen on which the label \
                        predicts correctly whether the feature fires; 0.5 is chance";
            ui.label(theme::small(ui, &note)).on_hover_text(hint);
        }
    });
    edited
}

/// Draws the notes. Returns whether there is an edit.
pub fn notes(ui: &mut Ui, run: &mut OpenRun, feature: u32) -> bool {
    let mut entry = run.label_edits.entry(feature);
    let before = entry.notes.clone();
    let rows = entry.notes.lines().count().clamp(1, 5);
    let field = TextEdit::multiline(&mut entry.notes).id_salt(("notes of feature", feature)).hint_text("notes");
    let response = ui.add(field.desired_rows(rows).desired_width(f32::INFINITY));
    response.widget_info(|| WidgetInfo::labeled(Role::MultilineTextInput, true, "Notes"));
    if entry.notes != before {
        run.label_edits.set_draft(entry);
    }
    finish(ui, run, &response)
}

/// Ends an edit when the field loses the focus: Escape discards what was typed, everything else keeps it.
fn finish(ui: &Ui, run: &mut OpenRun, response: &Response) -> bool {
    if !response.lost_focus() {
        return false;
    }
    if ui.input(|input| input.key_pressed(Key::Escape)) {
        run.label_edits.discard_draft();
        return false;
    }
    run.label_edits.commit();
    true
}

/// Draws the lists that a feature is in, each with a button that takes it out. Returns whether there is an edit.
pub fn lists(ui: &mut Ui, run: &mut OpenRun, feature: u32) -> bool {
    let lists: Vec<String> = run.list.annotations().lists_of(feature).into_iter().map(str::to_owned).collect();
    if lists.is_empty() {
        return false;
    }
    let mut edited = false;
    ui.horizontal_wrapped(|ui| {
        ui.label(theme::small(ui, "in lists"));
        for name in lists {
            if ui.small_button(&name).on_hover_text("Show the features of this list").clicked() {
                run.list.search(&format!("list:\"{name}\""));
            }
            let remove = ui.small_button("\u{00d7}");
            remove.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Remove from {name}")));
            if remove.on_hover_text(format!("Remove the feature from {name}")).clicked() {
                run.label_edits.remove_from_list(&name, &[feature]);
                edited = true;
            }
        }
    });
    edited
}
