//! Volcano plots: the effect of every test, and how improbable it is by chance.

use super::{BLUE_TINT, Drawn, sheet};
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// A test.
#[derive(Clone, Copy)]
pub struct Test {
    /// Its effect.
    pub effect: f64,
    /// Its p-value.
    pub p: f64,
    /// Whether it is a finding.
    pub differs: bool,
}

/// The tests of one column.
pub struct Volcano {
    /// Title above it.
    pub title: String,
    /// The tests.
    pub tests: Vec<Test>,
    /// Tests of a shuffled column.
    pub chance: Vec<Test>,
}

const COLUMNS: usize = 3;
const SIDE: (u32, u32) = (560, 460);
/// P-values below this are drawn at it.
const LEAST: f64 = 1e-30;

/// Writes a PNG with a plot for each column, three in a row.
pub fn volcanoes(path: &Path, title: &str, plots: &[Volcano]) -> Result<()> {
    let columns = COLUMNS.min(plots.len().max(1));
    let lines = plots.len().max(1).div_ceil(columns);
    sheet(path, (SIDE.0 * columns as u32, SIDE.1 * lines as u32 + 50), |root| {
        let root = root.titled(title, ("sans-serif", 24))?;
        for (area, plot) in root.split_evenly((lines, columns)).iter().zip(plots) {
            draw(area, plot)?;
        }
        Ok(())
    })
}

fn draw(area: &DrawingArea<BitMapBackend, Shift>, plot: &Volcano) -> Drawn {
    let height = |test: &Test| -test.p.max(LEAST).log10();
    let all = || plot.tests.iter().chain(&plot.chance);
    let widest = all().map(|test| test.effect.abs()).fold(1e-3, f64::max) * 1.1;
    let highest = all().map(height).fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(&plot.title, ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(-widest..widest, 0.0..highest)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style(("sans-serif", 14))
        .x_desc("effect: change of prevalence")
        .y_desc("-log10 p")
        .draw()?;
    let gray = RGBColor(150, 150, 150);
    let kinds: [(&str, RGBColor, Vec<&Test>); 3] = [
        ("one shuffle", RGBColor(210, 210, 210), plot.chance.iter().collect()),
        ("no difference shown", gray, plot.tests.iter().filter(|test| !test.differs).collect()),
        ("differs", BLUE_TINT, plot.tests.iter().filter(|test| test.differs).collect()),
    ];
    for (name, color, tests) in kinds {
        chart
            .draw_series(tests.iter().map(|test| Circle::new((test.effect, height(test)), 3, color.filled())))?
            .label(name)
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, color.filled()));
    }
    chart
        .configure_series_labels()
        // Small effects are not significant, so the lower corners are free of points.
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 14))
        .draw()?;
    Ok(())
}
