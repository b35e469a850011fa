//! Which features fire where in one sample. Computes nothing from weights.

use sae_core::autoencoder::sparse::Sparse;
use std::collections::BTreeMap;

/// The active features of one sample: one row per token, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleActivations {
    /// Features and activations of every token.
    pub rows: Sparse,
}

impl SampleActivations {
    /// The activation of a feature on each token.
    pub fn of_feature(&self, feature: u32) -> Vec<f32> {
        (0..self.rows.rows()).map(|row| self.at(row, feature)).collect()
    }

    /// The activation of a feature on one token; 0 where it is not active.
    pub fn at(&self, row: usize, feature: u32) -> f32 {
        let (features, values) = self.rows.row(row);
        features.binary_search(&feature).map_or(0.0, |at| values[at])
    }

    /// The features with the largest activations on some tokens, at most `count`, strongest first.
    pub fn strongest(&self, tokens: impl Iterator<Item = usize>, count: usize) -> Vec<ActiveFeature> {
        let mut found = BTreeMap::<u32, ActiveFeature>::new();
        for token in tokens.filter(|token| *token < self.rows.rows()) {
            let (features, values) = self.rows.row(token);
            for (feature, value) in features.iter().zip(values) {
                let active =
                    found.entry(*feature).or_insert(ActiveFeature { feature: *feature, max: 0.0, positions: 0 });
                active.max = active.max.max(*value);
                active.positions += 1;
            }
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by(|a, b| b.max.total_cmp(&a.max).then(a.feature.cmp(&b.feature)));
        found.truncate(count);
        found
    }

    /// Approximate memory use in bytes.
    pub fn bytes(&self) -> usize {
        8 * (self.rows.rows() + self.rows.len())
    }
}

/// A feature that fires on some tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActiveFeature {
    /// Its number.
    pub feature: u32,
    /// Its largest activation on them.
    pub max: f32,
    /// The number of them on which it fires.
    pub positions: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_features_of_some_tokens() {
        let dense = [0.0, 2.0, 0.5, 0.0, 1.0, 3.0];
        let activations = SampleActivations { rows: Sparse::from_dense(&dense, 3) };
        let strongest = |tokens: &[usize]| {
            let found = activations.strongest(tokens.iter().copied(), 2);
            found.iter().map(|active| (active.feature, active.max, active.positions)).collect::<Vec<_>>()
        };
        assert_eq!(strongest(&[0, 1]), [(2, 3.0, 2), (1, 2.0, 2)]);
        assert_eq!(strongest(&[0, 77]), [(1, 2.0, 1), (2, 0.5, 1)]);
        assert_eq!(activations.of_feature(2), [0.5, 3.0]);
    }
}
