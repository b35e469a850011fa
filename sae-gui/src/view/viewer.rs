//! One picture of a sample, as large as the window, with the heat map of the feature that is drawn on the sample's page. The
//! wheel enlarges, dragging moves.

use super::heat_map;
use super::picture::{outline, paint, patch_rect};
use super::sample::Drawn;
use super::sample_cache::{LoadedSample, texture};
use super::theme::note;
use crate::state::format;
use crate::state::overlay::PictureView;
use crate::state::sample::Picture;
use egui::{Context, Id, Modal, Rect, Scene, Sense, TextureHandle, Ui, vec2};

/// Space around the viewer.
const MARGIN: f32 = 70.0;
/// Smallest and largest magnification.
const ZOOM: std::ops::RangeInclusive<f32> = 0.05..=32.0;

/// What the viewer remembers between two frames.
pub struct ViewerView {
    picture: Option<(PictureView, Result<TextureHandle, String>)>,
    /// The visible part of the picture.
    area: Rect,
}

impl Default for ViewerView {
    fn default() -> Self {
        // An empty area shows the whole picture.
        Self { picture: None, area: Rect::ZERO }
    }
}

impl ViewerView {
    /// Takes a picture at full size and uploads it.
    pub fn set_picture(&mut self, ctx: &Context, of: PictureView, picture: Result<Picture, String>) {
        let name = format!("sample {}, picture {} at full size", of.sample, of.picture);
        self.picture = Some((of, picture.map(|picture| texture(ctx, name, &picture))));
        self.area = Rect::ZERO;
    }

    /// Whether it has a picture.
    pub fn has(&self, of: PictureView) -> bool {
        self.picture.as_ref().is_some_and(|(own, _)| *own == of)
    }

    /// Forgets the picture.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Draws the viewer. Returns whether to close it.
pub fn show(
    ctx: &Context,
    view: &mut ViewerView,
    of: PictureView,
    loaded: Option<&LoadedSample>,
    drawn: &Drawn,
    opacity: &mut f32,
) -> bool {
    let shown = Modal::new(Id::unique("viewer")).show(ctx, |ui| {
        let size = (ctx.content_rect().size() - vec2(MARGIN, MARGIN)).max(vec2(120.0, 120.0));
        ui.set_width(size.x);
        let mut close = false;
        ui.horizontal_wrapped(|ui| {
            ui.strong(format!("Sample {}, picture {}", of.sample, of.picture + 1));
            if ui.button("Fit").on_hover_text("Show the whole picture").clicked() {
                view.area = Rect::ZERO;
            }
            ui.label("heat-map opacity");
            ui.add(egui::Slider::new(opacity, 0.0..=1.0).show_value(false));
            close = ui.button("Close").clicked();
        });
        let ViewerView { picture, area } = view;
        match picture {
            Some((own, Ok(texture))) if *own == of => {
                ui.allocate_ui(vec2(size.x, size.y - 60.0), |ui| {
                    Scene::new().zoom_range(ZOOM).show(ui, area, |ui| draw(ui, of, texture, loaded, drawn, *opacity));
                });
            }
            Some((own, Err(reason))) if *own == of => note(ui, reason),
            _ => note(ui, "Reading ..."),
        }
        close
    });
    shown.inner || shown.should_close()
}

fn draw(
    ui: &mut Ui,
    of: PictureView,
    texture: &TextureHandle,
    loaded: Option<&LoadedSample>,
    drawn: &Drawn,
    opacity: f32,
) {
    let (rect, response) = ui.allocate_exact_size(texture.size_vec2(), Sense::hover());
    paint(ui.painter(), rect, texture);
    let Some(loaded) = loaded else { return };
    let tokens = &loaded.data.tokens;
    heat_map::paint(ui.painter(), rect, tokens, of.picture, &drawn.values, drawn.max, opacity);
    let Some(pointer) = response.hover_pos() else { return };
    let patches = tokens.iter().enumerate().filter(|(_, token)| token.image == Some(of.picture));
    let mut patches = patches.filter_map(|(at, token)| Some((at, patch_rect(rect, token.rect?))));
    if let Some((at, patch)) = patches.find(|(_, patch)| patch.contains(pointer)) {
        outline(ui.painter(), patch, 1.0);
        let text = format!("position {}: {}", tokens[at].position, format::real(drawn.value(at).into()));
        response.on_hover_text_at_pointer(text);
    }
}
