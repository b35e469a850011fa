//! A feature's activations over a picture and in a text. One scale for all: the feature's largest activation.

use super::theme;
use crate::state::data::TokenView;
use egui::epaint::{Mesh, Vertex, WHITE_UV};
use egui::{Color32, Painter, Pos2, Rect, Shape, Ui, pos2};

/// How heat is drawn.
#[derive(Clone, Copy)]
pub struct Heat {
    /// 0 shows pictures alone, 1 hides them where a feature fires most.
    pub opacity: f32,
}

impl Default for Heat {
    fn default() -> Self {
        Self { opacity: 0.6 }
    }
}

/// The rectangle of a patch in a shown picture.
pub fn patch(picture: Rect, [x0, y0, x1, y1]: [f32; 4]) -> Rect {
    let at = |x: f32, y: f32| pos2(picture.left() + x * picture.width(), picture.top() + y * picture.height());
    Rect::from_min_max(at(x0, y0), at(x1, y1))
}

/// Draws the activations of an image's patches over it, as one mesh.
pub fn over(
    painter: &Painter,
    picture: Rect,
    tokens: &[TokenView],
    image: usize,
    values: &[f32],
    max: f32,
    heat: Heat,
) {
    let mut mesh = Mesh::default();
    for (token, value) in tokens.iter().zip(values).filter(|(token, value)| token.image == Some(image) && **value > 0.0)
    {
        if let Some(rect) = token.rect {
            let share = (value / max.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0);
            quad(&mut mesh, patch(picture, rect), glow(share).gamma_multiply(heat.opacity * (0.25 + 0.75 * share)));
        }
    }
    painter.add(Shape::mesh(mesh));
}

fn quad(mesh: &mut Mesh, rect: Rect, color: Color32) {
    let first = mesh.vertices.len() as u32;
    let corner = |pos: Pos2| Vertex { pos, uv: WHITE_UV, color };
    mesh.vertices.extend([rect.left_top(), rect.right_top(), rect.right_bottom(), rect.left_bottom()].map(corner));
    mesh.indices.extend([0, 1, 2, 0, 2, 3].map(|n| first + n));
}

/// From dark red over orange to yellow: brighter is more, without color as well.
fn glow(share: f32) -> Color32 {
    let at = |from: f32, to: f32, t: f32| (from + (to - from) * t).round() as u8;
    match share {
        share if share < 0.5 => {
            let t = 2.0 * share;
            Color32::from_rgb(at(150.0, 245.0, t), at(10.0, 120.0, t), at(70.0, 20.0, t))
        }
        share => {
            let t = 2.0 * share - 1.0;
            Color32::from_rgb(at(245.0, 255.0, t), at(120.0, 235.0, t), at(20.0, 80.0, t))
        }
    }
}

/// The ground of a word on which a feature fires.
pub fn tint(ui: &Ui, value: f32, max: f32) -> Color32 {
    let share = (value / max.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0);
    if share == 0.0 { Color32::TRANSPARENT } else { theme::hit(ui).0.gamma_multiply(0.15 + 0.6 * share) }
}
