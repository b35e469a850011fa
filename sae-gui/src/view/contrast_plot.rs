//! One feature of a contrast in every group or bin.

use super::{plot, theme};
use crate::state::format;
use egui::{Pos2, Role, Sense, Stroke, Ui, Vec2, WidgetInfo, pos2, vec2};
use sae_core::analysis::contrast::GroupValue;

/// Height of the plot.
const HEIGHT: f32 = 150.0;
/// Width left of a plot for its vertical axis.
const LEFT: f32 = 44.0;

/// Draws how often a feature is active in every group or bin, with intervals. A forecast is a ring at the end of a line.
pub fn groups(ui: &mut Ui, feature: u32, values: &[GroupValue]) {
    let size: Vec2 = plot::full_width(ui, HEIGHT);
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
    let pointed = pointed.map(|pointer| &values[plot::part_under(inner, pointer, values.len())]);
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
