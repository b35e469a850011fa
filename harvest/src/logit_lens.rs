//! Logit lens: which tokens a direction of the residual stream promotes and suppresses, through the last norm's gain and the
//! unembedding. Loads nothing else of the model, and does not know where directions come from.

use crate::checkpoint::Checkpoint;
use crate::model::{Compute, Head, Weights};
use crate::{Error, Result};
use rayon::prelude::*;
use sae_core::analysis::index::{WORDS, Word};
use std::path::Path;

/// Logits that are held at a time.
const LOGITS: usize = 1 << 24;

/// The output head of a checkpoint, with its words.
pub struct LogitLens {
    head: Head,
    checkpoint: Checkpoint,
    /// By token: never predicted.
    unspoken: Vec<bool>,
}

impl LogitLens {
    /// Loads the head.
    ///
    /// # Errors
    /// What is missing or misshapen in the checkpoint.
    pub fn open(checkpoint: Checkpoint, compute: &Compute) -> Result<Self> {
        let config = checkpoint.config();
        let head = Head::open(config, &Weights::open(checkpoint.folder())?, compute)?;
        let mut unspoken = vec![false; config.text.vocab_size];
        let ids = config.text.unspoken.iter().map(|id| *id as usize);
        ids.for_each(|id| unspoken.get_mut(id).into_iter().for_each(|unspoken| *unspoken = true));
        Ok(Self { head, checkpoint, unspoken })
    }

    /// Folder of the checkpoint.
    pub fn folder(&self) -> &Path {
        self.checkpoint.folder()
    }

    /// Whether directions are as wide as the model's residual stream.
    ///
    /// # Errors
    /// They are not.
    pub fn check(&self, width: usize) -> Result<()> {
        let own = self.checkpoint.config().text.hidden_size;
        if width != own {
            let folder = self.folder().display();
            return Err(Error::Plan(format!(
                "the directions have width {width}, but the residual stream has width {own}: {folder}"
            )));
        }
        Ok(())
    }

    /// For every direction the [`WORDS`] that it promotes most, then those that it suppresses most, strongest first.
    /// `progress` is told the directions done.
    ///
    /// # Shapes
    /// `directions`: `[rows, width]`.
    ///
    /// # Errors
    /// Another width than the model's, or a device that failed.
    pub fn words(&self, directions: &[f32], width: usize, progress: &mut dyn FnMut(u64)) -> Result<Vec<Vec<Word>>> {
        self.check(width)?;
        let vocabulary = self.unspoken.len();
        let mut words = Vec::with_capacity(directions.len() / width);
        for tile in directions.chunks((LOGITS / vocabulary).max(1) * width) {
            let logits = self.head.lens(tile, width)?;
            words.par_extend(logits.par_chunks_exact(vocabulary).map(|logits| self.extremes(logits)));
            progress(words.len() as u64);
        }
        Ok(words)
    }

    fn extremes(&self, logits: &[f32]) -> Vec<Word> {
        let mut ids: Vec<u32> = (0..logits.len() as u32).filter(|id| !self.unspoken[*id as usize]).collect();
        let mut strongest = |promoted: bool| {
            let logit = |id: u32| if promoted { logits[id as usize] } else { -logits[id as usize] };
            let order = |a: &u32, b: &u32| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b));
            if ids.len() > WORDS {
                ids.select_nth_unstable_by(WORDS, order);
            }
            let mut top = ids[..ids.len().min(WORDS)].to_vec();
            top.sort_unstable_by(order);
            top
        };
        let sides = [(true, strongest(true)), (false, strongest(false))];
        let words = sides.into_iter().flat_map(|(promoted, ids)| ids.into_iter().map(move |id| (promoted, id)));
        let piece = |id| self.checkpoint.prompter().word(id);
        words
            .map(|(promoted, id)| Word { promoted, token_id: id, piece: piece(id), logit: logits[id as usize] })
            .collect()
    }
}
