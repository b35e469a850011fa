//! The volcano plot of a contrast: every test of a column by effect and p-value, in front of those with shuffled values. The tests
//! are counted into a texture once, so that a frame costs the same however many there are; differing features are drawn as points.

use super::picture::WHOLE;
use super::{plot, theme, widgets};
use crate::state::contrast::Contrast;
use crate::state::format;
use crate::state::open_run::OpenRun;
use egui::{Align2, Color32, FontId, Pos2, Rect, Role, Sense, Stroke, TextureHandle, Ui, WidgetInfo, pos2, vec2};
use sae_core::analysis::contrast::{TestTable, TestedFeature};
use std::collections::HashSet;

/// Height of the plot.
const HEIGHT: f32 = 270.0;
/// Width left of the plot for its vertical axis.
const LEFT: f32 = 44.0;
/// How near the pointer must be to a point.
const NEAR: f32 = 10.0;
/// The largest `-log10 p` that is told apart: smaller p-values are not represented exactly.
const LARGEST: f64 = 300.0;
/// Side of the squares in which tests are counted.
const CELL: f32 = 4.0;

/// What the plot remembers between two frames.
#[derive(Default)]
pub struct VolcanoView(Option<(Key, Plot)>);

/// What the plot depends on: the column, the number of squares in both directions, whether the theme is dark.
type Key = (usize, [usize; 2], bool);

/// The tests of a column.
struct Plot {
    /// The row of each test, with its effect and `-log10 p`.
    points: Vec<(usize, [f64; 2])>,
    /// Those that differ, without those that would cover each other.
    differing: Vec<[f64; 2]>,
    /// How many differ.
    count: usize,
    /// The largest absolute effect, and the largest `-log10 p`.
    largest: [f64; 2],
    texture: TextureHandle,
}

/// Effect and `-log10 p`. `None` without a p-value.
fn point(effect: f64, p: Option<f64>) -> Option<[f64; 2]> {
    let height = (-p?.log10()).clamp(0.0, LARGEST);
    (effect.is_finite() && height.is_finite()).then_some([effect, height])
}

fn test_point(row: &TestedFeature) -> Option<[f64; 2]> {
    point(row.estimate.effect, row.p)
}

/// Where a point is in the plot, from the lower left corner, in shares of width and height.
fn shares([effect, height]: [f64; 2], [widest, highest]: [f64; 2]) -> [f64; 2] {
    [0.5 + 0.5 * effect / widest, height / highest]
}

/// The square of a point.
fn cell(point: [f64; 2], largest: [f64; 2], [width, height]: [usize; 2]) -> usize {
    let [x, y] = shares(point, largest);
    let place = |share: f64, count: usize| ((share * count as f64) as usize).min(count - 1);
    place(y, height) * width + place(x, width)
}

impl Plot {
    fn new(ui: &Ui, contrast: &Contrast, tests: &TestTable, (column, cells, _): Key) -> Self {
        let name = tests.columns.get(column).map_or("", String::as_str);
        let rows = tests.rows.iter().enumerate().filter(|(_, row)| row.column == column);
        let points: Vec<(usize, [f64; 2])> = rows.filter_map(|(n, row)| Some((n, test_point(row)?))).collect();
        let shuffled = contrast.shuffled.iter().flatten().filter(|test| test.column == name);
        let cloud: Vec<[f64; 2]> = shuffled.filter_map(|test| point(test.effect, test.p)).collect();
        let all = || points.iter().map(|(_, point)| point).chain(&cloud);
        let largest = [0, 1].map(|axis| all().map(|p| p[axis].abs()).fold(f64::MIN_POSITIVE, f64::max));
        let count = |points: &mut dyn Iterator<Item = [f64; 2]>| {
            let mut counts = vec![0u32; cells[0] * cells[1]];
            points.for_each(|point| counts[cell(point, largest, cells)] += 1);
            counts
        };
        let tested = count(&mut points.iter().map(|(_, point)| *point));
        let by_chance = count(&mut cloud.iter().copied());
        let most = tested.iter().chain(&by_chance).copied().max().unwrap_or(1);
        let color = theme::muted(ui);
        let texture = plot::counts(ui, "volcano", cells, |cell| match (tested[cell], by_chance[cell]) {
            (0, 0) => Color32::TRANSPARENT,
            (0, chance) => color.gamma_multiply((0.5 * plot::shade(chance, most)).max(0.3)),
            (tests, _) => color.gamma_multiply(plot::shade(tests, most).max(0.6)),
        });
        let differs = || points.iter().filter(|(n, _)| tests.rows[*n].differs()).map(|(_, point)| *point);
        let mut drawn = HashSet::new();
        let differing = differs().filter(|point| drawn.insert(cell(*point, largest, cells))).collect();
        Self { differing, count: differs().count(), points, largest, texture }
    }
}

