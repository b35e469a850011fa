//! Why no pass can read some pieces.

/// Pieces that no pass can read. Samples are counted from the first one of the store; when a part is written, from the first one of
/// the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PieceError {
    /// A parent that does not come before its sample.
    #[error("sample {sample} continues sample {parent}, which does not come before it")]
    Order {
        /// The sample.
        sample: u32,
        /// Its parent.
        parent: u32,
    },
    /// A sample between a piece and its parent that is on another path.
    #[error(
        "sample {sample} continues sample {parent}, whose paths end before sample {between}: the pieces of a path have to follow one \
         another, depth first"
    )]
    Interleaved {
        /// The sample.
        sample: u32,
        /// Its parent.
        parent: u32,
        /// The first sample behind the parent that is on another path.
        between: u32,
    },
    /// A piece that continues something before the critique in front of it.
    #[error("sample {sample} continues sample {parent} after a critique, which has to be the last piece of its row")]
    AfterCritique {
        /// The sample.
        sample: u32,
        /// Its parent.
        parent: u32,
    },
    /// A path of too many pieces.
    #[error("sample {sample} is at the end of more than {most} pieces")]
    Depth {
        /// The sample.
        sample: u32,
        /// How many there may be.
        most: usize,
    },
    /// A piece without tokens.
    #[error("sample {sample} has no tokens, and a piece has to have at least one")]
    Empty {
        /// The sample.
        sample: u32,
    },
}

impl PieceError {
    /// The sample in which it was found.
    pub fn sample(self) -> u32 {
        match self {
            Self::Order { sample, .. }
            | Self::Interleaved { sample, .. }
            | Self::AfterCritique { sample, .. }
            | Self::Depth { sample, .. }
            | Self::Empty { sample } => sample,
        }
    }
}
