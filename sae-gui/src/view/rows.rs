//! Tables of a few columns: a head with hints, by which rows may be sorted, and rows that can be clicked. Draws no cell itself.

use super::theme::{self, Direction};
use egui::{Align, Button, Layout, RichText, Role, ScrollArea, Sense, Ui, WidgetInfo, vec2};
use egui_extras::{Column, TableBuilder, TableRow};

/// Height of a row.
pub const ROW: f32 = 20.0;
/// Least width of the column that has what the others leave.
const LEAST: f32 = 56.0;
/// Space between columns, and for the scroll bar.
const GAP: f32 = 6.0;
const BAR: f32 = 14.0;

/// A column: title, width, meaning.
pub type ColumnHead = (&'static str, f32, &'static str);

/// By which column rows are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The number of the column.
    pub column: usize,
    /// Whether the largest value is on top.
    pub descending: bool,
}

/// A table.
pub struct Rows<'a> {
    /// Its name.
    pub id: &'a str,
    /// Its columns.
    pub columns: &'a [ColumnHead],
    /// The number of the column that has what the others leave.
    pub widest: usize,
    /// The height that its rows have at most.
    pub height: f32,
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
                .max_scroll_height(self.height)
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
        *order = Order { column, descending: !(is_sorted && order.descending) };
    }
}
