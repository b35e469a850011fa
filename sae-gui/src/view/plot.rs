//! Small plots: bars, curves, pictures of counts. Know no data of runs.

use super::theme;
use crate::state::format;
use egui::{
    Align2, Color32, ColorImage, FontId, Pos2, Rect, Response, Sense, Stroke, TextureHandle, TextureOptions, Ui, Vec2,
    pos2, vec2,
};

/// Space below a plot for its horizontal axis.
const FOOT: f32 = 15.0;

/// The background of a plot with `left` points of space for a vertical axis. Returns the rectangle inside, and what the pointer
/// does there.
pub fn ground(ui: &mut Ui, size: Vec2, left: f32, sense: Sense) -> (Rect, Response) {
    let (rect, response) = ui.allocate_exact_size(size, sense);
    let inner = rect.with_max_y(rect.bottom() - FOOT).with_min_x(rect.left() + left);
    let (fill, stroke) = theme::card(ui);
    ui.painter().rect(inner, 4.0, fill, stroke, egui::StrokeKind::Inside);
    (inner.shrink(4.0), response)
}

fn axis_font() -> FontId {
    FontId::proportional(theme::SMALL - 1.0)
}

/// Names the ends and the middle of the horizontal axis, below a plot.
pub fn horizontal_axis(ui: &Ui, inner: Rect, [low, high]: [&str; 2], middle: &str) {
    let y = inner.bottom() + 6.0;
    let at = [
        (inner.left(), Align2::LEFT_TOP, low),
        (inner.center().x, Align2::CENTER_TOP, middle),
        (inner.right(), Align2::RIGHT_TOP, high),
    ];
    for (x, align, text) in at {
        ui.painter().text(pos2(x, y), align, text, axis_font(), theme::muted(ui));
    }
}

/// Names the ends and the middle of the vertical axis, left of a plot. The name in the middle is turned.
pub fn vertical_axis(ui: &Ui, inner: Rect, [low, high]: [&str; 2], middle: &str) {
    let (x, color) = (inner.left() - 7.0, theme::muted(ui));
    ui.painter().text(pos2(x, inner.top()), Align2::RIGHT_TOP, high, axis_font(), color);
    ui.painter().text(pos2(x, inner.bottom()), Align2::RIGHT_BOTTOM, low, axis_font(), color);
    let galley = ui.painter().layout_no_wrap(middle.into(), axis_font(), color);
    let size = galley.size();
    let corner = pos2(x - size.y, inner.center().y + 0.5 * size.x);
    let text = egui::epaint::TextShape::new(corner, galley, color).with_angle(-std::f32::consts::FRAC_PI_2);
    ui.painter().add(text);
}

/// Bars over the whole width, the highest as high as the plot. `color` gets the middle of each bar, from 0 to 1.
pub fn bars(ui: &Ui, inner: Rect, bars: &[f64], color: impl Fn(f32) -> Color32) {
    bars_up_to(ui, inner, bars, bars.iter().copied().fold(0.0, f64::max), color);
}

/// The same for bars of which one of height `highest` is as high as the plot.
pub fn bars_up_to(ui: &Ui, inner: Rect, bars: &[f64], highest: f64, color: impl Fn(f32) -> Color32) {
    let highest = highest.max(f64::MIN_POSITIVE);
    let width = inner.width() / bars.len().max(1) as f32;
    for (n, bar) in bars.iter().enumerate().filter(|(_, bar)| **bar > 0.0) {
        let height = ((bar / highest) as f32 * inner.height()).max(1.0);
        let left = inner.left() + n as f32 * width;
        let rect =
            Rect::from_min_max(pos2(left + 0.5, inner.bottom() - height), pos2(left + width - 0.5, inner.bottom()));
        ui.painter().rect_filled(rect, 1.0, color((n as f32 + 0.5) / bars.len() as f32));
    }
}

