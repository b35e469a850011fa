//! The language of the search field: words, numbers, and conditions such as `class:cross density>1% label:"red ring"`, joined by
//! `OR`. A text is understood while it is being typed: a condition that is not complete narrows nothing and is reported.

use super::annotations::{Annotations, TextField};
use super::caption_shares::CaptionShares;
use super::field::{CLASSES, Field};
use super::positions::PositionCounts;
use super::typical_words::TypicalWords;
use sae_core::analysis::index::FeatureRow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// A parsed search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// One of these must hold; an empty search has none and finds everything.
    alternatives: Vec<Conjunction>,
    problem: Option<String>,
}

/// Terms between two `OR`s.
#[derive(Clone, Debug, Default, PartialEq)]
struct Conjunction {
    /// All of these must hold.
    terms: Vec<Term>,
    /// Beginnings of feature numbers; if there are any, one of them must fit.
    numbers: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    negated: bool,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    /// The class begins with one of these.
    Class(Vec<String>),
    Compare(Field, Comparison, f64),
    /// A text that people wrote contains this, in lower case.
    Text(TextField, String),
    /// One of the typical words contains this, in lower case.
    Typical(String),
    /// The caption of a strongest example contains this, in lower case.
    Caption(String),
    /// The label, the notes, a typical word or most captions of the strongest examples contain this, in lower case.
    Anywhere(String),
    Star(bool),
    /// The feature is in the list of this name, else in one whose name begins with it.
    InList(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    More,
    AtLeast,
    Less,
    AtMost,
    Equal,
}

/// Signs of comparison, each with whether it negates. Of two signs at the same place the longer one counts.
const SIGNS: [(&str, Comparison, bool); 7] = [
    (">=", Comparison::AtLeast, false),
    ("<=", Comparison::AtMost, false),
    ("!=", Comparison::Equal, true),
    (">", Comparison::More, false),
    ("<", Comparison::Less, false),
    ("=", Comparison::Equal, false),
    (":", Comparison::Equal, false),
];

/// Names of conditions that are no columns.
const OTHER_NAMES: [&str; 6] = ["word", "caption", "notes", "author", "star", "list"];

/// The share of the captions of a feature's strongest examples from which on a plain word finds the feature. A word that is in a
/// few of them says little about the feature.
const MOST_CAPTIONS: f32 = 0.5;

/// What is known about one feature, for a search.
pub struct Subject<'a> {
    /// Its row.
    pub row: &'a FeatureRow,
    /// The positions that the index counted.
    pub positions: &'a PositionCounts,
    /// What people wrote.
    pub annotations: &'a Annotations,
    /// Its typical words.
    pub typical_words: Option<&'a TypicalWords>,
    /// What is in the captions of its strongest examples.
    pub captions: &'a CaptionShares,
}

impl Subject<'_> {
    /// Whether one of the typical words contains a text, which is in lower case.
    fn is_typical(&self, text: &str) -> bool {
        self.typical_words.is_some_and(|words| words.contains(text))
    }

    /// Whether the label, the notes or a typical word contain a text, which is in lower case.
    fn says(&self, text: &str) -> bool {
        let written = |field| self.annotations.contains(self.row.feature, field, text);
        written(TextField::Label) || written(TextField::Notes) || self.is_typical(text)
    }
}

impl Query {
    /// Parses a search. Never fails: what was not understood is in [`Query::problem`].
    pub fn parse(text: &str) -> Self {
        let mut query = Self::default();
        let mut current = Conjunction::default();
        for word in words(text) {
            match word {
                Word::Bare(word) if word == "OR" || word == "|" => query.close(&mut current),
                Word::Bare(word) => {
                    if let Ok(number) = word.parse() {
                        current.numbers.push(number);
                        continue;
                    }
                    match Term::parse(&word) {
                        Ok(term) => current.terms.push(term),
                        Err(problem) => query.problem = query.problem.or(Some(problem)),
                    }
                }
                Word::Quoted(word) => {
                    current.terms.push(Term { negated: false, test: Test::Anywhere(word.to_lowercase()) });
                }
            }
        }
        query.close(&mut current);
        query
    }

