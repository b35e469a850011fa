//! Where the sentences of an answer end: by the boundaries of Unicode (UAX 29), but not after common abbreviations. Knows no tokens.

use sae_core::store::DEEPEST;
use unicode_segmentation::UnicodeSegmentation;

/// Abbreviations after which a sentence goes on.
const ABBREVIATIONS: [&str; 16] = [
    "e.g.", "i.e.", "etc.", "cf.", "vs.", "Mr.", "Mrs.", "Ms.", "Dr.", "Prof.", "St.", "Fig.", "fig.", "al.",
    "approx.", "ca.",
];

/// Words that are abbreviations only before a number.
const BEFORE_NUMBERS: [&str; 4] = ["No.", "no.", "Nos.", "nos."];

/// The end of each sentence in bytes, without the white space that follows it; the last one is the end of the text. A path has a
/// limited number of pieces: the last sentence has whatever exceeds it.
pub(super) fn ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    for (start, sentence) in text.split_sentence_bound_indices() {
        let said = sentence.trim_end();
        let end = start + said.len();
        if said.is_empty() || end >= text.trim_end().len() {
            continue;
        }
        let last = said.rsplit(|c: char| c.is_whitespace() || "([{\"'".contains(c)).next().unwrap_or(said);
        let before_number = || text[end..].trim_start().starts_with(char::is_numeric);
        let goes_on = ABBREVIATIONS.contains(&last) || BEFORE_NUMBERS.contains(&last) && before_number();
        if !goes_on {
            ends.push(end);
        }
    }
    // One piece is the prompt, and one the rest.
    ends.truncate(DEEPEST - 2);
    ends.push(text.len());
    ends
}

/// The end of the first sentence in bytes, if another one follows it.
pub(crate) fn first_end(text: &str) -> Option<usize> {
    ends(text).first().copied().filter(|end| *end < text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(text: &str) -> Vec<&str> {
        let mut start = 0;
        ends(text).into_iter().map(|end| &text[std::mem::replace(&mut start, end)..end]).collect()
    }

    #[test]
    fn sentences_end_where_readers_expect() {
        assert_eq!(sentences("A dog. It runs!  Why?\n"), ["A dog.", " It runs!", "  Why?\n"]);
        assert_eq!(sentences("It costs 3.50 euros, e.g. Here. Yes"), ["It costs 3.50 euros, e.g. Here.", " Yes"]);
        assert_eq!(sentences("See Dr. Who (i.e. him). He left."), ["See Dr. Who (i.e. him).", " He left."]);
        assert_eq!(sentences("The answer is No. It is blue."), ["The answer is No.", " It is blue."]);
        assert_eq!(sentences("Take No. 5 or (no. 6). No. Go"), ["Take No. 5 or (no. 6).", " No.", " Go"]);
        assert_eq!(sentences("犬がいる。走る。"), ["犬がいる。", "走る。"]);
        assert_eq!(sentences("one"), ["one"]);
    }

    #[test]
    fn the_last_sentence_has_what_exceeds_a_path() {
        let text = "Yes. ".repeat(100);
        let found = sentences(&text);
        assert_eq!(found.len(), DEEPEST - 1);
        assert_eq!(found.concat(), text);
    }
}
