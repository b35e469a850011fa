//! Words that stand in for the label of a feature until somebody writes one, as lists and searches use them.

use sae_core::analysis::index::TypicalWord;
use sae_core::store::sample::Modality;

/// Between two words.
const SEPARATOR: &str = " \u{b7} ";

/// The typical words of one feature, joined for display.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypicalWords {
    /// Tokens at its strongest text positions.
    pub tokens: String,
    /// Words that the texts of its strongest image samples have in common.
    pub image_words: String,
}

impl TypicalWords {
    /// From the rows of a feature.
    pub fn new(rows: &[TypicalWord]) -> Self {
        let joined = |modality| {
            let words = rows.iter().filter(|row| row.modality == modality).map(|row| row.word.as_str());
            words.collect::<Vec<_>>().join(SEPARATOR)
        };
        Self { tokens: joined(Modality::Text), image_words: joined(Modality::Image) }
    }

    /// On one line: `ring · red`, `images of: boat`, or both.
    pub fn summary(&self) -> String {
        match (self.tokens.is_empty(), self.image_words.is_empty()) {
            (_, true) => self.tokens.clone(),
            (true, false) => format!("images of: {}", self.image_words),
            (false, false) => format!("{}; images of: {}", self.tokens, self.image_words),
        }
    }

    /// Whether some word contains this text, which is in lower case.
    pub fn contains(&self, text: &str) -> bool {
        // All features are searched while somebody types: nothing is allocated for the texts of most languages.
        let in_tokens = if self.tokens.is_ascii() && text.is_ascii() {
            let (tokens, text) = (self.tokens.as_bytes(), text.as_bytes());
            text.is_empty() || tokens.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text))
        } else {
            self.tokens.to_lowercase().contains(text)
        };
        in_tokens || self.image_words.contains(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_both_sides_are_summarized() {
        let row = |modality, word: &str| TypicalWord { modality, word: word.into(), share: 0.5 };
        let (ring, red, boat) = (row(Modality::Text, "Ring"), row(Modality::Text, "red"), row(Modality::Image, "boat"));
        let both = TypicalWords::new(&[ring.clone(), red, boat.clone()]);
        assert_eq!(both.summary(), "Ring \u{b7} red; images of: boat");
        assert_eq!(TypicalWords::new(&[ring]).summary(), "Ring");
        assert_eq!(TypicalWords::new(&[boat]).summary(), "images of: boat");
        assert_eq!(TypicalWords::default().summary(), "");
        assert!(both.contains("ring") && both.contains("boa") && !both.contains("tree"));
        let other = TypicalWords { tokens: "Ring \u{b7} Straße \u{b7} Ü".into(), image_words: String::new() };
        for text in ["ring", "straße", "ü", "", "g \u{b7} s"] {
            assert!(other.contains(text), "{text}");
        }
        let ascii = TypicalWords { tokens: "Ring red".into(), image_words: String::new() };
        assert!(
            ascii.contains("ring") && ascii.contains("") && !ascii.contains("ü") && !ascii.contains("ring red boat")
        );
    }
}