    fn close(&mut self, current: &mut Conjunction) {
        let done = std::mem::take(current);
        if done != Conjunction::default() {
            self.alternatives.push(done);
        }
    }

    /// What was not understood, in a sentence.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Whether the result depends on what people wrote.
    pub fn uses_annotations(&self) -> bool {
        let uses = |term: &Term| !matches!(term.test, Test::Class(_) | Test::Compare(..) | Test::Typical(_));
        self.terms().any(uses)
    }

    /// The texts that are looked for in captions, in lower case.
    pub fn caption_texts(&self) -> BTreeSet<String> {
        let text = |term: &Term| match &term.test {
            Test::Caption(text) | Test::Anywhere(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            _ => None,
        };
        self.terms().filter_map(text).collect()
    }

    /// Why captions cannot be searched, if the search is about them and `captions` has the reason.
    pub fn caption_problem<'a>(&self, captions: &'a CaptionShares) -> Option<&'a str> {
        let problem = |term: &Term| match &term.test {
            Test::Caption(text) => captions.problem(text),
            _ => None,
        };
        self.terms().find_map(problem)
    }

    /// The texts because of which a feature is found in captions, and in nothing else that is known of it, each with the share of
    /// the captions of its strongest examples that contain the text.
    pub fn caption_hits(&self, subject: &Subject) -> BTreeMap<&str, f32> {
        let terms = self.terms().filter(|term| !term.negated && term.holds(subject));
        let texts = terms.filter_map(|term| match &term.test {
            Test::Caption(text) => Some(text.as_str()),
            Test::Anywhere(text) if !subject.says(text) => Some(text.as_str()),
            _ => None,
        });
        texts.filter_map(|text| Some((text, subject.captions.share(text, subject.row.feature)?))).collect()
    }

    fn terms(&self) -> impl Iterator<Item = &Term> {
        self.alternatives.iter().flat_map(|alternative| &alternative.terms)
    }

    /// Whether a feature is found.
    pub fn matches(&self, subject: &Subject) -> bool {
        let numbered = |numbers: &[u32]| numbers.iter().any(|number| begins_with(subject.row.feature, *number));
        let holds = |alternative: &Conjunction| {
            (alternative.numbers.is_empty() || numbered(&alternative.numbers))
                && alternative.terms.iter().all(|term| term.holds(subject))
        };
        self.alternatives.is_empty() || self.alternatives.iter().any(holds)
    }

    /// Whether the search names this very number.
    pub fn names(&self, feature: u32) -> bool {
        self.alternatives.iter().any(|alternative| alternative.numbers.contains(&feature))
    }
}

enum Word {
    /// May be a condition.
    Bare(String),
    /// Stood between quotation marks as a whole.
    Quoted(String),
}

/// The words between spaces. Text between quotation marks is not divided; the marks are removed.
fn words(text: &str) -> Vec<Word> {
    let (mut words, mut word, mut quoted, mut whole) = (Vec::new(), String::new(), false, false);
    let close = |word: &mut String, whole: &mut bool, words: &mut Vec<Word>| {
        let done = std::mem::take(word);
        if !done.is_empty() {
            words.push(if *whole { Word::Quoted(done) } else { Word::Bare(done) });
        }
        *whole = false;
    };
    for character in text.chars() {
        match character {
            '"' => {
                whole |= word.is_empty() && !quoted;
                quoted = !quoted;
            }
            character if character.is_whitespace() && !quoted => close(&mut word, &mut whole, &mut words),
            character => word.push(character),
        }
    }
    close(&mut word, &mut whole, &mut words);
    words
}

/// Whether the digits of `number` begin with those of `beginning`.
fn begins_with(mut number: u32, beginning: u32) -> bool {
    while number > beginning && beginning > 0 {
        number /= 10;
    }
    number == beginning
}