/// Draws the tests of a column. Returns a row that was clicked.
pub fn show(
    ui: &mut Ui,
    run: &OpenRun,
    contrast: &Contrast,
    tests: &TestTable,
    column: usize,
    selected: Option<usize>,
    view: &mut VolcanoView,
) -> Option<usize> {
    let (inner, response) = plot::ground(ui, plot::full_width(ui, HEIGHT), LEFT, Sense::click());
    let cells = [inner.width(), inner.height()].map(|side| ((side / CELL) as usize).max(1));
    let key = (column, cells, ui.visuals().dark_mode);
    if view.0.as_ref().is_none_or(|(own, _)| *own != key) {
        view.0 = Some((key, Plot::new(ui, contrast, tests, key)));
    }
    let (_, plot) = view.0.as_ref()?;
    let name = tests.columns.get(column).map_or("", String::as_str);
    let said = format!("Volcano plot of {name}: {} tests, {} differ", plot.points.len(), plot.count);
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, &said));
    if plot.points.is_empty() {
        let text = "No p-values: there are fewer than 10 clusters";
        let font = FontId::proportional(theme::SMALL);
        ui.painter().text(inner.center(), Align2::CENTER_CENTER, text, font, theme::muted(ui));
        return None;
    }
    ui.painter().image(plot.texture.id(), inner, WHOLE, Color32::WHITE);
    let at = |point: [f64; 2]| place(inner, point, plot.largest);
    for point in &plot.differing {
        ui.painter().circle_filled(at(*point), 3.5, theme::promoted(ui, point[0] > 0.0));
    }
    let strong = ui.visuals().strong_text_color();
    let mark = |n: usize| {
        if let Some(point) = tests.rows.get(n).filter(|row| row.column == column).and_then(test_point) {
            ui.painter().circle_stroke(at(point), 6.0, Stroke::new(1.5, strong));
        }
    };
    selected.into_iter().for_each(mark);
    let ends = [-plot.largest[0], plot.largest[0]].map(|end| format!("{end:+.3}"));
    plot::horizontal_axis(ui, inner, ends.each_ref().map(String::as_str), "effect");
    plot::vertical_axis(ui, inner, ["0", &format::real(plot.largest[1])], "-log10 p");
    let pointer = response.hover_pos()?;
    let distance = |point: &[f64; 2]| at(*point).distance(pointer);
    let near = plot.points.iter().min_by(|a, b| distance(&a.1).total_cmp(&distance(&b.1)));
    let (n, _) = near.filter(|(_, point)| distance(point) < NEAR)?;
    mark(*n);
    let row = &tests.rows[*n];
    run.hover.set(row.feature);
    let clicked = response.clicked().then_some(*n);
    response.on_hover_ui_at_pointer(|ui| {
        let q = row.q.map_or("-".into(), format::real);
        ui.label(format!("effect {:+.4}, q {q}", row.estimate.effect));
        widgets::peek(ui, run, row.feature);
    });
    clicked
}

fn place(inner: Rect, point: [f64; 2], largest: [f64; 2]) -> Pos2 {
    let [x, y] = shares(point, largest).map(|share| share as f32);
    pos2(inner.left(), inner.bottom()) + vec2(x * inner.width(), -y * inner.height())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_placed_by_effect_and_logarithm() {
        let inner = Rect::from_min_size(pos2(100.0, 50.0), vec2(200.0, 80.0));
        let largest = [0.5, 4.0];
        assert_eq!(place(inner, [0.5, 4.0], largest), inner.right_top());
        assert_eq!(place(inner, [-0.5, 0.0], largest), inner.left_bottom());
        assert_eq!(cell([-0.5, 0.0], largest, [10, 4]), 0);
        assert_eq!(cell([0.5, 4.0], largest, [10, 4]), 39, "the far corner is in the last square");
        assert_eq!(point(0.1, Some(1e-3)), Some([0.1, 3.0]));
        assert_eq!(point(0.1, Some(0.0)), Some([0.1, LARGEST]), "too small for a number");
        assert_eq!([point(0.1, None), point(f64::NAN, Some(0.1)), point(0.1, Some(f64::NAN))], [None; 3]);
    }
}
