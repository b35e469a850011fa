//! A contact sheet of features: each row has the strongest patches of one feature, and texts in which the tokens are marked that
//! another feature, or the same one, fires on.

use super::{BLUE_TINT, Drawn, ORANGE_TINT, sheet};
use anyhow::Result;
use harvest::pixels::Picture;
use plotters::coord::Shift;
use plotters::element::BitMapElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use sae_workbench::demo::MarkedToken;
use std::path::Path;

/// A row of the sheet.
pub struct FeatureRow<'a> {
    /// Its title, in large letters.
    pub title: String,
    /// Measurements, one per line.
    pub notes: Vec<String>,
    /// The strongest patches with their surroundings, strongest first.
    pub patches: &'a [Picture],
    /// Texts, strongest first.
    pub texts: &'a [Vec<MarkedToken>],
}

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Pixels along a side of a patch with its surroundings.
const PATCH: i32 = 104;
const GAP: i32 = 6;
const MARGIN: i32 = 16;
const HEAD: i32 = 44;
const NOTES: i32 = 250;
const TEXTS: i32 = 560;
/// Height of a line of text.
const LINE: i32 = 23;
/// Width of a space. The measured width of a text ignores a space at its end.
const SPACE: i32 = 5;
const GREY: RGBColor = RGBColor(90, 90, 90);

/// Patches of a row.
const PATCHES: usize = 8;
/// Texts of a row.
const LINES: usize = 4;

/// Writes the PNG, with a heading above the patches and one above the texts.
pub fn contact_sheet(path: &Path, headings: [&str; 2], rows: &[FeatureRow]) -> Result<()> {
    let row_height = PATCH + 2 * GAP;
    let width = 2 * MARGIN + NOTES + PATCHES as i32 * (PATCH + GAP) + TEXTS;
    let height = HEAD + rows.len() as i32 * row_height + MARGIN;
    sheet(path, (width as u32, height as u32), |root| {
        let patches_at = MARGIN + NOTES;
        let texts_at = patches_at + PATCHES as i32 * (PATCH + GAP) + MARGIN;
        for (heading, left) in headings.iter().zip([patches_at, texts_at]) {
            root.draw_text(heading, &style(root, 16, &GREY), (left, MARGIN))?;
        }
        for (n, row) in rows.iter().enumerate() {
            let top = HEAD + n as i32 * row_height + GAP;
            root.draw_text(&row.title, &style(root, 24, &BLUE_TINT), (MARGIN, top))?;
            for (line, note) in (0..).zip(&row.notes) {
                root.draw_text(note, &style(root, 14, &GREY), (MARGIN, top + 34 + 18 * line))?;
            }
            for (column, patch) in (0..).zip(row.patches.iter().take(PATCHES)) {
                draw_patch(root, patch, (patches_at + column * (PATCH + GAP), top))?;
            }
            for (line, text) in (0..).zip(row.texts.iter().take(LINES)) {
                draw_text(root, text, (texts_at, top + 4 + LINE * line), width - MARGIN)?;
            }
        }
        Ok(())
    })
}

fn style<'a>(area: &Area, size: i32, color: &'a RGBColor) -> TextStyle<'a> {
    ("sans-serif", size).into_text_style(area).color(color).pos(Pos::new(HPos::Left, VPos::Top))
}

/// Draws a patch in the middle of its square: patches at the border of an image have smaller surroundings.
fn draw_patch(area: &Area, patch: &Picture, (left, top): (i32, i32)) -> Drawn {
    let patch = patch.fitted(PATCH as usize, true);
    let [width, height] = patch.size().map(|side| side as i32);
    let corner = (left + (PATCH - width) / 2, top + (PATCH - height) / 2);
    let pixels = BitMapElement::<_>::with_ref(corner, (width as u32, height as u32), patch.pixels());
    Ok(area.draw(&pixels.ok_or("a picture has other pixels than its size says")?)?)
}

/// Draws tokens from left to right while there is room.
fn draw_text(area: &Area, text: &[MarkedToken], (mut left, top): (i32, i32), right: i32) -> Drawn {
    let style = style(area, 16, &BLACK);
    for token in text {
        let shown = token.text.trim();
        let spaces = token.text.chars().take_while(|c| c.is_whitespace()).count() as i32;
        left += SPACE * spaces;
        let (width, _) = area.estimate_text_size(shown, &style)?;
        let end = left + width as i32;
        if end > right {
            break;
        }
        if token.strength > 0.0 {
            let shade = ORANGE_TINT.mix(0.15 + 0.6 * f64::from(token.strength.min(1.0)));
            area.draw(&Rectangle::new([(left - 2, top - 1), (end + 2, top + LINE - 5)], shade.filled()))?;
        }
        area.draw_text(shown, &style, (left, top))?;
        left = end + 1;
    }
    Ok(())
}
