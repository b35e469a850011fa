//! A single prompt, with its images, through the whole model: the hidden states at one hook, and how the model
//! continues the prompt, optionally with other hidden states in their place. Does not know what the other states are,
//! reads no data set, and writes nothing.

use crate::checkpoint::{Answers, Templating};
use crate::data::Row;
use crate::generation::Generator;
use crate::model::log_sum_exp;
use crate::prepared::Prepared;
use crate::{ComputeDtype, Error, Result};
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use std::path::{Path, PathBuf};

/// A loaded model, ready for prompts.
pub struct Playground {
    generator: Generator,
    template: Templating,
}

/// A token that may come next.
#[derive(Clone, Debug, PartialEq)]
pub struct NextToken {
    /// The text of the token.
    pub text: String,
    /// Its probability.
    pub probability: f32,
}

/// How the model continues a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Continuation {
    /// The most likely tokens directly after the prompt, in descending order of probability.
    pub next: Vec<NextToken>,
    /// The text that the model generates by choosing the most likely token at every step.
    pub text: String,
}

impl Playground {
    /// Loads the whole model in `folder`, whose hidden states are read and replaced at `hook`.
    ///
    /// # Errors
    /// The checkpoint cannot be read, or has no such block.
    pub fn open(
        folder: &Path,
        hook: Hook,
        device: DeviceChoice,
        dtype: ComputeDtype,
        template: Templating,
    ) -> Result<Self> {
        Ok(Self { generator: Generator::open(folder, Some(hook), device, dtype)?, template })
    }

    /// Turns a prompt into a sample. The images come first, then the text, then the beginning of the model's answer.
    ///
    /// # Errors
    /// The prompt cannot become a sample: it is empty, an image cannot be read, or the model does not support it.
    pub fn prepare(&self, text: &str, images: &[PathBuf]) -> Result<Prepared> {
        let row = Row::from_prompt(text, images);
        let prepared = self.generator.checkpoint().prepare(row, Answers::None, self.template);
        prepared.map_err(Error::unusable)
    }

    /// The model, as it writes.
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// The hidden states at the hook, `[positions, d_in]`.
    ///
    /// # Errors
    /// The device failed.
    pub fn hidden(&self, prepared: &Prepared) -> Result<Vec<f32>> {
        let input = self.generator.checkpoint().input(prepared);
        let hidden = self.generator.model().hidden(&[&input], &[self.generator.hook()])?;
        Ok(hidden.rows(0, 0).to_vec())
    }

    /// Generates up to `length` tokens greedily, and finds the `top` most likely tokens directly after the prompt. At
    /// every step, `change` may modify the hidden states at the hook in place, `[positions, d_in]`, given the position of
    /// the first of them: first those of the prompt, then that of each generated token, whose predecessors keep the keys and
    /// values that they had. (Where nothing can be kept, it gets all positions at every step; see [`Generator::read`].) A
    /// change should therefore depend on nothing but the hidden state and its position. Generation ends early at a special
    /// token, such as the end of an answer.
    ///
    /// # Errors
    /// The device failed, the text reached the end of the model's context, or `change` returned an error.
    pub fn generate(
        &self,
        prepared: &Prepared,
        change: &dyn Fn(usize, &mut [f32]) -> Result<()>,
        length: usize,
        top: usize,
    ) -> Result<Continuation> {
        let prompter = self.generator.checkpoint().prompter();
        let mut draft = self.generator.draft(prepared);
        let mut continuation = Continuation::default();
        let mut change = |_: usize, first: usize, states: &mut [f32]| change(first, states);
        for _ in 0..length.max(1) {
            let logits = self.generator.read(&mut [&mut draft], &[1], &mut change)?.remove(0).next;
            let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
            let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
            let best = top.clamp(1, ids.len().max(1)).min(ids.len());
            if best < ids.len() {
                ids.select_nth_unstable_by(best, by_logit);
                ids.truncate(best);
            }
            ids.sort_unstable_by(by_logit);
            let Some(first) = ids.first() else { break };
            if continuation.next.is_empty() {
                let total = log_sum_exp(&logits);
                let probability = |id: u32| (f64::from(logits[id as usize]) - total).exp() as f32;
                let next = |id: &u32| NextToken { text: prompter.token_text(*id), probability: probability(*id) };
                continuation.next = ids.iter().map(next).collect();
            }
            continuation.text += &prompter.token_text(*first);
            if self.generator.is_end(*first) {
                break;
            }
            draft.push(*first);
        }
        Ok(continuation)
    }
}
