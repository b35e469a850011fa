//! Two columns of a page, which scroll by themselves, or one of them below the other where there is no room. Knows no data of runs.

use super::Action;
use egui::{ScrollArea, Ui};

/// Width from which on the columns stand beside each other.
const WIDE: f32 = 980.0;
/// Space between what is shown and the rim of its column.
const MARGIN: f32 = 14.0;

/// One of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The left or upper one.
    First,
    /// The right or lower one.
    Second,
}

/// Draws both columns. Returns what was done in one of them.
pub fn show(ui: &mut Ui, page: &str, mut draw: impl FnMut(&mut Ui, Column) -> Option<Action>) -> Option<Action> {
    let mut scrolled = |ui: &mut Ui, columns: &[Column]| {
        let area = ScrollArea::vertical().id_salt((page, columns.first() == Some(&Column::First))).auto_shrink(false);
        let shown = area.show(ui, |ui| {
            ui.set_max_width(ui.available_width() - MARGIN);
            columns.iter().fold(None, |action, column| draw(ui, *column).or(action))
        });
        shown.inner
    };
    if ui.available_width() < WIDE {
        return scrolled(ui, &[Column::First, Column::Second]);
    }
    ui.columns(2, |sides| {
        let first = scrolled(&mut sides[0], &[Column::First]);
        scrolled(&mut sides[1], &[Column::Second]).or(first)
    })
}
