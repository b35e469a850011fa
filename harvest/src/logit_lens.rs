//! Logit lens: the tokens that a direction of the residual stream promotes and suppresses, through the gain of the last
//! norm and the unembedding matrix. Loads no other weights of the model, and does not know where directions come from.

use crate::checkpoint::Checkpoint;
use crate::model::{Compute, Head, Weights};
use crate::{Error, Result};
use rayon::prelude::*;
use sae_core::store::Hook;
use std::path::Path;

/// How many logits are held at a time.
const LOGITS: usize = 1 << 24;

/// A token whose logit a direction changes.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogit {
    /// Whether the token is among the most promoted ones; otherwise it is among the most suppressed ones.
    pub promoted: bool,
    /// Id in the vocabulary.
    pub token_id: u32,
    /// The text of the token.
    pub text: String,
    /// How much the logit changes per unit of the direction, ignoring the division by the norm.
    pub logit: f32,
}

/// Bins of a [`LogitHistogram`].
pub const LOGIT_BINS: usize = 40;

/// How many tokens have their logit changed by how much, in bins of equal width.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitHistogram {
    /// The smallest and the largest change of a logit, as in [`TokenLogit::logit`].
    pub range: [f32; 2],
    /// The number of tokens in each bin, from the smallest changes to the largest.
    pub counts: [u32; LOGIT_BINS],
}

impl LogitHistogram {
    /// Counts logits. Values that are not finite are in no bin.
    fn new(logits: impl Iterator<Item = f32> + Clone) -> Self {
        let finite = logits.filter(|logit| logit.is_finite());
        let range = [finite.clone().fold(f32::INFINITY, f32::min), finite.clone().fold(f32::NEG_INFINITY, f32::max)];
        let mut counts = [0; LOGIT_BINS];
        // In `f64`, in which the difference of two `f32` is finite.
        let width = f64::from(range[1]) - f64::from(range[0]);
        for logit in finite {
            let share = (f64::from(logit) - f64::from(range[0])) / width.max(f64::MIN_POSITIVE);
            counts[((share * LOGIT_BINS as f64) as usize).min(LOGIT_BINS - 1)] += 1;
        }
        Self { range, counts }
    }

    /// The lower and the upper edge of each bin with the number of tokens in it, without empty bins.
    pub fn bins(&self) -> impl Iterator<Item = ([f32; 2], u32)> {
        let [low, high] = self.range.map(f64::from);
        let edge = move |n: usize| (low + (high - low) * n as f64 / LOGIT_BINS as f64) as f32;
        let bins = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        bins.map(move |(n, count)| ([edge(n), edge(n + 1)], *count))
    }
}

/// What a direction does to the logits.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectionLogits {
    /// The tokens that it promotes most, followed by those that it suppresses most, each in descending order of strength.
    pub tokens: Vec<TokenLogit>,
    /// The logits of all tokens that the model can predict.
    pub histogram: LogitHistogram,
}

/// The output head of a checkpoint, with the vocabulary.
pub struct LogitLens {
    head: Head,
    checkpoint: Checkpoint,
    /// For each token, whether the model never predicts it.
    never_predicted: Vec<bool>,
}

impl LogitLens {
    /// Loads the output head.
    ///
    /// # Errors
    /// A tensor is missing from the checkpoint or has an unexpected shape.
    pub fn open(checkpoint: Checkpoint, compute: &Compute) -> Result<Self> {
        let config = checkpoint.config();
        let head = Head::open(config, &Weights::open(checkpoint.folder())?, compute)?;
        let mut never_predicted = vec![false; config.text.vocab_size];
        for id in &config.text.never_predicted {
            if let Some(never) = never_predicted.get_mut(*id as usize) {
                *never = true;
            }
        }
        Ok(Self { head, checkpoint, never_predicted })
    }

    /// The same lens, for directions of activations at a hook: those of the residual stream, and those that attention and MLPs
    /// add to it.
    ///
    /// # Errors
    /// [`Error::NotInStream`] for what attention or an MLP reads. It is normalized, and nothing takes it to the residual stream
    /// as it is.
    pub fn at(self, hook: Hook) -> Result<Self> {
        if hook.site().is_in_stream() { Ok(self) } else { Err(Error::NotInStream { hook }) }
    }