impl Term {
    fn parse(word: &str) -> Result<Self, String> {
        let (negated, body) = match word.strip_prefix('-') {
            Some(rest) if !rest.is_empty() => (true, rest),
            _ => (false, word),
        };
        let found = SIGNS.iter().filter_map(|sign| body.find(sign.0).map(|at| (at, sign)));
        let first = found.min_by_key(|(at, sign)| (*at, std::cmp::Reverse(sign.0.len())));
        let Some((at, (sign, comparison, inverted))) = first else {
            return Ok(Self { negated, test: Test::Anywhere(body.to_lowercase()) });
        };
        let (name, value) = (&body[..at], &body[at + sign.len()..]);
        let (name, negated) = (name.to_lowercase(), negated != *inverted);
        if let Some(test) = text_test(&name, value)? {
            return match comparison {
                Comparison::Equal => Ok(Self { negated, test }),
                _ => Err(format!("{name} is a text and cannot be compared: write {name}:{value}")),
            };
        }
        let Some(field) = Field::from_name(&name) else {
            let names = Field::ALL.map(Field::name).into_iter().chain(OTHER_NAMES).collect::<Vec<_>>().join(", ");
            return Err(format!("Unknown field \"{name}\". Fields: {names}."));
        };
        let test = match field {
            Field::Class if *comparison == Comparison::Equal => Test::Class(classes(value)?),
            Field::Class => return Err(format!("A class cannot be compared: write class:{}", CLASSES[0])),
            _ => Test::Compare(field, *comparison, number(field, value)?),
        };
        Ok(Self { negated, test })
    }

    fn holds(&self, subject: &Subject) -> bool {
        let (feature, annotations) = (subject.row.feature, subject.annotations);
        let holds = match &self.test {
            Test::Class(classes) => classes.iter().any(|class| subject.row.class.starts_with(class)),
            // A feature without a value satisfies neither a comparison nor its opposite.
            Test::Compare(field, comparison, bound) => match field.value(subject.row, subject.positions) {
                Some(value) => comparison.holds(value, *bound),
                None => return false,
            },
            Test::Text(field, text) => annotations.contains(feature, *field, text),
            Test::Typical(text) => subject.is_typical(text),
            // While it is not known, the condition narrows nothing.
            Test::Caption(text) => match subject.captions.share(text, feature) {
                Some(share) => share > 0.0,
                None => return true,
            },
            Test::Anywhere(text) => {
                let in_captions = || subject.captions.share(text, feature).is_some_and(|share| share >= MOST_CAPTIONS);
                subject.says(text) || in_captions()
            }
            Test::Star(star) => annotations.star(feature) == *star,
            Test::InList(name) => annotations.in_list(feature, name),
        };
        holds != self.negated
    }
}

impl Comparison {
    fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::More => value > bound,
            Self::AtLeast => value >= bound,
            Self::Less => value < bound,
            Self::AtMost => value <= bound,
            Self::Equal => value.partial_cmp(&bound) == Some(Ordering::Equal),
        }
    }
}

/// A test of texts, stars and lists, if the name is one of theirs.
fn text_test(name: &str, value: &str) -> Result<Option<Test>, String> {
    let value = value.to_lowercase();
    Ok(Some(match name {
        "label" => Test::Text(TextField::Label, value),
        "notes" => Test::Text(TextField::Notes, value),
        "author" => Test::Text(TextField::Author, value),
        "word" => Test::Typical(value),
        "caption" => Test::Caption(value),
        "list" => Test::InList(value),
        "star" => match value.as_str() {
            "" | "y" | "ye" | "yes" => Test::Star(true),
            "n" | "no" => Test::Star(false),
            _ => return Err(format!("Invalid value \"{value}\" for star: expected yes or no")),
        },
        _ => return Ok(None),
    }))
}

fn classes(value: &str) -> Result<Vec<String>, String> {
    let classes: Vec<_> = value.split(',').map(str::to_lowercase).collect();
    let unknown = classes.iter().find(|class| !CLASSES.iter().any(|known| known.starts_with(class.as_str())));
    match unknown {
        Some(class) => Err(format!("Unknown class \"{class}\". Classes: {}.", CLASSES.join(", "))),
        None => Ok(classes),
    }
}

