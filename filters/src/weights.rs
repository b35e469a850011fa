//! Cross-modal weights `w_k`: how alike the text tokens and the image tokens are that a feature fires on most.
//!
//! # Formula (SAE-V, Eq. 7)
//! Of every feature the 5 strongest text tokens and the 5 strongest image tokens above the activation threshold (1 in the paper); `w_k` is the mean of the
//! cosines between the raw hidden states of the former and of the latter. A mean over all pairs of cosines is the product
//! of two mean unit vectors, so two sums a feature are enough. The paper does not say what holds when there are fewer
//! than 5 of a kind: here the mean is over the pairs there are, and a feature without one has no weight.

use crate::Result;
use sae_core::pass::{Block, Observer};
use sae_core::sample::Modality;
use sae_core::store::Store;
use std::cmp::Ordering;

/// Tokens of each modality that stand for a feature.
pub const TOP: usize = 5;

/// A token position, and how strongly a feature fires there.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    z: f32,
    sample: u32,
    position: u32,
    shard: u32,
    row: u32,
}

impl Place {
    /// Stronger first; ties by place in the data, so that the order of shards does not matter.
    fn rank(&self, other: &Self) -> Ordering {
        let place = |p: &Self| (p.sample, p.position);
        other.z.total_cmp(&self.z).then_with(|| place(self).cmp(&place(other)))
    }
}

/// Observes a pass and keeps each feature's strongest text and image tokens.
#[derive(Clone, Debug)]
pub struct TopTokens {
    /// `[text, image]` of every feature.
    tops: Vec<[Vec<Place>; 2]>,
    threshold: f32,
}

impl TopTokens {
    /// No tokens yet of `d_sae` features; tokens count above `threshold`.
    pub fn new(d_sae: usize, threshold: f32) -> Self {
        Self { tops: vec![Default::default(); d_sae], threshold }
    }

    /// `(sample, position)` of a feature's strongest text tokens and image tokens, strongest first.
    pub fn places(&self, feature: usize) -> [Vec<(u32, u32)>; 2] {
        self.tops[feature].each_ref().map(|top| top.iter().map(|p| (p.sample, p.position)).collect())
    }

    /// The weights as published. Reads the rows that the tokens point to, shard by shard.
    ///
    /// Memory: two vectors of `d_in` for every feature that has tokens of both kinds.
    pub fn paper(&self, store: &Store) -> Result<Vec<Option<f64>>> {
        let d_in = store.manifest().d_in;
        let mut sums: Vec<Option<[Vec<f32>; 2]>> = self
            .tops
            .iter()
            .map(|[t, v]| (!t.is_empty() && !v.is_empty()).then(|| [vec![0.0; d_in], vec![0.0; d_in]]))
            .collect();
        let mut wanted: Vec<(u32, u32, usize, usize)> = Vec::new();
        for (feature, top) in self.tops.iter().enumerate().filter(|(k, _)| sums[*k].is_some()) {
            for (side, places) in top.iter().enumerate() {
                wanted.extend(places.iter().map(|p| (p.shard, p.row, feature, side)));
            }
        }
        wanted.sort_unstable();
        let mut unit = Vec::with_capacity(d_in);
        for of_shard in wanted.chunk_by(|a, b| a.0 == b.0) {
            let shard = store.shard(of_shard[0].0 as usize)?;
            for of_row in of_shard.chunk_by(|a, b| a.1 == b.1) {
                let row = of_row[0].1 as usize;
                unit.clear();
                shard.read(row..row + 1, &mut unit);
                normalise(&mut unit);
                for (_, _, feature, side) in of_row {
                    let sum = sums[*feature].as_mut().expect("only features with sums are wanted");
                    sum[*side].iter_mut().zip(&unit).for_each(|(s, u)| *s += u);
                }
            }
        }
        Ok(sums
            .iter()
            .zip(&self.tops)
            .map(|(sum, [t, v])| {
                let [text, image] = sum.as_ref()?;
                let dot: f64 = text.iter().zip(image).map(|(a, b)| *a as f64 * *b as f64).sum();
                Some(dot / (t.len() * v.len()) as f64)
            })
            .collect())
    }
}

impl Observer for TopTokens {
    fn see(&mut self, block: &Block) -> sae_core::Result<()> {
        for (r, row) in block.positions() {
            let side = match block.tokens.modality[row] {
                Modality::Text => 0,
                Modality::Image => 1,
                _ => continue,
            };
            let (sample, position) = (block.tokens.sample[row], block.tokens.position[row]);
            let (features, values) = block.active.row(r);
            for (feature, z) in features.iter().zip(values).filter(|(_, z)| **z > self.threshold) {
                let place = Place { z: *z, sample, position, shard: block.shard as u32, row: row as u32 };
                let top = &mut self.tops[*feature as usize][side];
                let at = top.partition_point(|p| p.rank(&place).is_lt());
                if at < TOP {
                    top.insert(at, place);
                    top.truncate(TOP);
                }
            }
        }
        Ok(())
    }
}

fn normalise(vector: &mut [f32]) {
    let norm = vector.iter().map(|v| *v as f64 * *v as f64).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    vector.iter_mut().for_each(|v| *v = (*v as f64 / norm) as f32);
}
