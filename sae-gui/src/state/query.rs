//! What stands in the search field: predicates such as `class:cross density>1e-4 label:"red ring" 123`. Understands while it
//! is being typed: what is not finished, or not understood, is complained about and narrows nothing.

use super::annotations::{Annotations, Words};
use super::field::{CLASSES, Field};
use sae_core::analysis::index::FeatureRow;
use std::cmp::Ordering;

/// A search, understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// All of these must hold.
    terms: Vec<Term>,
    /// Beginnings of feature numbers; one of them must fit, if there are any.
    numbers: Vec<u32>,
    complaint: Option<String>,
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
    /// People's words hold these, in small letters.
    Says(Words, String),
    Star(bool),
    /// It is in a list whose name begins so.
    Listed(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    More,
    AtLeast,
    Less,
    AtMost,
    Equal,
}

/// Longest first, so that `>=` is not read as `>`.
const SIGNS: [(&str, Comparison, bool); 7] = [
    (">=", Comparison::AtLeast, false),
    ("<=", Comparison::AtMost, false),
    ("!=", Comparison::Equal, true),
    (">", Comparison::More, false),
    ("<", Comparison::Less, false),
    ("=", Comparison::Equal, false),
    (":", Comparison::Equal, false),
];

impl Query {
    /// Reads a search. Never fails: what it could not read is in [`Query::complaint`].
    pub fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for word in words(text) {
            let word = word.as_str();
            if let Ok(number) = word.parse() {
                query.numbers.push(number);
                continue;
            }
            match Term::parse(word) {
                Ok(term) => query.terms.push(term),
                Err(complaint) => query.complaint = query.complaint.or(Some(complaint)),
            }
        }
        query
    }

    /// What could not be understood, in a sentence.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Whether people's words decide anything.
    pub fn reads_marks(&self) -> bool {
        self.terms.iter().any(|term| matches!(term.test, Test::Says(..) | Test::Star(_) | Test::Listed(_)))
    }

    /// Whether a feature is looked for.
    pub fn matches(&self, row: &FeatureRow, marks: &Annotations) -> bool {
        let numbered = || self.numbers.iter().any(|number| begins(row.feature, *number));
        (self.numbers.is_empty() || numbered()) && self.terms.iter().all(|term| term.holds(row, marks))
    }
}

