//! One place where a feature fires, as a card: the picture with the patch outlined, the words with the token marked.

use super::gallery::{Gallery, Shown};
use super::heat::{self, Heat};
use super::theme;
use crate::state::data::{Active, TokenView};
use crate::state::excerpt::{Tone, excerpt};
use crate::state::format;
use egui::text::{CCursor, LayoutJob, TextFormat, TextWrapping};
use egui::{
    Align2, Color32, FontId, Id, Painter, Rect, Role, Sense, Stroke, StrokeKind, TextStyle, TextureHandle, Ui, Vec2,
    WidgetInfo, pos2, vec2,
};
use sae_core::index::Example;
use std::sync::Arc;

/// Height of a card.
const HEIGHT: f32 = 118.0;
/// Cards are at least this wide.
const WIDTH: f32 = 330.0;
/// Space between cards, and from their rim to what is in them.
const GAP: f32 = 8.0;
/// Spaces that make room for a patch among words.
const CROP: usize = 5;
/// Longest side of the picture that hovering shows.
const LARGE: f32 = 320.0;

/// Whose activations are drawn, on which scale.
#[derive(Clone, Copy)]
pub struct Lens {
    /// The feature.
    pub feature: u32,
    /// Its largest activation: the top of the scale.
    pub max: f32,
    /// How its heat is drawn.
    pub heat: Heat,
}

/// Draws the cards of a group in as many columns as fit; returns a sample that was clicked.
pub fn grid(ui: &mut Ui, examples: &[Example], lens: Lens, gallery: &mut Gallery) -> Option<u32> {
    let mut clicked = None;
    let room = ui.available_width();
    let columns = ((room + GAP) / (WIDTH + GAP)).floor().max(1.0);
    let width = (room - GAP * (columns - 1.0)) / columns;
    for row in examples.chunks(columns as usize) {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = GAP;
            for example in row {
                let (rect, response) = ui.allocate_exact_size(vec2(width, HEIGHT), Sense::click());
                let strength = format::real(example.activation as f64);
                let label = format!("sample {}, position {}: {strength}", example.sample, example.position);
                response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, label.as_str()));
                // Cards outside the visible part cost nothing.
                if ui.is_rect_visible(rect) {
                    card(ui, response.id, rect, example, lens, gallery);
                }
                if response.on_hover_text_at_pointer("Click to see the whole sample").clicked() {
                    clicked = Some(example.sample);
                }
            }
        });
    }
    clicked
}

fn card(ui: &mut Ui, id: Id, rect: Rect, example: &Example, lens: Lens, gallery: &mut Gallery) {
    let active = gallery.active(example.sample).and_then(Result::ok);
    let (fill, stroke) = theme::card(ui);
    ui.painter().rect(rect, 6.0, fill, stroke, StrokeKind::Inside);
    let inner = rect.shrink(GAP);
    let shown = gallery.get(example.sample);
    let token = match &shown {
        Some(Ok(shown)) => shown.view.token(example.position),
        _ => None,
    };
    let mut text = inner;
    if let Some(Ok(shown)) = &shown
        && !shown.textures.is_empty()
    {
        let frame = Rect::from_min_size(inner.min, Vec2::splat(inner.height()));
        picture(ui, id.with("picture"), frame, shown, token, active.as_ref(), lens);
        text.min.x = frame.right() + GAP + 2.0;
    }
    let painter = ui.painter_at(text);
    strength(ui, &painter, text, example, lens.max);
    let words = Rect::from_min_max(pos2(text.left(), text.top() + 24.0), pos2(text.right(), text.bottom() - 16.0));
    let (job, crops) = match &shown {
        None => (line(ui, "Reading ..."), Vec::new()),
        Some(Err(reason)) => (line(ui, reason), Vec::new()),
        Some(Ok(shown)) => marked(ui, shown, example.position, active.as_ref(), lens),
    };
    let galley = painter.layout_job(LayoutJob { wrap: wrapped(words), ..job });
    painter.galley(words.min, galley.clone(), ui.visuals().text_color());
    if let Some(Ok(shown)) = &shown {
        let laid: usize = galley.rows.iter().map(|row| row.char_count_including_newline().0).sum();
        // What did not fit has no place.
        for (at, token) in crops.into_iter().filter(|(at, _)| at + CROP < laid) {
            let place = galley.pos_from_cursor(CCursor::new(at)).translate(words.min.to_vec2());
            let end = galley.pos_from_cursor(CCursor::new(at + CROP)).translate(words.min.to_vec2());
            let side = place.height().min(end.left() - place.left() - 2.0);
            let square = Rect::from_center_size(pos2(place.left() + 0.5 * side, place.center().y), Vec2::splat(side));
            crop(&painter, square, shown, token);
        }
    }
    let key = match &shown {
        Some(Ok(shown)) => format!("{}   position {}", shown.view.key, example.position),
        _ => format!("sample {}   position {}", example.sample, example.position),
    };
    let mut foot = LayoutJob::simple_singleline(key, FontId::proportional(theme::SMALL), theme::muted(ui));
    foot.wrap = TextWrapping::truncate_at_width(text.width());
    let foot = painter.layout_job(foot);
    painter.galley(pos2(text.left(), text.bottom() - foot.size().y), foot, theme::muted(ui));
}

