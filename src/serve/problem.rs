//! Why a page cannot be shown, in a sentence, and the status that says so to programs.

use crate::Error;
use crate::causes::with_causes;
use std::fmt;

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    message: String,
}

impl Problem {
    /// There is nothing of this name or number.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: 404, message: message.into() }
    }

    /// What was asked cannot be understood.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into() }
    }

    /// The run does not have it, or not yet.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { status: 503, message: message.into() }
    }

    /// Who asks may not know or do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self { status: 403, message: message.into() }
    }

    /// The program failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { status: 500, message: message.into() }
    }

    /// The status in words.
    pub fn title(&self) -> &'static str {
        match self.status {
            400 => "This cannot be understood",
            403 => "Not allowed",
            404 => "There is no such page",
            503 => "Not there yet",
            _ => "The program failed",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = with_causes(&error);
        match error {
            Error::Unknown { .. } | Error::UnknownFeature { .. } | Error::UnknownSample { .. } => {
                Self::not_found(message)
            }
            // A file that is missing or half of another version: the run changes, or an operation has not been run.
            _ => Self::unavailable(message),
        }
    }
}

impl From<sae_core::Error> for Problem {
    fn from(error: sae_core::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<filters::Error> for Problem {
    fn from(error: filters::Error) -> Self {
        Error::from(error).into()
    }
}
