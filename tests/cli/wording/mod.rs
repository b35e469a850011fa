//! The words of the program: no text that people read falls back into the vocabulary that this project has given up
//! ([`retired::WORDS`]). Texts are the documents, the help of every command as the book shows it, and the string literals of
//! the sources.

mod retired;
mod source;

use crate::documents::{files, shown};
use crate::tool::repository;
use std::fs;

/// Sources whose string literals people may read.
const SOURCES: [&str; 5] = ["src", "sae-gui/src", "harvest/src", "filters/src", "sae-core/src"];
/// Where the help of every command is.
const HELP: &str = "docs/book/src/commands";
/// A text that people read, with where it is.
struct Text {
    /// The file.
    place: String,
    /// The line in which it begins.
    line: usize,
    text: String,
}

/// Where retired words are in a text, each with what to write instead.
fn findings(found: &Text) -> Vec<String> {
    let mut text = found.text.to_lowercase();
    for allowed in retired::ALLOWED {
        text = text.replace(allowed, &"\u{0}".repeat(allowed.len()));
    }
    // Phrases may be broken between two lines: all white space counts as one space.
    let (mut words, mut lines) = (String::from(" "), vec![found.line]);
    let mut line = found.line;
    for sign in text.chars() {
        line += usize::from(sign == '\n');
        let sign = if sign.is_whitespace() { ' ' } else { sign };
        if sign != ' ' || !words.ends_with(' ') {
            words.push(sign);
            lines.extend(std::iter::repeat_n(line, sign.len_utf8()));
        }
    }
    words.push(' ');
    let part_of_a_word = |sign: Option<char>| sign.is_some_and(|sign| sign.is_alphanumeric() || sign == '_');
    let mut all = Vec::new();
    for (phrase, instead) in retired::WORDS {
        for (at, _) in words.match_indices(phrase) {
            let (before, after) = (words[..at].chars().next_back(), words[at + phrase.len()..].chars().next());
            let begins = !part_of_a_word(phrase.chars().next()) || !part_of_a_word(before);
            let ends = !part_of_a_word(phrase.chars().next_back()) || !part_of_a_word(after);
            if begins && ends {
                all.push(format!("{}:{}: \"{phrase}\": {instead}", found.place, lines[at]));
            }
        }
    }
    all
}

/// All texts that people read.
fn texts() -> Vec<Text> {
    let help = files(&repository(HELP), "txt");
    let whole = files(&repository(""), "md").into_iter().chain(help);
    let whole = whole.map(|path| Text { place: shown(&path), line: 1, text: fs::read_to_string(&path).unwrap() });
    let sources = SOURCES.iter().flat_map(|folder| files(&repository(folder), "rs"));
    let literals = sources.flat_map(|path| {
        let literals = source::literals(&path).into_iter();
        literals.map(move |(line, text)| Text { place: shown(&path), line, text }).collect::<Vec<_>>()
    });
    whole.chain(literals).collect()
}

#[test]
fn no_text_that_people_read_has_a_retired_word() {
    let texts = texts();
    let below = |text: &Text, place: &str| text.place == place || text.place.starts_with(&format!("{place}/"));
    for place in ["README.md", HELP].iter().chain(&SOURCES) {
        assert!(texts.iter().any(|text| below(text, place)), "{place} has no text");
    }
    let found: Vec<_> = texts.iter().flat_map(findings).collect();
    assert!(found.is_empty(), "{} retired words or phrases:\n{}", found.len(), found.join("\n"));
}

#[test]
fn retired_words_are_found_across_lines_and_as_whole_words_only() {
    let text = |text: &str| Text { place: "a".into(), line: 7, text: text.into() };
    assert_eq!(findings(&text("one\nThe WHOLE\n  way")).len(), 1);
    assert!(findings(&text("one\nThe whole\n way"))[0].starts_with("a:8: \"whole way\""));
    assert_eq!(findings(&text("pmi_token_min, learn, coloured-in neighbours.parquet")), Vec::<String>::new());
}
