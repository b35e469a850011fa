//! Whose definition of a weight or a score is used, and which positions of a sample this definition includes.
//!
//! | mode | positions |
//! |---|---|
//! | `paper` | all positions in the store, because the paper names no exception |
//! | `release` | all but answers, because the release gives the model the prompt and the image with an *empty* answer; a decoder attends only to earlier positions, so the states of the prompt are the same without the answer |
//! | `corrected` | all with content, including answers: no template, begin, end or newline tokens; padding is never stored |

pub use sae_core::store::Sides;
use sae_core::store::TokenColumns;
use sae_core::store::sample::Role;
use serde::Serialize;
use std::str::FromStr;

/// Whose definition is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Definition {
    /// As published: SAE-V, ICML 2025 (arXiv 2502.17514).
    Paper,
    /// As the authors' released code computes it.
    Release,
    /// With the mistakes of both corrected.
    Corrected,
}

impl Definition {
    /// All definitions.
    pub const ALL: [Self; 3] = [Self::Paper, Self::Release, Self::Corrected];

    /// The name, which also follows the method in the names of columns.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Release => "release",
            Self::Corrected => "corrected",
        }
    }

    /// Whether the definition includes a position.
    pub fn sees(self, tokens: &TokenColumns, row: usize) -> bool {
        match self {
            Self::Paper => true,
            Self::Release => tokens.role[row] != Role::Assistant,
            Self::Corrected => !tokens.special[row],
        }
    }
}

impl FromStr for Definition {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == name);
        found.ok_or_else(|| format!("unknown definition {name:?}: expected paper, release or corrected"))
    }
}

/// The index of text, or of the first side, in `[text, image]`.
pub const TEXT: usize = 0;
/// The index of image, or of the second side, in `[text, image]`.
pub const IMAGE: usize = 1;
