//! Why a single row of a data set cannot be used. Such a row is skipped and listed; it does not stop anything.

use crate::pixels::ImageError;
use sae_core::error::Hint;
use sae_core::store::Skipped;
use std::fmt::{self, Display, Formatter};

/// Why a row cannot be used, and what can be done about it.
#[derive(Clone, Debug, PartialEq)]
pub struct RowError {
    /// The reason.
    pub cause: String,
    /// What to do, if this is known.
    pub hint: Option<Hint>,
}

impl RowError {
    /// The same reason with what can be done about it.
    #[must_use]
    pub fn with_hint(self, hint: Hint) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// The record of a row that was skipped for this reason.
    pub(crate) fn skipped(self, number: u64, key: &str) -> Skipped {
        Skipped::new(number, key, &self.cause).with_hint(self.hint)
    }
}

impl Display for RowError {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl From<String> for RowError {
    fn from(cause: String) -> Self {
        Self { cause, hint: None }
    }
}

impl From<ImageError> for RowError {
    fn from(error: ImageError) -> Self {
        error.to_string().into()
    }
}

impl From<&str> for RowError {
    fn from(cause: &str) -> Self {
        cause.to_owned().into()
    }
}
