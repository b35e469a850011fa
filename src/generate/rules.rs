//! What is the same for all texts of a generation: the model, how tokens are drawn, what is seen and steered, and what is written
//! again.

use super::correction::Asking;
use super::guard::Guard;
use crate::Result;
use crate::steering::Steering;
use harvest::generation::{Boundary, Generator, Sampling};
use sae_core::autoencoder::{Encoder, Weights};
use sae_core::random::{SplitMix64, mix, unit};

/// What is the same for all texts.
pub(super) struct Rules<'a> {
    pub generator: &'a Generator,
    /// The autoencoder, if anything is to be seen or steered.
    pub sae: Option<(&'a Weights, &'a Encoder<'a>)>,
    pub guard: Option<&'a Guard>,
    pub sampling: Sampling,
    pub seed: u64,
    /// Text that every answer begins with.
    pub beginning: &'a str,
    /// Tokens of an answer at most, without those of its given beginning, or of a node of a tree.
    pub tokens: usize,
    /// Texts that end an answer.
    pub stop: &'a [String],
    /// Where units end; without it, the whole answer is one.
    pub boundary: Option<&'a Boundary>,
    /// Tokens of a unit at most.
    pub longest: usize,
    /// How often a unit that is flagged is written again.
    pub redraws: u32,
    /// How flagged units are steered when they are written again, if they are.
    pub steers: Option<&'a Away>,
    /// Who is asked to write flagged units again, if they are not just drawn again.
    pub asks: Option<Asking<'a>>,
    /// What takes the place of an answer that is flagged every time; otherwise its least severe version stays.
    pub refusal: Option<&'a str>,
    /// Above which severity an answer is refused at once.
    pub refuse_at: f64,
    /// What every state of an answer is steered to, flagged or not.
    pub always: Option<&'a Steering>,
}

/// How a unit is steered away from what the guard saw.
pub(super) struct Away {
    /// How strongly in the first try.
    pub strength: f32,
    /// What is moved.
    pub to: To,
}

/// What states are moved by.
pub(super) enum To {
    /// The features that contribute most to the severity are moved towards these activations, by feature.
    Targets(Vec<f32>),
    /// This vector is added.
    Vector(Vec<f32>),
}

impl Away {
    /// The steering of a try, from 1 on, away from these features.
    pub fn steering(&self, attempt: u32, causes: &[u32]) -> Steering {
        let strength = self.strength * (1u32 << (attempt - 1).min(31)) as f32;
        match &self.to {
            To::Targets(targets) => {
                let target = |feature: &u32| (*feature, targets.get(*feature as usize).copied().unwrap_or(0.0));
                Steering { targets: causes.iter().map(target).collect(), vector: Vec::new(), strength }
            }
            To::Vector(vector) => Steering { targets: Vec::new(), vector: vector.clone(), strength },
        }
    }
}

impl Rules<'_> {
    /// The model that is asked to write flagged units again, if it is another one.
    pub fn corrector(&self) -> Option<&Generator> {
        match self.asks {
            Some(Asking::Corrector(corrector)) => Some(corrector),
            Some(Asking::Feedback(_)) | None => None,
        }
    }

    /// The next token of a text, with the number `token`, after `seen`. The random number depends on nothing but the seed, the
    /// sample, the number of the text among those for the sample, and that of the token, so that neither batches nor what was written
    /// elsewhere change it.
    pub fn choose(&self, logits: &[f32], seen: &[u32], [sample, text]: [u32; 2], token: usize) -> Option<u32> {
        let stream = mix(mix(self.seed) ^ (u64::from(sample) << 32 | u64::from(text)));
        self.sampling.choose(logits, seen, unit(SplitMix64::nth(stream, token as u64 + 1)))
    }

    /// Where the first stop text begins in a text behind its first bytes, which are given, in bytes.
    pub fn stopped_at(&self, text: &str, given: usize) -> Option<usize> {
        let find = |stop: &String| Some(given + text.get(given..)?.find(stop.as_str())?);
        self.stop.iter().filter_map(find).min()
    }

    /// Steers the states of an answer, of positions from `first` on, to what all of them are steered to. `answer` is the position at
    /// which the answer begins.
    pub fn steer_always(&self, answer: usize, first: usize, states: &mut [f32]) -> Result<()> {
        let (Some((weights, encoder)), Some(always)) = (self.sae, self.always) else { return Ok(()) };
        let skipped = answer.saturating_sub(first) * weights.d_in;
        let Some(states) = states.get_mut(skipped..).filter(|states| !states.is_empty()) else { return Ok(()) };
        let active = encoder.encode(states)?;
        for (row, x) in states.chunks_exact_mut(weights.d_in).enumerate() {
            let (features, values) = active.row(row);
            always.apply(weights, features, values, x);
        }
        Ok(())
    }
}