/// Words between spaces; what stands between quotation marks is one, without them.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for sign in text.chars() {
        match sign {
            '"' => quoted = !quoted,
            sign if sign.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            sign => word.push(sign),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// Whether the digits of `number` begin with those of `beginning`.
fn begins(mut number: u32, beginning: u32) -> bool {
    while number > beginning && beginning > 0 {
        number /= 10;
    }
    number == beginning
}

impl Term {
    fn parse(word: &str) -> Result<Self, String> {
        let (negated, body) = match word.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, word),
        };
        let found = SIGNS.iter().filter_map(|sign| body.find(sign.0).map(|at| (at, sign)));
        let first = found.min_by_key(|(at, sign)| (*at, std::cmp::Reverse(sign.0.len())));
        let Some((at, (sign, comparison, inverted))) = first else {
            return Err(format!("\"{word}\" is not understood: try a number, class:cross or density>1e-4"));
        };
        let (name, value) = (&body[..at], &body[at + sign.len()..]);
        let (name, negated) = (name.to_lowercase(), negated != *inverted);
        if let Some(test) = written(&name, value)? {
            return match comparison {
                Comparison::Equal => Ok(Self { negated, test }),
                _ => Err(format!("words have no order: {name}:{value}")),
            };
        }
        let Some(field) = Field::named(&name) else {
            let names = Field::ALL.map(Field::name).join(", ");
            return Err(format!("\"{name}\" is nothing that features have: {names}, label, notes, author, star, list"));
        };
        let test = match field {
            Field::Class if *comparison == Comparison::Equal => Test::Class(classes(value)?),
            Field::Class => return Err(format!("classes have no order: class:{}", CLASSES[0])),
            _ => Test::Compare(field, *comparison, number(field, value)?),
        };
        Ok(Self { negated, test })
    }

    fn holds(&self, row: &FeatureRow, marks: &Annotations) -> bool {
        let holds = match &self.test {
            Test::Class(classes) => classes.iter().any(|class| row.class.starts_with(class)),
            // What has no value fits neither a comparison nor its opposite.
            Test::Compare(field, comparison, bound) => match field.value(row) {
                Some(value) => comparison.holds(value, *bound),
                None => return false,
            },
            Test::Says(field, words) => marks.holds(row.feature, *field, words),
            Test::Star(star) => marks.star(row.feature) == *star,
            Test::Listed(name) => marks.listed(row.feature, name),
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

/// A test of people's words, if the name is of any.
fn written(name: &str, value: &str) -> Result<Option<Test>, String> {
    let value = value.to_lowercase();
    Ok(Some(match name {
        "label" => Test::Says(Words::Label, value),
        "notes" => Test::Says(Words::Notes, value),
        "author" => Test::Says(Words::Author, value),
        "list" => Test::Listed(value),
        "star" => match value.as_str() {
            "" | "y" | "ye" | "yes" => Test::Star(true),
            "n" | "no" => Test::Star(false),
            _ => return Err(format!("\"{value}\" is neither yes nor no")),
        },
        _ => return Ok(None),
    }))
}

fn classes(value: &str) -> Result<Vec<String>, String> {
    let classes: Vec<_> = value.split(',').map(str::to_lowercase).collect();
    let unknown = classes.iter().find(|class| !CLASSES.iter().any(|known| known.starts_with(class.as_str())));
    match unknown {
        Some(class) => Err(format!("unknown class \"{class}\": expected {}", CLASSES.join(", "))),
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
        "" => format!("{} is compared with a number", field.name()),
        _ => format!("invalid number \"{value}\""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::label_edits::LabelEdits;
    use proptest::prelude::*;
    use sae_core::analysis::labels::{Entry, Labels};

    fn row(feature: u32, class: &str, density: f64, weight: Option<f64>) -> FeatureRow {
        FeatureRow { feature, class: class.into(), density, weight_paper: weight, ..FeatureRow::default() }
    }

    fn marks() -> Annotations {
        let mut labeling = LabelEdits::new("base", "Ann", Labels::default());
        for (feature, label) in [(12, "Red ring"), (123, "ring")] {
            labeling.type_in(Entry { label: label.into(), ..Entry::empty(feature) });
        }
        labeling.commit();
        labeling.toggle_star(45);
        labeling.add_to_list("Colors", &[12, 1]);
        Annotations::of(&labeling)
    }

    fn found(text: &str) -> Vec<u32> {
        let rows = [
            row(0, "dead", 0.0, None),
            row(1, "text", 0.02, Some(0.1)),
            row(12, "cross", 0.001, Some(0.3)),
            row(123, "image", 0.00001, Some(-0.2)),
            row(45, "cross", 0.5, None),
        ];
        let query = Query::parse(text);
        rows.iter().filter(|row| query.matches(row, &marks())).map(|row| row.feature).collect()
    }

    #[test]
    fn all_predicates_must_hold() {
        assert_eq!(found(""), [0, 1, 12, 123, 45]);
        assert_eq!(found("class:cross"), [12, 45]);
        assert_eq!(found("class:cross,image"), [12, 123, 45]);
        assert_eq!(found("class:cross density>1e-4 weight>0.2"), [12]);
        assert_eq!(found("density>=2%"), [1, 45]);
        assert_eq!(found("-class:dead density<0.01"), [12, 123]);
        assert_eq!(found("class!=cross weight<=0.1"), [1, 123]);
        assert_eq!(found("feature=12"), [12]);
    }

    #[test]
    fn peoples_words_are_searched() {
        assert_eq!(found("label:ring"), [12, 123]);
        assert_eq!(found("label:\"red r\""), [12]);
        assert_eq!(found("-label:red label:ring"), [123]);
        assert_eq!(found("label:"), [12, 123], "any label");
        assert_eq!(found("author:ann class:cross"), [12]);
        assert_eq!(found("star:yes"), [45]);
        assert_eq!(found("list:col weight>0"), [1, 12]);
        assert!(found("notes:x").is_empty());
    }

    #[test]
    fn numbers_find_what_begins_with_them() {
        assert_eq!(found("1"), [1, 12, 123]);
        assert_eq!(found("12"), [12, 123]);
        assert_eq!(found("0"), [0]);
        assert_eq!(found("12 45"), [12, 123, 45]);
        assert_eq!(found("12 class:cross"), [12]);
    }

    #[test]
    fn features_without_a_weight_fit_no_comparison_with_it() {
        assert_eq!(found("weight>0"), [1, 12]);
        assert_eq!(found("-weight>0"), [123]);
    }

    #[test]
    fn what_is_half_typed_narrows_nothing_and_is_complained_about() {
        for (text, said) in [
            ("density>", "compared with a number"),
            ("density>1e", "invalid number"),
            ("clas", "not understood"),
            ("color:red", "nothing that features have"),
            ("class:blue", "unknown class"),
            ("class>text", "no order"),
            ("label>a", "no order"),
            ("star:perhaps", "neither yes nor no"),
        ] {
            assert_eq!(found(text).len(), 5, "{text}");
            let query = Query::parse(text);
            assert!(query.complaint().is_some_and(|c| c.contains(said)), "{text}: {:?}", query.complaint());
        }
        assert_eq!(found("density>1e class:cross"), [12, 45]);
    }

    proptest! {
        #[test]
        fn anything_can_be_typed(text in ".{0,40}") {
            Query::parse(&text).matches(&row(7, "text", 0.1, None), &marks());
        }

        #[test]
        fn beginnings_are_those_of_the_digits(number in 0u32..200_000, beginning in 0u32..3000) {
            prop_assert_eq!(begins(number, beginning),
                if beginning == 0 { number == 0 } else { number.to_string().starts_with(&beginning.to_string()) });
        }
    }
}
