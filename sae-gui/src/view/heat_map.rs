//! The activations of a feature over a picture and in a text. One scale for all: the feature's largest activation in the run.

use super::picture::patch_rect;
use super::theme;
use crate::state::sample::TokenView;
use egui::epaint::{Mesh, Vertex, WHITE_UV};
use egui::{Color32, Painter, Pos2, Rect, Shape, Ui};

/// Which activations are drawn, and on which scale.
#[derive(Clone, Copy)]
pub struct HeatScale {
    /// The feature.
    pub feature: u32,
    /// Its largest activation: the top of the scale.
    pub max: f32,
    /// How strongly the heat covers pictures: 0 not at all, 1 completely where a feature fires most.
    pub opacity: f32,
}

/// The opacity of heat maps at the start.
pub const DEFAULT_OPACITY: f32 = 0.6;

/// The share of the scale that an activation is, from 0 to 1.
fn share(value: f32, max: f32) -> f32 {
    (value / max.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0)
}

/// Draws the activations of a picture's patches over it, as one mesh. `values` has one activation per token.
pub fn paint(
    painter: &Painter,
    picture: Rect,
    tokens: &[TokenView],
    image: usize,
    values: &[f32],
    max: f32,
    opacity: f32,
) {
    let mut mesh = Mesh::default();
    let active = tokens.iter().zip(values).filter(|(token, value)| token.image == Some(image) && **value > 0.0);
    for (token, value) in active {
        if let Some(rect) = token.rect {
            let share = share(*value, max);
            let color = glow(share).gamma_multiply(opacity * (0.25 + 0.75 * share));
            add_rectangle(&mut mesh, patch_rect(picture, rect), color);
        }
    }
    painter.add(Shape::mesh(mesh));
}

fn add_rectangle(mesh: &mut Mesh, rect: Rect, color: Color32) {
    let first = mesh.vertices.len() as u32;
    let corner = |pos: Pos2| Vertex { pos, uv: WHITE_UV, color };
    mesh.vertices.extend([rect.left_top(), rect.right_top(), rect.right_bottom(), rect.left_bottom()].map(corner));
    mesh.indices.extend([0, 1, 2, 0, 2, 3].map(|n| first + n));
}

/// From dark red over orange to yellow: a larger activation is brighter, so that it can be told without color as well.
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

/// Share of the scale from which on light text on a warm background is hard to read.
const BRIGHT: f32 = 0.5;

/// The color of text on which a feature fires, if it has to differ from that of other text.
pub fn text_color(ui: &Ui, value: f32, max: f32) -> Option<Color32> {
    (ui.visuals().dark_mode && share(value, max) >= BRIGHT).then(|| theme::hit(ui).1)
}

/// The background of text on which a feature fires.
pub fn text_background(ui: &Ui, value: f32, max: f32) -> Color32 {
    let share = share(value, max);
    if share == 0.0 { Color32::TRANSPARENT } else { theme::hit(ui).0.gamma_multiply(0.15 + 0.6 * share) }
}
