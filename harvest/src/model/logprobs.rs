//! The predictions of a model whose hidden states behind one block were replaced. The model continues from this block,
//! and its predictions are compared with those from its own hidden states. Does not know where the other hidden states
//! come from.

use super::matrix::{Matrix, indices};
use super::{Compute, Hidden, Input, KvCache, Model};
use crate::{Error, Result};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Tensor};

/// Maximum number of logits in one tensor: 64 MiB in `f32`. A comparison holds about half a dozen such tensors.
const LOGITS: usize = 1 << 24;

/// How well a token was predicted, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Negative log-likelihood of the actual token.
    pub nll: f32,
    /// The divergence `KL(reference || this)` of the two distributions over the vocabulary.
    pub kl: f32,
}

/// The tokens of a batch whose prediction is measured, and the rows that predict them.
pub(super) struct Targets {
    /// Rows of the batch, each directly before its target.
    pub rows: Vec<u32>,
    /// Token ids.
    pub ids: Vec<u32>,
}

impl Targets {
    /// # Errors
    /// [`Error::NotPredicted`] for a position that no token precedes.
    pub fn new(inputs: &[&Input], positions: &[Vec<usize>]) -> Result<Self> {
        let (mut rows, mut ids, mut start) = (Vec::new(), Vec::new(), 0);
        for (input, positions) in inputs.iter().zip(positions) {
            for position in positions {
                if !(1..input.ids.len()).contains(position) {
                    return Err(Error::NotPredicted { position: *position, length: input.ids.len() });
                }
                rows.push((start + position - 1) as u32);
                ids.push(input.ids[*position]);
            }
            start += input.ids.len();
        }
        Ok(Self { rows, ids })
    }
}

impl Model {
    /// Measures how the tokens at `positions` (1 or more) of each sample are predicted if `states` are the hidden
    /// states behind block `layer`, for each of several states. The first one is the reference of the divergences. The
    /// whole model has to be loaded.
    ///
    /// The logits of a limited number of rows are held at a time, whatever the size of the batch.
    ///
    /// # Shapes
    /// Each of `states` as [`Model::hidden`] returns it for this layer alone. The result is `[states][targets]`;
    /// targets are in the order of the samples and of their positions.
    ///
    /// # Errors
    /// The states belong to samples of other lengths, the layer does not exist, no token precedes a position, or the
    /// device failed.
    pub fn compare(
        &self,
        layer: usize,
        inputs: &[&Input],
        states: &[Hidden],
        positions: &[Vec<usize>],
    ) -> Result<Vec<Vec<Prediction>>> {
        self.check_loaded(&[layer])?;
        let lengths: Vec<_> = inputs.iter().map(|input| input.ids.len()).collect();
        if let Some(other) = states.iter().find(|s| s.lengths != lengths || s.layers.len() != 1) {
            return Err(Error::SampleLengths { expected: lengths, found: other.lengths.clone() });
        }
        let Targets { rows, ids } = Targets::new(inputs, positions)?;
        if rows.is_empty() {
            return Ok(vec![Vec::new(); states.len()]);
        }
        let sequence = self.sequence(inputs, vec![0; inputs.len()])?;
        let ends = states.iter().map(|state| {
            let x = Matrix::new(state.layers[0].clone(), state.width, self.decoder.compute());
            (self, self.decoder.resume(x, &sequence, layer, &mut []).gather(&rows))
        });
        predictions(&ends.collect::<Vec<_>>(), &ids)
    }

    /// Measures how the tokens at `positions` (1 or more) of each sample are predicted by this model and by another one with the
    /// same vocabulary. This model is the reference of the divergences. Both have to be loaded entirely.
    ///
    /// # Shapes
    /// The samples of `inputs` and of `other_inputs` are the same, as each model reads them. The result is `[2][targets]`.
    ///
    /// # Errors
    /// As for [`Model::nll`].
    pub fn diverge(
        &self,
        inputs: &[&Input],
        other: &Self,
        other_inputs: &[&Input],
        positions: &[Vec<usize>],
    ) -> Result<Vec<Vec<Prediction>>> {
        let Targets { rows, ids } = Targets::new(inputs, positions)?;
        if rows.is_empty() {
            return Ok(vec![Vec::new(); 2]);
        }
        let ends = [(self, self.ends(inputs, &rows)?), (other, other.ends(other_inputs, &rows)?)];
        predictions(&ends, &ids)
    }

    /// The output of the last block at chosen rows of a batch.
    fn ends(&self, inputs: &[&Input], rows: &[u32]) -> Result<Matrix> {
        let (x, sequence) = self.embed(inputs, self.positions(inputs)?)?;
        let layers = [self.config.text.layers.len() - 1];
        let last = self.decoder.forward(x, &sequence, &layers, &mut []).pop().expect("the last block was requested");
        Ok(last.gather(rows))
    }

