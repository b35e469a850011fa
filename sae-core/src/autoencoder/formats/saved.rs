//! An autoencoder as a file holds it: its weights, how it was trained and where its inputs come from. Reads no file.

use crate::autoencoder::{Architecture, Weights};
use crate::store::hooks;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where an autoencoder's inputs come from, and what else its file tells people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Checkpoint of the model; empty if the file does not say.
    pub model: String,
    /// Hook in this workbench's words, such as `layers.16`; in its own words where it is not the stream behind a block,
    /// and empty if the file does not say.
    pub hook: String,
    /// Decoder block, counted from 0.
    pub layer: usize,
    /// Tokens of a sequence at most, 0 if unknown.
    pub context_size: usize,
    /// Anything about the training, for people.
    pub training: Value,
    /// What people should know of how the file was read.
    pub notes: Vec<String>,
}

/// An autoencoder as it lies on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// How it was trained.
    pub architecture: Architecture,
    /// Its weights, with everything folded in that can be.
    pub weights: Weights,
    /// Where it comes from.
    pub origin: Origin,
}

impl Origin {
    /// The origin that a tool's name of a hook tells, with the tool's own configuration as what is known of the training.
    pub(super) fn from_tool_hook(name: &str, training: Value) -> Self {
        let (hook, layer) = hooks::of_tool(name);
        Self { hook, layer, training, ..Self::default() }
    }
}
