//! A text of the person's own: what was typed, which features are to be changed, what came of it. Runs nothing.

use super::data::{Active, Picture, TokenView};
use std::path::PathBuf;
use std::sync::Arc;

/// A feature whose activation is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steer {
    /// The feature.
    pub feature: u32,
    /// What it is set to at every position with content: 0 takes it away.
    pub strength: f32,
}

/// What the model is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// The text.
    pub text: String,
    /// An image before it.
    pub image: Option<PathBuf>,
    /// Features that are set.
    pub steers: Vec<Steer>,
}

/// How the model goes on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GoesOn {
    /// The likeliest next words with their probabilities, best first.
    pub next: Vec<(String, f32)>,
    /// The likeliest words, one after the other.
    pub words: String,
}

/// What came of a question.
#[derive(Clone)]
pub struct Answer {
    /// The positions that it became.
    pub tokens: Vec<TokenView>,
    /// Its image, if it has one.
    pub picture: Option<Picture>,
    /// What fires where.
    pub active: Arc<Active>,
    /// How the model goes on by itself.
    pub off: GoesOn,
    /// How it goes on with the features set, if there are any.
    pub on: Option<GoesOn>,
}

/// The person's side of the page.
#[derive(Clone, Debug, Default)]
pub struct PlaygroundState {
    /// What is being typed and chosen.
    pub draft: Question,
    /// What the model was asked last.
    asked: Option<Question>,
    /// Whether it has not answered yet.
    pub busy: bool,
}

impl PlaygroundState {
    /// Whether there is something to ask that was not asked last.
    pub fn ready(&self) -> bool {
        !self.busy && !self.draft.text.trim().is_empty()
    }

    /// Asks.
    pub fn ask(&mut self) -> Option<Question> {
        if !self.ready() {
            return None;
        }
        self.busy = true;
        self.asked = Some(self.draft.clone());
        self.asked.clone()
    }

    /// Whether the draft is another question than the one that was asked last.
    pub fn changed(&self) -> bool {
        self.asked.as_ref() != Some(&self.draft)
    }

    /// Sets a feature; its strength is its largest activation, or what it was set to already.
    pub fn steer(&mut self, feature: u32, max: f32) {
        if !self.draft.steers.iter().any(|steer| steer.feature == feature) {
            self.draft.steers.push(Steer { feature, strength: max });
        }
    }

    /// Lets a feature be as it is.
    pub fn release(&mut self, feature: u32) {
        self.draft.steers.retain(|steer| steer.feature != feature);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_at_a_time_and_a_feature_is_set_once() {
        let mut trial = PlaygroundState::default();
        assert!(trial.ask().is_none());
        trial.draft.text = "a red ring".into();
        trial.steer(3, 2.5);
        trial.draft.steers[0].strength = 0.0;
        trial.steer(3, 2.5);
        let asked = trial.ask().unwrap();
        assert_eq!(asked.steers, [Steer { feature: 3, strength: 0.0 }]);
        assert!(trial.ask().is_none() && !trial.changed());
        trial.busy = false;
        trial.release(3);
        assert!(trial.changed() && trial.ask().unwrap().steers.is_empty());
    }
}
