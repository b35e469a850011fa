//! The index of some of the shards: how it is written into a part, and how parts become the index of all shards.
//!
//! Everything but the sums of activations is independent of the order in which positions are seen, so that a state takes in
//! another one by looking at the positions and counts that it kept. Sums are kept for each shard.

use super::{Bin, Counts, Example, Indexer};
use crate::Result;
use crate::analysis::part::{Mergeable, PartWriter, Section};
use crate::store::sample::Modality;
use rayon::prelude::*;
use std::mem;

/// The sums of activations of every feature, `[d_sae]`: of the shard that is under way, and of each shard that is over if the
/// indexer is one of a part. Memory: 8 bytes for each feature, of a part for each feature and shard.
pub(super) struct ShardSums {
    open: Vec<f64>,
    /// Shards with their sums, if they are kept.
    closed: Option<Vec<(u32, Vec<f64>)>>,
}

impl ShardSums {
    pub fn new(d_sae: usize) -> Self {
        Self { open: vec![0.0; d_sae], closed: None }
    }

    /// The sums of the shard that is under way.
    pub fn open(&mut self) -> &mut [f64] {
        &mut self.open
    }

    /// Adds the sums of a shard that is over to the counts.
    pub fn close(&mut self, shard: usize, counts: &mut [Counts]) {
        add(counts, &self.open);
        let empty = vec![0.0; if self.closed.is_some() { self.open.len() } else { 0 }];
        match &mut self.closed {
            Some(closed) => closed.push((shard as u32, mem::replace(&mut self.open, empty))),
            None => self.open.fill(0.0),
        }
    }
}

fn add(counts: &mut [Counts], sums: &[f64]) {
    counts.iter_mut().zip(sums).for_each(|(counts, sum)| counts.sum += sum);
}

impl Mergeable for Indexer {
    fn begin_part(&mut self) {
        self.sums.closed = Some(Vec::new());
    }

    fn save(&mut self, out: &mut PartWriter) -> Result<()> {
        out.put("index.positions", 1, self.positions);
        out.put("index.fires", 3, self.counts.iter().flat_map(|c| [c.fires, c.fires_text, c.fires_image]));
        out.put("index.max", 3, self.counts.iter().flat_map(|c| [c.max, c.max_text, c.max_image]));
        let closed = self.sums.closed.iter().flatten();
        out.put("index.shard", 1, closed.clone().map(|(shard, _)| *shard));
        out.put("index.sum", self.counts.len(), closed.flat_map(|(_, sums)| sums.iter().copied()));
        let bins: Vec<Vec<Bin>> = self.histograms.iter().map(|histogram| histogram.bins().collect()).collect();
        out.put("histogram.count", 1, bins.iter().map(|bins| bins.len() as u32));
        out.put("histogram.bin", 1, bins.iter().flatten().map(|bin| bin.number));
        let fires = |bin: &Bin| [bin.fires, bin.fires_text, bin.fires_image];
        out.put("histogram.fires", 3, bins.iter().flatten().flat_map(fires));
        let examples: Vec<Vec<Example>> = (0..self.counts.len()).map(|k| self.kept(k)).collect();
        out.put("examples.count", 1, examples.iter().map(|examples| examples.len() as u32));
        let all = || examples.iter().flatten();
        out.put("examples.activation", 1, all().map(|example| example.activation));
        out.put("examples.place", 2, all().flat_map(|example| [example.sample, example.position]));
        out.put("examples.modality", 1, all().map(|example| example.modality as u8));
        self.together.save(out);
        Ok(())
    }

    fn merge(&mut self, section: &Section) -> Result<()> {
        let d_sae = self.counts.len();
        let positions: Vec<u64> = section.get_rows("index.positions", 3, 1)?;
        self.positions.iter_mut().zip(&positions).for_each(|(sum, more)| *sum += more);
        self.merge_counts(section)?;
        let shards: Vec<u32> = section.get("index.shard", 1)?;
        if !shards.iter().map(|shard| *shard as usize).eq(section.shards()) {
            return Err(section.error(format!("sums of the shards {shards:?}: expected {:?}", section.shards())));
        }
        let sums: Vec<f64> = section.get_rows("index.sum", shards.len(), d_sae)?;
        sums.chunks_exact(d_sae.max(1)).for_each(|sums| add(&mut self.counts, sums));
        self.merge_examples(section)?;
        self.together.merge(section)
    }
}

