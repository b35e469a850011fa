//! Where a piece of a text that is being written ends. What ends a sentence shows only in the text that follows it.

use crate::pieces;
use regex::Regex;
use std::str::FromStr;

/// What ends a piece of an answer.
#[derive(Clone, Debug)]
pub enum Boundary {
    /// The end of a sentence, as for [`Pieces::Sentences`](crate::Pieces::Sentences).
    Sentence,
    /// A line break.
    Line,
    /// A match of a regular expression, which belongs to the piece.
    Pattern(Regex),
}

impl Boundary {
    /// The end of the first piece in bytes, if text other than white space follows it.
    pub fn first_end(&self, text: &str) -> Option<usize> {
        let end = match self {
            Self::Sentence => pieces::first_sentence(text),
            // Line breaks at the beginning end nothing.
            Self::Line => {
                let start = text.len() - text.trim_start_matches(['\n', '\r']).len();
                text[start..].find('\n').map(|at| start + at + 1)
            }
            Self::Pattern(pattern) => pattern.find(text).map(|found| found.end()),
        };
        end.filter(|end| *end > 0 && !text[*end..].trim().is_empty())
    }
}

impl std::fmt::Display for Boundary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sentence => f.write_str("sentence"),
            Self::Line => f.write_str("line"),
            Self::Pattern(pattern) => write!(f, "/{pattern}/"),
        }
    }
}

impl FromStr for Boundary {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sentence" => Ok(Self::Sentence),
            "line" => Ok(Self::Line),
            _ => {
                let pattern = text.strip_prefix('/').and_then(|text| text.strip_suffix('/'));
                let pattern = pattern.filter(|pattern| !pattern.is_empty()).ok_or_else(|| {
                    format!("unknown boundary {text:?}: expected sentence, line or /REGULAR EXPRESSION/")
                })?;
                Regex::new(pattern).map(Self::Pattern).map_err(|error| error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(boundary: &str, text: &str) -> Option<String> {
        let end = boundary.parse::<Boundary>().unwrap().first_end(text);
        end.map(|end| text[..end].to_owned())
    }

    #[test]
    fn a_piece_ends_when_other_text_follows() {
        assert_eq!(first("sentence", "It costs 3."), None);
        assert_eq!(first("sentence", "It costs 3. "), None);
        assert_eq!(first("sentence", "It costs 3.5"), None);
        assert_eq!(first("sentence", "It costs 3. Or"), Some("It costs 3.".into()));
        assert_eq!(first("line", "\n\nOne\n"), None);
        assert_eq!(first("line", "\n\nOne\nT"), Some("\n\nOne\n".into()));
        assert_eq!(first("/;/", "a; b; c"), Some("a;".into()));
        assert_eq!(first("/x*/", "abc"), None);
    }

    #[test]
    fn other_names_are_rejected() {
        for bad in ["word", "", "/", "//", "/(/"] {
            assert!(bad.parse::<Boundary>().is_err(), "{bad}");
        }
        assert_eq!("/a+/".parse::<Boundary>().unwrap().to_string(), "/a+/");
    }
}
