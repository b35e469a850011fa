//! The row that makes a named list of the features that the table shows, and the menu of lists and columns.

use super::Action;
use super::table::{TableView, column_menu};
use crate::state::annotations::list_name_problem;
use crate::state::format;
use crate::state::open_run::OpenRun;
use egui::{Button, Key, Label, RichText, Role, TextEdit, Ui, WidgetInfo};

/// Draws the row. `name` is what was typed as the name of a list.
pub fn show(ui: &mut Ui, run: &mut OpenRun, view: &mut TableView, name: &mut String) -> Option<Action> {
    let mut action = None;
    ui.horizontal_wrapped(|ui| {
        let selected = run.list.selected();
        let features: Vec<u32> = if selected.is_empty() {
            run.list.shown().map(|row| row.feature).collect()
        } else {
            selected.iter().copied().collect()
        };
        let field = TextEdit::singleline(name).hint_text("name of a list").desired_width(120.0);
        let response = ui.add(field);
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Name of the list"));
        let entered = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        let problem = list_name_problem(name);
        let ready = !name.trim().is_empty() && !features.is_empty() && problem.is_none();
        let count = format::count(features.len() as u64);
        let what = if selected.is_empty() { "" } else { " selected" };
        let button = ui.add_enabled(ready, Button::new(format!("Save {count}{what} as list")));
        let hint = "Keep the selected features, or all that the table shows, under this name. list:NAME finds them";
        if button.on_hover_text(hint).clicked() || (entered && ready) {
            action = Some(Action::AddToList(name.trim().to_owned(), features));
            name.clear();
        }
        let lists: Vec<(String, usize)> =
            run.list.annotations().lists().map(|(name, count)| (name.to_owned(), count)).collect();
        if !lists.is_empty() {
            ui.menu_button("Lists", |ui| {
                for (name, count) in &lists {
                    ui.horizontal(|ui| {
                        if ui.button(format!("{name} ({count})")).clicked() {
                            run.list.search(&format!("list:\"{name}\""));
                            ui.close();
                        }
                        if ui.small_button("Remove").clicked() {
                            action = Some(Action::RemoveList(name.clone()));
                        }
                    });
                }
            });
        }
        ui.menu_button("Columns", |ui| column_menu(ui, &mut view.columns));
        if let Some(problem) = problem {
            ui.add(Label::new(RichText::new(problem).color(ui.visuals().warn_fg_color)).wrap());
        }
    });
    action
}
