//! The table of all features with its search field. Only the visible rows are laid out, however many there are.

use super::Action;
use super::map::{self, MapView};
use super::theme::{self, Direction};
use crate::state::data::RunInfo;
use crate::state::field::Field;
use crate::state::format;
use crate::state::location::Location;
use crate::state::open_run::OpenRun;
use egui::{Align, Button, Id, Layout, Rect, Response, RichText, Role, Sense, TextEdit, Ui, WidgetInfo, vec2};
use egui_extras::{Column, TableBuilder, TableRow};
use sae_core::analysis::index::FeatureRow;

/// Height of a row.
const ROW: f32 = 20.0;

/// The id of the search field, for putting the cursor into it.
pub fn search_id() -> Id {
    Id::unique("search features")
}

/// Draws the panel: search, map, lists, rows.
pub fn show(ui: &mut Ui, run: &mut OpenRun, map: &mut MapView, list: &mut String, reveal: bool) -> Option<Action> {
    search(ui, run);
    let on_map = map::show(ui, run, map).map(|feature| Action::Go(Location::Feature(feature)));
    let edited = map::naming(ui, run, list).then_some(Action::Edited);
    ui.add_space(2.0);
    rows(ui, run, reveal).map(|feature| Action::Go(Location::Feature(feature))).or(on_map).or(edited)
}

fn search(ui: &mut Ui, run: &mut OpenRun) {
    let mut text = run.list.search_text().to_owned();
    let field = TextEdit::singleline(&mut text)
        .id(search_id())
        .hint_text("class:cross density>1e-4 label:red 123")
        .desired_width(f32::INFINITY)
        .margin(egui::Margin::symmetric(8, 6));
    let response = ui.add(field);
    response.widget_info(|| WidgetInfo::labeled(Role::SearchInput, true, "Search features"));
    response.on_hover_text(hint(&run.info));
    if text != run.list.search_text() {
        run.list.search(&text);
    }
    ui.horizontal(|ui| {
        let (shown, total) = (run.list.len() as u64, run.list.total() as u64);
        let of = match shown == total {
            true => format!("{} features", format::count(total)),
            false => format!("{} of {}", format::count(shown), format::count(total)),
        };
        ui.label(RichText::new(of).color(theme::muted(ui)));
        if let Some(complaint) = run.list.complaint() {
            ui.label(RichText::new(complaint).color(ui.visuals().warn_fg_color));
        }
    });
}

fn hint(info: &RunInfo) -> String {
    let names = Field::ALL.map(Field::name).join(", ");
    format!(
        "Features of {} by class (class:cross,image), by number (12 finds 12, 120, ...), and by\n{names}\n\
         with > >= < <= = (density>0.1% is the same as density>1e-3). A minus turns a term round: -class:dead.\n\
         By what people wrote: label:\"red ring\" notes:rim author:ann star:yes list:colors",
        info.sae
    )
}

