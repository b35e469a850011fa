//! The plots of the Contrast page: all tests by effect and p-value, and one feature in every group or bin.

use super::{plot, theme, widgets};
use crate::state::contrast::Contrast;
use crate::state::format;
use crate::state::open_run::OpenRun;
use egui::{Align2, FontId, Pos2, Rect, Role, Sense, Stroke, Ui, Vec2, WidgetInfo, pos2, vec2};
use sae_core::analysis::contrast::{GroupValue, TestTable, TestedFeature};
use std::collections::HashSet;

/// Height of the volcano plot.
const HEIGHT: f32 = 270.0;
/// Height of the plot of one feature.
const SERIES_HEIGHT: f32 = 150.0;
/// Width left of a plot for its vertical axis.
const LEFT: f32 = 44.0;
/// How near the pointer must be to a point.
const NEAR: f32 = 10.0;
/// The largest `-log10 p` that is told apart: smaller p-values are not represented exactly.
const LARGEST: f64 = 300.0;
/// Points nearer to each other than this are drawn as one.
const CELL: f32 = 1.5;

/// Where tests are in a volcano plot.
struct Places {
    inner: Rect,
    widest: f64,
    highest: f64,
}

impl Places {
    fn at(&self, [effect, height]: [f64; 2]) -> Pos2 {
        let x = self.inner.center().x + (effect / self.widest) as f32 * 0.5 * self.inner.width();
        pos2(x, self.inner.bottom() - (height / self.highest) as f32 * self.inner.height())
    }

    /// Draws points, of those that would cover each other one.
    fn draw(&self, ui: &Ui, points: impl Iterator<Item = [f64; 2]>, radius: f32, color: egui::Color32) {
        let mut drawn = HashSet::new();
        for at in points.map(|point| self.at(point)) {
            if drawn.insert([(at.x / CELL) as i32, (at.y / CELL) as i32]) {
                ui.painter().circle_filled(at, radius, color);
            }
        }
    }
}

/// Effect and `-log10 p`. `None` without a p-value.
fn point(effect: f64, p: Option<f64>) -> Option<[f64; 2]> {
    let height = (-p?.log10()).clamp(0.0, LARGEST);
    (effect.is_finite() && height.is_finite()).then_some([effect, height])
}

fn test_point(row: &TestedFeature) -> Option<[f64; 2]> {
    point(row.estimate.effect, row.p)
}

/// Draws the tests of a column, in front of those with shuffled values. Returns a row that was clicked.
pub fn volcano(
    ui: &mut Ui,
    run: &OpenRun,
    contrast: &Contrast,
    tests: &TestTable,
    column: usize,
    selected: Option<usize>,
) -> Option<usize> {
    let name = tests.columns.get(column).map_or("", String::as_str);
    let points: Vec<(usize, [f64; 2])> = tests
        .rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.column == column)
        .filter_map(|(n, row)| Some((n, test_point(row)?)))
        .collect();
    let shuffled = contrast.shuffled.iter().flatten().filter(|test| test.column == name);
    let cloud: Vec<[f64; 2]> = shuffled.filter_map(|test| point(test.effect, test.p)).collect();
    let (inner, response) = plot::ground(ui, plot::full_width(ui, HEIGHT), LEFT, Sense::click());
    let differs = |n: usize| tests.rows[n].differs();
    let differing = points.iter().filter(|(n, _)| differs(*n)).count();
    let said = format!("Volcano plot of {name}: {} tests, {differing} differ", points.len());
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, &said));
    if points.is_empty() {
        let text = "No p-values: there are fewer than 10 clusters";
        let font = FontId::proportional(theme::SMALL);
        ui.painter().text(inner.center(), Align2::CENTER_CENTER, text, font, theme::muted(ui));
        return None;
    }
    let all = || points.iter().map(|(_, point)| point).chain(&cloud);
    let largest = |axis: usize| all().map(|point| point[axis].abs()).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let places = Places { inner, widest: largest(0), highest: largest(1) };
    let muted = theme::muted(ui);
    places.draw(ui, cloud.iter().copied(), 2.5, muted.gamma_multiply(0.25));
    let of = |keep: &dyn Fn(usize, f64) -> bool| {
        points.iter().filter(|(n, point)| keep(*n, point[0])).map(|(_, point)| *point).collect::<Vec<_>>()
    };
    places.draw(ui, of(&|n, _| !differs(n)).into_iter(), 2.0, muted);
    for positive in [true, false] {
        let found = of(&|n, effect| differs(n) && (effect > 0.0) == positive);
        places.draw(ui, found.into_iter(), 3.5, theme::promoted(ui, positive));
    }
    let strong = ui.visuals().strong_text_color();
    let mark = |n: usize| {
        if let Some((_, point)) = points.iter().find(|(row, _)| *row == n) {
            ui.painter().circle_stroke(places.at(*point), 6.0, Stroke::new(1.5, strong));
        }
    };
    selected.into_iter().for_each(mark);
    let ends = [-places.widest, places.widest].map(|end| format!("{end:+.3}"));
    plot::horizontal_axis(ui, inner, ends.each_ref().map(String::as_str), "effect");
    plot::vertical_axis(ui, inner, ["0", &format::real(places.highest)], "-log10 p");
    let pointer = response.hover_pos()?;
    let distance = |point: &[f64; 2]| places.at(*point).distance(pointer);
    let near = points.iter().min_by(|a, b| distance(&a.1).total_cmp(&distance(&b.1)));
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

