//! Texts that a model writes token by token, several at a time, each with kept keys and values. A caller sees the hidden states
//! at one hook on the way, may change them, chooses each token, and may take tokens back. Knows neither what the states are
//! looked at for nor which tokens are good, reads no data set, and writes nothing.

mod boundary;
mod prompts;
mod sampling;

pub use boundary::Boundary;
pub use prompts::{Prompt, Prompts, TypedPrompt};
pub use sampling::Sampling;

use crate::checkpoint::{Checkpoint, Shown};
use crate::data::{RowError, Turn};
use crate::model::{Compute, Input, KvCache, Model, check_decoder, check_hooks, log_sum_exp};
use crate::prepared::Prepared;
use crate::prompt::Text;
use crate::{ComputeDtype, Error, Result};
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use sae_core::store::sample::{Role, Token};
use std::path::Path;

/// A loaded model that writes texts.
///
/// ```no_run
/// use harvest::generation::{Generator, Sampling};
/// use harvest::{ComputeDtype, Prepared};
/// use sae_core::device::DeviceChoice;
/// use sae_core::store::Hook;
///
/// # fn prompts() -> Vec<Prepared> { Vec::new() }
/// let hook = Some(Hook::block(16));
/// let generator = Generator::open("checkpoints/llava".as_ref(), hook, DeviceChoice::Auto, ComputeDtype::F32)?;
/// let mut draft = generator.draft(&prompts()[0]);
/// while draft.answer().len() < 40 {
///     let reading = generator.read(&mut [&mut draft], &[1], &mut |_, _, _| Ok(()))?.remove(0);
///     match Sampling::GREEDY.choose(&reading.next, draft.ids(), 0.0) {
///         Some(id) if !generator.is_end(id) => draft.push(id),
///         _ => break,
///     }
/// }
/// println!("{}", generator.text(draft.answer()));
/// # Ok::<(), harvest::Error>(())
/// ```
pub struct Generator {
    checkpoint: Checkpoint,
    model: Model,
    hook: Hook,
}

/// What a model says of a text that it has read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The negative log-likelihood in nats of each of the last tokens, after the first of the positions that were asked for.
    pub nll: Vec<f64>,
    /// The logits after the last token, `[vocab_size]`.
    pub next: Vec<f32>,
}

/// Looks at hidden states at the hook, and may change them: the number of the draft, the position of its first state, and
/// the states, `[positions, d_in]`.
pub type Change<'a> = dyn FnMut(usize, usize, &mut [f32]) -> Result<()> + 'a;

/// A text under way: the tokens of the prompt and of the answer so far, and what the model has kept of those that it has read.
#[derive(Clone, Debug)]
pub struct Draft {
    input: Input,
    prompt: usize,
    read: usize,
    cache: KvCache,
}

impl Draft {
    /// An empty answer to what the model reads first.
    pub fn new(input: Input) -> Self {
        Self { prompt: input.ids.len(), input, read: 0, cache: KvCache::default() }
    }

    /// All tokens.
    pub fn ids(&self) -> &[u32] {
        &self.input.ids
    }

    /// The tokens of the answer.
    pub fn answer(&self) -> &[u32] {
        &self.input.ids[self.prompt..]
    }

    /// The number of tokens of the prompt.
    pub fn prompt(&self) -> usize {
        self.prompt
    }

    /// How many of the first tokens the model has read.
    pub fn read(&self) -> usize {
        self.read
    }

    /// Adds a token, which the model has not read yet.
    pub fn push(&mut self, id: u32) {
        self.input.ids.push(id);
    }

    /// Takes back all tokens of the answer from position `positions` on.
    ///
    /// # Panics
    /// If the position lies within the prompt.
    pub fn truncate(&mut self, positions: usize) {
        assert!(positions >= self.prompt, "the prompt stays");
        self.input.ids.truncate(positions);
        self.forget(positions);
    }

    /// Makes the model read the tokens from position `positions` on once more.
    pub fn forget(&mut self, positions: usize) {
        self.cache.truncate(positions);
        self.read = self.read.min(positions);
    }
}

