//! The volcano plot of a contrast: every test of a column by effect and p-value, in front of those with shuffled values.

use super::cloud::{self, Cloud};
use super::{plot, theme, widgets};
use crate::state::contrast::Contrast;
use crate::state::format;
use crate::state::open_run::OpenRun;
use egui::{Align2, FontId, Role, Sense, Ui, WidgetInfo};
use sae_core::analysis::contrast::{TestTable, TestedFeature};

/// Height of the plot.
const HEIGHT: f32 = 270.0;
/// Width left of the plot for its vertical axis.
const LEFT: f32 = 44.0;
/// The largest `-log10 p` that is told apart: smaller p-values are not represented exactly.
const LARGEST: f64 = 300.0;

/// What the plot remembers between two frames.
#[derive(Default)]
pub struct VolcanoView(Option<(Key, Plot)>);

/// What the plot depends on: the column, the number of squares in both directions, whether the theme is dark.
type Key = (usize, [usize; 2], bool);

/// The tests of a column.
struct Plot {
    tests: Cloud,
    /// The largest absolute effect, and the largest `-log10 p`.
    largest: [f64; 2],
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

impl Plot {
    fn new(ui: &Ui, contrast: &Contrast, tests: &TestTable, (column, cells, _): Key) -> Self {
        let name = tests.columns.get(column).map_or("", String::as_str);
        let rows = tests.rows.iter().enumerate().filter(|(_, row)| row.column == column);
        let points: Vec<(usize, [f64; 2])> = rows.filter_map(|(n, row)| Some((n, test_point(row)?))).collect();
        let shuffled = contrast.shuffled.iter().flatten().filter(|test| test.column == name);
        let by_chance: Vec<[f64; 2]> = shuffled.filter_map(|test| point(test.effect, test.p)).collect();
        let all = || points.iter().map(|(_, point)| point).chain(&by_chance);
        let largest = [0, 1].map(|axis| all().map(|p| p[axis].abs()).fold(f64::MIN_POSITIVE, f64::max));
        let color = |n: usize| {
            let row = &tests.rows[n];
            row.differs().then(|| theme::promoted(ui, row.estimate.effect > 0.0))
        };
        let chance = by_chance.iter().map(|point| shares(*point, largest));
        let places = points.iter().map(|(n, point)| (*n, shares(*point, largest))).collect();
        Self { tests: Cloud::new(ui, "volcano", cells, places, chance, color), largest }
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
    let key = (column, cloud::cells(inner), ui.visuals().dark_mode);
    if view.0.as_ref().is_none_or(|(own, _)| *own != key) {
        view.0 = Some((key, Plot::new(ui, contrast, tests, key)));
    }
    let (_, Plot { tests: cloud, largest }) = view.0.as_ref()?;
    let name = tests.columns.get(column).map_or("", String::as_str);
    let said = format!("Volcano plot of {name}: {} tests, {} differ", cloud.len(), cloud.distinct());
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, &said));
    if cloud.len() == 0 {
        let text = "No p-values: there are fewer than 10 clusters";
        let font = FontId::proportional(theme::SMALL);
        ui.painter().text(inner.center(), Align2::CENTER_CENTER, text, font, theme::muted(ui));
        return None;
    }
    cloud.draw(ui, inner);
    cloud.ring(ui, inner, |n| Some(n) == selected);
    let ends = [-largest[0], largest[0]].map(|end| format!("{end:+.3}"));
    plot::horizontal_axis(ui, inner, ends.each_ref().map(String::as_str), "effect");
    plot::vertical_axis(ui, inner, ["0", &format::real(largest[1])], "-log10 p");
    let n = cloud.under(inner, response.hover_pos()?)?;
    cloud.ring(ui, inner, |other| other == n);
    let row = &tests.rows[n];
    run.hover.set(row.feature);
    let clicked = response.clicked().then_some(n);
    response.on_hover_ui_at_pointer(|ui| {
        let q = row.q.map_or("-".into(), format::real);
        ui.label(format!("effect {:+.4}, q {q}", row.estimate.effect));
        widgets::peek(ui, run, row.feature);
    });
    clicked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_placed_by_effect_and_logarithm() {
        let largest = [0.5, 4.0];
        assert_eq!(shares([0.5, 4.0], largest), [1.0, 1.0]);
        assert_eq!(shares([-0.5, 0.0], largest), [0.0, 0.0]);
        assert_eq!(point(0.1, Some(1e-3)), Some([0.1, 3.0]));
        assert_eq!(point(0.1, Some(0.0)), Some([0.1, LARGEST]), "too small for a number");
        assert_eq!([point(0.1, None), point(f64::NAN, Some(0.1)), point(0.1, Some(f64::NAN))], [None; 3]);
    }
}
