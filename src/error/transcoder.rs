//! Why something cannot be done with a transcoder, or a transcoder not be trained.

use sae_core::error::{Hint, Operation, Setting};

/// Transcoders and targets that do not belong together.
#[derive(Debug, thiserror::Error)]
pub enum TranscoderError {
    /// A transcoder where reconstructions take the place of what was read.
    #[error("this needs an autoencoder of its own input, and found a transcoder, which reconstructs {}", if target.is_empty() { "another state" } else { target })]
    NoAutoencoder {
        /// The hook that it reconstructs; empty if its file does not say.
        target: String,
    },
    /// A target of an autoencoder.
    #[error("{name} is an autoencoder, which reconstructs what it reads, so it has no target")]
    NoTranscoder {
        /// The autoencoder.
        name: String,
    },
    /// The file of a transcoder does not say what it reconstructs.
    #[error("the file of the transcoder {name} does not say which activations it reconstructs")]
    UnknownTarget {
        /// The transcoder.
        name: String,
    },
    /// Activations of the target that are not as wide as reconstructions.
    #[error("the transcoder reconstructs width {sae}, the activations of {target} have {activations}")]
    TargetWidth {
        /// Width of its reconstructions.
        sae: usize,
        /// Width of the activations.
        activations: usize,
        /// The target.
        target: String,
    },
    /// A target that is also the input.
    #[error("the input and the target are both {hook}: expected two hooks, since an autoencoder has no target")]
    TargetIsInput {
        /// The hook.
        hook: String,
    },
    /// The configuration of a transcoder without its target.
    #[error("the configuration is of a transcoder with a target of width {d_out}, but no target was named")]
    NoTarget {
        /// Width of the target.
        d_out: usize,
    },
    /// A transcoder of activations that are not stored.
    #[error("a transcoder is trained on the stored activations of two hooks, not straight from a model")]
    Online,
}

impl TranscoderError {
    /// What can be done about it, if that is known.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::UnknownTarget { .. } => Some("import it again, and name the target".into()),
            Self::TargetIsInput { .. } | Self::TargetWidth { .. } => Some(Hint::Change(Setting::Target)),
            Self::NoTarget { .. } => Some(Hint::Set(Setting::Target, Vec::new())),
            Self::Online => Some(Hint::Run(Operation::Harvest)),
            Self::NoTranscoder { .. } => Some(Hint::Unset(Setting::Target)),
            Self::NoAutoencoder { .. } => None,
        }
    }
}
