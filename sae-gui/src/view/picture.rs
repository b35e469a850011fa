//! Pictures with patches: how they are fitted, painted and outlined. Knows no features.

use super::sample_cache::LoadedSample;
use super::theme;
use egui::{Color32, Painter, Pos2, Rect, Stroke, StrokeKind, TextureHandle, Vec2, pos2};

/// The whole of a texture.
pub const WHOLE: Rect = Rect { min: Pos2::ZERO, max: Pos2 { x: 1.0, y: 1.0 } };

/// The largest rectangle with the shape of the picture in the middle of `frame`.
pub fn fit(frame: Rect, texture: &TextureHandle) -> Rect {
    let size = texture.size_vec2().max(Vec2::splat(1.0));
    let scale = (frame.width() / size.x).min(frame.height() / size.y);
    Rect::from_center_size(frame.center(), size * scale)
}

/// The rectangle of a patch in a picture that is shown in `picture`.
pub fn patch_rect(picture: Rect, [x0, y0, x1, y1]: [f32; 4]) -> Rect {
    let at = |x: f32, y: f32| pos2(picture.left() + x * picture.width(), picture.top() + y * picture.height());
    Rect::from_min_max(at(x0, y0), at(x1, y1))
}

/// Paints a picture on white, since pictures with transparency are mostly drawn for a light background.
pub fn paint(painter: &Painter, rect: Rect, texture: &TextureHandle) {
    painter.rect_filled(rect, 0.0, Color32::WHITE);
    painter.image(texture.id(), rect, WHOLE, Color32::WHITE);
}

/// A frame around a patch that is visible on any picture.
pub fn outline(painter: &Painter, patch: Rect, thickness: f32) {
    let rim = Stroke::new(thickness + 1.5, Color32::from_black_alpha(190));
    painter.rect_stroke(patch.expand(0.5), 1.0, rim, StrokeKind::Outside);
    painter.rect_stroke(patch, 1.0, Stroke::new(thickness, theme::MARK), StrokeKind::Outside);
}

/// Paints one patch of a sample by itself.
pub fn paint_patch(painter: &Painter, rect: Rect, loaded: &LoadedSample, token: usize) {
    let Some(token) = loaded.data.tokens.get(token) else { return };
    let texture = token.image.and_then(|image| loaded.textures.get(image)?.as_ref().ok());
    if let (Some(texture), Some([x0, y0, x1, y1])) = (texture, token.rect) {
        painter.rect_filled(rect, 2.0, Color32::WHITE);
        let part = Rect::from_min_max(pos2(x0, y0), pos2(x1, y1));
        painter.image(texture.id(), rect, part, Color32::WHITE);
    }
}
