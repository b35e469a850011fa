//! Edits of labels, notes, stars and lists by a program that reads the run elsewhere.

use super::problem::Problem;
use super::site::Site;
use sae_core::analysis::labels::{Change, Saved};
use serde::{Deserialize, Serialize};

/// Bytes of a request at most.
pub const EDIT_BYTES: usize = 1 << 24;

/// What a program wants to be written about the features of an autoencoder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Edits {
    /// The autoencoder.
    pub sae: String,
    /// The edits, in their order.
    pub changes: Vec<Change>,
}

impl Edits {
    /// Reads a request.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let expected = "{\"sae\": NAME, \"changes\": [...]}";
        serde_json::from_slice(body).map_err(|error| Problem::invalid(format!("expected {expected}: {error}")))
    }

    /// Makes the edits on top of what others wrote.
    ///
    /// # Errors
    /// The run has no such autoencoder, or the labels cannot be written.
    pub fn save(&self, site: &Site) -> Result<Saved, Problem> {
        if !site.saes().contains(&self.sae) {
            return Err(Problem::not_found(format!("the run has no autoencoder {:?}", self.sae)));
        }
        site.save(&self.sae, &self.changes)
    }
}
