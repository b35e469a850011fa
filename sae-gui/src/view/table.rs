//! The table of all features. Only the visible rows are laid out, however many there are.

use super::Action;
use super::theme::{self, Direction};
use super::widgets;
use crate::state::Command;
use crate::state::clipboard;
use crate::state::field::Field;
use crate::state::format;
use crate::state::link::Counterpart;
use crate::state::list::FeatureList;
use crate::state::location::{Location, Page};
use crate::state::open_run::OpenRun;
use egui::{Align, Button, Label, Layout, Rect, Response, RichText, Role, Sense, Ui, WidgetInfo, vec2};
use egui_extras::{Column, TableBuilder, TableRow};
use sae_core::analysis::index::FeatureRow;

/// Height of a row.
const ROW: f32 = 20.0;

/// What the table remembers between two frames.
pub struct TableView {
    /// The columns that are shown.
    pub columns: Vec<Field>,
    /// The search that was shown last.
    searched: String,
}

impl Default for TableView {
    fn default() -> Self {
        Self { columns: Field::DEFAULT_COLUMNS.to_vec(), searched: String::new() }
    }
}

/// What was done to a row.
enum RowEvent {
    Click(u32),
    Toggle(u32),
    Range(u32),
    Act(Action),
}

/// Draws the rows. `reveal` scrolls to the feature that is shown.
pub fn show(ui: &mut Ui, run: &mut OpenRun, view: &mut TableView, reveal: bool) -> Option<Action> {
    // What a search finds is looked at from the top.
    let to_top = view.searched != run.list.search_text();
    view.searched = run.list.search_text().to_owned();
    let (mut event, sort) = rows(ui, run, view, reveal, to_top);
    if let Some(field) = sort {
        run.list.sort_by(field);
    }
    let current = run.feature_number();
    match event.take()? {
        RowEvent::Click(feature) => {
            run.list.clear_selection();
            Some(Action::Go(Location::Feature(feature)))
        }
        RowEvent::Toggle(feature) => {
            run.list.toggle_selected(feature, current);
            None
        }
        RowEvent::Range(feature) => {
            run.list.select_range(current, feature);
            None
        }
        RowEvent::Act(action) => Some(action),
    }
}

fn rows(
    ui: &mut Ui,
    run: &OpenRun,
    view: &mut TableView,
    reveal: bool,
    to_top: bool,
) -> (Option<RowEvent>, Option<Field>) {
    let (current, list) = (run.feature_number(), &run.list);
    let (mut event, mut sort) = (None, None);
    ui.spacing_mut().item_spacing = vec2(6.0, 2.0);
    ui.style_mut().interaction.selectable_labels = false;
    let mut table = TableBuilder::new(ui)
        .id_salt(("features", &view.columns))
        .striped(true)
        .sense(Sense::click())
        .auto_shrink(false)
        .animate_scrolling(false)
        .cell_layout(Layout::right_to_left(Align::Center));
    for field in &view.columns {
        let column = match field {
            Field::Label => Column::remainder().at_least(90.0),
            _ => Column::initial(width(*field)).at_least(36.0).resizable(true),
        };
        table = table.column(column.clip(true));
    }
    if to_top {
        table = table.scroll_to_row(0, Some(Align::TOP));
    } else if let Some(place) = current.filter(|_| reveal).and_then(|feature| list.place(feature)) {
        table = table.scroll_to_row(place, None);
    }
    let columns = view.columns.clone();
    table
        .header(ROW + 4.0, |mut row| {
            for field in &columns {
                row.col(|ui| {
                    let head = head(ui, *field, list);
                    head.context_menu(|ui| column_menu(ui, &mut view.columns));
                    if head.clicked() {
                        sort = Some(*field);
                    }
                });
            }
        })
        .body(|body| {
            body.rows(ROW, list.len(), |mut row| {
                let Some(feature) = list.at(row.index()) else { return };
                let number = feature.feature;
                row.set_hovered(run.hover.feature() == Some(number));
                row.set_selected(current == Some(number) || list.selected().contains(&number));
                cells(&mut row, run, feature, &columns, current == Some(number));
                let response = row.response();
                if response.hovered() {
                    run.hover.set(number);
                }
                response.context_menu(|ui| {
                    if let Some(action) = row_menu(ui, run, number) {
                        event = Some(RowEvent::Act(action));
                    }
                });
                if response.clicked() {
                    let modifiers = response.ctx.input(|input| input.modifiers);
                    event = Some(match (modifiers.shift, modifiers.command) {
                        (true, _) => RowEvent::Range(number),
                        (false, true) => RowEvent::Toggle(number),
                        (false, false) => RowEvent::Click(number),
                    });
                }
            });
        });
    (event, sort)
}

