//! Tables of a few columns: a head with hints, by which rows may be sorted, and rows that can be clicked. The first two cells of rows
//! of features are the same everywhere.

use super::Action;
use super::theme::{self, Direction};
use super::widgets::feature_button;
use crate::state::location::Location;
use crate::state::models::Order;
use crate::state::open_run::OpenRun;
use egui::{Align, Button, Grid, Label, Layout, RichText, Role, ScrollArea, Sense, Ui, WidgetInfo, vec2};
use egui_extras::{Column, TableBuilder, TableRow};

/// Height of a row.
const ROW: f32 = 20.0;
/// Height that the rows have at most.
const HEIGHT: f32 = 320.0;
/// Least width of the column that has what the others leave.
const LEAST: f32 = 56.0;
/// Space between columns, and for the scroll bar.
const GAP: f32 = 6.0;
const BAR: f32 = 14.0;

/// A column: title, width, meaning.
pub type ColumnHead = (&'static str, f32, &'static str);

/// The first two columns of features, which [`feature_cells`] fills.
pub const FEATURE: ColumnHead = ("Feature", 58.0, "Its number; click to show it");
pub const NAME: ColumnHead = ("Label or words", 90.0, "Its label, else words that it fires on");
/// The number of the column with names, which has what the others leave.
pub const NAMES: usize = 1;

/// A table.
pub struct Rows<'a> {
    /// Its name.
    pub id: &'a str,
    /// Its columns.
    pub columns: &'a [ColumnHead],
    /// The number of the column that has what the others leave.
    pub widest: usize,
}

impl Rows<'_> {
    /// Draws `count` rows, each by `row`. A click on a title of a table with an order changes it.
    pub fn show(
        &self,
        ui: &mut Ui,
        count: usize,
        mut order: Option<&mut Order>,
        mut row: impl FnMut(&mut TableRow<'_, '_>),
    ) {
        let room = ui.available_width();
        ScrollArea::horizontal().id_salt(self.id).auto_shrink([false, true]).show(ui, |ui| {
            ui.spacing_mut().item_spacing = vec2(GAP, 2.0);
            ui.style_mut().interaction.selectable_labels = false;
            let mut table = TableBuilder::new(ui)
                .id_salt((self.id, "rows"))
                .striped(true)
                .sense(Sense::click())
                .auto_shrink([false, true])
                .max_scroll_height(HEIGHT)
                .cell_layout(Layout::left_to_right(Align::Center));
            let used: f32 = self.columns.iter().map(|(_, width, _)| width + GAP).sum();
            let spare = room - used - BAR;
            for (n, (_, width, _)) in self.columns.iter().enumerate() {
                let width = if n == self.widest { (width + spare).max(LEAST) } else { *width };
                table = table.column(Column::initial(width).at_least(36.0).resizable(true).clip(true));
            }
            table
                .header(ROW + 4.0, |mut header| {
                    for (n, head) in self.columns.iter().enumerate() {
                        header.col(|ui| title(ui, n, head, order.as_deref_mut()));
                    }
                })
                .body(|body| body.rows(ROW, count, |mut cells| row(&mut cells)));
        });
    }
}

/// The title of a column.
fn title(ui: &mut Ui, column: usize, (title, _, hint): &ColumnHead, order: Option<&mut Order>) {
    let Some(order) = order else {
        ui.label(theme::small(ui, title)).on_hover_text(*hint);
        return;
    };
    let is_sorted = order.column == column;
    let color = if is_sorted { ui.visuals().strong_text_color() } else { theme::muted(ui) };
    ui.spacing_mut().button_padding.x = 2.0;
    if is_sorted {
        let (rect, _) = ui.allocate_exact_size(vec2(9.0, ROW), Sense::hover());
        let direction = if order.descending { Direction::Down } else { Direction::Up };
        ui.painter().add(theme::triangle(rect, direction, color));
    }
    let button = ui.add(Button::new(RichText::new(*title).small().color(color)).frame(false));
    button.widget_info(|| WidgetInfo::selected(Role::Button, true, is_sorted, format!("Sort by {title}")));
    if button.on_hover_text(format!("{hint}\nClick to sort; a second click reverses the order")).clicked() {
        // The largest number first, and the name that begins with the first letter.
        let descending = if is_sorted { !order.descending } else { column != NAMES };
        *order = Order { column, descending };
    }
}

/// The number of a feature, and what `name` says it is called. Returns what a click on the number does.
pub fn feature_cells(
    cells: &mut TableRow<'_, '_>,
    run: &OpenRun,
    feature: u32,
    is_selected: bool,
    name: impl FnOnce(&Ui) -> RichText,
) -> Option<Action> {
    cells.set_selected(is_selected);
    let mut action = None;
    let (_, first) = cells.col(|ui| {
        if feature_button(ui, run, feature, None).clicked() {
            action = Some(Action::Go(Location::Feature(feature)));
        }
    });
    let said = format!("feature {feature}");
    first.widget_info(|| WidgetInfo::selected(Role::Row, true, is_selected, &said));
    cells.col(|ui| drop(ui.add(Label::new(name(ui)).truncate())));
    action
}

/// Rows of texts, the first of them titles.
pub fn grid(ui: &mut Ui, name: &str, rows: &[Vec<String>]) {
    ScrollArea::horizontal().id_salt(name).auto_shrink([false, true]).show(ui, |ui| {
        Grid::new(name).num_columns(rows.first().map_or(0, Vec::len)).spacing(vec2(18.0, 3.0)).show(ui, |ui| {
            for (n, row) in rows.iter().enumerate() {
                for text in row {
                    if n == 0 {
                        ui.label(theme::small(ui, text))
                    } else {
                        ui.monospace(text)
                    };
                }
                ui.end_row();
            }
        });
    });
}