/// Which of `parts` equal parts of the width a place is in.
pub fn part_under(inner: Rect, pointer: Pos2, parts: usize) -> usize {
    let share = ((pointer.x - inner.left()) / inner.width()).clamp(0.0, 1.0);
    ((share * parts as f32) as usize).min(parts.saturating_sub(1))
}

/// How values are placed on the vertical axis of a curve.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As they are.
    Linear,
    /// By their logarithms. Values that are not positive are left out.
    Logarithmic,
}

/// A curve with its last value and, under the pointer, the value there.
pub fn curve(ui: &mut Ui, size: Vec2, title: &str, points: &[[f64; 2]], scale: Scale, color: Color32) {
    let (inner, response) = ground(ui, size, 0.0, Sense::hover());
    let font = FontId::proportional(theme::SMALL);
    let placed = |value: f64| if scale == Scale::Logarithmic { value.ln() } else { value };
    let finite = || points.iter().filter(|point| placed(point[1]).is_finite());
    let (Some(first), Some(last)) = (finite().next(), finite().next_back()) else {
        let text = format!("{title}: nothing yet");
        ui.painter().text(inner.center(), Align2::CENTER_CENTER, text, font, theme::muted(ui));
        return;
    };
    let span = |axis: usize| {
        let value = |p: &[f64; 2]| if axis == 1 { placed(p[1]) } else { p[0] };
        let low = finite().map(value).fold(f64::INFINITY, f64::min);
        let high = finite().map(value).fold(f64::NEG_INFINITY, f64::max);
        (low, if high > low { high } else { low + 1.0 })
    };
    let ((x0, x1), (y0, y1)) = (span(0), span(1));
    let plot = inner.with_min_y(inner.top() + 18.0);
    let at = |point: &[f64; 2]| {
        let share = |value: f64, low: f64, high: f64| ((value - low) / (high - low)) as f32;
        pos2(
            plot.left() + share(point[0], x0, x1) * plot.width(),
            plot.bottom() - share(placed(point[1]), y0, y1) * plot.height(),
        )
    };
    // More points than pixels only cost time.
    let every = points.len().div_ceil(plot.width().max(1.0) as usize).max(1);
    let line: Vec<Pos2> = finite().step_by(every).chain([last]).map(at).collect();
    ui.painter().line(line, Stroke::new(1.5, color));
    let under = response.hover_pos().and_then(|pointer| {
        finite().min_by(|a, b| (at(a).x - pointer.x).abs().total_cmp(&(at(b).x - pointer.x).abs()))
    });
    if let Some(point) = under {
        ui.painter().circle_filled(at(point), 3.0, color);
    }
    let shown = under.unwrap_or(last);
    let ink = ui.visuals().text_color();
    ui.painter().text(inner.left_top(), Align2::LEFT_TOP, title, font.clone(), theme::muted(ui));
    ui.painter().text(inner.right_top(), Align2::RIGHT_TOP, format::real(shown[1]), font, ink);
    let ends = [first, last].map(|point| format::count(point[0] as u64));
    let step = format!("step {}", format::count(shown[0] as u64));
    horizontal_axis(ui, inner, ends.each_ref().map(String::as_str), &step);
}

/// A picture of counts with sharp cells, from the lower left on row by row.
pub fn counts(ui: &Ui, name: &str, [width, height]: [usize; 2], color: impl Fn(usize) -> Color32) -> TextureHandle {
    let pixels =
        (0..height).rev().flat_map(|row| (0..width).map(move |column| row * width + column)).map(color).collect();
    let image = ColorImage::new([width, height], pixels);
    ui.ctx().load_texture(name, image, TextureOptions::NEAREST)
}

/// How dark a count is: by its logarithm, so that single ones are visible beside thousands.
pub fn shade(count: u32, most: u32) -> f32 {
    if count == 0 { 0.0 } else { 0.35 + 0.65 * ((1.0 + count as f32).ln() / (1.0 + most as f32).ln()).min(1.0) }
}

/// The size of a plot that fills the width.
pub fn full_width(ui: &Ui, height: f32) -> Vec2 {
    vec2(ui.available_width(), height)
}
