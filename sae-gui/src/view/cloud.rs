//! A plot of many points in front of those of chance. The points are counted into a texture once, so that a frame costs the same however
//! many there are; those that stand out are drawn over it. Knows no data of runs.

use super::picture::WHOLE;
use super::{plot, theme};
use egui::{Color32, Pos2, Rect, Shape, Stroke, TextureHandle, Ui, pos2, vec2};
use std::collections::HashSet;

/// Side of the squares in which points are counted.
const CELL: f32 = 4.0;
/// How near the pointer must be to a point.
const NEAR: f32 = 10.0;

/// Points of rows. Their places are shares of width and height, from the lower left corner.
pub struct Cloud {
    points: Vec<(usize, [f64; 2])>,
    /// Those that stand out with their colors, without those that would cover each other.
    distinct: Vec<([f64; 2], Color32)>,
    /// How many stand out.
    count: usize,
    texture: TextureHandle,
}

/// The number of squares across a plot and up.
pub fn cells(inner: Rect) -> [usize; 2] {
    [inner.width(), inner.height()].map(|side| ((side / CELL) as usize).max(1))
}

/// The square of a place.
fn cell([x, y]: [f64; 2], [width, height]: [usize; 2]) -> usize {
    // A cast saturates.
    let part = |share: f64, count: usize| ((share * count as f64) as usize).min(count - 1);
    part(y, height) * width + part(x, width)
}

/// Where a place is in a plot.
pub fn place(inner: Rect, [x, y]: [f64; 2]) -> Pos2 {
    pos2(inner.left(), inner.bottom()) + vec2(x as f32 * inner.width(), -(y as f32) * inner.height())
}

impl Cloud {
    /// Counts the points of rows, and those of chance, which lie behind. `color` is that of a row that stands out.
    pub fn new(
        ui: &Ui,
        name: &str,
        cells: [usize; 2],
        points: Vec<(usize, [f64; 2])>,
        chance: impl Iterator<Item = [f64; 2]>,
        color: impl Fn(usize) -> Option<Color32>,
    ) -> Self {
        let mut counts = [vec![0u32; cells[0] * cells[1]], vec![0u32; cells[0] * cells[1]]];
        points.iter().for_each(|(_, place)| counts[0][cell(*place, cells)] += 1);
        chance.for_each(|place| counts[1][cell(place, cells)] += 1);
        let [found, by_chance] = &counts;
        let most = found.iter().chain(by_chance).copied().max().unwrap_or(1);
        let muted = theme::muted(ui);
        let texture = plot::counts(ui, name, cells, |cell| match (found[cell], by_chance[cell]) {
            (0, 0) => Color32::TRANSPARENT,
            (0, chance) => muted.gamma_multiply((0.5 * plot::shade(chance, most)).max(0.3)),
            (found, _) => muted.gamma_multiply(plot::shade(found, most).max(0.6)),
        });
        let mut drawn = HashSet::new();
        let colored = || points.iter().filter_map(|(row, place)| Some((*place, color(*row)?)));
        let distinct = colored().filter(|(place, _)| drawn.insert(cell(*place, cells))).collect();
        Self { distinct, count: colored().count(), points, texture }
    }

    /// Points of rows.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// How many of them stand out.
    pub fn distinct(&self) -> usize {
        self.count
    }

    /// Draws all points.
    pub fn draw(&self, ui: &Ui, inner: Rect) {
        ui.painter().image(self.texture.id(), inner, WHOLE, Color32::WHITE);
        let circle = |(at, color): &([f64; 2], Color32)| Shape::circle_filled(place(inner, *at), 3.5, *color);
        ui.painter().extend(self.distinct.iter().map(circle));
    }

    /// Draws a ring around the points of some rows.
    pub fn ring(&self, ui: &Ui, inner: Rect, is_marked: impl Fn(usize) -> bool) {
        let stroke = Stroke::new(1.5, ui.visuals().strong_text_color());
        let marked = self.points.iter().filter(|(row, _)| is_marked(*row));
        ui.painter().extend(marked.map(|(_, at)| Shape::circle_stroke(place(inner, *at), 6.0, stroke)));
    }

    /// The row whose point is under the pointer.
    pub fn under(&self, inner: Rect, pointer: Pos2) -> Option<usize> {
        let distance = |(_, at): &&(usize, [f64; 2])| place(inner, *at).distance(pointer);
        let nearest = self.points.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.filter(|point| distance(point) < NEAR).map(|(row, _)| *row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_shares_from_the_lower_left_corner() {
        let inner = Rect::from_min_size(pos2(100.0, 50.0), vec2(200.0, 80.0));
        assert_eq!(place(inner, [1.0, 1.0]), inner.right_top());
        assert_eq!(place(inner, [0.0, 0.0]), inner.left_bottom());
        assert_eq!(cells(inner), [50, 20]);
        assert_eq!(cell([0.0, 0.0], [10, 4]), 0);
        assert_eq!(cell([1.0, 1.0], [10, 4]), 39, "the far corner is in the last square");
    }

    #[test]
    fn points_that_cover_each_other_are_drawn_once_and_are_all_found() {
        egui::__run_test_ui(|ui| {
            let points = vec![(7, [0.5, 0.5]), (8, [0.501, 0.5]), (9, [0.9, 0.1])];
            let color = |row: usize| (row != 9).then_some(Color32::RED);
            let cloud = Cloud::new(ui, "cloud", [50, 20], points, [[0.2, 0.2]].into_iter(), color);
            let inner = Rect::from_min_size(pos2(0.0, 0.0), vec2(200.0, 80.0));
            let under = |x: f32, y: f32| cloud.under(inner, pos2(x, y));
            let rows = [under(99.9, 40.0), under(100.3, 40.0), under(180.0, 72.0), under(40.0, 64.0)];
            assert_eq!((cloud.len(), cloud.distinct(), cloud.distinct.len()), (3, 2, 1));
            assert_eq!(rows, [Some(7), Some(8), Some(9), None], "chance has no rows");
        });
    }
}
