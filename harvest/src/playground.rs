//! One text of a person's own, with its images, through the whole model: what leaves a block, and how the model goes on from
//! there, also with other states than its own. Knows nothing of what the other states are, reads no data set, writes nothing.

use crate::capture::ComputeDtype;
use crate::checkpoint::{Answers, Checkpoint, Prepared, Templating};
use crate::data::{ImageFile, Record, Row, Turn, TurnPart};
use crate::model::{Compute, Input, Model, check_layers};
use crate::{Error, Result};
use sae_core::device::DeviceChoice;
use sae_core::store::sample::Role;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A model, ready for texts.
pub struct Playground {
    checkpoint: Checkpoint,
    model: Model,
    layer: usize,
    template: Templating,
}

/// A token that may come next.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// Its text.
    pub word: String,
    /// How likely it is.
    pub probability: f32,
}

/// How the model goes on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Continuation {
    /// The likeliest next tokens, best first.
    pub next: Vec<Next>,
    /// The likeliest words, one after the other.
    pub words: String,
}

impl Playground {
    /// Loads the whole model in `folder`, to be looked at behind block `layer`.
    ///
    /// # Errors
    /// The checkpoint cannot be read, or has no such block.
    pub fn open(
        folder: &Path,
        layer: usize,
        device: DeviceChoice,
        dtype: ComputeDtype,
        template: Templating,
    ) -> Result<Self> {
        let checkpoint = Checkpoint::open(folder)?;
        check_layers(checkpoint.config(), &[layer])?;
        let model = checkpoint.load(None, &Compute::on(&device.open()?, dtype.into()))?;
        Ok(Self { checkpoint, model, layer, template })
    }

    /// Makes a sample of what a person says, images first. The model is to answer.
    ///
    /// # Errors
    /// Why it cannot be one.
    pub fn prepare(&self, text: &str, images: &[PathBuf]) -> Result<Prepared, String> {
        let parts = (0..images.len()).map(TurnPart::Image).chain([TurnPart::Text(text.to_owned())]).collect();
        // The answer is what the model will say: it is left out again.
        let turns = vec![Turn { role: Role::User, parts }, Turn::of_text(Role::Assistant, "")];
        let images = images.iter().map(|path| ImageFile::on_disk(path)).collect();
        let record = Record { turns, pair: None, verbatim: Some(text.to_owned()), images, meta: Value::Null };
        let row = Row { number: 0, source: String::new(), key: String::new(), record: Ok(record) };
        self.checkpoint.prepare(row, Answers::None, self.template).map_err(|skipped| skipped.reason)
    }

    /// What leaves the block, `[positions, d_in]`.
    ///
    /// # Errors
    /// A device that failed.
    pub fn hidden(&self, prepared: &Prepared) -> Result<Vec<f32>> {
        let hidden = self.model.hidden(&[&self.checkpoint.input(prepared)], &[self.layer])?;
        Ok(hidden.rows(0, 0).to_vec())
    }

    /// The `top` likeliest next tokens, and the likeliest `words` one after the other, when `change` has changed what leaves
    /// the block, `[positions, d_in]`: those of the text and of the words so far.
    ///
    /// # Errors
    /// A device that failed, a text that reaches the end of the model's context, or whatever `change` returns.
    pub fn generate(
        &self,
        prepared: &Prepared,
        change: &dyn Fn(&mut [f32]) -> Result<()>,
        words: usize,
        top: usize,
    ) -> Result<Continuation> {
        let mut input: Input = self.checkpoint.input(prepared);
        let mut continuation = Continuation::default();
        let context = self.checkpoint.config().text.context;
        for _ in 0..words.max(1) {
            if input.ids.len() > context {
                return Err(Error::Plan(format!("the text reaches the end of the model's context of {context}")));
            }
            let mut hidden = self.model.hidden(&[&input], &[self.layer])?;
            change(hidden.rows_mut(0, 0))?;
            let log_p = self.model.next(self.layer, &input, &hidden)?;
            let mut ids: Vec<u32> = (0..log_p.len() as u32).collect();
            let better = |a: &u32, b: &u32| log_p[*b as usize].total_cmp(&log_p[*a as usize]).then(a.cmp(b));
            let best = top.clamp(1, ids.len().max(1)).min(ids.len());
            if best < ids.len() {
                ids.select_nth_unstable_by(best, better);
                ids.truncate(best);
            }
            ids.sort_unstable_by(better);
            let Some(first) = ids.first() else { break };
            let word = self.checkpoint.prompter().word(*first);
            if continuation.next.is_empty() {
                let next = |id: &u32| Next {
                    word: self.checkpoint.prompter().word(*id),
                    probability: log_p[*id as usize].exp(),
                };
                continuation.next = ids.iter().map(next).collect();
            }
            continuation.words += &word;
            if self.checkpoint.prompter().is_special(*first) {
                break;
            }
            input.ids.push(*first);
        }
        Ok(continuation)
    }
}
