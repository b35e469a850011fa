//! Corruption of texts: words are shuffled, removed or replaced. Knows no rows.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use std::collections::BTreeSet;
use std::ops::Range;

/// The words in a random order.
pub(super) fn shuffled(text: &str, rng: &mut impl Rng) -> String {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    words.shuffle(rng);
    words.join(" ")
}

/// The first half of the words.
pub(super) fn truncated(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words[..words.len().div_ceil(2)].join(" ")
}

/// The most similar other answer: the one with the largest share of common words among all words of the two (Jaccard
/// index). Answers with the same words as `own` do not count; ties are broken by position. None if no other answer that
/// `fits` has a word in common.
pub(super) fn nearest(
    own: &BTreeSet<String>,
    others: &[BTreeSet<String>],
    fits: impl Fn(usize) -> bool,
) -> Option<usize> {
    let shared = |other: &BTreeSet<String>| {
        let both = own.intersection(other).count();
        both as f64 / (own.len() + other.len() - both).max(1) as f64
    };
    let shares = others.iter().map(shared).enumerate();
    let shares = shares.filter(|(n, share)| *share > 0.0 && others[*n] != *own && fits(*n));
    shares.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(n, _)| n)
}

/// The text with one random word replaced by one of `wrong`. None if there is no word in either of them.
pub(super) fn with_wrong_word(text: &str, wrong: &[&String], rng: &mut impl Rng) -> Option<String> {
    let words: Vec<Range<usize>> = word_ranges(text).collect();
    let (range, word) = (words.choose(rng)?, wrong.choose(rng)?);
    Some([&text[..range.start], word.as_str(), &text[range.end..]].concat())
}

/// The distinct words in lowercase.
pub(super) fn vocabulary(text: &str) -> BTreeSet<String> {
    word_ranges(text).map(|range| text[range].to_lowercase()).collect()
}

/// The ranges of words, without the punctuation around them.
fn word_ranges(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.split_whitespace().filter_map(move |word| {
        let core = word.trim_matches(|c: char| !c.is_alphanumeric());
        // Both slices are in the same text, so the difference of their addresses is an offset.
        let start = core.as_ptr() as usize - text.as_ptr() as usize;
        (!core.is_empty()).then_some(start..start + core.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    #[test]
    fn the_nearest_answer_is_a_different_one_with_the_most_common_words() {
        let vocabularies = |texts: &[&str]| texts.iter().map(|text| vocabulary(text)).collect::<Vec<_>>();
        let others = vocabularies(&["A blue ring.", "red ring", "A red, ring!", "a red hat", "green"]);
        assert_eq!(
            nearest(&vocabulary("a red ring"), &others, |_| true),
            Some(1),
            "2 of 3 words are common; an answer with the same words does not count"
        );
        assert_eq!(nearest(&vocabulary("a red ring"), &others, |n| n != 1), Some(0), "the second nearest");
        assert_eq!(nearest(&vocabulary("black"), &others, |_| true), None);
        assert_eq!(nearest(&vocabulary(""), &others, |_| true), None);
    }

    #[test]
    fn exactly_one_word_is_replaced() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mountain = String::from("mountain");
        let mut found = BTreeSet::new();
        for _ in 0..40 {
            found.insert(with_wrong_word("A \"red\" ring,\nwet", &[&mountain], &mut rng).unwrap());
        }
        let expected = [
            "A \"mountain\" ring,\nwet",
            "A \"red\" mountain,\nwet",
            "A \"red\" ring,\nmountain",
            "mountain \"red\" ring,\nwet",
        ];
        assert_eq!(found, expected.map(String::from).into());
        assert_eq!(with_wrong_word("red", &[], &mut rng), None);
        assert_eq!(with_wrong_word("...", &[&mountain], &mut rng), None);
    }
}
