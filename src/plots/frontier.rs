//! Frontiers of budgets: the mean score that each mean cost allows, and the selection that was made.

use super::{BLUE_TINT, Drawn, ORANGE_TINT, sheet};
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// The frontier of one budget.
pub struct Frontier {
    /// What is limited.
    pub column: String,
    /// Mean costs with the mean scores that they allow.
    pub points: Vec<(f64, f64)>,
    /// The limit.
    pub limit: f64,
    /// The mean cost and score of the selection.
    pub chosen: (f64, f64),
    /// Those of as many samples without limits.
    pub without: (f64, f64),
}

const COLUMNS: usize = 2;
const SIDE: (u32, u32) = (560, 420);

/// Writes a PNG with a plot for each budget, two in a row.
pub fn frontiers(path: &Path, score: &str, plots: &[Frontier]) -> Result<()> {
    let columns = COLUMNS.min(plots.len().max(1));
    let lines = plots.len().max(1).div_ceil(columns);
    sheet(path, (SIDE.0 * columns as u32, SIDE.1 * lines as u32), |root| {
        for (area, plot) in root.split_evenly((lines, columns)).iter().zip(plots) {
            draw(area, score, plot)?;
        }
        Ok(())
    })
}

/// The range of some numbers, with a margin.
fn range(numbers: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let margin = ((high - low) * 0.08).max(1e-6);
    low - margin..high + margin
}

fn draw(area: &DrawingArea<BitMapBackend, Shift>, score: &str, plot: &Frontier) -> Drawn {
    let ends = [plot.chosen, plot.without];
    let all = || plot.points.iter().copied().chain(ends);
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d(range(all().map(|point| point.0).chain([plot.limit])), range(all().map(|point| point.1)))?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style(("sans-serif", 14))
        .x_desc(format!("mean {}", plot.column))
        .y_desc(format!("mean {score}"))
        .draw()?;
    let gray = RGBColor(140, 140, 140);
    let heights = range(all().map(|point| point.1));
    chart.draw_series(LineSeries::new([(plot.limit, heights.start), (plot.limit, heights.end)], gray))?;
    let line = chart.draw_series(LineSeries::new(plot.points.iter().copied(), BLUE_TINT.stroke_width(2)))?;
    line.label("other limits").legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLUE_TINT));
    let marks = [("kept", plot.chosen, ORANGE_TINT), ("as many without limits", plot.without, gray)];
    for (name, point, color) in marks {
        let mark = chart.draw_series([Circle::new(point, 6, color.filled())])?;
        mark.label(name).legend(move |(x, y)| Circle::new((x + 8, y), 5, color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .label_font(("sans-serif", 14))
        .draw()?;
    Ok(())
}