fn number(field: Field, value: &str) -> Result<f64, String> {
    let (digits, unit) = match value.strip_suffix('%') {
        Some(digits) => (digits, 0.01),
        None => (value, 1.0),
    };
    let number: Option<f64> = digits.parse().ok().filter(|number: &f64| !number.is_nan());
    number.map(|number| number * unit).ok_or_else(|| match value {
        "" => format!("{} needs a number, such as {0}>0.1", field.name()),
        _ => format!("Invalid number \"{value}\" for {}: expected one such as 0.1, 1e-4 or 2%", field.name()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sae_core::analysis::labels::{Change, Entry, Labels};
    use std::sync::LazyLock;

    static POSITIONS: LazyLock<PositionCounts> =
        LazyLock::new(|| PositionCounts { all: 300, text: 100, image: 200, ..PositionCounts::default() });

    fn row(feature: u32, class: &str, density: f64, weight: Option<f64>) -> FeatureRow {
        FeatureRow { feature, class: class.into(), density, weight_paper: weight, ..FeatureRow::default() }
    }

    fn annotations() -> Annotations {
        let entry = |after: Entry| Change::Entry { before: Entry::empty(after.feature), after };
        let labeled =
            |feature, label: &str| entry(Entry { label: label.into(), author: "Ann".into(), ..Entry::empty(feature) });
        let list =
            |name: &str, after: &[u32]| Change::List { name: name.into(), before: vec![], after: after.to_vec() };
        let changes = [
            labeled(12, "Red ring"),
            labeled(123, "ring"),
            entry(Entry { star: true, ..Entry::empty(45) }),
            list("Colors", &[12, 1]),
            list("Colors of boats", &[123]),
        ];
        let mut labels = Labels::default();
        labels.apply("base", &changes);
        Annotations::new(labels.written("base"))
    }

    fn found(text: &str) -> Vec<u32> {
        found_with(text, &CaptionShares::default())
    }

    fn found_with(text: &str, captions: &CaptionShares) -> Vec<u32> {
        let rows = [
            row(0, "dead", 0.0, None),
            FeatureRow { fires_text: 10, fires_image: 2, ..row(1, "text", 0.02, Some(0.1)) },
            FeatureRow { fires_text: 40, fires_image: 20, ..row(12, "cross", 0.001, Some(0.3)) },
            row(123, "image", 0.00001, Some(-0.2)),
            row(45, "cross", 0.5, None),
        ];
        let boat = TypicalWords { tokens: "Boat".into(), image_words: "sea".into() };
        let query = Query::parse(text);
        let annotations = annotations();
        let subject = |row| {
            let typical_words = (row == &rows[3]).then_some(&boat);
            Subject { row, positions: &POSITIONS, annotations: &annotations, typical_words, captions }
        };
        rows.iter().filter(|row| query.matches(&subject(row))).map(|row| row.feature).collect()
    }

    #[test]
    fn all_conditions_must_hold() {
        assert_eq!(found(""), [0, 1, 12, 123, 45]);
        assert_eq!(found("class:cross"), [12, 45]);
        assert_eq!(found("class:cross,image"), [12, 123, 45]);
        assert_eq!(found("class:cross density>1e-4 weight>0.2"), [12]);
        assert_eq!(found("density>=2%"), [1, 45]);
        assert_eq!(found("-class:dead density<0.01"), [12, 123]);
        assert_eq!(found("class!=cross weight<=0.1"), [1, 123]);
        assert_eq!(found("feature=12"), [12]);
        assert_eq!(found("rate_text>5%"), [1, 12]);
        assert_eq!(found("ratio<5"), [12]);
    }

    #[test]
    fn one_of_the_alternatives_must_hold() {
        assert_eq!(found("class:image OR class:text"), [1, 123]);
        assert_eq!(found("class:cross density>10% | 123"), [123, 45]);
        assert_eq!(found("class:cross OR"), [12, 45], "half typed");
        assert_eq!(found("or"), [] as [u32; 0], "a word like others");
    }

    #[test]
    fn texts_are_searched() {
        assert_eq!(found("label:ring"), [12, 123]);
        assert_eq!(found("label:\"red r\""), [12]);
        assert_eq!(found("-label:red label:ring"), [123]);
        assert_eq!(found("label:"), [12, 123], "any label");
        assert_eq!(found("author:ann class:cross"), [12]);
        assert_eq!(found("star:yes"), [45]);
        assert_eq!(found("list:colors"), [1, 12], "the list of that name, not those that begin with it");
        assert_eq!(found("list:\"colors of boats\""), [123]);
        assert_eq!(found("list:col"), [1, 12, 123]);
        assert_eq!(found("word:boa"), [123]);
        assert!(found("notes:x").is_empty());
    }

    #[test]
    fn captions_are_searched_once_they_are_counted() {
        let mut captions = CaptionShares::default();
        assert_eq!(found_with("caption:dog class:cross", &captions), [12, 45], "not counted yet");
        let mut shares = vec![0.0; 124];
        (shares[12], shares[45]) = (0.1, 0.5);
        captions.insert("dog".into(), Ok(shares));
        assert_eq!(found_with("caption:DOG", &captions), [12, 45]);
        assert_eq!(found_with("-caption:dog class:cross", &captions), [] as [u32; 0]);
        assert_eq!(found_with("dog", &captions), [45], "a plain word has to be in half of the captions");
        captions.insert("cat".into(), Err("There is no table.".into()));
        let query = Query::parse("caption:cat OR ring");
        assert_eq!(query.caption_problem(&captions), Some("There is no table."));
        assert_eq!(query.caption_texts(), ["cat".to_owned(), "ring".to_owned()].into());
        assert_eq!(Query::parse("cat").caption_problem(&captions), None, "a plain word is in other texts as well");
        assert!(Query::parse("word:boat class:cross caption:").caption_texts().is_empty());
    }

    #[test]
    fn plain_words_are_searched_in_labels_notes_and_typical_words() {
        assert_eq!(found("ring"), [12, 123]);
        assert_eq!(found("RED"), [12]);
        assert_eq!(found("\"red ring\""), [12]);
        assert_eq!(found("boat"), [123]);
        assert_eq!(found("sea ring"), [123]);
        assert_eq!(found("ring -red"), [123]);
        assert!(Query::parse("blue").problem().is_none());
    }

    #[test]
    fn numbers_find_what_begins_with_them() {
        assert_eq!(found("1"), [1, 12, 123]);
        assert_eq!(found("12"), [12, 123]);
        assert_eq!(found("0"), [0]);
        assert_eq!(found("12 45"), [12, 123, 45]);
        assert_eq!(found("12 class:cross"), [12]);
        assert!(Query::parse("12").names(12) && !Query::parse("12").names(123));
    }

    #[test]
    fn features_without_a_weight_satisfy_no_comparison() {
        assert_eq!(found("weight>0"), [1, 12]);
        assert_eq!(found("-weight>0"), [123]);
    }

    #[test]
    fn what_is_half_typed_narrows_nothing_and_is_reported() {
        for (text, expected) in [
            ("density>", "needs a number"),
            ("density>1e", "Invalid number \"1e\""),
            ("color:red", "Unknown field \"color\""),
            ("foo>3", "Fields: feature, class"),
            ("class:blue", "Unknown class"),
            ("class>text", "cannot be compared"),
            ("label>a", "cannot be compared"),
            ("star:perhaps", "expected yes or no"),
        ] {
            assert_eq!(found(text).len(), 5, "{text}");
            let query = Query::parse(text);
            assert!(query.problem().is_some_and(|p| p.contains(expected)), "{text}: {:?}", query.problem());
        }
        assert_eq!(found("density>1e class:cross"), [12, 45]);
    }

    proptest! {
        #[test]
        fn anything_can_be_typed(text in ".{0,40}") {
            let (row, annotations) = (row(7, "text", 0.1, None), annotations());
            let captions = CaptionShares::default();
            let subject = Subject {
                row: &row, positions: &POSITIONS, annotations: &annotations, typical_words: None, captions: &captions,
            };
            Query::parse(&text).matches(&subject);
        }

        #[test]
        fn beginnings_are_those_of_the_digits(number in 0u32..200_000, beginning in 0u32..3000) {
            prop_assert_eq!(begins_with(number, beginning),
                if beginning == 0 { number == 0 } else { number.to_string().starts_with(&beginning.to_string()) });
        }
    }
}
