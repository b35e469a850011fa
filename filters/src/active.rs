//! Which features are active where in each sample: the sets `F_i` of the paper, split by modality. Weighs nothing.

use sae_core::pass::{Block, Observer};
use sae_core::sample::Modality;

/// Where in a sample a feature is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sides {
    /// On at least one text token.
    pub text: bool,
    /// On at least one image token.
    pub image: bool,
}

/// The features of one sample, ascending.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActiveSet {
    /// Text positions of the sample.
    pub n_text: u32,
    /// Image positions of the sample.
    pub n_image: u32,
    /// Each feature once, with where it is active.
    pub features: Vec<(u32, Sides)>,
}

impl ActiveSet {
    fn close(&mut self) {
        self.features.sort_unstable();
        self.features.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1.text |= next.1.text;
                kept.1.image |= next.1.image;
            }
            same
        });
        self.features.shrink_to_fit();
    }
}

/// Observes a pass and collects every sample's active set. Memory: the sets, 8 bytes a feature and sample.
#[derive(Clone, Debug)]
pub struct ActiveSets {
    sets: Vec<ActiveSet>,
    open: Option<usize>,
    threshold: f32,
}

impl ActiveSets {
    /// Empty sets of `samples` samples; a feature is active above `threshold`.
    pub fn new(samples: usize, threshold: f32) -> Self {
        Self { sets: vec![ActiveSet::default(); samples], open: None, threshold }
    }

    /// The sets, by number of the sample.
    pub fn finish(mut self) -> Vec<ActiveSet> {
        if let Some(open) = self.open {
            self.sets[open].close();
        }
        self.sets
    }

    /// The set of a sample, and closes the one before it: a sample's positions follow each other.
    fn open(&mut self, sample: usize) -> &mut ActiveSet {
        if let Some(before) = self.open.replace(sample).filter(|before| *before != sample) {
            self.sets[before].close();
        }
        &mut self.sets[sample]
    }
}

impl Observer for ActiveSets {
    fn see(&mut self, block: &Block) -> sae_core::Result<()> {
        for (r, row) in block.positions() {
            let modality = block.tokens.modality[row];
            let sides = Sides { text: modality == Modality::Text, image: modality == Modality::Image };
            let threshold = self.threshold;
            let set = self.open(block.tokens.sample[row] as usize);
            set.n_text += sides.text as u32;
            set.n_image += sides.image as u32;
            let (features, values) = block.active.row(r);
            let active = features.iter().zip(values).filter(|(_, z)| **z > threshold);
            set.features.extend(active.map(|(k, _)| (*k, sides)));
        }
        Ok(())
    }
}
