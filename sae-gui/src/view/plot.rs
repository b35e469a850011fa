//! Small plots, painted: bars, curves, pictures of counts. Know no data of runs.

use super::theme;
use crate::state::format;
use egui::{
    Align2, Color32, ColorImage, FontId, Pos2, Rect, Response, Sense, Stroke, TextureHandle, TextureOptions, Ui, Vec2,
    pos2, vec2,
};

/// Space under a plot for its scale.
const FOOT: f32 = 15.0;

/// The ground of a plot; the rectangle inside, and what the pointer does there.
pub fn ground(ui: &mut Ui, size: Vec2, sense: Sense) -> (Rect, Response) {
    let (rect, response) = ui.allocate_exact_size(size, sense);
    let inner = rect.with_max_y(rect.bottom() - FOOT);
    let (fill, stroke) = theme::card(ui);
    ui.painter().rect(inner, 4.0, fill, stroke, egui::StrokeKind::Inside);
    (inner.shrink(4.0), response)
}

/// The ends of the lying axis, under a plot.
pub fn scale(ui: &Ui, inner: Rect, [low, high]: [&str; 2], middle: &str) {
    let (font, color) = (FontId::proportional(theme::SMALL - 1.0), theme::muted(ui));
    let y = inner.bottom() + 6.0;
    let at = [
        (inner.left(), Align2::LEFT_TOP, low),
        (inner.center().x, Align2::CENTER_TOP, middle),
        (inner.right(), Align2::RIGHT_TOP, high),
    ];
    for (x, align, text) in at {
        ui.painter().text(pos2(x, y), align, text, font.clone(), color);
    }
}

/// Bars over the whole width, the highest as high as the plot. `color` is asked for the middle of each bar, 0 to 1.
pub fn bars(ui: &Ui, inner: Rect, bars: &[f64], color: impl Fn(f32) -> Color32) {
    let highest = bars.iter().copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let width = inner.width() / bars.len().max(1) as f32;
    for (n, bar) in bars.iter().enumerate().filter(|(_, bar)| **bar > 0.0) {
        let height = ((bar / highest) as f32 * inner.height()).max(1.0);
        let left = inner.left() + n as f32 * width;
        let rect =
            Rect::from_min_max(pos2(left + 0.5, inner.bottom() - height), pos2(left + width - 0.5, inner.bottom()));
        ui.painter().rect_filled(rect, 1.0, color((n as f32 + 0.5) / bars.len() as f32));
    }
}

/// How values stand upright.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As they are.
    Linear,
    /// In powers: what falls by the same factor falls as far. What is not positive is left out.
    Logarithmic,
}

/// A curve with its last value and, under the pointer, the value there.
pub fn curve(ui: &mut Ui, size: Vec2, title: &str, points: &[[f64; 2]], scale_of: Scale, color: Color32) {
    let (inner, response) = ground(ui, size, Sense::hover());
    let font = FontId::proportional(theme::SMALL);
    let drawn = |value: f64| if scale_of == Scale::Logarithmic { value.ln() } else { value };
    let finite = || points.iter().filter(|point| drawn(point[1]).is_finite());
    let (Some(first), Some(last)) = (finite().next(), finite().next_back()) else {
        ui.painter().text(
            inner.center(),
            Align2::CENTER_CENTER,
            format!("{title}: nothing yet"),
            font,
            theme::muted(ui),
        );
        return;
    };
    let span = |axis: usize| {
        let value = |p: &[f64; 2]| if axis == 1 { drawn(p[1]) } else { p[0] };
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
            plot.bottom() - share(drawn(point[1]), y0, y1) * plot.height(),
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
    scale(
        ui,
        inner,
        [&format::count(first[0] as u64), &format::count(last[0] as u64)],
        &format!("step {}", format::count(shown[0] as u64)),
    );
}

/// A picture of counts, from the lower left on row by row; sharp cells.
pub fn picture(ui: &Ui, name: &str, [width, height]: [usize; 2], color: impl Fn(usize) -> Color32) -> TextureHandle {
    let pixels =
        (0..height).rev().flat_map(|row| (0..width).map(move |column| row * width + column)).map(color).collect();
    let image = ColorImage::new([width, height], pixels);
    ui.ctx().load_texture(name, image, TextureOptions::NEAREST)
}

/// How dark a count is: in powers, so that single ones are seen beside thousands.
pub fn shade(count: u32, most: u32) -> f32 {
    if count == 0 { 0.0 } else { 0.35 + 0.65 * ((1.0 + count as f32).ln() / (1.0 + most as f32).ln()).min(1.0) }
}

/// Size of a plot that fills the width.
pub fn wide(ui: &Ui, height: f32) -> Vec2 {
    vec2(ui.available_width(), height)
}
