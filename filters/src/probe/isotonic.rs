//! Isotonic regression: the nondecreasing function of a score that is closest to known values.

use serde::{Deserialize, Serialize};

/// A nondecreasing function of a score, linear between its points.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Isotonic {
    /// Mean scores of the blocks, ascending.
    pub scores: Vec<f64>,
    /// Mean values of the blocks, ascending.
    pub values: Vec<f64>,
}

impl Isotonic {
    /// Fits pairs of scores and values by least squares: pool adjacent violators (Ayer et al. 1955). Each block becomes a point
    /// at its mean score, so that different scores mostly keep different values.
    ///
    /// ```
    /// use filters::probe::Isotonic;
    ///
    /// let fitted = Isotonic::fit([(1.0, 0.0), (2.0, 1.0), (3.0, 0.0), (4.0, 1.0)]);
    /// assert_eq!(fitted.values, [0.0, 0.5, 1.0]);
    /// assert_eq!((fitted.at(2.5), fitted.at(1.75), fitted.at(9.0)), (0.5, 0.25, 1.0));
    /// ```
    pub fn fit(pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        struct Block {
            score: f64,
            value: f64,
            size: f64,
        }
        let mut pairs: Vec<(f64, f64)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut blocks: Vec<Block> = Vec::new();
        for ties in pairs.chunk_by(|a, b| a.0 == b.0) {
            let size = ties.len() as f64;
            let value = ties.iter().map(|(_, value)| value).sum::<f64>() / size;
            let mut block = Block { score: ties[0].0, value, size };
            while let Some(last) = blocks.pop_if(|last| last.value >= block.value) {
                let size = last.size + block.size;
                let mean = |a: f64, b: f64| (a * last.size + b * block.size) / size;
                block = Block { score: mean(last.score, block.score), value: mean(last.value, block.value), size };
            }
            blocks.push(block);
        }
        Self {
            scores: blocks.iter().map(|block| block.score).collect(),
            values: blocks.iter().map(|block| block.value).collect(),
        }
    }

    /// The value at a score. Without any points, the score itself.
    pub fn at(&self, score: f64) -> f64 {
        let after = self.scores.partition_point(|other| *other < score);
        match (after.checked_sub(1), self.scores.get(after)) {
            (None, None) => score,
            (None, Some(_)) => self.values[0],
            (Some(before), None) => self.values[before],
            (Some(before), Some(next)) => {
                let share = (score - self.scores[before]) / (next - self.scores[before]);
                self.values[before] + share * (self.values[after] - self.values[before])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_never_fall_and_keep_their_mean(pairs in prop::collection::vec((-5i8..5, 0u8..4), 1..40)) {
            let pairs: Vec<(f64, f64)> = pairs.into_iter().map(|(s, v)| (f64::from(s), f64::from(v))).collect();
            let fitted = Isotonic::fit(pairs.iter().copied());
            prop_assert!(fitted.values.is_sorted() && fitted.scores.is_sorted());
            let mut all: Vec<f64> = pairs.iter().map(|(score, _)| fitted.at(*score)).collect();
            let mean = pairs.iter().map(|(_, value)| value).sum::<f64>() / pairs.len() as f64;
            let smallest = pairs.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
            prop_assert!(all.iter().all(|value| *value >= smallest - 1e-9));
            all.sort_by(f64::total_cmp);
            prop_assert!(all[0] <= mean + 1e-9 && all[all.len() - 1] >= mean - 1e-9);
        }
    }
}
