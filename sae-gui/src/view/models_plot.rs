//! Plots of the features of a crosscoder for one of two models: latent scaling, and relative norms, each in front of those of one
//! model with itself. The features are counted once, so that a frame costs the same however many there are; own ones are points.

use super::picture::WHOLE;
use super::{plot, theme, widgets};
use crate::state::format;
use crate::state::open_run::OpenRun;
use egui::{Color32, Pos2, Rect, Role, Sense, Stroke, TextureHandle, Ui, WidgetInfo, pos2};
use sae_core::analysis::latent_scaling::{NU_ERROR, NU_RECONSTRUCTION, Ownership, ScaledFeature};

/// Heights of the two plots.
const SCALING: f32 = 250.0;
const NORMS: f32 = 96.0;
/// Width left of a plot for its vertical axis.
const LEFT: f32 = 44.0;
/// Ratios outside are drawn at the edge.
const RANGE: [f64; 2] = [-0.5, 1.5];
/// Side of the squares in which features are counted.
const CELL: f32 = 4.0;
/// Parts of the range of relative norms.
const BARS: usize = 40;
/// How near the pointer must be to a point.
const NEAR: f32 = 10.0;

/// What the plots remember between two frames.
#[derive(Default)]
pub struct PlotView(Option<(Key, Plot)>);

/// What the plots depend on: the two models, the number of squares in both directions, whether the theme is dark.
type Key = ([usize; 2], [usize; 2], bool);

struct Plot {
    /// The row of each feature with its two ratios.
    points: Vec<(usize, [f64; 2])>,
    /// Those of own features.
    own: Vec<[f64; 2]>,
    /// The shares of features, and of those of one model with itself, in parts of the range of relative norms.
    norms: [Vec<f64>; 2],
    texture: TextureHandle,
}

/// The two ratios of a feature, if it has both.
fn point(row: &ScaledFeature) -> Option<[f64; 2]> {
    let point = [row.nu_error.value, row.nu_reconstruction.value];
    point.iter().all(|value| value.is_finite()).then(|| point.map(|value| value.clamp(RANGE[0], RANGE[1])))
}

/// Which of `parts` equal parts a share is in.
fn part(share: f64, parts: usize) -> usize {
    // A cast saturates.
    ((share * parts as f64) as usize).min(parts - 1)
}

/// Where a ratio is in its range, from 0 to 1.
fn share(value: f64) -> f64 {
    (value - RANGE[0]) / (RANGE[1] - RANGE[0])
}

/// The shares of some features in the parts of the range of relative norms.
fn norms<'a>(rows: impl Iterator<Item = &'a ScaledFeature>) -> Vec<f64> {
    let mut bars = vec![0.0; BARS];
    rows.for_each(|row| bars[part(row.delta, BARS)] += 1.0);
    let sum: f64 = bars.iter().sum();
    bars.into_iter().map(|count| count / sum.max(1.0)).collect()
}

impl Plot {
    fn new(ui: &Ui, rows: &[ScaledFeature], null: &[ScaledFeature], (side, [width, height], _): Key) -> Self {
        let of_side = || rows.iter().enumerate().filter(|(_, row)| [row.model, row.reference] == side);
        let points: Vec<(usize, [f64; 2])> = of_side().filter_map(|(n, row)| Some((n, point(row)?))).collect();
        let count = |points: &mut dyn Iterator<Item = [f64; 2]>| {
            let mut counts = vec![0u32; width * height];
            points.for_each(|[x, y]| counts[part(share(y), height) * width + part(share(x), width)] += 1);
            counts
        };
        let found = count(&mut points.iter().map(|(_, point)| *point));
        let by_chance = count(&mut null.iter().filter_map(point));
        let most = found.iter().chain(&by_chance).copied().max().unwrap_or(1);
        let color = theme::muted(ui);
        let texture =
            plot::counts(ui, "latent scaling", [width, height], |cell| match (found[cell], by_chance[cell]) {
                (0, 0) => Color32::TRANSPARENT,
                (0, chance) => color.gamma_multiply((0.5 * plot::shade(chance, most)).max(0.25)),
                (found, _) => color.gamma_multiply(plot::shade(found, most).max(0.6)),
            });
        let is_own = |n: usize| rows[n].ownership() == Ownership::Own;
        let own = points.iter().filter(|(n, _)| is_own(*n)).map(|(_, point)| *point).collect();
        Self { norms: [norms(of_side().map(|(_, row)| row)), norms(null.iter())], points, own, texture }
    }
}