/// The activation, and how much of the feature's maximum that is.
fn strength(ui: &Ui, painter: &Painter, rect: Rect, example: &Example, max: f32) {
    let name = if example.modality as u8 == 0 { "text" } else { "image" };
    let colour = theme::class(ui, name);
    let number = format::real(example.activation as f64);
    let font = FontId::proportional(14.5);
    let text = painter.text(rect.left_top(), Align2::LEFT_TOP, number, font, ui.visuals().strong_text_color());
    let bar = Rect::from_min_max(
        pos2(rect.left() + 48.0, text.center().y - 2.0),
        pos2(rect.right() - 46.0, text.center().y + 2.0),
    );
    painter.rect_filled(bar, 2.0, ui.visuals().widgets.inactive.weak_bg_fill);
    let share = (example.activation / max.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0);
    painter.rect_filled(Rect::from_min_size(bar.min, vec2(share * bar.width(), bar.height())), 2.0, colour);
    painter.text(
        rect.right_top() + vec2(0.0, 2.0),
        Align2::RIGHT_TOP,
        name,
        FontId::proportional(theme::SMALL),
        colour,
    );
}

fn wrapped(rect: Rect) -> TextWrapping {
    let rows = (rect.height() / 17.0).floor().max(1.0) as usize;
    TextWrapping { max_width: rect.width(), max_rows: rows, ..TextWrapping::default() }
}

fn line(ui: &Ui, text: &str) -> LayoutJob {
    LayoutJob::single_section(text.into(), TextFormat::simple(TextStyle::Body.resolve(ui.style()), theme::muted(ui)))
}