/// Draws how often a feature is active in every group or bin, with intervals. A forecast is a ring at the end of a line.
pub fn groups(ui: &mut Ui, feature: u32, values: &[&GroupValue]) {
    let size: Vec2 = plot::full_width(ui, SERIES_HEIGHT);
    let (inner, response) = plot::ground(ui, size, LEFT, Sense::hover());
    let said = format!("Feature {feature} in {} groups", values.iter().filter(|value| !value.is_forecast).count());
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, &said));
    let bounds = |value: &GroupValue| value.interval.unwrap_or([value.adjusted; 2]);
    let low = values.iter().map(|value| bounds(value)[0].min(value.adjusted)).fold(f64::INFINITY, f64::min);
    let high = values.iter().map(|value| bounds(value)[1].max(value.adjusted)).fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if high > low { (low, high) } else { (low - 0.5, low + 0.5) };
    let (width, plot) = (inner.width() / values.len().max(1) as f32, inner.shrink2(vec2(0.0, 5.0)));
    let at = |n: usize, share: f64| {
        let y = plot.bottom() - ((share - low) / (high - low)) as f32 * plot.height();
        pos2(plot.left() + (n as f32 + 0.5) * width, y)
    };
    let color = theme::class(ui, "text");
    let ground = theme::card(ui).0;
    let line: Vec<Pos2> = values.iter().enumerate().map(|(n, value)| at(n, value.adjusted)).collect();
    ui.painter().line(line, Stroke::new(1.0, color.gamma_multiply(0.4)));
    for (n, value) in values.iter().enumerate() {
        if let Some([lo, hi]) = value.interval {
            ui.painter().line_segment([at(n, lo), at(n, hi)], Stroke::new(1.5, color.gamma_multiply(0.7)));
        }
        let point = at(n, value.adjusted);
        if value.is_forecast {
            ui.painter().circle(point, 4.5, ground, Stroke::new(1.5, color));
        } else {
            ui.painter().circle_filled(point, 3.5, color);
        }
    }
    let pointed = response.hover_pos().filter(|_| !values.is_empty());
    let pointed = pointed.map(|pointer| values[plot::part_under(inner, pointer, values.len())]);
    let ends = [values.first(), values.last()].map(|value| value.map_or("", |value| value.group.as_str()));
    plot::horizontal_axis(ui, inner, ends, "");
    plot::vertical_axis(ui, inner, [&format::percent(low), &format::percent(high)], "active in");
    if let Some(value) = pointed {
        response.on_hover_text_at_pointer(described(value));
    }
}

/// A value as a sentence.
fn described(value: &GroupValue) -> String {
    let share = format::percent(value.adjusted);
    if value.is_forecast {
        return format!("forecast of the next bin: active in {share}");
    }
    let interval = value.interval.map(|[lo, hi]| format!(" ({} to {})", format::percent(lo), format::percent(hi)));
    let samples = value.samples.map(|samples| format!(" of {}", format::counted(samples as usize, "sample")));
    let plain = value.prevalence.map(|share| format!("; {} before the adjustment for length", format::percent(share)));
    let parts = [interval, samples, plain].map(Option::unwrap_or_default).concat();
    format!("{}: active in {share}{parts}", value.group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_placed_by_effect_and_logarithm() {
        let inner = Rect::from_min_size(pos2(100.0, 50.0), vec2(200.0, 80.0));
        let places = Places { inner, widest: 0.5, highest: 4.0 };
        assert_eq!(places.at([0.5, 4.0]), inner.right_top());
        assert_eq!(places.at([-0.5, 0.0]), inner.left_bottom());
        assert_eq!(point(0.1, Some(1e-3)), Some([0.1, 3.0]));
        assert_eq!(point(0.1, Some(0.0)), Some([0.1, LARGEST]), "too small for a number");
        assert_eq!([point(0.1, None), point(f64::NAN, Some(0.1)), point(0.1, Some(f64::NAN))], [None; 3]);
    }
}
