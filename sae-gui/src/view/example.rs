//! One place where a feature fires, as a card: the picture with the patch outlined, the words with the token marked.

use super::gallery::{Gallery, Shown};
use super::theme;
use crate::state::data::TokenView;
use crate::state::excerpt::{Tone, excerpt};
use crate::state::format;
use egui::text::{LayoutJob, TextFormat, TextWrapping};
use egui::{
    Align2, Color32, FontId, Id, Painter, Rect, Role, Sense, Stroke, StrokeKind, TextStyle, TextureHandle, Ui, Vec2,
    WidgetInfo, pos2, vec2,
};
use sae_core::index::Example;

/// Height of a card.
const HEIGHT: f32 = 118.0;
/// Cards are at least this wide.
const WIDTH: f32 = 330.0;
/// Space between cards, and from their rim to what is in them.
const GAP: f32 = 8.0;
/// Longest side of the picture that hovering shows.
const LARGE: f32 = 320.0;

/// Draws the cards of a group in as many columns as fit.
pub fn grid(ui: &mut Ui, examples: &[Example], max: f32, gallery: &mut Gallery) {
    let room = ui.available_width();
    let columns = ((room + GAP) / (WIDTH + GAP)).floor().max(1.0);
    let width = (room - GAP * (columns - 1.0)) / columns;
    for row in examples.chunks(columns as usize) {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = GAP;
            for example in row {
                let (rect, response) = ui.allocate_exact_size(vec2(width, HEIGHT), Sense::hover());
                let strength = format::real(example.activation as f64);
                let label = format!("sample {}, position {}: {strength}", example.sample, example.position);
                response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, label.as_str()));
                // Cards outside the visible part cost nothing.
                if ui.is_rect_visible(rect) {
                    card(ui, response.id, rect, example, max, gallery);
                }
            }
        });
    }
}

fn card(ui: &mut Ui, id: Id, rect: Rect, example: &Example, max: f32, gallery: &mut Gallery) {
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
        picture(ui, id.with("picture"), frame, shown, token);
        text.min.x = frame.right() + GAP + 2.0;
    }
    let painter = ui.painter_at(text);
    strength(ui, &painter, text, example, max);
    let words = Rect::from_min_max(pos2(text.left(), text.top() + 24.0), pos2(text.right(), text.bottom() - 16.0));
    let job = match &shown {
        None => line(ui, "Reading ..."),
        Some(Err(reason)) => line(ui, reason),
        Some(Ok(shown)) => marked(ui, shown, example.position),
    };
    let galley = painter.layout_job(LayoutJob { wrap: wrapped(words), ..job });
    painter.galley(words.min, galley, ui.visuals().text_color());
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

fn marked(ui: &Ui, shown: &Shown, position: u32) -> LayoutJob {
    let font = TextStyle::Body.resolve(ui.style());
    let (ground, ink) = theme::hit(ui);
    let mut job = LayoutJob::default();
    for span in excerpt(&shown.view.tokens, position) {
        let format = match span.tone {
            Tone::Plain => TextFormat::simple(font.clone(), ui.visuals().text_color()),
            Tone::Muted => TextFormat::simple(FontId::proportional(theme::SMALL), theme::muted(ui)),
            Tone::Hit => TextFormat { background: ground, ..TextFormat::simple(font.clone(), ink) },
        };
        job.append(&span.text, 0.0, format);
    }
    job
}

/// The picture that the token is a patch of, else the sample's first one.
fn picture(ui: &mut Ui, id: Id, frame: Rect, shown: &Shown, token: Option<&TokenView>) {
    ui.painter().rect_filled(frame, 4.0, ui.visuals().extreme_bg_color);
    let number = token.and_then(|token| token.image).unwrap_or(0);
    let patch = token.and_then(|token| token.rect);
    match shown.textures.get(number) {
        Some(Ok(texture)) => {
            paint(ui.painter(), fit(frame, texture), texture, patch, 1.5);
            let response = ui.interact(frame, id, Sense::hover());
            response.on_hover_ui(|ui| {
                let square = Rect::from_min_size(pos2(0.0, 0.0), Vec2::splat(LARGE));
                let (rect, _) = ui.allocate_exact_size(fit(square, texture).size(), Sense::hover());
                paint(ui.painter(), rect, texture, patch, 3.0);
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
fn fit(frame: Rect, texture: &TextureHandle) -> Rect {
    let size = texture.size_vec2().max(Vec2::splat(1.0));
    let scale = (frame.width() / size.x).min(frame.height() / size.y);
    Rect::from_center_size(frame.center(), size * scale)
}

fn paint(painter: &Painter, rect: Rect, texture: &TextureHandle, patch: Option<[f32; 4]>, thickness: f32) {
    let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
    // Pictures with transparency are mostly drawn for a light ground.
    painter.rect_filled(rect, 0.0, Color32::WHITE);
    painter.image(texture.id(), rect, whole, Color32::WHITE);
    if let Some([x0, y0, x1, y1]) = patch {
        let at = |x: f32, y: f32| pos2(rect.left() + x * rect.width(), rect.top() + y * rect.height());
        let patch = Rect::from_min_max(at(x0, y0), at(x1, y1));
        let rim = Stroke::new(thickness + 1.5, Color32::from_black_alpha(190));
        painter.rect_stroke(patch.expand(0.5), 1.0, rim, StrokeKind::Outside);
        painter.rect_stroke(patch, 1.0, Stroke::new(thickness, theme::MARK), StrokeKind::Outside);
    }
}