fn width(field: Field) -> f32 {
    match field {
        Field::Feature => 64.0,
        Field::Class => 50.0,
        Field::RateText | Field::RateImage => 70.0,
        _ => 66.0,
    }
}

/// The menu that chooses the columns.
pub fn column_menu(ui: &mut Ui, columns: &mut Vec<Field>) {
    for field in Field::ALL {
        let mut shown = columns.contains(&field);
        if ui.checkbox(&mut shown, field.name()).on_hover_text(field.hint()).changed() {
            // In the order of all fields, and never without a column.
            let wanted = |other: &Field| if *other == field { shown } else { columns.contains(other) };
            let chosen: Vec<Field> = Field::ALL.into_iter().filter(wanted).collect();
            if !chosen.is_empty() {
                *columns = chosen;
            }
        }
    }
    ui.separator();
    if ui.button("Default columns").clicked() {
        *columns = Field::DEFAULT_COLUMNS.to_vec();
        ui.close();
    }
}

/// The menu of a row. It is about the selected features if the row is one of them, else about the row alone.
fn row_menu(ui: &mut Ui, run: &OpenRun, feature: u32) -> Option<Action> {
    let selected = run.list.selected();
    let features: Vec<u32> =
        if selected.contains(&feature) { selected.iter().copied().collect() } else { vec![feature] };
    let what = if features.len() == 1 { "feature".to_owned() } else { format!("{} features", features.len()) };
    let mut action = None;
    let mut entry = |ui: &mut Ui, title: &str, chosen: &dyn Fn() -> Action| {
        if ui.button(title).clicked() {
            action = Some(chosen());
            ui.close();
        }
    };
    let numbers = || features.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    entry(ui, "Copy number", &|| Action::Copy(numbers(), "Copied."));
    if let [feature] = features[..] {
        entry(ui, "Copy link", &|| {
            let mut link = run.link();
            link.location = Some(Location::Feature(feature));
            Action::Copy(link.to_string(), "Link copied.")
        });
    }
    entry(ui, "Copy as CSV", &|| {
        Action::Copy(clipboard::features_csv(&run.list, features.iter().copied()), "Copied as CSV.")
    });
    ui.separator();
    let starred = features.iter().all(|feature| run.list.annotations().star(*feature));
    let star = format!("{} {what}", if starred { "Unstar" } else { "Star" });
    entry(ui, &star, &|| Action::Star(features.clone(), !starred));
    ui.menu_button("Add to list", |ui| {
        for (name, _) in run.list.annotations().lists() {
            if ui.button(name).clicked() {
                action = Some(Action::AddToList(name.to_owned(), features.clone()));
                ui.close();
            }
        }
        ui.label(theme::small(ui, "\"Save as list\" above the table makes a new one."));
    });
    if ui.button(format!("Show only {}", if features.len() == 1 { "this feature" } else { "these" })).clicked() {
        action = Some(Action::Restrict(features.clone()));
        ui.close();
    }
    if run.info.no_weights().is_none() && ui.button("Ask a model for labels ...").clicked() {
        action = Some(Action::AskLabels(features.clone()));
        ui.close();
    }
    action = compare_entry(ui, run, &features).or(action);
    if ui.button("Steer in the playground").clicked() {
        action = Some(Action::Steer { features, prompt: None });
        ui.close();
    }
    action
}

/// The entry that compares two selected features, or one with the feature that is shown.
fn compare_entry(ui: &mut Ui, run: &OpenRun, features: &[u32]) -> Option<Action> {
    let (title, action) = match (features, run.feature_number()) {
        ([first, second], _) => ("Compare these two".into(), Action::Compare(*first, Counterpart::new(*second))),
        ([feature], Some(shown)) if shown != *feature => {
            (format!("Compare with feature {shown}"), Action::Compare(*feature, Counterpart::new(shown)))
        }
        ([feature], _) => ("Compare with ...".into(), Action::Go(Location::Compare(*feature))),
        _ => return None,
    };
    let clicked = ui.button(title).on_hover_text("Show the two side by side").clicked();
    if clicked {
        ui.close();
    }
    clicked.then_some(action)
}

