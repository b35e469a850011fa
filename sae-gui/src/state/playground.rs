//! Prompts that the user enters, on the Playground page and on the page of a feature: text and image, the features to steer, the
//! model's answer. Runs nothing.

use super::activations::SampleActivations;
use super::sample::{Picture, TokenView};
use std::path::PathBuf;
use std::sync::Arc;

/// A feature whose activation is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steer {
    /// The feature.
    pub feature: u32,
    /// The activation that it is set to at every position with content; 0 removes it.
    pub strength: f32,
}

/// The multiples of the strengths that are compared unless others are typed: the strengths as they are.
const MULTIPLES: &str = "1";
/// The most multiples at once: each of them runs the model.
const MOST_MULTIPLES: usize = 8;

/// The multiples of the strengths in a text such as `0, 0.5, 1, 2`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_multiples(text: &str) -> Result<Vec<f32>, String> {
    let number = |part: &str| {
        let number: Option<f32> = part.trim().parse().ok().filter(|number: &f32| number.is_finite());
        number.ok_or_else(|| format!("Invalid number \"{}\": expected multiples such as 0, 0.5, 1, 2", part.trim()))
    };
    let multiples: Vec<f32> = text.split(',').map(number).collect::<Result<_, _>>()?;
    if multiples.len() > MOST_MULTIPLES {
        return Err(format!("Too many multiples: {}, expected at most {MOST_MULTIPLES}", multiples.len()));
    }
    Ok(multiples)
}

/// What the model is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// The text.
    pub text: String,
    /// An image in front of it.
    pub image: Option<PathBuf>,
    /// Features to steer.
    pub steers: Vec<Steer>,
    /// The multiples of their strengths that are compared, as typed: see [`parse_multiples`].
    pub multiples: String,
}

impl Default for Prompt {
    fn default() -> Self {
        Self { text: String::new(), image: None, steers: Vec::new(), multiples: MULTIPLES.into() }
    }
}

impl Prompt {
    /// Whether the multiples are not those of a new prompt.
    pub fn has_multiples(&self) -> bool {
        self.multiples != MULTIPLES
    }
}

/// How the model continues a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Continuation {
    /// The most likely next tokens with their probabilities, most likely first.
    pub next: Vec<(String, f32)>,
    /// The most likely token, one after the other.
    pub text: String,
}

/// Which features are active in a prompt.
#[derive(Clone)]
pub struct PromptActivations {
    /// The positions of the prompt.
    pub tokens: Vec<TokenView>,
    /// Its image, if it has one.
    pub picture: Option<Picture>,
    /// The active features at each position.
    pub activations: Arc<SampleActivations>,
}

/// The model's answer to a prompt.
#[derive(Clone)]
pub struct Answer {
    /// Which features are active in the prompt.
    pub prompt: PromptActivations,
    /// How the original model continues.
    pub original: Continuation,
    /// How the steered model continues, with each multiple of the strengths; empty if no feature is steered.
    pub steered: Vec<(f32, Continuation)>,
}

/// The prompt that is being edited, and the one that was answered.
#[derive(Clone, Debug, Default)]
pub struct PlaygroundState {
    /// What is being edited.
    pub draft: Prompt,
    /// What the model was given last.
    submitted: Option<Prompt>,
    /// Whether the model is running.
    pub busy: bool,
    /// Whether the draft is to be submitted as soon as the run is open.
    pub submits_at_once: bool,
}

impl PlaygroundState {
    /// Whether there is a prompt, and the model is not running.
    pub fn is_ready(&self) -> bool {
        !self.busy && !self.draft.text.trim().is_empty() && parse_multiples(&self.draft.multiples).is_ok()
    }

    /// Submits the draft.
    pub fn submit(&mut self) -> Option<Prompt> {
        if !self.is_ready() {
            return None;
        }
        self.busy = true;
        self.submitted = Some(self.draft.clone());
        self.submitted.clone()
    }

    /// Whether the draft differs from what was submitted.
    pub fn has_changed(&self) -> bool {
        self.submitted.as_ref() != Some(&self.draft)
    }

    /// The same prompt for a run that was read again. If it was submitted, it is submitted again.
    pub fn reopened(self) -> Self {
        Self { submits_at_once: !self.has_changed(), busy: false, ..self }
    }

    /// Steers a feature, at its maximum. A feature that is steered already keeps its strength.
    pub fn steer(&mut self, feature: u32, max: f32) {
        if !self.draft.steers.iter().any(|steer| steer.feature == feature) {
            self.draft.steers.push(Steer { feature, strength: max });
        }
    }

    /// No longer steers a feature.
    pub fn reset(&mut self, feature: u32) {
        self.draft.steers.retain(|steer| steer.feature != feature);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_are_numbers_between_commas() {
        assert_eq!(parse_multiples("0, 0.5,1 , -2"), Ok(vec![0.0, 0.5, 1.0, -2.0]));
        assert!(parse_multiples("1, x").unwrap_err().contains("\"x\""));
        assert!(parse_multiples("").is_err() && parse_multiples("1,").is_err() && parse_multiples("inf").is_err());
        assert!(parse_multiples("1,2,3,4,5,6,7,8,9").unwrap_err().contains("at most 8"));
        let mut playground = PlaygroundState::default();
        playground.draft.text = "a red ring".into();
        assert!(playground.is_ready() && !playground.draft.has_multiples());
        playground.draft.multiples = "0, half".into();
        assert!(playground.submit().is_none());
    }

    #[test]
    fn one_prompt_is_submitted_at_a_time_and_a_feature_is_steered_once() {
        let mut playground = PlaygroundState::default();
        assert!(playground.submit().is_none());
        playground.draft.text = "a red ring".into();
        playground.steer(3, 2.5);
        playground.draft.steers[0].strength = 0.0;
        playground.steer(3, 2.5);
        let submitted = playground.submit().unwrap();
        assert_eq!(submitted.steers, [Steer { feature: 3, strength: 0.0 }]);
        assert!(playground.submit().is_none() && !playground.has_changed());
        playground.busy = false;
        playground.reset(3);
        assert!(playground.has_changed() && playground.submit().unwrap().steers.is_empty());
    }
}
