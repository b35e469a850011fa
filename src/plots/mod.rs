//! Plots for reports, drawn with `plotters` and the bundled font, a file for each. Computes only bins.

mod curves;
mod features;
mod frontier;
mod intervals;
mod ownership;
mod scores;
mod volcano;

pub use curves::curves;
pub use features::{FeatureRow, contact_sheet};
pub use frontier::{Frontier, frontiers};
pub use intervals::{Interval, Panel, intervals};
pub use ownership::{Ownerships, Point as OwnershipPoint, ownerships};
pub use scores::{Distribution, distributions};
pub use volcano::{Test, Volcano, volcanoes};

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use plotters::style::register_font;
use std::path::Path;

const BLUE_TINT: RGBColor = RGBColor(31, 119, 180);
const ORANGE_TINT: RGBColor = RGBColor(255, 127, 14);

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Draws on a white background, and writes the finished PNG atomically.
fn sheet(
    path: &Path,
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<BitMapBackend, plotters::coord::Shift>) -> Drawn,
) -> Result<()> {
    let partial = path.with_extension("partial.png");
    let mut pixels = vec![0; size.0 as usize * size.1 as usize * 3];
    let draw_pixels = |pixels: &mut [u8]| -> Drawn {
        let font = sae_workbench::assets::FONT;
        register_font("sans-serif", FontStyle::Normal, font).map_err(|_| "the bundled font is damaged")?;
        let root = BitMapBackend::with_buffer(pixels, size).into_drawing_area();
        root.fill(&WHITE)?;
        draw(&root)?;
        Ok(root.present()?)
    };
    draw_pixels(&mut pixels).map_err(|e| anyhow!("cannot draw {}: {e}", path.display()))?;
    image::save_buffer(&partial, &pixels, size.0, size.1, image::ColorType::Rgb8)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    Ok(std::fs::rename(&partial, path)?)
}
