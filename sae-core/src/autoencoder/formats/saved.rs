//! An autoencoder as it is stored in a file: its weights, how it was trained, and where its inputs come from. Reads no file.

use crate::autoencoder::{Architecture, Weights};
use crate::store::hooks;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// Where the inputs of an autoencoder come from, and other information of its file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Checkpoint of the model; empty if the file does not say.
    pub model: String,
    /// The hook by this workbench's name, such as `layers.16`; by its original name if it is not the residual stream after a
    /// block; and empty if the file does not say.
    pub hook: String,
    /// Decoder block, counted from 0.
    pub layer: usize,
    /// The hook whose states are reconstructed, if it is another one than `hook`: that of a transcoder, named in the same way. Empty
    /// for other autoencoders.
    pub target: String,
    /// Largest number of tokens of a sequence, 0 if unknown.
    pub context_size: usize,
    /// The models whose states a crosscoder reads, in the order of their blocks in a row; empty for other autoencoders.
    pub models: Vec<ModelStream>,
    /// Free information about the training.
    pub training: Value,
    /// What the user should know about how the file was read.
    pub notes: Vec<String>,
}

/// A model whose states a crosscoder reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelStream {
    /// The run with its activations, relative to the run that has the crosscoder; empty if the file does not say.
    pub run: PathBuf,
    /// Its checkpoint; empty if the file does not say.
    pub model: String,
    /// The factor that its states were multiplied by in training, and by which blocks of different models compare.
    pub scale: f32,
}

/// An autoencoder as it is stored on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// How it was trained.
    pub architecture: Architecture,
    /// Its weights, with everything folded in that can be.
    pub weights: Weights,
    /// Where it comes from.
    pub origin: Origin,
}

impl Saved {
    /// Whether it is a transcoder: it reconstructs other states than those that it reads.
    pub fn is_transcoder(&self) -> bool {
        let weights = &self.weights;
        !self.origin.target.is_empty() || weights.skip.is_some() || weights.d_out() != weights.d_in
    }
}

impl Origin {
    /// The origin from a tool's name of a hook, with the tool's configuration as information about the training.
    pub(super) fn from_tool_hook(name: &str, training: Value) -> Self {
        let (hook, layer) = hooks::of_tool(name);
        Self { hook, layer, training, ..Self::default() }
    }

    /// The origin with a target by a tool's name of its hook, which is the input itself unless the autoencoder is a transcoder.
    pub(super) fn with_tool_target(self, name: &str) -> Self {
        let (target, _) = hooks::of_tool(name);
        if target == self.hook { self } else { Self { target, ..self } }
    }
}
