//! A plot of a training and its result: loss, L0, FVU and the share of dead features over the steps, and how often features
//! fire on text and on images.

use super::{BLUE_TINT, Drawn, ORANGE_TINT, sheet};
use anyhow::Result;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use sae_core::analysis::eval::{Density, Evaluation, Report};
use sae_core::store::sample::Modality;
use sae_core::train::StepLog;
use sae_workbench::numbers::count;
use std::path::Path;

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// One measurement of a step.
type Value = fn(&StepLog) -> f64;

const SIZE: (u32, u32) = (1280, 1120);
const HISTOGRAM: u32 = 400;
const GREY: RGBColor = RGBColor(90, 90, 90);
const FAINT: RGBColor = RGBColor(225, 225, 225);

/// Writes the PNG. Without a log it has only the histogram.
pub fn curves(path: &Path, name: &str, log: &[StepLog], report: &Report) -> Result<()> {
    let size = if log.len() > 1 { SIZE } else { (SIZE.0, HISTOGRAM + 20) };
    sheet(path, size, |root| {
        if log.len() < 2 {
            return densities(root, name, report);
        }
        let (upper, lower) = root.split_vertically(SIZE.1 - HISTOGRAM);
        let panels = upper.split_evenly((2, 2));
        let panel = |n: usize| &panels[n];
        logarithmic(panel(0), &format!("{name}: loss"), "loss of a batch", log, |s| s.loss)?;
        logarithmic(panel(1), "L0", "active features per token", log, |s| s.l0)?;
        logarithmic(panel(2), "FVU", "variance unexplained", log, |s| s.fvu)?;
        dead(panel(3), log)?;
        densities(&lower, "Feature density", report)
    })
}

fn logarithmic(area: &Area, title: &str, axis: &str, log: &[StepLog], value: Value) -> Drawn {
    let values = || log.iter().map(value).filter(|v| *v > 0.0 && v.is_finite());
    let (low, high) = values().fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), v| (low.min(v), high.max(v)));
    let (low, high) = if low <= high { (low * 0.9, high * 1.1) } else { (0.1, 1.0) };
    let range = (low..high).log_scale().with_key_points(ticks(low, high));
    line(area, title, axis, log, range, value, &magnitude)
}

fn dead(area: &Area, log: &[StepLog]) -> Drawn {
    let top = log.iter().map(|s| s.dead).fold(0.0, f64::max);
    let top = (top * 1.15).clamp(0.02, 1.0);
    line(area, "Dead features", "share within the dead window", log, 0.0..top, |s| s.dead, &percent)
}

/// A panel with one line over the steps.
fn line<Y>(
    area: &Area,
    title: &str,
    axis: &str,
    log: &[StepLog],
    range: Y,
    value: Value,
    label: &dyn Fn(&f64) -> String,
) -> Drawn
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let (first, last) = (log[0].step as f64, log[log.len() - 1].step as f64);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 24))
        .margin(14)
        .margin_right(28)
        .x_label_area_size(46)
        .y_label_area_size(78)
        .build_cartesian_2d(first..last.max(first + 1.0), range)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .axis_style(GREY)
        .x_desc("step")
        .y_desc(axis)
        .x_labels(7)
        .y_labels(7)
        .axis_desc_style(("sans-serif", 17))
        .label_style(("sans-serif", 15))
        .x_label_formatter(&|step| count(*step as u64))
        .y_label_formatter(label)
        .draw()?;
    let points = log.iter().map(|s| (s.step as f64, value(s))).filter(|(_, v)| v.is_finite());
    chart.draw_series(LineSeries::new(points, BLUE_TINT.stroke_width(2)))?;
    Ok(())
}

