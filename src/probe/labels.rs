//! What people say about samples: the labels of a probe, from the fields of rows.

use super::ProbeError;
use crate::Result;
use filters::probe::{Kind, Targets};
use filters::select::{Groups, field_value, number};
use sae_core::store::sample::Sample;
use serde_json::Value;
use std::collections::BTreeMap;

/// Samples of a label, and pairs, that a fit needs at least.
pub(super) const FEWEST: usize = 20;
/// Pairs that are fitted at most.
const MOST_PAIRS: usize = 5_000_000;
/// Offending values that are named.
const NAMED: usize = 5;

/// The labels of all samples.
pub(super) struct Labels {
    /// The field.
    pub field: String,
    /// The number of each sample: 1 and 0 for yes and no, a level, a number, a rate.
    pub values: Vec<Option<f64>>,
    /// The names of levels in ascending order; empty unless the probe is ordinal.
    pub levels: Vec<String>,
}

impl Labels {
    /// Reads labels. `label` is a field; `FIELD=a` asks whether a field is `a`, and `FIELD=a<b<c` names levels in order.
    ///
    /// # Errors
    /// A field that no row has, and values that the kind of probe does not take.
    pub fn read(kind: Kind, label: &str, samples: &[Sample]) -> Result<Self> {
        let (field, names) = label.split_once('=').map_or((label, ""), |(field, names)| (field.trim(), names));
        let names: Vec<String> =
            names.split('<').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let found: Vec<Option<&Value>> = samples.iter().map(|sample| field_value(&sample.meta, field)).collect();
        if found.iter().all(Option::is_none) {
            let error = Groups::by_fields(samples, field).err();
            let available = match error {
                Some(filters::Error::UnknownField { available, .. }) => available,
                _ => Vec::new(),
            };
            return Err(ProbeError::UnknownField { field: field.into(), available }.into());
        }
        let reader = Reader { kind, names: &names };
        let mut wrong = Vec::new();
        let values = found.into_iter().map(|value| {
            let value = value.filter(|value| !value.is_null())?;
            let read = reader.value(value);
            if read.is_none() && wrong.len() < NAMED {
                wrong.push(text(value).chars().take(40).collect());
            }
            read
        });
        let values: Vec<Option<f64>> = values.collect();
        if !wrong.is_empty() {
            return Err(ProbeError::Values { field: field.into(), expected: reader.expected(), values: wrong }.into());
        }
        let levels = if kind == Kind::Ordinal { reader.levels(&values) } else { Vec::new() };
        Ok(Self { field: field.into(), values, levels })
    }

    /// Checks that every label has enough samples among those that take part.
    pub fn check(&self, kind: Kind, takes_part: impl Fn(usize) -> bool) -> Result<()> {
        let values: Vec<f64> =
            (0..self.values.len()).filter(|n| takes_part(*n)).filter_map(|n| self.values[n]).collect();
        let count = |of: &dyn Fn(f64) -> bool| values.iter().filter(|value| of(**value)).count();
        let found = match kind {
            Kind::Binary => vec![("yes".to_string(), count(&|v| v == 1.0)), ("no".into(), count(&|v| v == 0.0))],
            Kind::Ordinal => {
                let level = |(n, name): (usize, &String)| (name.clone(), count(&|v| v == n as f64));
                self.levels.iter().enumerate().map(level).collect()
            }
            Kind::Cost => vec![("unsafe".to_string(), count(&|v| v < 0.0)), ("safe".into(), count(&|v| v >= 0.0))],
            Kind::Linear | Kind::Pair => vec![(self.field.clone(), values.len())],
        };
        if found.iter().any(|(_, count)| *count < FEWEST) || (kind == Kind::Ordinal && found.len() < 2) {
            return Err(ProbeError::TooFew { field: self.field.clone(), found, fewest: FEWEST }.into());
        }
        Ok(())
    }
}

/// How values become numbers.
struct Reader<'a> {
    kind: Kind,
    names: &'a [String],
}

impl Reader<'_> {
    fn value(&self, value: &Value) -> Option<f64> {
        match (self.kind, self.names) {
            (Kind::Binary, [name]) => Some(f64::from(u8::from(text(value) == *name))),
            (Kind::Binary, _) => yes_or_no(value).map(|yes| f64::from(u8::from(yes))),
            (Kind::Ordinal, []) => number(value).filter(|value| value.fract() == 0.0 && (0.0..=20.0).contains(value)),
            (Kind::Ordinal, names) => names.iter().position(|name| *name == text(value)).map(|level| level as f64),
            _ => value.as_bool().map(|known| f64::from(u8::from(known))).or_else(|| number(value)),
        }
    }

    fn expected(&self) -> String {
        match (self.kind, self.names) {
            (Kind::Binary, _) => "true or false, yes or no, 1 or 0 (FIELD=NAME asks whether a field is NAME)".into(),
            (Kind::Ordinal, []) => "whole numbers from 0 to 20 (FIELD=a<b<c names levels in order)".into(),
            (Kind::Ordinal, names) => format!("one of {}", names.join(", ")),
            _ => "numbers".into(),
        }
    }

    /// The names of levels.
    fn levels(&self, values: &[Option<f64>]) -> Vec<String> {
        if !self.names.is_empty() {
            return self.names.to_vec();
        }
        let highest = values.iter().flatten().fold(0.0, |most: f64, value| most.max(*value));
        (0..=highest as usize).map(|level| level.to_string()).collect()
    }
}

