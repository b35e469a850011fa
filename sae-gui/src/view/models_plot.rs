//! Plots of the features of a crosscoder for one of two models: latent scaling, and relative norms, each in front of those of one
//! model with itself.

use super::cloud::{self, Cloud};
use super::{plot, theme, widgets};
use crate::state::format;
use crate::state::models::is_alone;
use crate::state::open_run::OpenRun;
use egui::{Align2, FontId, Pos2, Rect, Role, Sense, Stroke, Ui, WidgetInfo};
use sae_core::analysis::latent_scaling::{NU_ERROR, NU_RECONSTRUCTION, Ownership, ScaledFeature};

/// Heights of the two plots.
const SCALING: f32 = 250.0;
const NORMS: f32 = 96.0;
/// Width left of a plot for its vertical axis.
const LEFT: f32 = 44.0;
/// Ratios outside are drawn at the edge.
const RANGE: [f64; 2] = [-0.5, 1.5];
/// Parts of the range of relative norms.
const BARS: usize = 40;

/// What the plots remember between two frames.
#[derive(Default)]
pub struct PlotView(Option<(Key, Plot)>);

/// What the plots depend on: the two models, the number of squares in both directions, whether the theme is dark.
type Key = ([usize; 2], [usize; 2], bool);

struct Plot {
    /// The features by their two ratios.
    scaling: Cloud,
    /// The shares of features, and of those of one model with itself, in parts of the range of relative norms.
    norms: [Vec<f64>; 2],
}

/// The two ratios of a feature, if it has both.
fn point(row: &ScaledFeature) -> Option<[f64; 2]> {
    let point = [row.nu_error.value, row.nu_reconstruction.value];
    point.iter().all(|value| value.is_finite()).then(|| point.map(|value| value.clamp(RANGE[0], RANGE[1])))
}

/// Where a point is in the plot, in shares of width and height.
fn shares(point: [f64; 2]) -> [f64; 2] {
    point.map(|value| (value - RANGE[0]) / (RANGE[1] - RANGE[0]))
}

/// The shares of some features in the parts of the range of relative norms.
fn norms<'a>(rows: impl Iterator<Item = &'a ScaledFeature>) -> Vec<f64> {
    let mut bars = vec![0.0; BARS];
    // A cast saturates.
    rows.for_each(|row| bars[((row.delta * BARS as f64) as usize).min(BARS - 1)] += 1.0);
    let sum: f64 = bars.iter().sum();
    bars.into_iter().map(|count| count / sum.max(1.0)).collect()
}

impl Plot {
    fn new(ui: &Ui, rows: &[ScaledFeature], null: &[ScaledFeature], (side, cells, _): Key) -> Self {
        let of_side = || rows.iter().enumerate().filter(|(_, row)| [row.model, row.reference] == side);
        let points = of_side().filter_map(|(n, row)| Some((n, shares(point(row)?)))).collect();
        let by_chance = null.iter().filter_map(point).map(shares);
        let own = |n: usize| (rows[n].ownership() == Ownership::Own).then(|| theme::class(ui, "text"));
        let norms = [norms(of_side().map(|(_, row)| row)), norms(null.iter())];
        Self { scaling: Cloud::new(ui, "latent scaling", cells, points, by_chance, own), norms }
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
    let key = (side, cloud::cells(inner), ui.visuals().dark_mode);
    if view.0.as_ref().is_none_or(|(own, _)| *own != key) {
        view.0 = Some((key, Plot::new(ui, rows, null, key)));
    }
    let (_, Plot { scaling: cloud, norms }) = view.0.as_ref()?;
    let said = format!("Latent scaling: {} features, {} own", cloud.len(), cloud.distinct());
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, &said));
    if cloud.len() == 0 {
        let text = "No feature has both ratios";
        let font = FontId::proportional(theme::SMALL);
        ui.painter().text(inner.center(), Align2::CENTER_CENTER, text, font, theme::muted(ui));
    }
    cloud.draw(ui, inner);
    let bound = Stroke::new(1.0, theme::muted(ui));
    let corner = [[NU_ERROR, RANGE[0]], [NU_ERROR, NU_RECONSTRUCTION], [RANGE[0], NU_RECONSTRUCTION]];
    ui.painter().line(corner.map(|point| place(inner, point)).to_vec(), bound);
    cloud.ring(ui, inner, |n| Some(rows[n].feature) == selected);
    let ends = RANGE.map(|end| format!("{end}"));
    plot::horizontal_axis(ui, inner, ends.each_ref().map(String::as_str), "nu error");
    plot::vertical_axis(ui, inner, ends.each_ref().map(String::as_str), "nu reconstruction");
    let near = response.hover_pos().and_then(|pointer| cloud.under(inner, pointer));
    let clicked = near.filter(|_| response.clicked());
    if let Some(n) = near {
        cloud.ring(ui, inner, |other| other == n);
        let row = &rows[n];
        run.hover.set(row.feature);
        response.on_hover_ui_at_pointer(|ui| {
            let [error, reconstruction] = [row.nu_error.value, row.nu_reconstruction.value].map(format::real);
            let alone = is_alone(row.ownership());
            ui.label(format!("This model alone: {alone} (nu error {error}, nu reconstruction {reconstruction})"));
            widgets::peek(ui, run, row.feature);
        });
    }
    relative_norms(ui, norms);
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
    plot::horizontal_axis(ui, inner, ["0", "1"], "relative decoder norm (Delta)");
    plot::vertical_axis(ui, inner, ["0", &format::percent(highest)], "features");
    let under = response.hover_pos().map(|pointer| plot::part_under(inner, pointer, BARS));
    if let Some(bar) = under {
        let [low, high] = [bar, bar + 1].map(|edge| edge as f64 / BARS as f64);
        let [found, chance] = [found[bar], chance[bar]].map(format::percent);
        response.on_hover_text_at_pointer(format!(
            "Delta from {low:.3} to {high:.3}: {found} of the features, {chance} of those of one model and its copy"
        ));
    }
}

fn place(inner: Rect, point: [f64; 2]) -> Pos2 {
    cloud::place(inner, shares(point))
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::{pos2, vec2};
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
