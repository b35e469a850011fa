//! Text around a token, laid out as one galley: tinted where the feature fires, the token marked, patches drawn in their places
//! among the words, activations on hover. What is shown is chosen by [`crate::state::excerpt`].

use super::heat_map::{self, HeatScale};
use super::picture::paint_patch;
use super::sample_cache::LoadedSample;
use super::theme;
use crate::state::activations::SampleActivations;
use crate::state::excerpt::{Span, Tone, display_text};
use crate::state::format;
use egui::text::{CCursor, LayoutJob, TextFormat, TextWrapping};
use egui::{Color32, FontId, Galley, Id, Rect, Role, Sense, TextStyle, Ui, Vec2, WidgetInfo, pos2};
use std::ops::Range;
use std::sync::Arc;

/// Spaces that make room for a patch.
const PATCH_SPACES: usize = 5;
/// Height of a line.
const LINE: f32 = 17.0;

/// What is where in a laid-out text: ranges of characters, and the tokens that they show.
#[derive(Default)]
struct Regions {
    words: Vec<(Range<usize>, Range<usize>)>,
    patches: Vec<(Range<usize>, usize)>,
}

/// Draws spans of a sample into a rectangle, as far as they fit.
pub fn show(
    ui: &Ui,
    id: Id,
    rect: Rect,
    loaded: &LoadedSample,
    spans: &[Span],
    active: Option<&Arc<SampleActivations>>,
    scale: HeatScale,
) {
    let values = active.map(|active| active.of_feature(scale.feature)).unwrap_or_default();
    let (job, regions) = layout(ui, spans, &values, scale);
    let painter = ui.painter_at(rect);
    let galley = painter.layout_job(LayoutJob { wrap: wrapped(rect), ..job });
    painter.galley(rect.min, galley.clone(), ui.visuals().text_color());
    // What did not fit is nowhere.
    let laid_out: usize = galley.rows.iter().map(|row| row.char_count_including_newline().0).sum();
    for (region, token) in regions.patches.iter().filter(|(region, _)| region.end < laid_out) {
        paint_patch(&painter, patch_rect(&galley, region, rect), loaded, *token);
    }
    // The card below is clicked anywhere, so that only hovering is sensed here.
    let response = ui.interact(rect, id, Sense::hover());
    let visible = || galley.text().chars().take(laid_out).collect::<String>();
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, visible().trim()));
    let under = response.hover_pos().and_then(|pointer| character_at(&galley, pointer - rect.min));
    let tokens = under.and_then(|at| {
        let words = regions.words.iter().map(|(region, tokens)| (region, tokens.clone()));
        let patches = regions.patches.iter().map(|(region, token)| (region, *token..token + 1));
        words.chain(patches).find(|(region, _)| region.contains(&at)).map(|(_, tokens)| tokens)
    });
    if let Some(tokens) = tokens
        && let Some(token) = loaded.data.tokens.get(tokens.start)
        && !values.is_empty()
    {
        let value = values.get(tokens).unwrap_or_default().iter().copied().fold(0.0, f32::max);
        response.on_hover_text_at_pointer(format!("position {}: {}", token.position, format::real(f64::from(value))));
    }
}

/// The height that spans of a sample take at a width.
pub fn height(ui: &Ui, width: f32, spans: &[Span], values: &[f32], scale: HeatScale) -> f32 {
    let (job, _) = layout(ui, spans, values, scale);
    let wrap = TextWrapping { max_width: width, ..TextWrapping::default() };
    // As many lines as `wrapped` then lets in.
    ui.painter().layout_job(LayoutJob { wrap, ..job }).rows.len().max(1) as f32 * LINE
}

/// The character under a place; nothing beside and below the text.
fn character_at(galley: &Galley, place: Vec2) -> Option<usize> {
    let nearest = galley.cursor_from_pos(place).index.0;
    // The nearest gap between characters is before or behind the one under the place.
    let covers = |at: &usize| {
        let [start, end] = [*at, at + 1].map(|at| galley.pos_from_cursor(CCursor::new(at)));
        start.y_range().contains(place.y) && start.left() <= place.x && place.x < end.left()
    };
    [nearest.checked_sub(1), Some(nearest)].into_iter().flatten().find(covers)
}

/// Where a patch is drawn among the spaces that make room for it.
fn patch_rect(galley: &Galley, region: &Range<usize>, rect: Rect) -> Rect {
    let place = |at: usize| galley.pos_from_cursor(CCursor::new(at)).translate(rect.min.to_vec2());
    let (start, end) = (place(region.start), place(region.end));
    let side = start.height().min(end.left() - start.left() - 2.0);
    Rect::from_center_size(pos2(start.left() + 0.5 * side, start.center().y), Vec2::splat(side))
}

fn layout(ui: &Ui, spans: &[Span], values: &[f32], scale: HeatScale) -> (LayoutJob, Regions) {
    let font = TextStyle::Body.resolve(ui.style());
    let (ground, ink) = theme::hit(ui);
    let (mut job, mut regions, mut end) = (LayoutJob::default(), Regions::default(), 0);
    let mut region = |characters: usize| {
        end += characters;
        end - characters..end
    };
    for span in spans {
        if let Some(patch) = span.patch(values) {
            // No line is broken between non-breaking spaces.
            let room = "\u{a0}".repeat(PATCH_SPACES);
            job.append(&room, 0.0, TextFormat::simple(font.clone(), Color32::TRANSPARENT));
            regions.patches.push((region(PATCH_SPACES), patch));
        }
        let text = display_text(&span.text);
        let region = region(text.chars().count());
        if !span.patches && !span.tokens.is_empty() {
            regions.words.push((region, span.tokens.clone()));
        }
        let format = match span.tone {
            Tone::Plain => {
                let value = span.activation(values);
                let color = heat_map::text_color(ui, value, scale.max).unwrap_or(ui.visuals().text_color());
                let background = heat_map::text_background(ui, value, scale.max);
                TextFormat { background, ..TextFormat::simple(font.clone(), color) }
            }
            Tone::Muted => TextFormat::simple(FontId::proportional(theme::SMALL), theme::muted(ui)),
            Tone::Marked => TextFormat { background: ground, ..TextFormat::simple(font.clone(), ink) },
        };
        job.append(&text, 0.0, format);
    }
    (job, regions)
}

/// As many rows as fit into a rectangle.
pub fn wrapped(rect: Rect) -> TextWrapping {
    let rows = (rect.height() / LINE).floor().max(1.0) as usize;
    TextWrapping { max_width: rect.width(), max_rows: rows, ..TextWrapping::default() }
}
