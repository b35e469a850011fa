//! Logit lens: the tokens that a direction of the residual stream promotes and suppresses, through the gain of the last
//! norm and the unembedding matrix. Loads no other weights of the model, and does not know where directions come from.

use crate::checkpoint::Checkpoint;
use crate::model::{Compute, Head, Weights};
use crate::{Error, Result};
use rayon::prelude::*;
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

    /// For every direction, the `count` tokens that it promotes most, followed by the `count` tokens that it suppresses
    /// most, each in descending order of strength. Ties are broken by token id. `progress` is called with the number of
    /// directions done.
    ///
    /// # Shapes
    /// `directions`: `[rows, width]`. The result has one list per row, of at most `2 * count` tokens.
    ///
    /// # Errors
    /// The width is not the model's, or the device failed.
    pub fn tokens(
        &self,
        directions: &[f32],
        width: usize,
        count: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Vec<TokenLogit>>> {
        self.check(width)?;
        let vocabulary = self.never_predicted.len();
        let mut tokens = Vec::with_capacity(directions.len() / width);
        for tile in directions.chunks((LOGITS / vocabulary).max(1) * width) {
            let logits = self.head.direction_logits(tile, width)?;
            tokens.par_extend(logits.par_chunks_exact(vocabulary).map(|logits| self.extremes(logits, count)));
            progress(tokens.len() as u64);
        }
        Ok(tokens)
    }

    /// The largest and the smallest logits of one direction.
    fn extremes(&self, logits: &[f32], count: usize) -> Vec<TokenLogit> {
        let mut ids: Vec<u32> = (0..logits.len() as u32).filter(|id| !self.never_predicted[*id as usize]).collect();
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
        ids.map(|(promoted, id)| TokenLogit { promoted, token_id: id, text: text(id), logit: logits[id as usize] })
            .collect()
    }
}
