//! Whose definition of a weight or a score is meant, and which positions of a sample that definition looks at.
//!
//! | mode | positions |
//! |---|---|
//! | `paper` | all that the store holds: the paper names no exception |
//! | `release` | all but answers, since the release feeds the model prompt and image with an *empty* answer; a decoder looks only back, so the states of the prompt are the same without it |
//! | `corrected` | all with content, answers included: no template, begin, end or newline tokens; padding is never stored |

use sae_core::store::TokenColumns;
use sae_core::store::sample::{Modality, Role};
use serde::Serialize;

/// Whose definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Definition {
    /// As published: SAE-V, ICML 2025 (arXiv 2502.17514).
    Paper,
    /// As the authors' released code computes it.
    Release,
    /// With what is wrong in both put right.
    Corrected,
}

impl Definition {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Paper, Self::Release, Self::Corrected];

    /// The name on the command line and behind a column's method.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Release => "release",
            Self::Corrected => "corrected",
        }
    }

    /// Whether a position counts.
    pub fn sees(self, tokens: &TokenColumns, row: usize) -> bool {
        match self {
            Self::Paper => true,
            Self::Release => tokens.role[row] != Role::Assistant,
            Self::Corrected => !tokens.special[row],
        }
    }
}

impl std::str::FromStr for Definition {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == name);
        found.ok_or_else(|| format!("there is no mode {name}; there are paper, release and corrected"))
    }
}

/// Text or image: the index into every `[text, image]` pair of this crate. Other modalities are neither.
pub fn side(modality: Modality) -> Option<usize> {
    match modality {
        Modality::Text => Some(TEXT),
        Modality::Image => Some(IMAGE),
        Modality::Audio | Modality::Video | Modality::Action => None,
    }
}

/// Index of text in `[text, image]`.
pub const TEXT: usize = 0;
/// Index of image in `[text, image]`.
pub const IMAGE: usize = 1;