/// How often features fire: a histogram for each modality, as shares of all features.
fn densities(area: &Area, title: &str, report: &Report) -> Drawn {
    let histogram = |modality: Modality, name: &'static str, color: RGBColor| {
        report.by_modality.get(&modality).map(|evaluation| (name, color, evaluation))
    };
    let groups = [histogram(Modality::Text, "text", BLUE_TINT), histogram(Modality::Image, "image", ORANGE_TINT)];
    let groups: Vec<(&str, RGBColor, &Evaluation)> = groups.into_iter().flatten().collect();
    let edges = &report.all.density.log10_edges;
    let shown = || groups.iter().map(|(_, _, e)| &e.density).chain([&report.all.density]);
    let top = shown().flat_map(|d| &d.shares).copied().fold(0.0, f64::max);
    // Room for the legend above the bars.
    let top = top * 1.45;
    // Empty decades on the left are left out.
    let first = shown().filter_map(|d| d.shares.iter().position(|s| *s > 0.0)).min().unwrap_or(0);
    let left = edges.get(first).copied().unwrap_or(-1.0).floor();
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 24))
        .margin(14)
        .margin_right(28)
        .x_label_area_size(46)
        .y_label_area_size(78)
        .build_cartesian_2d(left..0.0, 0.0..top.max(1e-3))?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .axis_style(GREY)
        .x_desc("share of positions on which a feature fires")
        .y_desc("share of features")
        .x_labels((-left) as usize + 1)
        .axis_desc_style(("sans-serif", 17))
        .label_style(("sans-serif", 15))
        .x_label_formatter(&|exponent| percent(&10f64.powf(*exponent)))
        .y_label_formatter(&percent)
        .draw()?;
    let bars = |density: &Density| -> Vec<(f64, f64, f64)> {
        let bins = density.log10_edges.windows(2).zip(&density.shares);
        bins.filter(|(edges, _)| edges[0] >= left - 1e-9).map(|(edges, share)| (edges[0], edges[1], *share)).collect()
    };
    for (name, color, evaluation) in &groups {
        let (color, tint) = (*color, color.mix(0.4));
        let label = format!("{name}, {} positions: {} dead", count(evaluation.tokens), percent(&evaluation.dead));
        let bars = bars(&evaluation.density).into_iter();
        chart
            .draw_series(bars.map(|(from, to, share)| Rectangle::new([(from, 0.0), (to, share)], tint.filled())))?
            .label(label)
            .legend(move |(x, y)| Rectangle::new([(x, y - 6), (x + 14, y + 6)], color.mix(0.5).filled()));
    }
    let outline = bars(&report.all.density).into_iter().flat_map(|(from, to, share)| [(from, share), (to, share)]);
    let label = format!("all, {} positions: {} dead", count(report.all.tokens), percent(&report.all.dead));
    chart
        .draw_series(LineSeries::new(outline, GREY.stroke_width(2)))?
        .label(label)
        .legend(|(x, y)| PathElement::new([(x, y), (x + 14, y)], GREY.stroke_width(2)));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(FAINT)
        .label_font(("sans-serif", 16))
        .draw()?;
    Ok(())
}

/// Powers of ten in a range, with 2 and 5 times them if there are few.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let steps: &[f64] = if high / low < 1e3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let ticks = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
    ticks.filter(|tick| (low..=high).contains(tick)).collect()
}

/// As few digits as make the values on an axis differ.
fn magnitude(value: &f64) -> String {
    match value.abs() {
        v if v >= 10.0 => count(value.round() as u64),
        v if v >= 1.0 => trimmed(format!("{value:.1}")),
        v if v >= 1e-4 => trimmed(format!("{value:.5}")),
        _ => format!("{value:.0e}"),
    }
}

fn percent(share: &f64) -> String {
    match 100.0 * share.abs() {
        0.0 => "0 %".into(),
        v if v >= 1.0 => format!("{} %", trimmed(format!("{v:.1}"))),
        // Two figures.
        v if v >= 1e-4 => format!("{} %", trimmed(format!("{v:.*}", (1.0 - v.log10().floor()) as usize))),
        v => format!("{v:.0e} %"),
    }
}

fn trimmed(number: String) -> String {
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_labeled_with_few_digits() {
        assert_eq!([0.02, 0.5, 3.0, 40.0, 1_234.0].map(|v| magnitude(&v)), ["0.02", "0.5", "3", "40", "1,234"]);
        let shares = [0.0, 1.0, 0.1234, 0.02, 0.000_488, 1e-5, 1e-7];
        assert_eq!(shares.map(|v| percent(&v)), ["0 %", "100 %", "12.3 %", "2 %", "0.049 %", "0.001 %", "1e-5 %"]);
        assert_eq!(ticks(0.8, 12.0), [1.0, 2.0, 5.0, 10.0]);
        assert_eq!(ticks(0.02, 300.0), [0.1, 1.0, 10.0, 100.0]);
    }
}
