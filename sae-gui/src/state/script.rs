//! Scripts that are not drawn as they are written: what can be said about a text in one of them. Draws nothing.

/// What a text needs that is drawn token by token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// Letters change with their neighbors, as in Devanagari.
    Joining,
    /// The same, and words run from right to left, as in Arabic.
    RightToLeft,
}

fn need(character: char) -> Option<Need> {
    match character {
        // Hebrew, Arabic, Syriac, Thaana, N'Ko and others, and presentation forms of the first two.
        '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{1e900}'..='\u{1e95f}' => {
            Some(Need::RightToLeft)
        }
        // From Devanagari to Sinhala, Tibetan, Burmese, Khmer and Mongolian.
        '\u{900}'..='\u{dff}' | '\u{f00}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{1800}'..='\u{18af}' => {
            Some(Need::Joining)
        }
        _ => None,
    }
}

/// How a text that is drawn token by token differs from how it is written, in a sentence; nothing if it does not.
pub fn drawn_otherwise(texts: impl Iterator<Item = impl AsRef<str>>) -> Option<&'static str> {
    let needs = texts.filter_map(|text| text.as_ref().chars().filter_map(need).max());
    Some(match needs.max()? {
        Need::Joining => "Letters are joined within a token only. \"Copy text\" has the text as it is written.",
        Need::RightToLeft => {
            "Letters are joined within a token only, and tokens run from left to right. \"Copy text\" has the text as it is \
             written."
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scripts_that_need_more_are_named() {
        let told = |text: &str| drawn_otherwise(text.split_inclusive(' '));
        assert_eq!(told("a red ring, \u{65e5}\u{672c} \u{433}\u{43e}\u{434} \u{1f600}"), None);
        assert!(told("a \u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947}").is_some_and(|told| !told.contains("right")));
        assert!(told("\u{92e} \u{642}\u{637}\u{629}").is_some_and(|told| told.contains("left to right")));
        assert!(told("\u{feff}a").is_none(), "a byte order mark is no letter");
    }
}
