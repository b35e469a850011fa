//! Features that are set to values in hidden states, and vectors that are added to them. Knows neither which nor why.

use sae_core::autoencoder::Weights;

/// Features with the activations that they are to have, a vector that is added, and how much of the way a state is moved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steering {
    /// Features and their activations.
    pub targets: Vec<(u32, f32)>,
    /// A vector that is added, `[d_in]`; empty for none.
    pub vector: Vec<f32>,
    /// 1 moves the reconstruction to the targets and adds the vector, 0 changes nothing, 2 goes as far again.
    pub strength: f32,
}

impl Steering {
    /// Steers a hidden state `x` in place: `x += a (sum_k (c_k - z_k) f_k + v)`, with the strength `a`, the targets `c_k`, the
    /// activations `z_k` of the state, the decoder directions `f_k`, and the vector `v`. What the autoencoder does not reconstruct stays as it is. `features`
    /// and `values` are what is active in the state.
    ///
    /// # Shapes
    /// `x`: `[d_in]`. `features`, `values`: `[active]`, in ascending order of features.
    ///
    /// ```
    /// use sae_core::autoencoder::{Activation, Weights};
    /// use sae_workbench::steering::Steering;
    ///
    /// // An autoencoder whose two features are the two dimensions.
    /// let (w_enc, w_dec) = (vec![1.0, 0.0, 0.0, 1.0], vec![1.0, 0.0, 0.0, 1.0]);
    /// let (b_enc, b_dec, activation) = (vec![0.0; 2], vec![0.0; 2], Activation::Relu);
    /// let weights = Weights { d_in: 2, d_sae: 2, w_enc, b_enc, w_dec, b_dec, activation, ..Weights::default() };
    /// let steering = Steering { targets: vec![(0, 0.0)], vector: Vec::new(), strength: 1.0 };
    /// let mut x = [3.5, 2.0];
    /// steering.apply(&weights, &[0, 1], &[3.0, 2.0], &mut x);
    /// assert_eq!(x, [0.5, 2.0]);
    /// ```
    pub fn apply(&self, weights: &Weights, features: &[u32], values: &[f32], x: &mut [f32]) {
        if self.strength == 0.0 {
            return;
        }
        x.iter_mut().zip(&self.vector).for_each(|(x, v)| *x += self.strength * v);
        if self.targets.is_empty() {
            return;
        }
        let (mut before, mut after) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        weights.decode(x, features, values, &mut before);
        let active = |feature: u32| features.binary_search(&feature).map_or(0.0, |place| values[place]);
        let moved = self.targets.iter().map(|(feature, target)| {
            let z = active(*feature);
            (*feature, z + self.strength * (target - z))
        });
        let kept = features.iter().copied().zip(values.iter().copied());
        let kept = kept.filter(|(feature, _)| !self.targets.iter().any(|(target, _)| target == feature));
        let (features, values): (Vec<u32>, Vec<f32>) = kept.chain(moved).unzip();
        weights.decode(x, &features, &values, &mut after);
        x.iter_mut().zip(after.iter().zip(&before)).for_each(|(x, (after, before))| *x += after - before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::autoencoder::Activation;
    use sae_core::autoencoder::sparse::Sparse;

    /// An autoencoder whose two features are the two dimensions.
    fn weights() -> Weights {
        Weights {
            d_in: 2,
            d_sae: 2,
            w_enc: vec![1.0, 0.0, 0.0, 1.0],
            b_enc: vec![0.0; 2],
            w_dec: vec![1.0, 0.0, 0.0, 1.0],
            b_dec: vec![5.0, 5.0],
            activation: Activation::Relu,
            ..Weights::default()
        }
    }

    fn steered(targets: &[(u32, f32)], strength: f32, active: &[f32], x: [f32; 2]) -> [f32; 2] {
        let active = Sparse::from_dense(active, 2);
        let (features, values) = active.row(0);
        let mut x = x;
        Steering { targets: targets.to_vec(), vector: Vec::new(), strength }.apply(
            &weights(),
            features,
            values,
            &mut x,
        );
        x
    }

    #[test]
    fn a_state_moves_along_the_directions_of_the_features_only() {
        // What the autoencoder does not reconstruct (0.5, -0.25) stays as it is.
        assert_eq!(steered(&[(0, 1.0)], 1.0, &[3.0, 0.5], [3.5, 0.25]), [1.5, 0.25]);
        assert_eq!(steered(&[(0, 1.0)], 1.0, &[0.0, 2.0], [0.0, 2.0]), [1.0, 2.0]);
        assert_eq!(steered(&[(0, 0.0), (1, 0.0)], 1.0, &[3.0, 0.5], [3.5, 0.25]), [0.5, -0.25]);
    }

    #[test]
    fn strength_is_the_share_of_the_way() {
        assert_eq!(steered(&[(0, 0.0)], 0.0, &[3.0, 0.5], [3.5, 0.25]), [3.5, 0.25]);
        assert_eq!(steered(&[(0, 0.0)], 0.5, &[3.0, 0.5], [3.5, 0.25]), [2.0, 0.25]);
        assert_eq!(steered(&[(0, 0.0)], 2.0, &[3.0, 0.5], [3.5, 0.25]), [-2.5, 0.25]);
        let mut x = [1.0, 2.0];
        Steering { vector: vec![0.5, -1.0], strength: 2.0, ..Steering::default() }.apply(&weights(), &[], &[], &mut x);
        assert_eq!(x, [2.0, 0.0]);
    }
}