impl Generator {
    /// Loads the whole model in `folder`. Hidden states are seen at `hook`, by default the output of the last
    /// block.
    ///
    /// # Errors
    /// The checkpoint cannot be read, or has no such block.
    pub fn open(folder: &Path, hook: Option<Hook>, device: DeviceChoice, dtype: ComputeDtype) -> Result<Self> {
        let checkpoint = Checkpoint::open(folder)?;
        let hook = hook.unwrap_or(Hook::block(checkpoint.config().text.layers.len() - 1));
        check_hooks(checkpoint.config(), &[hook])?;
        check_decoder(&[hook])?;
        let model = checkpoint.load(None, &Compute::on(&device.open()?, dtype.into()))?;
        Ok(Self { checkpoint, model, hook })
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The model.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Where hidden states are seen.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// An empty answer to a prompt ([`Answers::None`](crate::Answers::None)).
    pub fn draft(&self, prompt: &Prepared) -> Draft {
        Draft::new(self.checkpoint.input(prompt))
    }

    /// An answer that begins with a text, which the model has not read yet and does not choose.
    ///
    /// # Errors
    /// The text has a token that ends answers, or cannot be divided into tokens.
    pub fn draft_from(&self, prompt: &Prepared, beginning: &str) -> Result<Draft> {
        let mut draft = self.draft(prompt);
        let ids = self.checkpoint.prompter().encode(beginning);
        let ids = ids.ok_or_else(|| Error::InvalidInput("the beginning of the answer has no tokens".into()))?;
        for id in ids {
            if self.is_end(id) {
                let token = self.checkpoint.prompter().token_name(id);
                return Err(Error::InvalidInput(format!(
                    "the beginning of the answer has {token}, which ends answers"
                )));
            }
            draft.push(id);
        }
        Ok(draft)
    }

    /// An empty answer to a prompt with further turns.
    ///
    /// # Errors
    /// Why the model cannot read them: its template rejects them, or they are longer than its context.
    pub fn follow_up(&self, prompt: &Prompt, more: &[Turn]) -> Result<Draft, RowError> {
        let patches = prompt.video.map(|video| self.checkpoint.video(video, &prompt.files)).transpose()?;
        let patches = patches.as_ref().map(|(_, patches)| patches.as_slice());
        let shown = Shown { frames: prompt.prepared.frames.iter().collect(), patches };
        let tokens = self.tokens(&[&prompt.turns[..], more].concat(), &shown)?;
        let prefix = self.checkpoint.prompter().prefix(&tokens);
        Ok(self.draft(&Prepared { tokens, prefix, ..prompt.prepared.clone() }))
    }

    /// An empty answer to a question without images.
    ///
    /// # Errors
    /// As [`Generator::follow_up`].
    pub fn question(&self, text: &str) -> Result<Draft, RowError> {
        let shown = Shown { frames: Vec::new(), patches: None };
        let tokens = self.tokens(&[Turn::from_text(Role::User, text)], &shown)?;
        let ids = tokens.iter().map(|token| token.token_id as u32).collect();
        Ok(Draft::new(Input { ids, prefix: self.checkpoint.prompter().prefix(&tokens), ..Input::default() }))
    }

    fn tokens(&self, turns: &[Turn], shown: &Shown) -> Result<Vec<Token>, RowError> {
        self.checkpoint.tokens(&Text::Conversation { turns, generate: true }, shown, Vec::new())
    }

    /// The tokens of a text that goes on with the answer of a draft. `None` if no tokens found for it have exactly this text.
    pub fn continuation(&self, draft: &Draft, text: &str) -> Option<Vec<u32>> {
        let (prompter, answer) = (self.checkpoint.prompter(), draft.answer());
        let before = self.text(answer);
        let whole = before.clone() + text;
        // Tokens of a text alone may begin with a space that the text does not have, or lack one that it has.
        let of_whole = prompter.encode(&whole).filter(|ids| ids.starts_with(answer));
        let of_whole = of_whole.map(|ids| ids[answer.len()..].to_vec());
        let alone = [text, text.trim_start()].map(|text| prompter.encode(text));
        let mut found = std::iter::once(of_whole).chain(alone).flatten();
        found.find(|ids| self.text(&[answer, ids].concat()) == whole)
    }

    /// Whether a token ends an answer: one that stands for no text, as the end of a turn, or for an image.
    pub fn is_end(&self, id: u32) -> bool {
        let is_image = |id| self.checkpoint.config().vision.as_ref().is_some_and(|vision| vision.is_placeholder(id));
        self.checkpoint.prompter().is_special(id) || is_image(id)
    }

    /// The text of an answer's tokens, without special ones.
    pub fn text(&self, ids: &[u32]) -> String {
        self.checkpoint.prompter().text(ids)
    }

    /// The number of tokens that a text may have, with its prompt.
    pub fn context(&self) -> usize {
        self.checkpoint.config().text.context
    }

    /// Reads the tokens that each draft has not read. Of the `last` positions of each, it returns how well they predict the token
    /// after them, and what comes after the last one.
    ///
    /// `change` is called once for each draft, with the states of the positions that were computed. These are those that had not
    /// been read; where nothing could be kept (see [`Model::hidden_after`]), all. A change should therefore depend on nothing but the state and its position.
    /// On a CPU, the other drafts do not change a bit of the result.
    ///
    /// # Shapes
    /// `last`: `[drafts]`, each from 1 to the number of positions that have not been read.
    ///
    /// # Errors
    /// The device failed, a draft has no token that has not been read or is longer than the model's context, or `change` returned
    /// an error.
    ///
    /// # Panics
    /// If `last` has another length than `drafts`.
    pub fn read(&self, drafts: &mut [&mut Draft], last: &[usize], change: &mut Change) -> Result<Vec<Reading>> {
        let context = self.context();
        if drafts.iter().any(|draft| draft.ids().len() > context) {
            return Err(Error::ContextFull { context });
        }
        let (mut caches, inputs): (Vec<&mut KvCache>, Vec<&Input>) =
            drafts.iter_mut().map(|draft| (&mut draft.cache, &draft.input)).unzip();
        let mut hidden = self.model.pause(&mut caches, &inputs, &[self.hook])?;
        for (n, input) in inputs.iter().enumerate() {
            let rows = hidden.rows(0, n).len() / hidden.width();
            change(n, input.ids.len() - rows, hidden.rows_mut(0, n))?;
        }
        let mut readings: Vec<Reading> = vec![Reading::default(); inputs.len()];
        let mut each = |n: usize, place: usize, logits: &[f32]| match last[n] - place {
            1 => readings[n].next = logits.to_vec(),
            left => readings[n].nll.push(nll(logits, inputs[n].ids[inputs[n].ids.len() + 1 - left])),
        };
        self.model.logits_after(&mut caches, self.hook, &inputs, &hidden, last, &mut each)?;
        drafts.iter_mut().for_each(|draft| draft.read = draft.input.ids.len());
        Ok(readings)
    }
}

/// The negative log-likelihood of a token in nats.
///
/// # Shapes
/// `logits`: `[vocab_size]`.
///
/// # Panics
/// If the vocabulary has no such token.
pub fn nll(logits: &[f32], id: u32) -> f64 {
    log_sum_exp(logits) - f64::from(logits[id as usize])
}
