//! What the model predicts when other hidden states than its own leave a block: it goes on behind the block, and its
//! predictions are held against those from its own. Knows nothing of where the other states come from.

use super::ops::{Matrix, indices};
use super::{Hidden, Input, Model};
use crate::{Error, Result};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Tensor};

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
    /// Rows of the batch, each in front of its target.
    pub rows: Vec<u32>,
    /// Token ids.
    pub ids: Vec<u32>,
}

impl Targets {
    /// # Errors
    /// A position without a token in front of it.
    pub fn new(inputs: &[&Input], positions: &[Vec<usize>]) -> Result<Self> {
        let (mut rows, mut ids, mut start) = (Vec::new(), Vec::new(), 0);
        for (input, positions) in inputs.iter().zip(positions) {
            for position in positions {
                if !(1..input.ids.len()).contains(position) {
                    let length = input.ids.len();
                    return Err(Error::Plan(format!("no token before position {position} of a sample of {length}")));
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
        let Targets { rows, ids } = Targets::new(inputs, positions)?;
        let mut predictions = vec![Vec::with_capacity(ids.len()); states.len()];
        if rows.is_empty() {
            return Ok(predictions);
        }
        let sequence = self.sequence(inputs)?;
        let ends = states.iter().map(|state| {
            let x = Matrix::new(state.layers[0].clone(), state.width, self.decoder.compute());
            self.decoder.resume(x, &sequence, layer).gather(&rows)
        });
        let ends: Vec<Matrix> = ends.collect();
        let height = (LOGITS / self.config.text.vocab_size).max(1);
        for start in (0..ids.len()).step_by(height) {
            let part: Vec<u32> = (start as u32..(start + height).min(ids.len()) as u32).collect();
            let ids = &ids[start..start + part.len()];
            let mut reference: Option<(Tensor<2>, Tensor<2>)> = None;
            for (end, predictions) in ends.iter().zip(&mut predictions) {
                let log_p = self.log_probabilities(end.gather(&part));
                let nll = likelihood(&log_p, ids).neg();
                let (own, own_log) = reference.get_or_insert_with(|| (log_p.clone().exp(), log_p.clone()));
                let kl = (own.clone() * (own_log.clone() - log_p)).sum_dim(1);
                let pairs = Matrix::Device(nll).into_values()?.into_iter().zip(Matrix::Device(kl).into_values()?);
                predictions.extend(pairs.map(|(nll, kl)| Prediction { nll, kl }));
            }
        }
        Ok(predictions)
    }

    /// Log-probabilities of the token behind a sample's last one when `state` leaves block `layer`. The model has to be loaded
    /// whole.
    ///
    /// # Shapes
    /// `[vocab_size]`.
    ///
    /// # Errors
    /// As for [`Model::compare`], or a sample without tokens.
    pub fn next(&self, layer: usize, input: &Input, state: &Hidden) -> Result<Vec<f32>> {
        self.check_loaded(&[layer])?;
        if state.lengths != [input.ids.len()] || state.layers.len() != 1 {
            let (found, own) = (&state.lengths, input.ids.len());
            return Err(Error::Plan(format!("hidden states of samples of {found:?} tokens for one of {own}")));
        }
        let last =
            input.ids.len().checked_sub(1).ok_or_else(|| Error::Plan("nothing comes before the next token".into()))?;
        let sequence = self.sequence(&[input])?;
        let x = Matrix::new(state.layers[0].clone(), state.width, self.decoder.compute());
        let end = self.decoder.resume(x, &sequence, layer).gather(&[last as u32]);
        Matrix::Device(self.log_probabilities(end)).into_values()
    }

    /// Negative log-likelihood in nats of the tokens at `positions` of each sample (1 or more), given all before them.
    /// The model has to be loaded whole.
    ///
    /// # Errors
    /// As for [`Model::hidden`], or a position that is not behind the first token of its sample.
    pub fn nll(&self, inputs: &[&Input], positions: &[Vec<usize>]) -> Result<Vec<Vec<f32>>> {
        let Targets { rows, ids } = Targets::new(inputs, positions)?;
        if rows.is_empty() {
            return Ok(positions.iter().map(|_| Vec::new()).collect());
        }
        let (x, sequence) = self.embed(inputs)?;
        let layers = [self.config.text.layers.len() - 1];
        let last = self.decoder.forward(x, &sequence, &layers).pop().expect("the last block was asked for");
        let log_p = self.log_probabilities(last.gather(&rows));
        let mut nll = Matrix::Device(likelihood(&log_p, &ids).neg()).into_values()?.into_iter();
        Ok(positions.iter().map(|positions| nll.by_ref().take(positions.len()).collect()).collect())
    }

    /// Of the token behind each row of what left the last block.
    fn log_probabilities(&self, x: Matrix) -> Tensor<2> {
        log_softmax(self.decoder.logits(x).into_tensor().cast(DType::F32), 1)
    }
}

/// The entry of each row at that row's token, `[rows, 1]`.
fn likelihood(log_p: &Tensor<2>, ids: &[u32]) -> Tensor<2> {
    let ids = indices(ids, &log_p.device()).unsqueeze_dim(1);
    log_p.clone().gather(1, ids)
}
