//! The words around a token, laid out as one text: tinted where the feature fires, the token marked, patches drawn in the places
//! that they have among the words, values on pointing. Chooses nothing: that is [`excerpt`]'s.

use super::example::Lens;
use super::gallery::Shown;
use super::heat;
use super::theme;
use crate::state::data::Active;
use crate::state::excerpt::{Tone, excerpt};
use crate::state::format;
use egui::text::{CCursor, LayoutJob, TextFormat, TextWrapping};
use egui::{Color32, FontId, Galley, Id, Painter, Rect, Sense, TextStyle, Ui, Vec2, pos2};
use std::ops::Range;
use std::sync::Arc;

/// Spaces that make room for a patch.
const CROP: usize = 5;

/// What stands where in a laid-out text: characters, and the token that they show.
#[derive(Default)]
struct Places {
    words: Vec<(Range<usize>, usize)>,
    patches: Vec<(Range<usize>, usize)>,
}

/// Draws the words around a position into a rectangle.
pub fn show(ui: &Ui, id: Id, rect: Rect, shown: &Shown, position: u32, active: Option<&Arc<Active>>, lens: Lens) {
    let values = active.map(|active| active.of(lens.feature)).unwrap_or_default();
    let (job, places) = marked(ui, shown, position, &values, lens);
    let painter = ui.painter_at(rect);
    let galley = painter.layout_job(LayoutJob { wrap: wrapped(rect), ..job });
    painter.galley(rect.min, galley.clone(), ui.visuals().text_color());
    // What did not fit has no place.
    let laid: usize = galley.rows.iter().map(|row| row.char_count_including_newline().0).sum();
    for (room, token) in places.patches.iter().filter(|(room, _)| room.end < laid) {
        crop(&painter, square(&galley, room, rect), shown, *token);
    }
    // Hover goes on to the card, which is clicked anywhere.
    let response = ui.interact(rect, id, Sense::hover());
    let under = response.hover_pos().and_then(|pointer| character(&galley, pointer - rect.min));
    let under = under.and_then(|at| places.words.iter().chain(&places.patches).find(|(room, _)| room.contains(&at)));
    if let Some((token, value)) =
        under.and_then(|(_, token)| Some((shown.view.tokens.get(*token)?, values.get(*token)?)))
    {
        response.on_hover_text_at_pointer(format!("position {}: {}", token.position, format::real(f64::from(*value))));
    }
}

/// The character under a place; none beside and below the text.
fn character(galley: &Galley, place: Vec2) -> Option<usize> {
    let nearest = galley.cursor_from_pos(place).index.0;
    // The nearest gap between characters is before or behind the one that is meant.
    let covers = |at: &usize| {
        let [start, end] = [*at, at + 1].map(|at| galley.pos_from_cursor(CCursor::new(at)));
        start.y_range().contains(place.y) && start.left() <= place.x && place.x < end.left()
    };
    [nearest.checked_sub(1), Some(nearest)].into_iter().flatten().find(covers)
}

/// Where a patch is drawn in the room that was made for it.
fn square(galley: &Galley, room: &Range<usize>, rect: Rect) -> Rect {
    let place = |at: usize| galley.pos_from_cursor(CCursor::new(at)).translate(rect.min.to_vec2());
    let (start, end) = (place(room.start), place(room.end));
    let side = start.height().min(end.left() - start.left() - 2.0);
    Rect::from_center_size(pos2(start.left() + 0.5 * side, start.center().y), Vec2::splat(side))
}

fn marked(ui: &Ui, shown: &Shown, position: u32, values: &[f32], lens: Lens) -> (LayoutJob, Places) {
    let font = TextStyle::Body.resolve(ui.style());
    let (ground, ink) = theme::hit(ui);
    let (mut job, mut places, mut end) = (LayoutJob::default(), Places::default(), 0);
    let mut room = |count: usize| {
        end += count;
        end - count..end
    };
    for span in excerpt(&shown.view.tokens, position) {
        if let Some(patch) = span.patch(values) {
            // No line is broken between such spaces.
            job.append(&"\u{a0}".repeat(CROP), 0.0, TextFormat::simple(font.clone(), Color32::TRANSPARENT));
            places.patches.push((room(CROP), patch));
        }
        let room = room(span.text.chars().count());
        places.words.extend(span.token.map(|token| (room, token)));
        let value = span.token.and_then(|token| values.get(token)).copied().unwrap_or(0.0);
        let format = match span.tone {
            Tone::Plain => TextFormat {
                background: heat::tint(ui, value, lens.max),
                ..TextFormat::simple(font.clone(), ui.visuals().text_color())
            },
            Tone::Muted => TextFormat::simple(FontId::proportional(theme::SMALL), theme::muted(ui)),
            Tone::Hit => TextFormat { background: ground, ..TextFormat::simple(font.clone(), ink) },
        };
        job.append(&span.text, 0.0, format);
    }
    (job, places)
}

/// As many rows as fit.
pub fn wrapped(rect: Rect) -> TextWrapping {
    let rows = (rect.height() / 17.0).floor().max(1.0) as usize;
    TextWrapping { max_width: rect.width(), max_rows: rows, ..TextWrapping::default() }
}

/// Draws a patch by itself.
pub fn crop(painter: &Painter, rect: Rect, shown: &Shown, token: usize) {
    let Some(token) = shown.view.tokens.get(token) else { return };
    let texture = token.image.and_then(|image| shown.textures.get(image)?.as_ref().ok());
    if let (Some(texture), Some([x0, y0, x1, y1])) = (texture, token.rect) {
        painter.rect_filled(rect, 2.0, Color32::WHITE);
        let part = Rect::from_min_max(pos2(x0, y0), pos2(x1, y1));
        painter.image(texture.id(), rect, part, Color32::WHITE);
    }
}
