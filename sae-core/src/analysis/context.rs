//! Samples as examples of features need them, a piece with the path that leads to it: the tokens with the activations of chosen features, computed again from the store,
//! because an index has only positions. Reads no images.

use crate::autoencoder::sparse::Sparse;
use crate::autoencoder::{Encoder, Weights};
use crate::error::{Cause, Hint, Operation};
use crate::store::Store;
use crate::store::sample::Token;
use crate::{Error, Result};
use burn::tensor::Device;
use std::collections::{BTreeMap, BTreeSet};

/// A sample with the activations of some features.
pub struct Context {
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// Nothing if they have not been computed.
    active: Option<Sparse>,
}

impl Context {
    /// A sample whose tokens are known, but not what fires on them.
    pub fn without_activations(tokens: Vec<Token>) -> Self {
        Self { tokens, active: None }
    }

    /// A sample with the features that fire on each of its tokens.
    ///
    /// # Panics
    /// If there is not one row of `active` for each token: a mistake of the caller.
    pub fn new(tokens: Vec<Token>, active: Sparse) -> Self {
        assert_eq!(tokens.len(), active.rows(), "a row for each token");
        Self { tokens, active: Some(active) }
    }

    /// Whether it is known what fires on the tokens.
    pub fn has_activations(&self) -> bool {
        self.active.is_some()
    }

    /// The activation of one of the chosen features on each token; 0 everywhere if none is known.
    pub fn values(&self, feature: u32) -> Vec<f32> {
        let Some(active) = &self.active else { return vec![0.0; self.tokens.len()] };
        let rows = (0..active.rows()).map(|row| active.row(row));
        rows.map(|(features, values)| features.binary_search(&feature).map_or(0.0, |at| values[at])).collect()
    }

    /// Whether one of the chosen features is known to fire anywhere.
    pub fn fires(&self, feature: u32) -> bool {
        self.active.as_ref().is_some_and(|active| active.features().contains(&feature))
    }
}

/// The samples of these numbers, with the activations of these features alone. A piece has the tokens of its path: those of the
/// pieces that it continues, and then its own. Besides the result, it holds one part of the store at a time.
///
/// # Errors
/// A number that no sample has, or a file that cannot be trusted.
pub fn contexts(
    store: &Store,
    weights: &Weights,
    device: &Device,
    samples: &BTreeSet<u32>,
    features: &BTreeSet<u32>,
) -> Result<BTreeMap<u32, Context>> {
    let encoder = Encoder::new(weights, device);
    let mut found = BTreeMap::new();
    for (number, part) in store.parts()?.into_iter().enumerate() {
        if samples.range(part.clone()).next().is_none() {
            continue;
        }
        let (shard, table) = (store.shard(number)?, store.token_table(number)?);
        for sample in samples.range(part) {
            let (mut hidden, mut tokens) = (Vec::new(), Vec::new());
            // All pieces of a path are in one part.
            for piece in store.paths().path(*sample) {
                let (rows, before) = (table.rows(piece)?, hidden.len());
                shard.read(rows.clone(), &mut hidden);
                if hidden[before..].iter().any(|v| !v.is_finite()) {
                    return Err(shard.error(format!("rows {rows:?} hold values that are not finite")));
                }
                tokens.extend(table.tokens(rows)?);
            }
            let mut active = encoder.encode(&hidden)?;
            active.retain(|_, feature, _| features.contains(&feature));
            found.insert(*sample, Context::new(tokens, active));
        }
    }
    match samples.iter().find(|sample| !found.contains_key(sample)) {
        Some(sample) => {
            let text = format!("the run has no sample {sample}, so the index is of other activations");
            Err(Error::run(store.run().root(), Cause::with_hint(text, Hint::Run(Operation::Index))))
        }
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::pass::{Block, Observer, run};
    use crate::fixture::store;

    /// `(sample, position, feature)` and the activation there.
    struct All(BTreeMap<(u32, u32, u32), f32>);

    impl Observer for All {
        fn observe(&mut self, block: &Block) -> Result<()> {
            for (r, row) in block.positions() {
                let (features, values) = block.active.row(r);
                let place = (block.tokens.sample[row], block.tokens.position[row]);
                self.0.extend(features.iter().zip(values).map(|(k, z)| ((place.0, place.1, *k), *z)));
            }
            Ok(())
        }
    }

    #[test]
    fn a_context_has_the_activations_that_a_pass_has() {
        let (_dir, store) = store(4);
        let w: Vec<f32> = (0..40).map(|n| ((n * 7919 % 1013) as f32 / 506.0) - 1.0).collect();
        let weights = Weights {
            d_in: 4,
            d_sae: 10,
            w_enc: w.clone(),
            w_dec: w,
            b_enc: vec![0.0; 10],
            b_dec: vec![0.0; 4],
            ..Weights::default()
        };
        let mut all = All(BTreeMap::new());
        run(&store, &weights, &Device::flex(), &mut [&mut all], &mut |_| ()).unwrap();
        let (samples, features) = (BTreeSet::from([0, 4, 11]), BTreeSet::from([2, 7]));
        let found = contexts(&store, &weights, &Device::flex(), &samples, &features).unwrap();
        assert_eq!(found.keys().copied().collect::<BTreeSet<_>>(), samples);
        for (sample, context) in &found {
            for k in [2, 7] {
                let expected = |token: &Token| all.0.get(&(*sample, token.position, k)).copied().unwrap_or(0.0);
                let expected: Vec<f32> = context.tokens.iter().map(expected).collect();
                assert_eq!(context.values(k), expected);
                assert_eq!(context.fires(k), expected.iter().any(|z| *z > 0.0));
            }
            assert!(!context.fires(3), "others are left out");
        }
        let refused = contexts(&store, &weights, &Device::flex(), &BTreeSet::from([12]), &features);
        assert!(refused.err().is_some_and(|error| error.to_string().contains("no sample 12")));
    }
}
