//! The samples that were read, their pictures as textures, what fires in them, and what is still missing. Bounded by [`LIMIT`]
//! and [`ACTIVE_LIMIT`].

use crate::state::data::{Active, Picture, SampleView};
use crate::state::lru::Lru;
use egui::{ColorImage, Context, TextureHandle, TextureOptions};
use std::sync::Arc;

/// Bytes of samples and textures kept; the longest unused go first. A picture takes at most 0.4 MB.
pub const LIMIT: usize = 128 << 20;
/// Bytes of activations kept: 8 for each active feature of each token.
pub const ACTIVE_LIMIT: usize = 64 << 20;

/// A sample ready to be drawn.
pub struct Shown {
    /// Its tokens; its pictures have become textures and are empty here.
    pub view: SampleView,
    /// Its pictures, or why they cannot be shown.
    pub textures: Vec<Result<TextureHandle, String>>,
}

/// Samples by number.
pub struct Gallery {
    samples: Lru<u32, Result<Shown, String>>,
    active: Lru<u32, Result<Arc<Active>, String>>,
}

impl Default for Gallery {
    fn default() -> Self {
        Self { samples: Lru::new(LIMIT), active: Lru::new(ACTIVE_LIMIT) }
    }
}

/// Uploads a picture.
pub fn texture(ctx: &Context, name: String, picture: &Picture) -> TextureHandle {
    let image = ColorImage::from_rgba_unmultiplied(picture.size, &picture.rgba);
    ctx.load_texture(name, image, TextureOptions::LINEAR)
}

impl Gallery {
    /// Takes in a sample and uploads its pictures.
    pub fn put(&mut self, ctx: &Context, number: u32, sample: Result<SampleView, String>) {
        let cost = sample.as_ref().map_or(64, SampleView::bytes);
        let shown = sample.map(|mut view| {
            let pictures = std::mem::take(&mut view.pictures).into_iter().enumerate();
            let textures = pictures.map(|(n, picture)| {
                picture.map(|picture| texture(ctx, format!("sample {number}, picture {n}"), &picture))
            });
            let textures = textures.collect();
            Shown { view, textures }
        });
        self.samples.insert(number, shown, cost);
    }

    /// Takes in what fires in a sample.
    pub fn put_active(&mut self, number: u32, active: Result<Arc<Active>, String>) {
        let cost = active.as_ref().map_or(64, |active| active.bytes());
        self.active.insert(number, active, cost);
    }

    /// A sample, or why it cannot be shown; nothing while it is being read.
    pub fn get(&mut self, number: u32) -> Option<Result<&Shown, &str>> {
        Some(self.samples.get(&number)?.as_ref().map_err(String::as_str))
    }

    /// What fires in a sample, or why that cannot be said; nothing while it is being computed.
    pub fn active(&mut self, number: u32) -> Option<Result<Arc<Active>, String>> {
        self.active.get(&number).cloned()
    }

    /// Those of `samples` that are not here.
    pub fn missing(&self, samples: &[u32]) -> Vec<u32> {
        samples.iter().copied().filter(|number| !self.samples.contains(number)).collect()
    }

    /// Those of `samples` of which it is not known what fires in them.
    pub fn missing_active(&self, samples: &[u32]) -> Vec<u32> {
        samples.iter().copied().filter(|number| !self.active.contains(number)).collect()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.samples.cost() + self.active.cost()
    }

    /// Forgets the samples of a run that is closed.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.active.clear();
    }
}