fn rows(ui: &mut Ui, run: &mut OpenRun, reveal: bool) -> Option<u32> {
    let current = run.feature().map(|row| row.feature);
    let mut clicked = None;
    let mut sort = None;
    ui.spacing_mut().item_spacing = vec2(6.0, 2.0);
    ui.style_mut().interaction.selectable_labels = false;
    let mut table = TableBuilder::new(ui)
        .id_salt("features")
        .striped(true)
        .sense(Sense::click())
        .auto_shrink(false)
        .animate_scrolling(false)
        .cell_layout(Layout::right_to_left(Align::Center))
        .column(Column::exact(68.0))
        .column(Column::exact(64.0))
        .columns(Column::exact(64.0), 2)
        .columns(Column::exact(66.0), 2)
        .column(Column::exact(66.0))
        .column(Column::remainder().at_least(60.0).clip(true));
    if let Some(place) = current.filter(|_| reveal).and_then(|feature| run.list.place(feature)) {
        table = table.scroll_to_row(place, None);
    }
    let list = &run.list;
    let pointed = run.pointing.feature();
    table
        .header(ROW + 4.0, |mut row| {
            for field in Field::COLUMNS {
                row.col(|ui| {
                    if head(ui, field, run).clicked() {
                        sort = Some(field);
                    }
                });
            }
            row.col(|ui| {
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| ui.label(theme::small(ui, "label")));
            });
        })
        .body(|body| {
            body.rows(ROW, list.len(), |mut row| {
                let Some(feature) = list.at(row.index()) else { return };
                // Pointed at in the map or on the page.
                row.set_hovered(pointed == Some(feature.feature));
                cells(&mut row, feature, current == Some(feature.feature));
                let marks = list.marks();
                row.col(|ui| {
                    ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                        let star = if marks.star(feature.feature) { "\u{2605} " } else { "" };
                        let label = marks.label(feature.feature).unwrap_or_default();
                        ui.add(egui::Label::new(format!("{star}{label}")).truncate());
                    });
                });
                let response = row.response();
                if response.hovered() {
                    run.pointing.set(feature.feature);
                }
                if response.clicked() {
                    clicked = Some(feature.feature);
                }
            });
        });
    if let Some(field) = sort {
        run.list.sort_by(field);
    }
    clicked
}

fn head(ui: &mut Ui, field: Field, run: &OpenRun) -> Response {
    let sort = run.list.sort();
    let sorted = sort.field == field;
    let title =
        RichText::new(field.name()).color(if sorted { ui.visuals().strong_text_color() } else { theme::muted(ui) });
    ui.spacing_mut().button_padding.x = 2.0;
    if sorted {
        let (rect, _) = ui.allocate_exact_size(vec2(9.0, ROW), Sense::hover());
        let direction = if sort.descending { Direction::Down } else { Direction::Up };
        ui.painter().add(theme::triangle(rect, direction, ui.visuals().strong_text_color()));
    }
    ui.add(Button::new(title).frame(false)).on_hover_text(field.hint())
}

fn cells(row: &mut TableRow<'_, '_>, feature: &FeatureRow, selected: bool) {
    row.set_selected(selected);
    for field in Field::COLUMNS {
        let (_, response) = row.col(|ui| cell(ui, field, feature));
        if field == Field::Feature {
            let label = format!("feature {}", feature.feature);
            response.widget_info(|| WidgetInfo::selected(Role::Row, true, selected, label.as_str()));
        }
    }
}

fn cell(ui: &mut Ui, field: Field, feature: &FeatureRow) {
    match field {
        Field::Feature => drop(ui.monospace(feature.feature.to_string())),
        Field::Class => {
            ui.label(RichText::new(feature.class.as_str()).color(theme::class(ui, &feature.class)));
        }
        Field::Text | Field::Image => {
            let fires = if field == Field::Text { feature.fires_text } else { feature.fires_image };
            number(ui, fires == 0, &format::count(fires));
        }
        Field::Weight => weight(ui, feature.weight_paper),
        _ => {
            let value = field.value(feature);
            number(ui, value.is_none_or(|value| value == 0.0), &format::maybe(value));
        }
    }
}

fn number(ui: &mut Ui, faint: bool, text: &str) {
    let text = RichText::new(text).monospace();
    ui.label(if faint { text.color(theme::muted(ui)) } else { text });
}

/// The number, and a bar of that length under it.
fn weight(ui: &mut Ui, weight: Option<f64>) {
    let rect = ui.max_rect();
    let length = weight.unwrap_or(0.0).clamp(0.0, 1.0) as f32 * rect.width();
    let bar = Rect::from_min_size(rect.left_bottom() - vec2(0.0, 3.0), vec2(length, 2.0));
    ui.painter().rect_filled(bar, 1.0, theme::class(ui, "cross").gamma_multiply(0.7));
    number(ui, weight.is_none(), &format::maybe(weight));
}