impl Indexer {
    /// Every position that is an example of a feature in one of its lists, once.
    fn kept(&self, feature: usize) -> Vec<Example> {
        let by_modality = self.strongest[feature].all();
        let mut all: Vec<Example> = self.examples.all(feature).chain(by_modality).copied().collect();
        all.sort_by_key(|example| (example.sample, example.position));
        all.dedup_by_key(|example| (example.sample, example.position));
        all
    }

    fn merge_counts(&mut self, section: &Section) -> Result<()> {
        let d_sae = self.counts.len();
        let (fires, max): (Vec<u64>, Vec<f32>) =
            (section.get_rows("index.fires", d_sae, 3)?, section.get_rows("index.max", d_sae, 3)?);
        for (counts, (fires, max)) in self.counts.iter_mut().zip(fires.chunks_exact(3).zip(max.chunks_exact(3))) {
            counts.fires += fires[0];
            counts.fires_text += fires[1];
            counts.fires_image += fires[2];
            counts.max = counts.max.max(max[0]);
            counts.max_text = counts.max_text.max(max[1]);
            counts.max_image = counts.max_image.max(max[2]);
        }
        let counts: Vec<u32> = section.get_rows("histogram.count", d_sae, 1)?;
        let numbers: Vec<i16> = section.get("histogram.bin", 1)?;
        let fires: Vec<u64> = section.get_rows("histogram.fires", numbers.len(), 3)?;
        for (histogram, range) in self.histograms.iter_mut().zip(section.ranges(&counts, numbers.len())?) {
            for n in range {
                let [all, text, image] = [0, 1, 2].map(|side| fires[3 * n + side]);
                histogram.merge(Bin { number: numbers[n], fires: all, fires_text: text, fires_image: image });
            }
        }
        Ok(())
    }

    fn merge_examples(&mut self, section: &Section) -> Result<()> {
        let counts: Vec<u32> = section.get_rows("examples.count", self.counts.len(), 1)?;
        let activations: Vec<f32> = section.get("examples.activation", 1)?;
        let places: Vec<u32> = section.get_rows("examples.place", activations.len(), 2)?;
        let modalities: Vec<u8> = section.get_rows("examples.modality", activations.len(), 1)?;
        let example = |n: usize| {
            let (activation, sample, position) = (activations[n], places[2 * n], places[2 * n + 1]);
            let modality = Modality::try_from(modalities[n]).map_err(|cause| section.error(cause))?;
            if !(activation > 0.0 && activation.is_finite() && section.has_sample(sample)) {
                return Err(section.error(format!("an example of sample {sample} with activation {activation}")));
            }
            Ok(Example { activation, sample, position, modality })
        };
        let examples: Vec<Example> = (0..activations.len()).map(example).collect::<Result<_>>()?;
        let ranges = section.ranges(&counts, examples.len())?;
        let lists = (self.examples.slots(), &mut self.strongest[..], &ranges[..]);
        lists.into_par_iter().with_min_len(64).for_each(|(slots, strongest, range)| {
            for example in &examples[range.clone()] {
                slots.offer(*example);
                strongest.offer(*example);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Activations of shards whose sum depends on the order: next to the first one, the others count only if they are added to
    /// one another before.
    const SHARDS: [&[f32]; 3] = [&[1e16, 1.0], &[1.0, 1.0], &[1.0, 1.0, 1.0]];

    fn observe(sums: &mut ShardSums, counts: &mut [Counts], shard: usize) {
        SHARDS[shard].iter().for_each(|z| sums.open()[0] += f64::from(*z));
        sums.close(shard, counts);
    }

    #[test]
    fn sums_are_those_of_shards_in_their_order_however_they_are_divided() {
        let expected = (f64::from(1e16f32) + 2.0) + 3.0;
        let rows: f64 = SHARDS.iter().copied().flatten().map(|z| f64::from(*z)).sum();
        assert_ne!(rows, expected, "the order does not matter");
        let (mut sums, mut whole) = (ShardSums::new(1), vec![Counts::default()]);
        (0..3).for_each(|shard| observe(&mut sums, &mut whole, shard));
        assert_eq!(whole[0].sum, expected);
        for cut in 0..=3 {
            let mut merged = vec![Counts::default()];
            for shards in [0..cut, cut..3] {
                let mut part = ShardSums { closed: Some(Vec::new()), ..ShardSums::new(1) };
                shards.for_each(|shard| observe(&mut part, &mut [Counts::default()], shard));
                part.closed.iter().flatten().for_each(|(_, sums)| add(&mut merged, sums));
            }
            assert_eq!(merged[0].sum, expected, "cut before shard {cut}");
        }
    }
}
