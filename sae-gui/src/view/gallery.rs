//! The samples that were read, their pictures as textures, and what is still missing. Bounded by [`LIMIT`].

use crate::state::data::SampleView;
use crate::state::lru::Lru;
use egui::{ColorImage, Context, TextureHandle, TextureOptions};

/// Bytes of samples and textures kept; the longest unused go first. A picture takes at most 0.4 MB.
pub const LIMIT: usize = 128 << 20;

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
}

impl Default for Gallery {
    fn default() -> Self {
        Self { samples: Lru::new(LIMIT) }
    }
}

impl Gallery {
    /// Takes in a sample and uploads its pictures.
    pub fn put(&mut self, ctx: &Context, number: u32, sample: Result<SampleView, String>) {
        let cost = sample.as_ref().map_or(64, SampleView::bytes);
        let shown = sample.map(|mut view| {
            let pictures = std::mem::take(&mut view.pictures).into_iter().enumerate();
            let texture = |(n, picture): (usize, Result<crate::state::data::Picture, String>)| {
                let picture = picture?;
                let image = ColorImage::from_rgba_unmultiplied(picture.size, &picture.rgba);
                Ok(ctx.load_texture(format!("sample {number}, picture {n}"), image, TextureOptions::LINEAR))
            };
            let textures = pictures.map(texture).collect();
            Shown { view, textures }
        });
        self.samples.insert(number, shown, cost);
    }

    /// A sample, or why it cannot be shown; nothing while it is being read.
    pub fn get(&mut self, number: u32) -> Option<Result<&Shown, &str>> {
        Some(self.samples.get(&number)?.as_ref().map_err(String::as_str))
    }

    /// Those of `samples` that are not here.
    pub fn missing(&self, samples: &[u32]) -> Vec<u32> {
        samples.iter().copied().filter(|number| !self.samples.contains(number)).collect()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.samples.cost()
    }

    /// Forgets the samples of a run that is closed.
    pub fn clear(&mut self) {
        self.samples.clear();
    }
}
