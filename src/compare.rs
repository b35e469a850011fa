//! Compares two features, of one autoencoder or of two: the cosine of their directions, and how often they fire at the same
//! positions. Reads no file.

use serde::Serialize;

/// The cosine of two directions, such as the decoder directions of two features. Nothing if their widths differ, or if one of
/// them is zero.
pub fn cosine(first: &[f32], second: &[f32]) -> Option<f64> {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let norms = (product(first, first) * product(second, second)).sqrt();
    (first.len() == second.len() && norms > 0.0).then(|| product(first, second) / norms)
}

/// At how many positions two features fire.
///
/// ```
/// let mut counts = sae_workbench::compare::Coactivation::default();
/// counts.add(&[0.0, 1.5, 0.2], &[0.0, 0.7, 0.0]);
/// assert_eq!((counts.first, counts.second, counts.both), (2, 1, 1));
/// assert_eq!(counts.jaccard(), Some(0.5));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coactivation {
    /// Positions that were counted.
    pub positions: u64,
    /// Positions where the first feature fires.
    pub first: u64,
    /// Positions where the second feature fires.
    pub second: u64,
    /// Positions where both fire.
    pub both: u64,
}

impl Coactivation {
    /// Counts positions. Each slice has the activations of one of the features at these positions; of slices of different
    /// lengths, the positions that both have are counted.
    pub fn add(&mut self, first: &[f32], second: &[f32]) {
        for (first, second) in first.iter().zip(second) {
            let (first, second) = (*first > 0.0, *second > 0.0);
            self.positions += 1;
            self.first += u64::from(first);
            self.second += u64::from(second);
            self.both += u64::from(first && second);
        }
    }

    /// The share of the positions of either feature where both fire (Jaccard similarity). Nothing if neither fires.
    pub fn jaccard(&self) -> Option<f64> {
        let either = self.first + self.second - self.both;
        (either > 0).then(|| self.both as f64 / either as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_needs_two_directions_of_one_width() {
        assert_eq!(cosine(&[3.0, 4.0], &[6.0, 8.0]), Some(1.0));
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 2.0]), Some(0.0));
        assert_eq!(cosine(&[1.0, 1.0], &[-2.0, -2.0]).map(f64::round), Some(-1.0));
        assert_eq!(cosine(&[1.0], &[1.0, 0.0]), None);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), None);
    }

    #[test]
    fn positions_are_counted_over_samples() {
        let mut counts = Coactivation::default();
        assert_eq!(counts.jaccard(), None);
        counts.add(&[1.0, 0.0, 2.0], &[0.0, 0.0, 1.0]);
        counts.add(&[1.0], &[1.0]);
        assert_eq!(counts, Coactivation { positions: 4, first: 3, second: 2, both: 2 });
        assert_eq!(counts.jaccard(), Some(2.0 / 3.0));
    }
}
