//! The samples that were read, with their pictures as textures, and the features that are active in them. Bounded by
//! [`LIMIT`] and [`ACTIVE_LIMIT`].

use crate::state::activations::SampleActivations;
use crate::state::lru::Lru;
use crate::state::sample::{Picture, SampleData};
use egui::{ColorImage, Context, TextureHandle, TextureOptions};
use std::sync::Arc;

/// Bytes of samples and textures that are kept. A picture takes at most 0.4 MB.
pub const LIMIT: usize = 128 << 20;
/// Bytes of activations that are kept: 8 for each active feature of each token.
pub const ACTIVE_LIMIT: usize = 64 << 20;

/// A sample ready to be drawn.
pub struct LoadedSample {
    /// Its tokens. Its pictures have become textures and are empty here.
    pub data: SampleData,
    /// Its pictures, or the reason why one cannot be shown.
    pub textures: Vec<Result<TextureHandle, String>>,
}

/// The active features of a sample, or the reason why they are not known; nothing while they are being computed.
pub type Activations = Option<Result<Arc<SampleActivations>, String>>;

/// Samples by number.
pub struct SampleCache {
    samples: Lru<u32, Result<LoadedSample, String>>,
    active: Lru<u32, Result<Arc<SampleActivations>, String>>,
}

impl Default for SampleCache {
    fn default() -> Self {
        Self { samples: Lru::new(LIMIT), active: Lru::new(ACTIVE_LIMIT) }
    }
}

/// A picture as egui takes it.
pub fn color_image(picture: &Picture) -> ColorImage {
    ColorImage::from_rgba_unmultiplied(picture.size, &picture.rgba)
}

/// Uploads a picture.
pub fn texture(ctx: &Context, name: String, picture: &Picture) -> TextureHandle {
    ctx.load_texture(name, color_image(picture), TextureOptions::LINEAR)
}

impl SampleCache {
    /// Takes a sample and uploads its pictures.
    pub fn insert(&mut self, ctx: &Context, number: u32, sample: Result<SampleData, String>) {
        let cost = sample.as_ref().map_or(64, SampleData::bytes);
        let loaded = sample.map(|mut data| {
            let pictures = std::mem::take(&mut data.pictures).into_iter().enumerate();
            let textures = pictures.map(|(n, picture)| {
                picture.map(|picture| texture(ctx, format!("sample {number}, picture {n}"), &picture))
            });
            let textures = textures.collect();
            LoadedSample { data, textures }
        });
        self.samples.insert(number, loaded, cost);
    }

    /// Takes the active features of a sample.
    pub fn insert_active(&mut self, number: u32, active: Result<Arc<SampleActivations>, String>) {
        let cost = active.as_ref().map_or(64, |active| active.bytes());
        self.active.insert(number, active, cost);
    }

    /// A sample, or the reason why it cannot be shown; nothing while it is being read.
    pub fn get(&mut self, number: u32) -> Option<Result<&LoadedSample, &str>> {
        Some(self.samples.get(&number)?.as_ref().map_err(String::as_str))
    }

    /// The active features of a sample.
    pub fn active(&mut self, number: u32) -> Activations {
        self.active.get(&number).cloned()
    }

    /// Those of `samples` that have not been read.
    pub fn missing(&self, samples: &[u32]) -> Vec<u32> {
        samples.iter().copied().filter(|number| !self.samples.contains(number)).collect()
    }

    /// Those of `samples` whose active features are not known.
    pub fn missing_active(&self, samples: &[u32]) -> Vec<u32> {
        samples.iter().copied().filter(|number| !self.active.contains(number)).collect()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.samples.cost() + self.active.cost()
    }

    /// Removes the samples, which will be read again.
    pub fn clear_samples(&mut self) {
        self.samples.clear();
    }

    /// Removes everything of a run that is closed.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.active.clear();
    }
}
