//! Histograms of scores, for right and for swapped captions.

use super::{BLUE_TINT, Drawn, ORANGE_TINT, sheet};
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// The values of a score in two groups.
pub struct Distribution {
    /// Title above the histogram.
    pub title: String,
    /// One group, drawn in blue.
    pub right: Vec<f64>,
    /// The other, drawn in orange.
    pub swapped: Vec<f64>,
}

const BINS: usize = 30;
const SIZE: (u32, u32) = (1200, 800);

/// Writes a PNG with a histogram for each score; each group is shown as shares of its size.
pub fn distributions(path: &Path, of: &[Distribution]) -> Result<()> {
    sheet(path, SIZE, |root| draw(root, of))
}

fn draw(root: &DrawingArea<BitMapBackend, Shift>, of: &[Distribution]) -> Drawn {
    let columns = 2.min(of.len().max(1));
    for (area, distribution) in root.split_evenly((of.len().div_ceil(columns), columns)).iter().zip(of) {
        let all = || distribution.right.iter().chain(&distribution.swapped).copied();
        let low = all().fold(f64::INFINITY, f64::min);
        let high = all().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low < high { (low, high) } else { (low - 0.5, low + 0.5) };
        let width = (high - low) / BINS as f64;
        let groups = [
            ("right caption", BLUE_TINT, shares(&distribution.right, low, width)),
            ("swapped caption", ORANGE_TINT, shares(&distribution.swapped, low, width)),
        ];
        let top = groups.iter().flat_map(|g| &g.2).copied().fold(0.0, f64::max) * 1.15;
        let mut chart = ChartBuilder::on(area)
            .caption(&distribution.title, ("sans-serif", 24))
            .margin(16)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(low..high, 0.0..top.max(1e-9))?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .y_desc("share of the group")
            .label_style(("sans-serif", 15))
            .y_label_formatter(&|share| format!("{:.0} %", share * 100.0))
            .draw()?;
        for (name, color, shares) in groups {
            let bar = move |(bin, share): (usize, &f64)| {
                let left = low + bin as f64 * width;
                Rectangle::new([(left, 0.0), (left + width, *share)], color.mix(0.45).filled())
            };
            chart
                .draw_series(shares.iter().enumerate().map(bar))?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 6), (x + 12, y + 6)], color.mix(0.6).filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 15))
            .draw()?;
    }
    Ok(())
}

/// Share of the values in each bin.
fn shares(values: &[f64], low: f64, width: f64) -> Vec<f64> {
    let mut bins = vec![0.0; BINS];
    for value in values {
        bins[(((value - low) / width) as usize).min(BINS - 1)] += 1.0 / values.len() as f64;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_the_highest_value_has_a_bin() {
        let shares = shares(&[0.0, 0.1, 1.0, 1.0], 0.0, 1.0 / BINS as f64);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(shares[BINS - 1], 0.5);
    }
}
