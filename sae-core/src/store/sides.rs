//! Which modalities are compared with which: the two sides of scores, of cross-modal weights, and of the classes of features.

use crate::store::sample::Modality;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The two groups of modalities whose features are compared: text with images, unless others are named.
///
/// ```
/// use sae_core::store::Sides;
/// use sae_core::store::sample::Modality;
///
/// let sides: Sides = "action:image,text".parse()?;
/// assert_eq!(sides.side(Modality::Action), Some(0)); // the first side, which is text by default
/// assert_eq!(sides.side(Modality::Text), Some(1));
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
        self.side(Modality::Image) == Some(1)
    }

    /// The names of both sides: `text` and `image`, or several modalities such as `image,text`.
    pub fn names(&self) -> [String; 2] {
        self.0.each_ref().map(|side| side.iter().map(|modality| modality.name()).collect::<Vec<_>>().join(","))
    }

    /// Which side a modality belongs to: 0 or 1, which is the index in pairs that are called `[text, image]`. Nothing for other
    /// modalities.
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
        write!(f, "{}", self.names().join(":"))
    }
}

impl Serialize for Sides {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

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
