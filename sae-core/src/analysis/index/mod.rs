//! The feature index: what each feature responds to. One pass gives counts, histograms, strongest examples, examples by
//! interval, and features that fire together; the decoder directions give neighbors and promoted tokens. The app, notebooks
//! and [`Index`] read its tables. Cross-modal weights come from the crate `filters`, promoted tokens from `harvest`.

mod coactive;
mod examples;
mod histogram;
mod lists;
mod logit_histogram;
mod logits;
mod neighbors;
mod partial;
mod reader;
mod strongest;
mod tables;
#[cfg(test)]
mod tests;
mod typical_words;

pub use coactive::{COACTIVE, Coactive, MAX_ENTRIES, MAX_PAIRS, Positions};
pub(super) use examples::keep;
pub use examples::{Example, Examples, INTERVALS, PER_INTERVAL, STRONGEST, draw};
pub use histogram::{Bin, Histogram, PER_OCTAVE};
pub use lists::{Lists, Row, read_lists, write_lists};
pub use logit_histogram::LogitBin;
pub use logits::{WORDS, Word};
pub use neighbors::{NEIGHBORS, Neighbor, nearest_cosines, neighbors, write_neighbors};
pub use reader::Index;
pub use strongest::{StrongestByModality, StrongestExample};
pub use tables::{FeatureRow, read_features, write_features};
pub use typical_words::{EXCESS, TYPICAL_IMAGE_WORDS, TYPICAL_TOKENS, TypicalWord, typical_words};

use partial::ShardSums;

use crate::Result;
use crate::analysis::pass::{Block, Observer};
use crate::autoencoder::sparse::ByFeature;
use crate::store::Sides;
use rayon::prelude::*;
use std::path::Path;

/// What a feature fires on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Text tokens, or those of the first side.
    Text,
    /// Image tokens (patches), or those of the second side.
    Image,
    /// Both, neither more than [`CROSS_RATIO`] times as often as the other.
    Cross,
    /// Neither side: of text and images, actions of an agent.
    Other,
    /// Nothing in this store.
    Dead,
}

/// A feature is cross-modal while its firing rates on text and on image positions differ by no more than this factor.
pub const CROSS_RATIO: f64 = 10.0;

impl Class {
    /// The name in `features.parquet`: that of the side, or `cross`, `action` (of other sides than text and images, `other`) or `dead`.
    pub fn name(self, sides: &Sides) -> String {
        let [first, second] = sides.names();
        match self {
            Self::Text => first,
            Self::Image => second,
            Self::Cross => "cross".into(),
            // No model here reads sound or video in another way than as text or images.
            Self::Other if *sides == Sides::default() => "action".into(),
            Self::Other => "other".into(),
            Self::Dead => "dead".into(),
        }
    }

    /// The class of a feature that fires on these shares of text and of image positions.
    pub fn from_rates(rate_text: f64, rate_image: f64) -> Self {
        let (low, high) = (rate_text.min(rate_image), rate_text.max(rate_image));
        if high == 0.0 {
            Self::Dead
        } else if low * CROSS_RATIO >= high {
            Self::Cross
        } else if rate_text > rate_image {
            Self::Text
        } else {
            Self::Image
        }
    }
}

/// Counts of one feature.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Positions where it fires.
    pub fires: u64,
    /// Text positions where it fires, or those of the first side.
    pub fires_text: u64,
    /// Image positions where it fires, or those of the second side.
    pub fires_image: u64,
    /// Largest activation.
    pub max: f32,
    /// Largest activation on text, or on the first side.
    pub max_text: f32,
    /// Largest activation on images, or on the second side.
    pub max_image: f32,
    /// Sum of activations, over the shards that are over: within a shard in the order of its rows, then shard by shard.
    pub sum: f64,
}

impl Counts {
    fn add(&mut self, activation: f32, side: Option<usize>) {
        self.fires += 1;
        self.max = self.max.max(activation);
        let (fires, max) = match side {
            Some(0) => (&mut self.fires_text, &mut self.max_text),
            Some(_) => (&mut self.fires_image, &mut self.max_image),
            None => return,
        };
        *fires += 1;
        *max = max.max(activation);
    }
}

