//! The predictions of a model whose hidden states at one hook were replaced. The model continues from this hook,
//! and its predictions are compared with those from its own hidden states. Does not know where the other hidden states
//! come from.

use super::block::Partial;
use super::matrix::{Matrix, indices};
use super::{Hidden, Input, KvCache, Model, attending_blocks};
use crate::{Error, Result};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Tensor};
use sae_core::store::{Hook, Site};
use std::ops::Range;

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
    /// states at `hook`, for each of several states. The first one is the reference of the divergences. The whole model
    /// has to be loaded.
    ///
    /// The logits of a limited number of rows are held at a time, whatever the size of the batch.
    ///
    /// # Shapes
    /// Each of `states` as [`Model::pause`] returns it for this hook. The result is `[states][targets]`;
    /// targets are in the order of the samples and of their positions.
    ///
    /// # Errors
    /// The states belong to samples of other lengths or lack what [`Model::pause`] adds to them, the block does not exist, no
    /// token precedes a position, or the device failed.
    pub fn compare(
        &self,
        hook: Hook,
        inputs: &[&Input],
        states: &[Hidden],
        positions: &[Vec<usize>],
    ) -> Result<Vec<Vec<Prediction>>> {
        self.check_loaded(&[hook])?;
        let lengths: Vec<_> = inputs.iter().map(|input| input.ids.len()).collect();
        if let Some(other) = states.iter().find(|s| s.lengths != lengths || s.hooks.len() != 1) {
            return Err(Error::SampleLengths { expected: lengths, found: other.lengths.clone() });
        }
        let Targets { rows, ids } = Targets::new(inputs, positions)?;
        if rows.is_empty() {
            return Ok(vec![Vec::new(); states.len()]);
        }
        let sequence = self.sequence(inputs, vec![0; inputs.len()])?;
        let ends = states.iter().map(|state| {
            let end = self.decoder.resume(self.partial(state, hook)?, &sequence, hook.layer(), &mut []);
            Ok((self, end.gather(&rows)))
        });
        predictions(&ends.collect::<Result<Vec<_>>>()?, &ids)
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
        let last = [Hook::block(self.config.text.layers.len() - 1)];
        let (mut states, _) = self.decoder.forward(x, &sequence, &last, &mut []);
        Ok(states.pop().expect("the last block was requested").gather(rows))
    }

    /// How far a block is with these states at a hook.
    ///
    /// # Errors
    /// [`Error::NotPaused`] if the states lack the residual stream.
    fn partial(&self, states: &Hidden, hook: Hook) -> Result<Partial> {
        let matrix = |values: &[f32]| Matrix::new(values.to_vec(), states.width, self.decoder.compute());
        let (site, residual) = (hook.site(), states.residual.as_deref());
        if site != Site::Output && residual.is_none() {
            return Err(Error::NotPaused { hook });
        }
        let residual = residual.filter(|_| site != Site::Output).map(|values| matrix(values));
        Ok(Partial { site, state: matrix(&states.hooks[0]), residual })
    }

    /// The log-probabilities of the token after the last one of a sample, if `state` is the hidden state at `hook`. The whole
    /// model has to be loaded.
    ///
    /// # Shapes
    /// `[vocab_size]`.
    ///
    /// # Errors
    /// As for [`Model::compare`], or a sample without tokens.
    pub fn next(&self, hook: Hook, input: &Input, state: &Hidden) -> Result<Vec<f32>> {
        if state.lengths != [input.ids.len()] {
            return Err(Error::SampleLengths { expected: vec![input.ids.len()], found: state.lengths.clone() });
        }
        self.next_after(&mut KvCache::default(), hook, input, state)
    }

    /// The same if `state` is what [`Model::pause`] returned for the sample with this cache, and for this hook. The keys and
    /// values of the blocks behind the hook are added to the cache.
    ///
    /// # Errors
    /// As for [`Model::next`], or the blocks behind the hook lack positions that precede those of `state`.
    pub fn next_after(&self, cache: &mut KvCache, hook: Hook, input: &Input, state: &Hidden) -> Result<Vec<f32>> {
        let mut next = Vec::new();
        self.logits_after(&mut [cache], hook, &[input], state, &[1], &mut |_, _, logits| next = logits.to_vec())?;
        log_softmax_of(&mut next);
        Ok(next)
    }

    /// Computes the logits after the `last` positions of each sample, at least one, if `states` are what [`Model::pause`]
    /// returned for these samples with these caches, and for this hook. The keys and values of the blocks behind the hook are added
    /// to the caches.
    ///
    /// `each` gets the number of the sample, that of the position among its last ones, and the logits, `[vocab_size]`, in this
    /// order. Those of a limited number of positions are held at a time.
    ///
    /// # Errors
    /// As for [`Model::next_after`]; or there are fewer states of a sample than `last` says.
    ///
    /// # Panics
    /// If `caches`, `inputs` and `last` differ in length.
    pub fn logits_after(
        &self,
        caches: &mut [&mut KvCache],
        hook: Hook,
        inputs: &[&Input],
        states: &Hidden,
        last: &[usize],
        each: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<()> {
        assert!(caches.len() == inputs.len() && last.len() == inputs.len(), "a cache and a number for each sample");
        self.check_loaded(&[hook])?;
        let lengths: Vec<usize> = inputs.iter().map(|input| input.ids.len()).collect();
        let fits =
            |n: usize| (1..=lengths[n]).contains(&states.lengths[n]) && (1..=states.lengths[n]).contains(&last[n]);
        if states.lengths.len() != inputs.len() || states.hooks.len() != 1 || !(0..inputs.len()).all(fits) {
            return Err(Error::SampleLengths { expected: lengths, found: states.lengths.clone() });
        }
        let starts: Vec<usize> = lengths.iter().zip(&states.lengths).map(|(length, rows)| length - rows).collect();
        let behind = attending_blocks(hook)..self.decoder.depth();
        for (n, cache) in caches.iter().enumerate() {
            if !behind.is_empty() && cache.kept(behind.clone()) < starts[n] {
                return Err(Error::NotContinued { kept: starts[n], length: lengths[n] });
            }
        }
        let sequence = self.sequence(inputs, starts)?;
        let end = self.decoder.resume(self.partial(states, hook)?, &sequence, hook.layer(), caches);
        // The row, the sample and the number of every position that is asked for.
        let (mut asked, mut after) = (Vec::with_capacity(last.iter().sum()), 0);
        for (n, (count, last)) in states.lengths.iter().zip(last).enumerate() {
            after += count;
            asked.extend((0..*last).map(|place| ((after - last + place) as u32, n, place)));
        }
        let vocabulary = self.config.text.vocab_size.max(1);
        for some in asked.chunks((LOGITS / vocabulary).max(1)) {
            let rows: Vec<u32> = some.iter().map(|(row, ..)| *row).collect();
            let logits = self.decoder.logits(end.gather(&rows)).into_values()?;
            for ((_, sample, place), logits) in some.iter().zip(logits.chunks_exact(logits.len() / rows.len())) {
                each(*sample, *place, logits);
            }
        }
        Ok(())
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
        let end = self.ends(inputs, &rows)?;
        let mut nll = Vec::with_capacity(ids.len());
        for part in parts(ids.len(), self.config.text.vocab_size) {
            let rows: Vec<u32> = part.clone().map(|row| row as u32).collect();
            let log_p = self.log_probabilities(end.gather(&rows));
            nll.extend(Matrix::Device(likelihood(&log_p, &ids[part]).neg()).into_values()?);
        }
        let mut nll = nll.into_iter();
        Ok(positions.iter().map(|positions| nll.by_ref().take(positions.len()).collect()).collect())
    }

    /// The log-probabilities of the token after each row of the last block's output.
    fn log_probabilities(&self, x: Matrix) -> Tensor<2> {
        log_softmax(self.decoder.logits(x).into_tensor().cast(DType::F32), 1)
    }
}

