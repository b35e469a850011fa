//! Patching: what a crosscoder's features make of one model's states if they are replaced by what they are in another model.
//!
//! # Formulas
//! For a crosscoder of models `A` and `B`, with `f_j` the activation of feature `j` and `d_j^m` the decoder's block of model `m`, both
//! in the units of the activations: `x^A + sum_{j in S} f_j (d_j^B - d_j^A)` for a set `S` of features. A feature moves the states by
//! `|d_j^B - d_j^A|^2 sum f_j^2` in all, by which features are ranked.

use crate::Result;
use crate::analysis::pass::{Block, Observer};
use crate::autoencoder::Weights;
use crate::store::PositionFilter;

/// Observes by how much each feature of a crosscoder of two models would move the states of the first.
pub struct Movement<'a> {
    weights: &'a Weights,
    filter: PositionFilter,
    /// `sum f_j^2` over the positions that the filter keeps.
    squares: Vec<f64>,
}

impl<'a> Movement<'a> {
    /// On the positions that `filter` keeps.
    pub fn new(weights: &'a Weights, filter: PositionFilter) -> Self {
        Self { weights, filter, squares: vec![0.0; weights.d_sae] }
    }

    /// The features that fire, those that move the states most first.
    pub fn ranked(&self) -> Vec<u32> {
        let moves = |feature: usize| {
            let (a, b) = self.weights.direction(feature).split_at(self.weights.d_in / 2);
            let difference: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*b) - f64::from(*a)).powi(2)).sum();
            difference * self.squares[feature]
        };
        let fires = (0..self.weights.d_sae).filter(|feature| self.squares[*feature] > 0.0);
        let mut features: Vec<(u32, f64)> = fires.map(|feature| (feature as u32, moves(feature))).collect();
        features.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        features.into_iter().map(|(feature, _)| feature).collect()
    }
}

impl Observer for Movement<'_> {
    fn observe(&mut self, block: &Block) -> Result<()> {
        let d = self.weights.d_in;
        for (r, row) in block.positions() {
            let (special, position) = (block.tokens.special[row], block.tokens.position[row]);
            if self.filter.reasons(special, position, &block.hidden[r * d..(r + 1) * d]) != [false; 3] {
                continue;
            }
            let (features, values) = block.active.row(r);
            for (feature, value) in features.iter().zip(values) {
                self.squares[*feature as usize] += f64::from(*value).powi(2);
            }
        }
        Ok(())
    }
}

/// Moves a state of the first of two models by the chosen features: adds `f_j (d_j^B - d_j^A)` of each that is active.
///
/// ```
/// use sae_core::analysis::patching::patch;
/// use sae_core::autoencoder::Weights;
///
/// // Two models that are one wide, and two features.
/// let weights = Weights { d_in: 2, d_sae: 2, w_dec: vec![1.0, 3.0, 0.0, 5.0], ..Weights::default() };
/// let mut state = [10.0];
/// patch(&weights, &[0, 1], &[2.0, 1.0], &[true, false], &mut state);
/// assert_eq!(state, [14.0]);
/// ```
///
/// # Shapes
/// `features` and `values`: the active features of a joined row; `chosen`: `[d_sae]`; `state`: `[d_in / 2]`.
pub fn patch(weights: &Weights, features: &[u32], values: &[f32], chosen: &[bool], state: &mut [f32]) {
    for (feature, value) in features.iter().zip(values).filter(|(feature, _)| chosen[**feature as usize]) {
        let (a, b) = weights.direction(*feature as usize).split_at(state.len());
        state.iter_mut().zip(a.iter().zip(b)).for_each(|(state, (a, b))| *state += value * (b - a));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::pass;
    use crate::autoencoder::Encoder;
    use crate::fixture;
    use burn::tensor::Device;

    #[test]
    fn features_are_ranked_by_how_far_they_move_the_states() {
        let wave = |n: usize, by: f32| (0..n).map(|i| ((i as f32 + 1.0) * by).sin()).collect::<Vec<_>>();
        let mut weights = Weights {
            d_in: 6,
            d_sae: 5,
            w_enc: wave(30, 0.7),
            b_enc: wave(5, 1.3),
            w_dec: wave(30, 1.9),
            b_dec: wave(6, 0.4),
            ..Weights::default()
        };
        // One feature with equal blocks, and one that never fires.
        let block = weights.w_dec[6..9].to_vec();
        weights.w_dec[9..12].copy_from_slice(&block);
        weights.b_enc[4] = -1e6;
        let (_dir, store) = fixture::store(6);
        let mut movement = Movement::new(&weights, PositionFilter::default());
        pass::run(&store, &weights, &Device::flex(), &mut [&mut movement], &mut |_| ()).unwrap();
        let ranked = movement.ranked();
        assert_eq!(ranked.len(), 4);
        assert_eq!(ranked[3], 1, "equal blocks move nothing");
        // The distance between a state and the patched one, by the reconstructions with and without the feature.
        let encoder = Encoder::new(&weights, &Device::flex());
        let moved = |feature: u32| -> f64 {
            let mut total = 0.0;
            for number in 0..store.shards() {
                let (shard, mut x) = (store.shard(number).unwrap(), Vec::new());
                shard.read(0..shard.rows(), &mut x);
                let active = encoder.encode(&x).unwrap();
                for row in 0..shard.rows() {
                    let mut state = [0.0; 3];
                    let chosen: Vec<bool> = (0..5).map(|k| k == feature).collect();
                    patch(&weights, active.row(row).0, active.row(row).1, &chosen, &mut state);
                    total += state.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
                }
            }
            total
        };
        let distances: Vec<f64> = ranked.iter().map(|feature| moved(*feature)).collect();
        assert!(distances.is_sorted_by(|a, b| a > b) && distances[3] == 0.0, "{distances:?}");
    }

    #[test]
    fn all_features_turn_one_reconstruction_into_the_other_up_to_the_biases() {
        let wave = |n: usize, by: f32| (0..n).map(|i| ((i as f32 + 1.0) * by).sin()).collect::<Vec<_>>();
        let weights = Weights { d_in: 4, d_sae: 3, w_dec: wave(12, 0.9), b_dec: wave(4, 1.1), ..Weights::default() };
        let (features, values) = ([0, 2], [1.5, 0.5]);
        let mut joined = [0.0; 4];
        weights.decode(&[0.0; 4], &features, &values, &mut joined);
        let mut state = [joined[0] - weights.b_dec[0], joined[1] - weights.b_dec[1]];
        patch(&weights, &features, &values, &[true; 3], &mut state);
        for (found, (hat, bias)) in state.iter().zip(joined[2..].iter().zip(&weights.b_dec[2..])) {
            assert!((found - (hat - bias)).abs() < 1e-6, "{state:?}");
        }
    }
}
