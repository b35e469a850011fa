//! Whose definition of a weight or a score is used, and which positions of a sample this definition includes.
//!
//! | mode | positions |
//! |---|---|
//! | `paper` | all positions in the store, because the paper names no exception |
//! | `release` | all but answers, because the release gives the model the prompt and the image with an *empty* answer; a decoder attends only to earlier positions, so the states of the prompt are the same without the answer |
//! | `corrected` | all with content, including answers: no template, begin, end or newline tokens; padding is never stored |

use sae_core::store::TokenColumns;
use sae_core::store::sample::{Modality, Role};
use serde::{Serialize, Serializer};
use std::fmt;
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

/// The two groups of modalities whose features are compared: text with images, unless others are named.
///
/// ```
/// use filters::definition::{IMAGE, Sides, TEXT};
/// use sae_core::store::sample::Modality;
///
/// let sides: Sides = "action:image,text".parse()?;
/// assert_eq!(sides.side(Modality::Action), Some(TEXT)); // the first side, which is text by default
/// assert_eq!(sides.side(Modality::Text), Some(IMAGE));
/// assert_eq!(sides.side(Modality::Audio), None);
/// assert_eq!((sides.to_string(), Sides::default().to_string()), ("action:image,text".into(), "text:image".into()));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sides([Vec<Modality>; 2]);

impl Default for Sides {
    fn default() -> Self {
        Self([vec![Modality::Text], vec![Modality::Image]])
    }
}

impl Sides {
    /// Whether a pass with blank images takes away from the first side what it owes to the second: if that has the images.
    pub fn compare_with_images(&self) -> bool {
        self.side(Modality::Image) == Some(IMAGE)
    }

    /// The index of a modality in the `[text, image]` pairs of this crate, which are the two sides. Nothing for other modalities.
    pub fn side(&self, modality: Modality) -> Option<usize> {
        self.0.iter().position(|side| side.contains(&modality))
    }
}

impl FromStr for Sides {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |cause: &str| format!("invalid sides {text:?}: {cause}, such as text:image or action:image,text");
        let (first, second) =
            text.split_once(':').ok_or_else(|| wrong("expected two sides with a colon between them"))?;
        let known = (0..).map_while(|code| Modality::try_from(code).ok());
        let modality = |name: &str| known.clone().find(|modality| modality.name() == name.trim());
        let side = |names: &str| names.split(',').map(modality).collect::<Option<Vec<_>>>();
        let (first, second) =
            side(first).zip(side(second)).ok_or_else(|| wrong("expected text, image, audio, video or action"))?;
        let all: Vec<Modality> = first.iter().chain(&second).copied().collect();
        if let Some(twice) = (1..all.len()).find(|n| all[..*n].contains(&all[*n])) {
            let name = all[twice].name();
            return Err(format!("invalid sides {text:?}: {name} is named twice; expected each modality once"));
        }
        Ok(Self([first, second]))
    }
}

impl fmt::Display for Sides {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let names = |side: &[Modality]| side.iter().map(|modality| modality.name()).collect::<Vec<_>>().join(",");
        write!(f, "{}:{}", names(&self.0[0]), names(&self.0[1]))
    }
}

impl Serialize for Sides {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The index of text, or of the first side, in `[text, image]`.
pub const TEXT: usize = 0;
/// The index of image, or of the second side, in `[text, image]`.
pub const IMAGE: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_that_cannot_be_compared_are_rejected() {
        for (text, cause) in [
            ("text", "a colon"),
            ("text:pictures", "expected text, image"),
            ("text,image:image", "image is named twice"),
            ("text,text:image", "text is named twice"),
            ("text:", "expected text, image"),
        ] {
            assert!(text.parse::<Sides>().unwrap_err().contains(cause), "{text}");
        }
    }
}
