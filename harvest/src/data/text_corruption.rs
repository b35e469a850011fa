//! Faults in the words of answers: what is left of a row's words, or what takes their place. Knows no rows.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use std::collections::BTreeSet;
use std::ops::Range;

/// The words in another order.
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

/// Which of other answers is the nearest one that says something else: the one with the largest share of words that both have,
/// of those that either has; the first of equals. None if no other that `fits` shares a word.
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

/// The text with one of its words, drawn, in whose place stands one of `wrong`. None if either has no word.
pub(super) fn with_wrong_word(text: &str, wrong: &[&String], rng: &mut impl Rng) -> Option<String> {
    let places: Vec<Range<usize>> = places(text).collect();
    let (place, word) = (places.choose(rng)?, wrong.choose(rng)?);
    Some([&text[..place.start], word.as_str(), &text[place.end..]].concat())
}

/// The different words, in small letters.
pub(super) fn vocabulary(text: &str) -> BTreeSet<String> {
    places(text).map(|place| text[place].to_lowercase()).collect()
}

/// Where words stand, without the signs around them.
fn places(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.split_whitespace().filter_map(move |word| {
        let core = word.trim_matches(|sign: char| !sign.is_alphanumeric());
        // A word is a part of the text, and its core a part of the word.
        let start = core.as_ptr() as usize - text.as_ptr() as usize;
        (!core.is_empty()).then_some(start..start + core.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    #[test]
    fn the_nearest_answer_is_another_one_with_most_words_in_common() {
        let of = |texts: &[&str]| texts.iter().map(|text| vocabulary(text)).collect::<Vec<_>>();
        let others = of(&["A blue ring.", "red ring", "A red, ring!", "a red hat", "green"]);
        assert_eq!(
            nearest(&vocabulary("a red ring"), &others, |_| true),
            Some(1),
            "2 of 3 words; the same words are no other answer"
        );
        assert_eq!(nearest(&vocabulary("a red ring"), &others, |n| n != 1), Some(0), "the next one");
        assert_eq!(nearest(&vocabulary("black"), &others, |_| true), None);
        assert_eq!(nearest(&vocabulary(""), &others, |_| true), None);
    }

    #[test]
    fn one_word_is_wrong_and_all_else_stays() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mountain = String::from("mountain");
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            seen.insert(with_wrong_word("A \"red\" ring,\nwet", &[&mountain], &mut rng).unwrap());
        }
        let wanted = [
            "A \"mountain\" ring,\nwet",
            "A \"red\" mountain,\nwet",
            "A \"red\" ring,\nmountain",
            "mountain \"red\" ring,\nwet",
        ];
        assert_eq!(seen, wanted.map(String::from).into());
        assert_eq!(with_wrong_word("red", &[], &mut rng), None);
        assert_eq!(with_wrong_word("...", &[&mountain], &mut rng), None);
    }
}
