//! What stands in the search field: predicates such as `class:cross density>1e-4 weight>0.2 123`. Understands while it
//! is being typed: what is not finished, or not understood, is complained about and narrows nothing.

use super::field::{CLASSES, Field};
use sae_core::index::FeatureRow;
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
        for word in text.split_whitespace() {
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

    /// Whether a feature is looked for.
    pub fn matches(&self, row: &FeatureRow) -> bool {
        let numbered = || self.numbers.iter().any(|number| begins(row.feature, *number));
        (self.numbers.is_empty() || numbered()) && self.terms.iter().all(|term| term.holds(row))
    }
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
        let Some(field) = Field::named(&name.to_lowercase()) else {
            let names = Field::ALL.map(Field::name).join(", ");
            return Err(format!("\"{name}\" is nothing that features have: {names}"));
        };
        let test = match field {
            Field::Class if *comparison == Comparison::Equal => Test::Class(classes(value)?),
            Field::Class => return Err(format!("classes have no order: class:{}", CLASSES[0])),
            _ => Test::Compare(field, *comparison, number(field, value)?),
        };
        Ok(Self { negated: negated != *inverted, test })
    }

    fn holds(&self, row: &FeatureRow) -> bool {
        let holds = match &self.test {
            Test::Class(classes) => classes.iter().any(|class| row.class.starts_with(class)),
            // What has no value fits neither a comparison nor its opposite.
            Test::Compare(field, comparison, bound) => match field.value(row) {
                Some(value) => comparison.holds(value, *bound),
                None => return false,
            },
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

fn classes(value: &str) -> Result<Vec<String>, String> {
    let classes: Vec<_> = value.split(',').map(str::to_lowercase).collect();
    let unknown = classes.iter().find(|class| !CLASSES.iter().any(|known| known.starts_with(class.as_str())));
    match unknown {
        Some(class) => Err(format!("\"{class}\" is no class: {}", CLASSES.join(", "))),
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
        _ => format!("\"{value}\" is no number"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(feature: u32, class: &str, density: f64, weight: Option<f64>) -> FeatureRow {
        FeatureRow { feature, class: class.into(), density, weight_paper: weight, ..FeatureRow::default() }
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
        rows.iter().filter(|row| query.matches(row)).map(|row| row.feature).collect()
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
            ("density>1e", "no number"),
            ("clas", "not understood"),
            ("colour:red", "nothing that features have"),
            ("class:blue", "no class"),
            ("class>text", "no order"),
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
            Query::parse(&text).matches(&row(7, "text", 0.1, None));
        }

        #[test]
        fn beginnings_are_those_of_the_digits(number in 0u32..200_000, beginning in 0u32..3000) {
            prop_assert_eq!(begins(number, beginning),
                if beginning == 0 { number == 0 } else { number.to_string().starts_with(&beginning.to_string()) });
        }
    }
}
