//! What happens while an answer is written, for somebody who watches. Changes nothing.

use super::report::Attempt;

/// A version of a unit: of a sentence, or of the whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// The number of the unit in the answer.
    pub unit: u32,
    /// The number of the try, 0 for the first.
    pub attempt: u32,
    /// The text.
    pub text: String,
    /// How severe it is, if there is a guard.
    pub severity: Option<f64>,
    /// Whether the guard accepts it.
    pub accepted: bool,
    /// The features that contribute most to the severity, strongest first, each with what it adds to the score before the
    /// calibration.
    pub causes: Vec<(u32, f64)>,
    /// How strongly it was steered, if it was.
    pub strength: Option<f32>,
    /// Negative log-likelihood of its tokens in nats, under the model without the correction; not finite if its logits are not.
    pub nll: Option<f64>,
    /// Its tokens.
    pub tokens: usize,
}

impl Version {
    pub(super) fn new(attempt: &Attempt, causes: Vec<(u32, f64)>) -> Self {
        Self {
            unit: attempt.unit,
            attempt: attempt.attempt,
            text: attempt.text.clone(),
            severity: attempt.severity,
            accepted: attempt.accepted,
            causes,
            strength: attempt.strength,
            nll: attempt.nll,
            tokens: attempt.ids.len(),
        }
    }
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The first token is about to be written.
    Begun {
        /// Above which severity a text is flagged, if there is a guard.
        threshold: Option<f64>,
    },
    /// A token was added to a version of a unit.
    Written {
        /// The number of the unit.
        unit: u32,
        /// The number of the try.
        attempt: u32,
        /// How strongly it is steered, if it is.
        strength: Option<f32>,
        /// The version so far.
        text: String,
    },
    /// A version is complete and was judged.
    Judged(Version),
    /// A try came to nothing, and is not among the versions.
    Dropped {
        /// The number of the unit.
        unit: u32,
        /// The number of the try.
        attempt: u32,
        /// Whether the model had nothing to say; otherwise it computed numbers that are not finite.
        is_finite: bool,
    },
    /// This version stays, and the answer goes on.
    Kept {
        /// The number of the unit.
        unit: u32,
        /// The number of the try.
        attempt: u32,
    },
}
