//! Sparse rows: the features of each sample with their values, row after row.

use sae_core::analysis::feature_sets::FeatureSets;

/// Rows of `width` features, most of which are 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    width: usize,
    /// Where each row ends in `features` and `values`.
    ends: Vec<usize>,
    features: Vec<u32>,
    values: Vec<f32>,
}

impl Rows {
    /// No rows, of `width` features.
    pub fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    /// Rows with what is measured of the features of each sample: their strengths, or 1.
    pub fn from_sets(sets: &FeatureSets) -> Self {
        let mut rows = Self::new(sets.d_sae());
        (0..sets.len())
            .for_each(|sample| rows.push(sets.measured(sample).map(|(feature, value)| (feature, value as f32))));
        rows
    }

    /// Adds a row: its features, in ascending order, with their values.
    pub fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        for (feature, value) in row {
            self.features.push(feature);
            self.values.push(value);
        }
        self.ends.push(self.features.len());
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The number of features.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The features of a row with their values.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        let range = start..self.ends[row];
        self.features[range.clone()].iter().copied().zip(self.values[range].iter().copied())
    }

    /// For every feature, the number of rows in which it is not 0.
    pub fn counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.width];
        self.features.iter().for_each(|feature| counts[*feature as usize] += 1);
        counts
    }

    /// The standard deviation of every feature over all rows.
    pub fn deviations(&self) -> Vec<f64> {
        let n = self.len().max(1) as f64;
        let (mut sums, mut squares) = (vec![0.0; self.width], vec![0.0; self.width]);
        for (feature, value) in self.features.iter().zip(&self.values) {
            sums[*feature as usize] += f64::from(*value);
            squares[*feature as usize] += f64::from(*value).powi(2);
        }
        let deviation = |(sum, square): (&f64, &f64)| (square / n - (sum / n).powi(2)).max(0.0).sqrt();
        sums.iter().zip(&squares).map(deviation).collect()
    }

    /// Some of the rows, in the given order.
    pub fn pick(&self, rows: &[usize]) -> Self {
        let mut picked = Self::new(self.width);
        rows.iter().for_each(|row| picked.push(self.row(*row)));
        picked
    }

    /// Adds the rows of another table of the same features.
    pub fn append(&mut self, other: &Self) {
        (0..other.len()).for_each(|row| self.push(other.row(row)));
    }

    /// The rows with only the features `kept`, which are in ascending order and are numbered anew, each multiplied by its scale.
    pub fn columns(&self, kept: &[u32], scales: impl Fn(u32) -> f64) -> Self {
        let mut places = vec![u32::MAX; self.width];
        kept.iter().zip(0..).for_each(|(feature, place)| places[*feature as usize] = place);
        let mut rows = Self::new(kept.len());
        for row in 0..self.len() {
            let found = self.row(row).filter(|(feature, _)| places[*feature as usize] != u32::MAX);
            rows.push(
                found.map(|(feature, value)| (places[feature as usize], (f64::from(value) * scales(feature)) as f32)),
            );
        }
        rows
    }

    /// The sum of a row's values, each times the weight of its feature.
    pub fn dot(&self, row: usize, weights: &[f64]) -> f64 {
        self.row(row).map(|(feature, value)| f64::from(value) * weights[feature as usize]).sum()
    }

    /// Adds `scale` times a row to a dense vector.
    pub fn add_to(&self, row: usize, scale: f64, sum: &mut [f64]) {
        self.row(row).for_each(|(feature, value)| sum[feature as usize] += scale * f64::from(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_chosen_scaled_and_numbered_anew() {
        let mut rows = Rows::new(5);
        rows.push([(0, 1.0), (3, 2.0)]);
        rows.push([]);
        rows.push([(1, 4.0), (3, 6.0), (4, 1.0)]);
        assert_eq!((rows.len(), rows.width(), rows.counts()), (3, 5, vec![1, 1, 0, 2, 1]));
        let kept = rows.columns(&[1, 3], |feature| if feature == 3 { 0.5 } else { 1.0 });
        let all: Vec<Vec<(u32, f32)>> = (0..3).map(|row| kept.row(row).collect()).collect();
        assert_eq!(all, [vec![(1, 1.0)], vec![], vec![(0, 4.0), (1, 3.0)]]);
        assert_eq!(kept.dot(2, &[10.0, 1.0]), 43.0);
        let mut sum = vec![0.0; 2];
        kept.add_to(2, 2.0, &mut sum);
        assert_eq!(sum, [8.0, 6.0]);
        // Values 2, 0, 6: mean 8/3, mean square 40/3.
        assert!((rows.deviations()[3] - (40.0f64 / 3.0 - 64.0 / 9.0).sqrt()).abs() < 1e-12);
    }
}