    /// The folder of the checkpoint.
    pub fn folder(&self) -> &Path {
        self.checkpoint.folder()
    }

    /// Checks that directions are as wide as the model's residual stream.
    ///
    /// # Errors
    /// [`Error::Width`] if they are not.
    pub fn check(&self, width: usize) -> Result<()> {
        let expected = self.checkpoint.config().text.hidden_size;
        if width != expected {
            return Err(Error::Width { expected, found: width, folder: self.folder().to_path_buf() });
        }
        Ok(())
    }

    /// For every direction, the `count` tokens that it promotes most, the `count` tokens that it suppresses most, and the
    /// distribution over all tokens. Ties are broken by token id. `progress` is called with the number of directions done.
    ///
    /// # Shapes
    /// `directions`: `[rows, width]`. The result has one element per row, with at most `2 * count` tokens.
    ///
    /// # Errors
    /// The width is not the model's, or the device failed.
    pub fn logits(
        &self,
        directions: &[f32],
        width: usize,
        count: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<DirectionLogits>> {
        self.check(width)?;
        let vocabulary = self.never_predicted.len();
        let mut found = Vec::with_capacity(directions.len() / width);
        for tile in directions.chunks((LOGITS / vocabulary).max(1) * width) {
            let logits = self.head.direction_logits(tile, width)?;
            found.par_extend(logits.par_chunks_exact(vocabulary).map(|logits| self.summary(logits, count)));
            progress(found.len() as u64);
        }
        Ok(found)
    }

    /// The largest and the smallest logits of one direction, and the distribution of all.
    fn summary(&self, logits: &[f32], count: usize) -> DirectionLogits {
        let mut ids: Vec<u32> = (0..logits.len() as u32).filter(|id| !self.never_predicted[*id as usize]).collect();
        let histogram = LogitHistogram::new(ids.iter().map(|id| logits[*id as usize]));
        let mut strongest = |promoted: bool| {
            let logit = |id: u32| if promoted { logits[id as usize] } else { -logits[id as usize] };
            let order = |a: &u32, b: &u32| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b));
            if ids.len() > count {
                ids.select_nth_unstable_by(count, order);
            }
            let mut top = ids[..ids.len().min(count)].to_vec();
            top.sort_unstable_by(order);
            top
        };
        let sides = [(true, strongest(true)), (false, strongest(false))];
        let ids = sides.into_iter().flat_map(|(promoted, ids)| ids.into_iter().map(move |id| (promoted, id)));
        let text = |id| self.checkpoint.prompter().token_text(id);
        let tokens =
            ids.map(|(promoted, id)| TokenLogit { promoted, token_id: id, text: text(id), logit: logits[id as usize] });
        DirectionLogits { tokens: tokens.collect(), histogram }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_logit_is_in_the_bin_between_whose_edges_it_is() {
        let logits: Vec<f32> = (0..=200).map(|n| n as f32 / 100.0 - 1.0).collect();
        let histogram = LogitHistogram::new(logits.iter().copied().chain([f32::NAN, f32::INFINITY]));
        assert_eq!((histogram.range, histogram.counts.iter().sum::<u32>()), ([-1.0, 1.0], 201));
        for ([low, high], count) in histogram.bins() {
            let inside = logits.iter().filter(|logit| low <= **logit && (**logit < high || high == 1.0)).count();
            // Rounding can put a logit on an edge beside it.
            assert!(inside.abs_diff(count as usize) <= 1, "{low} {high}: {inside} {count}");
        }
        let same = LogitHistogram::new([0.5, 0.5, 0.5].into_iter());
        assert_eq!(same.bins().collect::<Vec<_>>(), [([0.5, 0.5], 3)]);
        assert_eq!(LogitHistogram::new([f32::NAN].into_iter()).bins().count(), 0);
        let wide = LogitHistogram::new([f32::MIN, 0.0, f32::MAX].into_iter());
        assert_eq!(wide.bins().map(|(_, count)| count).sum::<u32>(), 3);
    }
}