/// Whether a value says yes, if it says yes or no.
pub(super) fn yes_or_no(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(known) => Some(*known),
        Value::String(name) if ["yes", "true"].contains(&name.to_lowercase().as_str()) => Some(true),
        Value::String(name) if ["no", "false"].contains(&name.to_lowercase().as_str()) => Some(false),
        value => number(value).filter(|value| *value == 0.0 || *value == 1.0).map(|value| value == 1.0),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

/// The pairs within sets of samples: for each two samples of a set with different values the one with the larger value first.
/// With `equal`, pairs of equal values as well.
///
/// # Errors
/// More pairs than can be fitted.
pub(super) fn pairs(field: &str, sets: &[Option<u32>], values: &[Option<f64>], equal: bool) -> Result<Vec<[usize; 2]>> {
    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (n, set) in sets.iter().enumerate().filter(|(n, _)| values[*n].is_some()) {
        set.iter().for_each(|set| members.entry(*set).or_default().push(n));
    }
    let count: usize = members.values().map(|members| members.len() * members.len().saturating_sub(1) / 2).sum();
    if count > MOST_PAIRS {
        return Err(ProbeError::TooManyPairs { field: field.into(), pairs: count, most: MOST_PAIRS }.into());
    }
    let mut found = Vec::new();
    for members in members.values() {
        for (place, a) in members.iter().enumerate() {
            for b in &members[place + 1..] {
                let [value, other] = [a, b].map(|n| values[*n].unwrap_or_default());
                if value > other {
                    found.push([*a, *b]);
                } else if other > value || equal {
                    found.push([*b, *a]);
                }
            }
        }
    }
    Ok(found)
}

/// What a probe is fitted to. `pairs` has the better or safer sample first.
pub(super) fn targets(kind: Kind, labels: &Labels, pairs: Vec<[usize; 2]>, members: &[usize]) -> Targets {
    let value = |n: &usize| labels.values[*n].unwrap_or_default();
    match kind {
        Kind::Binary => Targets::Binary(members.iter().map(|n| value(n) == 1.0).collect()),
        Kind::Ordinal => Targets::Ordinal(members.iter().map(|n| value(n) as u32).collect()),
        Kind::Linear => Targets::Linear(members.iter().map(value).collect()),
        Kind::Pair => Targets::Pair(pairs),
        Kind::Cost => {
            let unsafe_first = pairs.into_iter().map(|[safer, other]| [other, safer]);
            Targets::Cost(unsafe_first.collect(), members.iter().map(value).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn samples(metas: Vec<Value>) -> Vec<Sample> {
        let sample = |(n, meta): (usize, Value)| {
            let [text, source] = Default::default();
            Sample { id: n.to_string(), key: n.to_string(), text, images: vec![], source, meta, piece: None }
        };
        metas.into_iter().enumerate().map(sample).collect()
    }

    fn read(kind: Kind, label: &str, metas: Vec<Value>) -> Result<Vec<Option<f64>>> {
        Labels::read(kind, label, &samples(metas)).map(|labels| labels.values)
    }

    #[test]
    fn labels_are_read_in_the_ways_in_which_people_write_them() {
        let yes = vec![json!({"y": true}), json!({"y": "No"}), json!({"y": 1}), json!({"y": null}), json!({})];
        assert_eq!(read(Kind::Binary, "y", yes).unwrap(), [Some(1.0), Some(0.0), Some(1.0), None, None]);
        let names = || vec![json!({"y": "mild"}), json!({"y": "severe"}), json!({"y": "none"})];
        assert_eq!(read(Kind::Binary, "y=severe", names()).unwrap(), [Some(0.0), Some(1.0), Some(0.0)]);
        let ordinal = Labels::read(Kind::Ordinal, "y=none<mild<severe", &samples(names())).unwrap();
        assert_eq!((ordinal.values, ordinal.levels.len()), (vec![Some(1.0), Some(2.0), Some(0.0)], 3));
        assert_eq!(read(Kind::Linear, "a.b", vec![json!({"a": {"b": "2.5"}})]).unwrap(), [Some(2.5)]);
    }

    #[test]
    fn labels_that_are_not_understood_are_rejected_by_name() {
        let names = || vec![json!({"y": "mild", "other": 1})];
        let message = |kind, label: &str| read(kind, label, names()).unwrap_err().to_string();
        assert_eq!(message(Kind::Linear, "y"), "y has values that are not numbers: mild");
        assert!(message(Kind::Binary, "y").contains("FIELD=NAME"));
        assert_eq!(message(Kind::Ordinal, "y=a<b"), "y has values that are not one of a, b: mild");
        let unknown = message(Kind::Linear, "z");
        assert!(unknown.starts_with("no row has a field z") && unknown.contains("other"), "{unknown}");
    }

    #[test]
    fn pairs_are_within_sets_and_the_larger_value_comes_first() {
        let sets = [Some(0), Some(0), Some(1), Some(0), None];
        let values = [Some(1.0), Some(3.0), Some(9.0), Some(1.0), Some(2.0)];
        assert_eq!(pairs("q", &sets, &values, false).unwrap(), [[1, 0], [1, 3]]);
        assert_eq!(pairs("q", &sets, &values, true).unwrap(), [[1, 0], [3, 0], [1, 3]]);
    }
}
