//! Collects what probes read: for each sample, `log(1 + max)` of every feature over the positions of a part.

use super::rows::Rows;
use sae_core::analysis::feature_sets::Part;
use sae_core::analysis::pass::{Block, Observer};

/// Collects maxima during a pass. Memory: 8 bytes per active feature of a sample.
#[derive(Clone, Debug)]
pub struct MaximaCollector {
    part: Part,
    samples: Vec<Vec<(u32, f32)>>,
    /// The number of positions of each sample that belong to the part.
    positions: Vec<u32>,
    open: Option<usize>,
    /// The features of the current sample, in the order in which they appeared.
    touched: Vec<u32>,
    /// Their largest activations.
    maxima: Vec<f32>,
}

impl MaximaCollector {
    /// Nothing yet, for `samples` samples and `d_sae` features.
    pub fn new(samples: usize, d_sae: usize, part: Part) -> Self {
        let (positions, maxima) = (vec![0; samples], vec![0.0; d_sae]);
        Self { part, samples: vec![Vec::new(); samples], positions, open: None, touched: Vec::new(), maxima }
    }

    /// A row for every sample, and how many positions of the part each sample has.
    pub fn finish(mut self) -> (Rows, Vec<u32>) {
        self.close();
        let mut rows = Rows::new(self.maxima.len());
        self.samples.into_iter().for_each(|sample| rows.push(sample));
        (rows, self.positions)
    }

    fn close(&mut self) {
        let Some(sample) = self.open.take() else { return };
        self.touched.sort_unstable();
        let maxima = &mut self.maxima;
        let value = |feature: u32| (feature, std::mem::take(&mut maxima[feature as usize]).ln_1p());
        self.samples[sample] = self.touched.drain(..).map(value).collect();
    }
}

impl Observer for MaximaCollector {
    fn observe(&mut self, block: &Block) -> sae_core::Result<()> {
        let tokens = block.tokens;
        for (r, row) in block.positions() {
            let sample = tokens.sample[row] as usize;
            if self.open != Some(sample) {
                self.close();
                self.open = Some(sample);
            }
            if !self.part.contains(tokens.modality[row], tokens.role[row], tokens.special[row]) {
                continue;
            }
            self.positions[sample] += 1;
            let (features, values) = block.active.row(r);
            for (feature, z) in features.iter().zip(values).filter(|(_, z)| **z > 0.0) {
                let max = &mut self.maxima[*feature as usize];
                if *max == 0.0 {
                    self.touched.push(*feature);
                }
                *max = max.max(*z);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::autoencoder::sparse::Sparse;
    use sae_core::store::TokenColumns;
    use sae_core::store::sample::{Modality, Role};

    #[test]
    fn the_largest_activation_of_a_part_counts() {
        let tokens = TokenColumns {
            sample: vec![2, 2, 2, 0],
            position: vec![0, 1, 2, 0],
            modality: vec![Modality::Text; 4],
            role: vec![Role::User, Role::Assistant, Role::Assistant, Role::User],
            special: vec![false; 4],
        };
        let mut collector = MaximaCollector::new(3, 2, Part::Answer);
        for (range, dense) in [(0..2, vec![9.0, 9.0, 1.0, 0.0]), (2..4, vec![3.0, 0.5, 7.0, 7.0])] {
            let active = Sparse::from_dense(&dense, 2);
            collector.observe(&Block { tokens: &tokens, rows: range, shard: 0, hidden: &[], active: &active }).unwrap();
        }
        let (rows, positions) = collector.finish();
        assert_eq!(positions, [0, 0, 2]);
        let rows: Vec<Vec<(u32, f32)>> = (0..3).map(|sample| rows.row(sample).collect()).collect();
        assert_eq!(rows, [vec![], vec![], vec![(0, 4f32.ln()), (1, 1.5f32.ln())]]);
    }
}
