//! What the model predicts when other hidden states than its own leave a block: it goes on behind the block, and its
//! predictions are held against those from its own. Knows nothing of where the other states come from.

use super::{Hidden, Input, Model, indices, values};
use crate::{Error, Result};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Tensor, TensorData};

/// Logits of one tensor at most: 64 MiB in `f32`, of which a comparison holds half a dozen.
const LOGITS: usize = 1 << 24;

/// How a token was predicted, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Negative log-likelihood of the token that is there.
    pub nll: f32,
    /// `KL(reference || this)` of the two distributions over the vocabulary.
    pub kl: f32,
}

/// Tokens of a batch that are predicted, and the rows that predict them.
pub(super) struct Targets {
    /// Rows of the padded batch, each in front of its target.
    pub rows: Vec<i64>,
    /// Token ids.
    pub ids: Vec<i64>,
}

impl Targets {
    /// # Errors
    /// A position without a token in front of it.
    pub fn new(inputs: &[&Input], positions: &[Vec<usize>], longest: usize) -> Result<Self> {
        let (mut rows, mut ids) = (Vec::new(), Vec::new());
        for (sample, (input, positions)) in inputs.iter().zip(positions).enumerate() {
            for position in positions {
                if !(1..input.ids.len()).contains(position) {
                    let length = input.ids.len();
                    return Err(Error::Plan(format!("no token before position {position} of a sample of {length}")));
                }
                rows.push((sample * longest + position - 1) as i64);
                ids.push(i64::from(input.ids[*position]));
            }
        }
        Ok(Self { rows, ids })
    }
}

impl Model {
    /// How the tokens at `positions` (1 or more) of each sample are predicted when `states` leave block `layer`, for
    /// each of several states; the first of them is the reference of the divergences. The model has to be loaded whole.
    ///
    /// Logits are held for some rows at a time, whatever the batch.
    ///
    /// # Shapes
    /// Each of `states` as [`Model::hidden`] returns it for this layer alone. Returned: `[states][targets]`, targets in
    /// the order of the samples and of their positions.
    ///
    /// # Errors
    /// States of other samples than `inputs`, a layer that is not there, a position that is not behind the first of
    /// its sample, a device that
    /// failed.
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
            let found = &other.lengths;
            return Err(Error::Plan(format!(
                "hidden states of samples of {found:?} tokens for samples of {lengths:?}"
            )));
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let Targets { rows, ids } = Targets::new(inputs, positions, longest)?;
        let mut predictions = vec![Vec::with_capacity(ids.len()); states.len()];
        if rows.is_empty() {
            return Ok(predictions);
        }
        let device = self.decoder.like().device();
        let rows = indices(rows, &device);
        let ends = states.iter().map(|state| self.resume(layer, state).select(0, rows.clone()));
        let ends: Vec<Tensor<2>> = ends.collect();
        let height = (LOGITS / self.config.text.vocab_size).max(1);
        for start in (0..ids.len()).step_by(height) {
            let part = start..(start + height).min(ids.len());
            let ids: Tensor<2, _> = indices(ids[part.clone()].to_vec(), &device).unsqueeze_dim(1);
            let mut reference: Option<(Tensor<2>, Tensor<2>)> = None;
            for (end, predictions) in ends.iter().zip(&mut predictions) {
                let logits = self.decoder.logits(end.clone().slice([part.clone()])).cast(DType::F32);
                let log_p = log_softmax(logits, 1);
                let nll = log_p.clone().gather(1, ids.clone()).neg();
                let (own, own_log) = reference.get_or_insert_with(|| (log_p.clone().exp(), log_p.clone()));
                let kl = (own.clone() * (own_log.clone() - log_p)).sum_dim(1);
                let pairs = values(nll)?.into_iter().zip(values(kl)?);
                predictions.extend(pairs.map(|(nll, kl)| Prediction { nll, kl }));
            }
        }
        Ok(predictions)
    }

    /// What leaves the last block when `state` leaves block `layer`.
    fn resume(&self, layer: usize, state: &Hidden) -> Tensor<2> {
        let like = self.decoder.like();
        let batch = state.lengths.len();
        let data = TensorData::new(state.layers[0].clone(), [batch * state.longest, state.width]);
        let x = Tensor::from_data(data, (&like.device(), like.dtype()));
        self.decoder.resume(x, batch, layer)
    }
}