/// Turns logits into log-probabilities. The sum is in `f64`.
///
/// # Shapes
/// `[vocab_size]`.
fn log_softmax_of(logits: &mut [f32]) {
    let total = log_sum_exp(logits);
    logits.iter_mut().for_each(|logit| *logit = (f64::from(*logit) - total) as f32);
}

/// The logarithm of the sum of the exponentials of logits: what is subtracted from a logit gives the log-probability.
///
/// # Shapes
/// `[vocab_size]`.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
    f64::from(most) + sum.ln()
}

/// How tokens are predicted from outputs of last blocks, each with the model that it belongs to; the first is the reference of the
/// divergences.
///
/// # Shapes
/// Each output has a row for each of `ids`. The result is `[outputs][ids]`.
fn predictions(ends: &[(&Model, Matrix)], ids: &[u32]) -> Result<Vec<Vec<Prediction>>> {
    let mut predictions = vec![Vec::with_capacity(ids.len()); ends.len()];
    for part in parts(ids.len(), ends.first().map_or(1, |(model, _)| model.config.text.vocab_size)) {
        let (part, ids): (Vec<u32>, _) = (part.clone().map(|row| row as u32).collect(), &ids[part]);
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

/// Ranges of so many rows that their logits fit into one tensor.
fn parts(rows: usize, vocabulary: usize) -> impl Iterator<Item = Range<usize>> {
    let height = (LOGITS / vocabulary.max(1)).max(1);
    (0..rows).step_by(height).map(move |start| start..(start + height).min(rows))
}

/// The entry of each row in the column of the row's token, `[rows, 1]`.
fn likelihood(log_p: &Tensor<2>, ids: &[u32]) -> Tensor<2> {
    let ids = indices(ids, &log_p.device()).unsqueeze_dim(1);
    log_p.clone().gather(1, ids)
}