    /// The log-probabilities of the token after the last one of a sample, if `state` is the hidden state behind block
    /// `layer`. The whole model has to be loaded.
    ///
    /// # Shapes
    /// `[vocab_size]`.
    ///
    /// # Errors
    /// As for [`Model::compare`], or a sample without tokens.
    pub fn next(&self, layer: usize, input: &Input, state: &Hidden) -> Result<Vec<f32>> {
        if state.lengths != [input.ids.len()] {
            return Err(Error::SampleLengths { expected: vec![input.ids.len()], found: state.lengths.clone() });
        }
        self.next_after(&mut KvCache::default(), layer, input, state)
    }

    /// The same if `state` is what [`Model::hidden_after`] returned for the sample with this cache, and for this layer alone.
    /// The keys and values of the blocks behind `layer` are added to the cache.
    ///
    /// # Errors
    /// As for [`Model::next`], or the blocks behind the layer lack positions that precede those of `state`.
    pub fn next_after(&self, cache: &mut KvCache, layer: usize, input: &Input, state: &Hidden) -> Result<Vec<f32>> {
        self.check_loaded(&[layer])?;
        let last = input.ids.len().checked_sub(1).ok_or(Error::NotPredicted { position: 0, length: 0 })?;
        let start = match state.lengths[..] {
            [rows] if (1..=input.ids.len()).contains(&rows) && state.layers.len() == 1 => input.ids.len() - rows,
            _ => return Err(Error::SampleLengths { expected: vec![input.ids.len()], found: state.lengths.clone() }),
        };
        let behind = layer + 1..self.decoder.depth();
        if !behind.is_empty() && cache.kept(behind) < start {
            return Err(Error::NotContinued { kept: start, length: input.ids.len() });
        }
        let sequence = self.sequence(&[input], vec![start])?;
        let x = Matrix::new(state.layers[0].clone(), state.width, self.decoder.compute());
        let mut caches = [cache];
        let keeps = matches!(self.decoder.compute(), Compute::Host { .. });
        let end = self.decoder.resume(x, &sequence, layer, if keeps { &mut caches } else { &mut [] });
        let end = end.gather(&[(last - start) as u32]);
        Matrix::Device(self.log_probabilities(end)).into_values()
    }

    /// Negative log-likelihood in nats of the tokens at `positions` of each sample (1 or more), given all tokens before
    /// them. The whole model has to be loaded.
    ///
    /// # Errors
    /// As for [`Model::hidden`], or no token precedes a position.
    pub fn nll(&self, inputs: &[&Input], positions: &[Vec<usize>]) -> Result<Vec<Vec<f32>>> {
        let Targets { rows, ids } = Targets::new(inputs, positions)?;
        if rows.is_empty() {
            return Ok(positions.iter().map(|_| Vec::new()).collect());
        }
        let log_p = self.log_probabilities(self.ends(inputs, &rows)?);
        let mut nll = Matrix::Device(likelihood(&log_p, &ids).neg()).into_values()?.into_iter();
        Ok(positions.iter().map(|positions| nll.by_ref().take(positions.len()).collect()).collect())
    }

    /// The log-probabilities of the token after each row of the last block's output.
    fn log_probabilities(&self, x: Matrix) -> Tensor<2> {
        log_softmax(self.decoder.logits(x).into_tensor().cast(DType::F32), 1)
    }
}

/// How tokens are predicted from outputs of last blocks, each with the model that it belongs to; the first is the reference of the
/// divergences.
///
/// # Shapes
/// Each output has a row for each of `ids`. The result is `[outputs][ids]`.
fn predictions(ends: &[(&Model, Matrix)], ids: &[u32]) -> Result<Vec<Vec<Prediction>>> {
    let mut predictions = vec![Vec::with_capacity(ids.len()); ends.len()];
    let height = (LOGITS / ends.first().map_or(1, |(model, _)| model.config.text.vocab_size)).max(1);
    for start in (0..ids.len()).step_by(height) {
        let part: Vec<u32> = (start as u32..(start + height).min(ids.len()) as u32).collect();
        let ids = &ids[start..start + part.len()];
        let mut reference: Option<(Tensor<2>, Tensor<2>)> = None;
        for ((model, end), predictions) in ends.iter().zip(&mut predictions) {
            let log_p = model.log_probabilities(end.gather(&part));
            let nll = likelihood(&log_p, ids).neg();
            let (reference, reference_log) = reference.get_or_insert_with(|| (log_p.clone().exp(), log_p.clone()));
            let kl = (reference.clone() * (reference_log.clone() - log_p)).sum_dim(1);
            let pairs = Matrix::Device(nll).into_values()?.into_iter().zip(Matrix::Device(kl).into_values()?);
            predictions.extend(pairs.map(|(nll, kl)| Prediction { nll, kl }));
        }
    }
    Ok(predictions)
}

/// The entry of each row in the column of the row's token, `[rows, 1]`.
fn likelihood(log_p: &Tensor<2>, ids: &[u32]) -> Tensor<2> {
    let ids = indices(ids, &log_p.device()).unsqueeze_dim(1);
    log_p.clone().gather(1, ids)
}
