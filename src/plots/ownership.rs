//! The features of two models by latent scaling: what only one of them has lies in the lower left corner.

use super::{BLUE_TINT, Drawn, sheet};
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// A feature: `nu_error` and `nu_reconstruction`, and whether it belongs to one model.
pub type Point = (f64, f64, bool);

/// The features of one model in comparison with another.
pub struct Ownerships {
    /// Title above them.
    pub title: String,
    /// The features.
    pub features: Vec<Point>,
    /// The features of a crosscoder of one model with itself.
    pub null: Vec<Point>,
}

const SIDE: (u32, u32) = (560, 480);
/// Values outside are drawn at the edge.
const RANGE: std::ops::Range<f64> = -0.5..1.5;

/// Writes a PNG with a plot for each comparison, two in a row; `bounds` are those of features that belong to one model.
pub fn ownerships(path: &Path, title: &str, plots: &[Ownerships], bounds: (f64, f64)) -> Result<()> {
    let columns = 2.min(plots.len().max(1));
    let lines = plots.len().max(1).div_ceil(columns);
    sheet(path, (SIDE.0 * columns as u32, SIDE.1 * lines as u32 + 50), |root| {
        let root = root.titled(title, ("sans-serif", 24))?;
        for (area, plot) in root.split_evenly((lines, columns)).iter().zip(plots) {
            draw(area, plot, bounds)?;
        }
        Ok(())
    })
}

fn draw(area: &DrawingArea<BitMapBackend, Shift>, plot: &Ownerships, bounds: (f64, f64)) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .caption(&plot.title, ("sans-serif", 18))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(RANGE, RANGE)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style(("sans-serif", 14))
        .x_desc("nu, error")
        .y_desc("nu, reconstruction")
        .draw()?;
    let corner = [(bounds.0, RANGE.start), (bounds.0, bounds.1), (RANGE.start, bounds.1)];
    chart.draw_series(LineSeries::new(corner, BLACK.mix(0.5)))?;
    let inside = |value: f64| value.clamp(RANGE.start, RANGE.end);
    let of = |points: &[Point], own: Option<bool>| -> Vec<(f64, f64)> {
        let kept = points.iter().filter(|point| own.is_none_or(|own| point.2 == own));
        let finite = kept.filter(|point| point.0.is_finite() && point.1.is_finite());
        finite.map(|point| (inside(point.0), inside(point.1))).collect()
    };
    let kinds = [
        ("one model with itself", RGBColor(215, 215, 215), of(&plot.null, None)),
        ("shared or uncertain", RGBColor(130, 130, 130), of(&plot.features, Some(false))),
        ("own", BLUE_TINT, of(&plot.features, Some(true))),
    ];
    for (name, color, points) in kinds.into_iter().filter(|(_, _, points)| !points.is_empty()) {
        chart
            .draw_series(points.into_iter().map(|point| Circle::new(point, 3, color.filled())))?
            .label(name)
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 14))
        .draw()?;
    Ok(())
}