fn head(ui: &mut Ui, field: Field, list: &FeatureList) -> Response {
    let [first, second] = list.sort();
    let sorted = [first, second].into_iter().find(|sort| sort.field == field);
    let is_first = first.field == field;
    let color = if is_first { ui.visuals().strong_text_color() } else { theme::muted(ui) };
    ui.spacing_mut().button_padding.x = 2.0;
    let layout = if field == Field::Label { Layout::left_to_right(Align::Center) } else { *ui.layout() };
    let hint =
        format!("{}\nClick to sort; a second click reverses the order. Right-click to choose columns.", field.hint());
    ui.with_layout(layout, |ui| {
        if let Some(sort) = sorted {
            let (rect, _) = ui.allocate_exact_size(vec2(9.0, ROW), Sense::hover());
            let direction = if sort.descending { Direction::Down } else { Direction::Up };
            let color = if is_first { color } else { color.gamma_multiply(0.5) };
            ui.painter().add(theme::triangle(rect, direction, color));
        }
        let button = ui.add(Button::new(RichText::new(field.title()).color(color)).frame(false));
        let sorted = sorted.is_some();
        button.widget_info(|| WidgetInfo::selected(Role::Button, true, sorted, format!("Sort by {}", field.name())));
        button.on_hover_text(hint)
    })
    .inner
}

fn cells(row: &mut TableRow<'_, '_>, run: &OpenRun, feature: &FeatureRow, columns: &[Field], current: bool) {
    for (at, field) in columns.iter().enumerate() {
        let (_, response) = row.col(|ui| cell(ui, *field, feature, run));
        if at == 0 {
            let label = format!("feature {}", feature.feature);
            response.widget_info(|| WidgetInfo::selected(Role::Row, true, current, label.as_str()));
        }
    }
}

fn cell(ui: &mut Ui, field: Field, feature: &FeatureRow, run: &OpenRun) {
    let value = run.list.value(field, feature);
    match field {
        Field::Feature => drop(ui.monospace(feature.feature.to_string())),
        Field::Class => {
            ui.label(RichText::new(feature.class.as_str()).color(theme::class(ui, &feature.class)));
        }
        Field::Label => {
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                if run.list.annotations().star(feature.feature) {
                    ui.label("\u{2605}");
                }
                caption_hits(ui, run, feature.feature);
                ui.add(Label::new(widgets::feature_name(ui, run, feature.feature)).truncate());
            });
        }
        Field::Weight => weight(ui, value),
        _ if field.is_share() => {
            number(ui, value.is_none_or(|v| v == 0.0), &value.map_or("-".into(), format::percent));
        }
        _ if field.is_count() => number(ui, value == Some(0.0), &value.map_or("-".into(), |v| format::count(v as u64))),
        _ => number(ui, value.is_none_or(|value| value == 0.0), &format::maybe(value)),
    }
}

/// Why a search finds a feature whose name does not say so: what is in the captions of its strongest examples.
fn caption_hits(ui: &mut Ui, run: &OpenRun, feature: u32) {
    for (text, share) in run.list.caption_hits(feature) {
        let share = format::percent(share.into());
        let label = ui.add(Label::new(theme::small(ui, &format!("captions: {text} {share}"))).truncate());
        label.on_hover_text(format!("\"{text}\" is in {share} of the captions of its strongest examples"));
    }
}

fn number(ui: &mut Ui, faint: bool, text: &str) {
    let text = RichText::new(text).monospace();
    ui.label(if faint { text.color(theme::muted(ui)) } else { text });
}

/// The number, with a bar of that length below it.
fn weight(ui: &mut Ui, weight: Option<f64>) {
    let rect = ui.max_rect();
    let length = weight.unwrap_or(0.0).clamp(0.0, 1.0) as f32 * rect.width();
    let bar = Rect::from_min_size(rect.left_bottom() - vec2(0.0, 3.0), vec2(length, 2.0));
    ui.painter().rect_filled(bar, 1.0, theme::class(ui, "cross").gamma_multiply(0.7));
    number(ui, weight.is_none(), &format::maybe(weight));
}

/// The page in place of the table of a run that has no features: the reason, and what can be done about it.
pub fn without_features(ui: &mut Ui, run: &OpenRun, busy: bool) -> Option<Action> {
    let mut action = None;
    ui.heading("No features yet");
    if let Some(reason) = &run.no_features {
        widgets::reason(ui, reason);
    }
    ui.add_space(8.0);
    ui.horizontal_wrapped(|ui| {
        if run.info.sae_info().is_some_and(|sae| sae.trained) {
            let button = Button::new(RichText::new("Make the feature index").strong());
            if ui.add_enabled(!busy, button).on_hover_text(Command::MakeIndex.hint()).clicked() {
                action = Some(Action::Command(Command::MakeIndex));
            }
        }
        for (page, title) in [(Page::Run, "Training and evaluation"), (Page::Samples, "Samples")] {
            if ui.button(title).clicked() {
                action = Some(Action::Go(Location::Page(page)));
            }
        }
    });
    action
}
