//! Values with their intervals, a row for each name and a panel for each group: compares many scores.

use super::{BLUE_TINT, Drawn, sheet};
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// A value and its interval.
#[derive(Clone, Copy)]
pub struct Interval {
    /// The value.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Rows of names with their values.
pub struct Panel {
    /// Title above it.
    pub title: String,
    /// Names with their values, from top to bottom.
    pub rows: Vec<(String, Interval)>,
}

const COLUMNS: usize = 3;
const WIDTH: u32 = 560;
const ROW: u32 = 24;
const HEAD: u32 = 110;
const NAMES: i32 = 200;

/// Writes a PNG of panels, three in a row, over 0 to 1 with a line at `chance`.
pub fn intervals(path: &Path, title: &str, chance: f64, panels: &[Panel]) -> Result<()> {
    let rows = panels.iter().map(|panel| panel.rows.len()).max().unwrap_or(0) as u32;
    let columns = COLUMNS.min(panels.len().max(1));
    let lines = panels.len().max(1).div_ceil(columns);
    let size = (WIDTH * columns as u32, lines as u32 * (HEAD + ROW * rows) + 50);
    sheet(path, size, |root| {
        let root = root.titled(title, ("sans-serif", 26))?;
        for (area, panel) in root.split_evenly((lines, columns)).iter().zip(panels) {
            draw(area, chance, panel)?;
        }
        Ok(())
    })
}

fn draw(area: &DrawingArea<BitMapBackend, Shift>, chance: f64, panel: &Panel) -> Drawn {
    let rows = panel.rows.len();
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(28)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(0.3..1.0, 0.0..rows.max(1) as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_labels(8)
        .light_line_style(WHITE)
        .label_style(("sans-serif", 14))
        .x_label_formatter(&|value| format!("{value:.1}"))
        .draw()?;
    let middle = |n: usize| rows as f64 - n as f64 - 0.5;
    chart.draw_series(LineSeries::new([(chance, 0.0), (chance, rows as f64)], BLACK.mix(0.5)))?;
    let color = |of: &Interval| if of.low > chance { BLUE_TINT } else { RGBColor(140, 140, 140) };
    chart.draw_series(panel.rows.iter().enumerate().map(|(n, (_, of))| {
        PathElement::new([(of.low.max(0.3), middle(n)), (of.high, middle(n))], color(of).stroke_width(3))
    }))?;
    chart.draw_series(
        panel
            .rows
            .iter()
            .enumerate()
            .map(|(n, (_, of))| Circle::new((of.value.max(0.3), middle(n)), 4, color(of).filled())),
    )?;
    let style = ("sans-serif", 15).into_text_style(area).pos(Pos::new(HPos::Right, VPos::Center));
    for (n, (name, _)) in panel.rows.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(0.3, middle(n)));
        let (left, top) = area.get_base_pixel();
        area.draw_text(name, &style, (x - left - 8, y - top))?;
    }
    Ok(())
}
