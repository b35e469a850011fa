//! The feature index: what each feature does, from one pass - counts, strongest examples, examples by interval,
//! neighbours. Its tables are read by the app and by notebooks. Cross-modal weights come from the crate `filters`.

mod examples;
mod neighbours;
mod tables;

pub use examples::{Example, Examples, INTERVALS, PER_INTERVAL, STRONGEST};
pub use neighbours::{NEIGHBOURS, Neighbour, nearest_cosines, neighbours};
pub use tables::{
    FeatureRow, read_examples, read_features, read_neighbours, write_examples, write_features, write_neighbours,
};

use crate::Result;
use crate::pass::{Block, Observer};
use crate::sample::Modality;

/// What a feature fires on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Words.
    Text,
    /// Patches.
    Image,
    /// Both, neither more than [`CROSS_RATIO`] times as often as the other.
    Cross,
    /// Nothing in this store.
    Dead,
}

/// A feature is cross-modal while its firing rates on text and on image positions differ by no more than this factor.
pub const CROSS_RATIO: f64 = 10.0;

impl Class {
    /// The name in `features.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Cross => "cross",
            Self::Dead => "dead",
        }
    }

    /// The class of a feature that fires on these shares of text and of image positions.
    pub fn of(rate_text: f64, rate_image: f64) -> Self {
        let (low, high) = (rate_text.min(rate_image), rate_text.max(rate_image));
        match () {
            () if high == 0.0 => Self::Dead,
            () if low * CROSS_RATIO >= high => Self::Cross,
            () if rate_text > rate_image => Self::Text,
            () => Self::Image,
        }
    }
}

/// Counts of one feature.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Positions where it fires.
    pub fires: u64,
    /// Text positions where it fires.
    pub fires_text: u64,
    /// Image positions where it fires.
    pub fires_image: u64,
    /// Largest activation.
    pub max: f32,
    /// Sum of activations.
    pub sum: f64,
}

/// Observes a pass and counts.
pub struct Indexer {
    /// A feature each.
    pub counts: Vec<Counts>,
    /// Examples of every feature.
    pub examples: Examples,
    /// Token positions seen: all, text, image.
    pub positions: [u64; 3],
}

impl Indexer {
    /// An empty index of `d_sae` features.
    pub fn new(d_sae: usize) -> Self {
        Self { counts: vec![Counts::default(); d_sae], examples: Examples::new(d_sae), positions: [0; 3] }
    }

    /// The class of a feature.
    pub fn class(&self, feature: usize) -> Class {
        let rate = |fires: u64, of: u64| fires as f64 / (of as f64).max(1.0);
        let counts = &self.counts[feature];
        Class::of(rate(counts.fires_text, self.positions[1]), rate(counts.fires_image, self.positions[2]))
    }

    /// Share of all positions where a feature fires.
    pub fn density(&self, feature: usize) -> f64 {
        self.counts[feature].fires as f64 / (self.positions[0] as f64).max(1.0)
    }
}

impl Observer for Indexer {
    fn see(&mut self, block: &Block) -> Result<()> {
        for (r, row) in block.positions() {
            let modality = block.tokens.modality[row];
            let (text, image) = ((modality == Modality::Text) as u64, (modality == Modality::Image) as u64);
            for (total, n) in self.positions.iter_mut().zip([1, text, image]) {
                *total += n;
            }
            let (sample, position) = (block.tokens.sample[row], block.tokens.position[row]);
            let (features, values) = block.active.row(r);
            for (feature, z) in features.iter().zip(values) {
                let counts = &mut self.counts[*feature as usize];
                counts.fires += 1;
                counts.fires_text += text;
                counts.fires_image += image;
                counts.max = counts.max.max(*z);
                counts.sum += *z as f64;
                let example = Example { activation: *z, sample, position, modality };
                self.examples.offer(*feature, example);
            }
        }
        Ok(())
    }
}