/// The words with the token marked, and where in them (by character) which patches are to be drawn.
fn marked(
    ui: &Ui,
    shown: &Shown,
    position: u32,
    active: Option<&Arc<Active>>,
    lens: Lens,
) -> (LayoutJob, Vec<(usize, usize)>) {
    let font = TextStyle::Body.resolve(ui.style());
    let (ground, ink) = theme::hit(ui);
    let (mut job, mut crops) = (LayoutJob::default(), Vec::new());
    let values = active.map(|active| active.of(lens.feature)).unwrap_or_default();
    let mut at = 0;
    for span in excerpt(&shown.view.tokens, position) {
        if let Some(patch) = span.patch(&values) {
            // Room for the picture, that no line is broken in.
            job.append(&"\u{a0}".repeat(CROP), 0.0, TextFormat::simple(font.clone(), Color32::TRANSPARENT));
            crops.push((at, patch));
            at += CROP;
        }
        at += span.text.chars().count();
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
    (job, crops)
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

/// The picture that the token is a patch of, else the sample's first one.
fn picture(
    ui: &mut Ui,
    id: Id,
    frame: Rect,
    shown: &Shown,
    token: Option<&TokenView>,
    active: Option<&Arc<Active>>,
    lens: Lens,
) {
    ui.painter().rect_filled(frame, 4.0, ui.visuals().extreme_bg_color);
    let number = token.and_then(|token| token.image).unwrap_or(0);
    let patch = token.and_then(|token| token.rect);
    match shown.textures.get(number) {
        Some(Ok(texture)) => {
            let values = active.map(|active| active.of(lens.feature)).unwrap_or_default();
            let draw = |painter: &Painter, rect: Rect, thickness: f32| {
                paint(painter, rect, texture, None, thickness);
                heat::over(painter, rect, &shown.view.tokens, number, &values, lens.max, lens.heat);
                patch.into_iter().for_each(|patch| outline(painter, heat::patch(rect, patch), thickness));
            };
            let rect = fit(frame, texture);
            draw(ui.painter(), rect, 1.5);
            let response = ui.interact(frame, id, Sense::hover());
            let under = response.hover_pos().and_then(|pointer| {
                let within = |token: &TokenView| {
                    token.image == Some(number) && token.rect.is_some_and(|r| heat::patch(rect, r).contains(pointer))
                };
                shown.view.tokens.iter().position(within)
            });
            response.on_hover_ui(|ui| {
                let square = Rect::from_min_size(pos2(0.0, 0.0), Vec2::splat(LARGE));
                ui.horizontal_top(|ui| {
                    for plain in [true, false] {
                        let (rect, _) = ui.allocate_exact_size(fit(square, texture).size(), Sense::hover());
                        match plain {
                            true => paint(ui.painter(), rect, texture, None, 3.0),
                            false => draw(ui.painter(), rect, 3.0),
                        }
                    }
                });
                if let Some(value) = under.and_then(|token| values.get(token)) {
                    ui.label(format!("patch under the pointer: {}", format::real(f64::from(*value))));
                }
                ui.label(&shown.view.source);
            });
        }
        missing => {
            let reason = match missing {
                Some(Err(reason)) => reason,
                _ => "The sample has no such picture.",
            };
            let mut job = line(ui, reason);
            job.wrap = wrapped(frame.shrink(6.0));
            let galley = ui.painter().layout_job(job);
            ui.painter().galley(frame.min + Vec2::splat(6.0), galley, theme::muted(ui));
        }
    }
}

/// The largest rectangle of the picture's shape in the middle of `frame`.
pub fn fit(frame: Rect, texture: &TextureHandle) -> Rect {
    let size = texture.size_vec2().max(Vec2::splat(1.0));
    let scale = (frame.width() / size.x).min(frame.height() / size.y);
    Rect::from_center_size(frame.center(), size * scale)
}

/// Draws a picture, with a patch outlined.
pub fn paint(painter: &Painter, rect: Rect, texture: &TextureHandle, patch: Option<[f32; 4]>, thickness: f32) {
    let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
    // Pictures with transparency are mostly drawn for a light ground.
    painter.rect_filled(rect, 0.0, Color32::WHITE);
    painter.image(texture.id(), rect, whole, Color32::WHITE);
    patch.into_iter().for_each(|patch| outline(painter, heat::patch(rect, patch), thickness));
}

/// A frame around a patch that is seen on any ground.
pub fn outline(painter: &Painter, patch: Rect, thickness: f32) {
    let rim = Stroke::new(thickness + 1.5, Color32::from_black_alpha(190));
    painter.rect_stroke(patch.expand(0.5), 1.0, rim, StrokeKind::Outside);
    painter.rect_stroke(patch, 1.0, Stroke::new(thickness, theme::MARK), StrokeKind::Outside);
}