/// Draws both plots of one of two models. Returns a row that was clicked.
pub fn show(
    ui: &mut Ui,
    run: &OpenRun,
    rows: &[ScaledFeature],
    null: &[ScaledFeature],
    side: [usize; 2],
    selected: Option<u32>,
    view: &mut PlotView,
) -> Option<usize> {
    let (inner, response) = plot::ground(ui, plot::full_width(ui, SCALING), LEFT, Sense::click());
    let cells = [inner.width(), inner.height()].map(|side| ((side / CELL) as usize).max(1));
    let key = (side, cells, ui.visuals().dark_mode);
    if view.0.as_ref().is_none_or(|(own, _)| *own != key) {
        view.0 = Some((key, Plot::new(ui, rows, null, key)));
    }
    let (_, plot) = view.0.as_ref()?;
    let said = format!("Latent scaling: {} features, {} own", plot.points.len(), plot.own.len());
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, &said));
    ui.painter().image(plot.texture.id(), inner, WHOLE, Color32::WHITE);
    let corner = [place(inner, [NU_ERROR, RANGE[0]]), place(inner, [NU_ERROR, NU_RECONSTRUCTION])];
    let bound = Stroke::new(1.0, theme::muted(ui));
    ui.painter().line(vec![corner[0], corner[1], place(inner, [RANGE[0], NU_RECONSTRUCTION])], bound);
    let color = theme::class(ui, "text");
    for own in &plot.own {
        ui.painter().circle_filled(place(inner, *own), 3.5, color);
    }
    let strong = Stroke::new(1.5, ui.visuals().strong_text_color());
    if let Some((_, point)) = plot.points.iter().find(|(n, _)| Some(rows[*n].feature) == selected) {
        ui.painter().circle_stroke(place(inner, *point), 6.0, strong);
    }
    let ends = RANGE.map(|end| format!("{end}"));
    plot::horizontal_axis(ui, inner, ends.each_ref().map(String::as_str), "nu, error");
    plot::vertical_axis(ui, inner, ends.each_ref().map(String::as_str), "nu, reconstruction");
    let distance = |pointer: Pos2, point: &[f64; 2]| place(inner, *point).distance(pointer);
    let near = response.hover_pos().and_then(|pointer| {
        let near = plot.points.iter().min_by(|a, b| distance(pointer, &a.1).total_cmp(&distance(pointer, &b.1)));
        near.filter(|(_, point)| distance(pointer, point) < NEAR)
    });
    let clicked = near.filter(|_| response.clicked()).map(|(n, _)| *n);
    if let Some((n, point)) = near {
        ui.painter().circle_stroke(place(inner, *point), 6.0, strong);
        let row = &rows[*n];
        run.hover.set(row.feature);
        response.on_hover_ui_at_pointer(|ui| {
            let [error, reconstruction] = [row.nu_error.value, row.nu_reconstruction.value].map(format::real);
            ui.label(format!("{}: nu error {error}, nu reconstruction {reconstruction}", row.ownership().name()));
            widgets::peek(ui, run, row.feature);
        });
    }
    relative_norms(ui, &plot.norms);
    clicked
}

/// How many features have which relative norm, with those of one model with itself in gray behind.
fn relative_norms(ui: &mut Ui, [found, chance]: &[Vec<f64>; 2]) {
    let (inner, response) = plot::ground(ui, plot::full_width(ui, NORMS), LEFT, Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, "Relative norms of the decoder (Delta)"));
    let highest = found.iter().chain(chance).copied().fold(0.0, f64::max);
    let (color, muted) = (theme::class(ui, "text").gamma_multiply(0.7), theme::muted(ui).gamma_multiply(0.6));
    plot::bars_up_to(ui, inner, chance, highest, |_| muted);
    plot::bars_up_to(ui, inner, found, highest, |_| color);
    plot::horizontal_axis(ui, inner, ["0", "1"], "Delta");
    plot::vertical_axis(ui, inner, ["0", &format::percent(highest)], "features");
    let under = response.hover_pos().map(|pointer| plot::part_under(inner, pointer, BARS));
    if let Some(bar) = under {
        let [low, high] = [bar, bar + 1].map(|edge| edge as f64 / BARS as f64);
        let [found, chance] = [found[bar], chance[bar]].map(format::percent);
        response.on_hover_text_at_pointer(format!(
            "Delta from {low:.3} to {high:.3}: {found} of the features, {chance} of those of one model with itself"
        ));
    }
}

fn place(inner: Rect, [x, y]: [f64; 2]) -> Pos2 {
    let [x, y] = [x, y].map(|value| share(value) as f32);
    pos2(inner.left() + x * inner.width(), inner.bottom() - y * inner.height())
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::vec2;
    use sae_core::analysis::latent_scaling::Ratio;

    #[test]
    fn features_are_placed_by_their_ratios_and_counted_by_their_norms() {
        let inner = Rect::from_min_size(pos2(10.0, 20.0), vec2(200.0, 100.0));
        assert_eq!(place(inner, [RANGE[0]; 2]), inner.left_bottom());
        assert_eq!(place(inner, [RANGE[1]; 2]), inner.right_top());
        let ratio = |value: f64| Ratio { value, lo: value, hi: value };
        let row = |nu: f64, delta: f64| ScaledFeature {
            feature: 0,
            model: 1,
            reference: 0,
            delta,
            firings: 20,
            nu_error: ratio(nu),
            nu_reconstruction: ratio(9.0),
            template_share: 0.0,
            first_share: 0.0,
        };
        assert_eq!(point(&row(0.25, 0.5)), Some([0.25, RANGE[1]]), "at the edge");
        assert_eq!(point(&row(f64::NAN, 0.5)), None);
        let bars = norms([row(0.0, 0.0), row(0.0, 1.0), row(0.0, 1.0), row(0.0, 0.5)].iter());
        assert_eq!((bars[0], bars[BARS - 1], bars[BARS / 2]), (0.25, 0.5, 0.25));
        assert_eq!(norms([].iter()), vec![0.0; BARS]);
    }
}
