//! A baseline without an autoencoder: the similarity of the mean hidden states of a sample's image and text. Stores two sums
//! of `d_in` numbers per sample in memory, so it is intended for the few thousand samples of an evaluation.

use crate::definition::{Definition, IMAGE, Sides, TEXT};
use sae_core::Result;
use sae_core::analysis::pass::{Block, Observer};

/// The sums of hidden states, by sample and modality.
pub struct Means {
    d_in: usize,
    sums: [Vec<f64>; 2],
    counts: [Vec<u32>; 2],
}

impl Means {
    /// Sums for `samples` samples of width `d_in`.
    pub fn new(samples: usize, d_in: usize) -> Self {
        let sums = [(); 2].map(|()| vec![0.0; samples * d_in]);
        Self { d_in, sums, counts: [(); 2].map(|()| vec![0; samples]) }
    }

    /// The cosine similarity of the mean image state and the mean text state of each sample, over positions with content. The
    /// mean over all samples is subtracted for each modality, because it would otherwise dominate the direction. Nothing for
    /// samples that lack a modality.
    pub fn cosines(mut self) -> Vec<Option<f64>> {
        let d = self.d_in;
        let samples = self.counts[TEXT].len();
        for side in [TEXT, IMAGE] {
            let mut mean = vec![0.0; d];
            let samples = self.counts[side].iter().filter(|n| **n > 0).count() as f64;
            for (row, n) in self.sums[side].chunks_exact_mut(d).zip(&self.counts[side]).filter(|(_, n)| **n > 0) {
                row.iter_mut().for_each(|v| *v /= f64::from(*n));
                mean.iter_mut().zip(&*row).for_each(|(sum, v)| *sum += v / samples);
            }
            self.sums[side].chunks_exact_mut(d).for_each(|row| row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m));
        }
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        (0..samples)
            .map(|n| {
                let [text, image] = [TEXT, IMAGE].map(|side| &self.sums[side][n * d..(n + 1) * d]);
                let norms = (dot(text, text) * dot(image, image)).sqrt();
                let both = [TEXT, IMAGE].iter().all(|side| self.counts[*side][n] > 0);
                (both && norms > 0.0).then(|| dot(text, image) / norms)
            })
            .collect()
    }
}

impl Observer for Means {
    fn observe(&mut self, block: &Block) -> Result<()> {
        let sides = Sides::default();
        for ((_, row), hidden) in block.positions().zip(block.hidden.chunks_exact(self.d_in)) {
            let sample = block.tokens.sample[row] as usize;
            let side = sides.side(block.tokens.modality[row]);
            let Some(side) = side.filter(|_| Definition::Corrected.sees(block.tokens, row)) else { continue };
            self.counts[side][sample] += 1;
            let sum = &mut self.sums[side][sample * self.d_in..(sample + 1) * self.d_in];
            sum.iter_mut().zip(hidden).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_direction_is_subtracted_and_a_missing_modality_has_no_cosine() {
        // Text states 5 + (1, 0), 5 + (-1, 0); image states 9 + (0, 1), 9 + (0, -1). They are orthogonal after centering.
        let means_of = |text: [[f64; 2]; 3], image: [[f64; 2]; 3]| Means {
            d_in: 2,
            sums: [text.concat(), image.concat()],
            counts: [vec![1, 1, 0], vec![2, 2, 2]],
        };
        let means = means_of([[6.0, 5.0], [4.0, 5.0], [0.0; 2]], [[18.0, 20.0], [18.0, 16.0], [18.0, 18.0]]);
        let found = means.cosines();
        assert!(found[0].unwrap().abs() < 1e-12 && found[1].unwrap().abs() < 1e-12);
        assert_eq!(found[2], None);
        let along = means_of([[6.0, 5.0], [4.0, 5.0], [0.0; 2]], [[20.0, 18.0], [16.0, 18.0], [18.0, 18.0]]).cosines();
        assert!((along[0].unwrap() - 1.0).abs() < 1e-12 && (along[1].unwrap() - 1.0).abs() < 1e-12);
    }
}
