//! One place where a feature fires, as a card: the picture with the patch outlined, the words around the token ([`words`]).

use super::gallery::{Gallery, Shown};
use super::heat::{self, Heat};
use super::{theme, words};
use crate::state::data::{Active, TokenView};
use crate::state::format;
use egui::text::{LayoutJob, TextFormat, TextWrapping};
use egui::{
    Align2, Color32, FontId, Id, Painter, Rect, Role, Sense, Stroke, StrokeKind, TextStyle, TextureHandle, Ui, Vec2,
    WidgetInfo, pos2, vec2,
};
use sae_core::analysis::index::Example;
use std::sync::Arc;

/// Height of a card.
const HEIGHT: f32 = 118.0;
/// Cards are at least this wide.
const WIDTH: f32 = 330.0;
/// Space between cards, and from their rim to what is in them.
const GAP: f32 = 8.0;
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
    match &shown {
        None => plain(ui, &painter, words, "Reading ..."),
        Some(Err(reason)) => plain(ui, &painter, words, reason),
        Some(Ok(shown)) => words::show(ui, id.with("words"), words, shown, example.position, active.as_ref(), lens),
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
    let color = theme::class(ui, name);
    let number = format::real(example.activation as f64);
    let font = FontId::proportional(14.5);
    let text = painter.text(rect.left_top(), Align2::LEFT_TOP, number, font, ui.visuals().strong_text_color());
    let bar = Rect::from_min_max(
        pos2(rect.left() + 48.0, text.center().y - 2.0),
        pos2(rect.right() - 46.0, text.center().y + 2.0),
    );
    painter.rect_filled(bar, 2.0, ui.visuals().widgets.inactive.weak_bg_fill);
    let share = (example.activation / max.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0);
    painter.rect_filled(Rect::from_min_size(bar.min, vec2(share * bar.width(), bar.height())), 2.0, color);
    painter.text(rect.right_top() + vec2(0.0, 2.0), Align2::RIGHT_TOP, name, FontId::proportional(theme::SMALL), color);
}

/// Text that stands in for what is missing.
fn plain(ui: &Ui, painter: &Painter, rect: Rect, text: &str) {
    let format = TextFormat::simple(TextStyle::Body.resolve(ui.style()), theme::muted(ui));
    let job = LayoutJob { wrap: words::wrapped(rect), ..LayoutJob::single_section(text.into(), format) };
    let galley = painter.layout_job(job);
    painter.galley(rect.min, galley, theme::muted(ui));
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
            plain(ui, ui.painter(), frame.shrink(6.0), reason);
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