/// Observes a pass and counts.
pub struct Indexer {
    /// Counts of every feature.
    pub counts: Vec<Counts>,
    /// Activations of every feature.
    pub histograms: Vec<Histogram>,
    /// Examples of every feature.
    pub examples: Examples,
    /// The strongest positions of every feature, separately for text and image.
    pub strongest: Vec<StrongestByModality>,
    /// The positions on which features that fire together are counted.
    pub together: Positions,
    /// Token positions seen: all, text (or those of the first side), image (or those of the second side).
    pub positions: [u64; 3],
    /// What text and image stand for.
    pub sides: Sides,
    sums: ShardSums,
}

impl Indexer {
    /// An empty index of `d_sae` features.
    pub fn new(d_sae: usize) -> Self {
        Self {
            counts: vec![Counts::default(); d_sae],
            histograms: vec![Histogram::default(); d_sae],
            examples: Examples::new(d_sae),
            strongest: vec![StrongestByModality::default(); d_sae],
            together: Positions::new(d_sae),
            positions: [0; 3],
            sides: Sides::default(),
            sums: ShardSums::new(d_sae),
        }
    }

    /// Counts on other sides than text and image, and compares these.
    #[must_use]
    pub fn comparing(self, sides: &Sides) -> Self {
        Self { sides: sides.clone(), ..self }
    }

    /// The class of a feature.
    pub fn class(&self, feature: usize) -> Class {
        let rate = |fires: u64, positions: u64| fires as f64 / (positions as f64).max(1.0);
        let counts = &self.counts[feature];
        if counts.fires > 0 && counts.fires_text + counts.fires_image == 0 {
            return Class::Other;
        }
        Class::from_rates(rate(counts.fires_text, self.positions[1]), rate(counts.fires_image, self.positions[2]))
    }

    /// Share of all positions where a feature fires.
    pub fn density(&self, feature: usize) -> f64 {
        self.counts[feature].fires as f64 / (self.positions[0] as f64).max(1.0)
    }
}

/// Writes `examples.parquet`: every feature's examples, group by group, best first.
///
/// # Errors
/// The file cannot be written.
pub fn write_examples(path: &Path, index: &Indexer) -> Result<()> {
    write_lists(path, index.counts.len(), |k| {
        index.examples.groups(k).map(|(group, e)| (group, *e)).collect::<Vec<_>>()
    })
}

impl Observer for Indexer {
    fn observe(&mut self, block: &Block) -> Result<()> {
        let tokens = block.tokens;
        for (r, row) in block.positions() {
            let side = self.sides.side(tokens.modality[row]);
            let counted = [true, side == Some(0), side == Some(1)];
            self.positions.iter_mut().zip(counted).for_each(|(total, counts)| *total += u64::from(counts));
            self.together.offer((tokens.sample[row], tokens.position[row]), block.active.row(r).0);
        }
        // Feature by feature, so that the data of one is in the cache, and threads share nothing.
        let by_feature =
            ByFeature::from_rows((0..block.active.rows()).map(|r| block.active.row(r).0), self.counts.len());
        let sides = &self.sides;
        let (counts, histograms, strongest) = (&mut self.counts[..], &mut self.histograms[..], &mut self.strongest[..]);
        let kept = (counts, histograms, self.examples.slots(), strongest, self.sums.open());
        kept.into_par_iter().with_min_len(64).enumerate().for_each(
            |(k, (counts, histogram, examples, strongest, sum))| {
                for r in by_feature.of(k) {
                    let (features, values) = block.active.row(*r as usize);
                    let Ok(at) = features.binary_search(&(k as u32)) else { continue };
                    let (activation, row) = (values[at], block.rows.start + *r as usize);
                    let (sample, position, modality) = (tokens.sample[row], tokens.position[row], tokens.modality[row]);
                    counts.add(activation, sides.side(modality));
                    *sum += f64::from(activation);
                    histogram.add(activation, sides.side(modality));
                    let example = Example { activation, sample, position, modality };
                    examples.offer(example);
                    strongest.offer(example);
                }
            },
        );
        Ok(())
    }

    fn end_shard(&mut self, shard: usize) -> Result<()> {
        self.sums.close(shard, &mut self.counts);
        Ok(())
    }
}
