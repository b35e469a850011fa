//! Groups of samples by fields of their rows. Knows no scores.

use crate::{Error, Result};
use sae_core::error::{Cause, Hint, Setting};
use sae_core::store::sample::Sample;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The name of the group of samples that lack a field.
const NONE: &str = "(none)";
/// Maximum number of bins of a field of numbers.
const BINS: usize = 1000;

/// The group of every sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups {
    /// The names of the groups, in order. Samples without the field are in a separate group, the last one.
    pub names: Vec<String>,
    /// The group of each sample.
    pub of: Vec<u32>,
}

impl Groups {
    /// All samples in one group without a name.
    pub fn one(samples: usize) -> Self {
        Self { names: vec![String::new()], of: vec![0; samples] }
    }

    /// Groups samples by the values of one or several columns of their rows: `category`, or `category,country`. A dot selects a
    /// field of an object: `info.category`. A colon and a number divide a field of numbers into that many bins with about
    /// the same number of samples: `year:4`. The order of the items of a list does not matter.
    ///
    /// # Errors
    /// No row has the field (the error names the existing ones), or bins are requested for a field without numbers.
    pub fn by_fields(samples: &[Sample], fields: &str) -> Result<Self> {
        let whole = samples.iter().any(|sample| field_value(&sample.meta, fields).is_some());
        let fields: Vec<&str> = if whole { vec![fields] } else { fields.split(',').map(str::trim).collect() };
        let by_field = fields.iter().map(|field| by_field(samples, field)).collect::<Result<Vec<_>>>()?;
        let groups = (0..samples.len()).map(|n| by_field.iter().map(|values| values[n].clone()).collect::<Vec<_>>());
        let groups: Vec<Vec<GroupSource>> = groups.collect();
        let mut numbers: BTreeMap<&[GroupSource], u32> = groups.iter().map(|group| (group.as_slice(), 0)).collect();
        numbers.values_mut().zip(0..).for_each(|(number, n)| *number = n);
        let name = |group: &[GroupSource]| group.iter().map(GroupSource::name).collect::<Vec<_>>().join(" / ");
        let names = numbers.keys().map(|group| name(group)).collect();
        Ok(Self { names, of: groups.iter().map(|group| numbers[group.as_slice()]).collect() })
    }

    /// The number of samples in each group.
    pub fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.names.len()];
        self.of.iter().for_each(|group| sizes[*group as usize] += 1);
        sizes
    }

    /// The number of groups with a single sample.
    pub fn singles(&self) -> usize {
        self.sizes().iter().filter(|size| **size == 1).count()
    }
}

/// The value of a sample in one field. Samples that lack it are last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GroupSource {
    Value(String),
    /// The number of a bin, and its name.
    Bin(usize, String),
    None,
}

impl GroupSource {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Value(name) | Self::Bin(_, name) => name,
            Self::None => NONE,
        }
    }
}

fn by_field(samples: &[Sample], field: &str) -> Result<Vec<GroupSource>> {
    let values: Vec<Option<&Value>> = samples.iter().map(|sample| field_value(&sample.meta, field)).collect();
    if values.iter().any(Option::is_some) {
        return Ok(values
            .into_iter()
            .map(|value| value.map_or(GroupSource::None, |value| GroupSource::Value(name(value))))
            .collect());
    }
    match field.rsplit_once(':').map(|(field, bins)| (field, bins.parse::<usize>())) {
        Some((field, Ok(bins))) => by_bins(samples, field, bins),
        _ => Err(no_field(samples, field)),
    }
}

/// Divides samples by a field of numbers into bins with about the same number of samples. Equal numbers are in the same bin.
fn by_bins(samples: &[Sample], field: &str, bins: usize) -> Result<Vec<GroupSource>> {
    if !(2..=BINS).contains(&bins) {
        return Err(Error::request(format!("{bins} bins of {field}: expected 2 to {BINS}, as in {field}:4")));
    }
    let values: Vec<Option<&Value>> = samples.iter().map(|sample| field_value(&sample.meta, field)).collect();
    if values.iter().all(Option::is_none) {
        return Err(no_field(samples, field));
    }
    if let Some(value) = values.iter().flatten().find(|value| number(value).is_none()) {
        let text: String = value.to_string().chars().take(40).collect();
        let text = format!("bins of {field} need numbers, and a row has {text}");
        return Err(Error::request(Cause::with_hint(text, Hint::set(Setting::GroupBy, field))));
    }
    Ok(into_bins(&values.into_iter().map(|value| value.and_then(number)).collect::<Vec<_>>(), bins))
}

/// Divides numbers into bins of about the same size, each named by its range. Equal numbers are in the same bin.
pub(super) fn into_bins(numbers: &[Option<f64>], bins: usize) -> Vec<GroupSource> {
    let mut sorted: Vec<f64> = numbers.iter().flatten().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let bin = |x: f64| sorted.partition_point(|other| *other < x) * bins / sorted.len();
    let mut ranges: BTreeMap<usize, [f64; 2]> = BTreeMap::new();
    for x in &sorted {
        ranges.entry(bin(*x)).or_insert([*x, *x])[1] = *x;
    }
    let place = |x: &f64| {
        let [low, high] = ranges[&bin(*x)];
        GroupSource::Bin(bin(*x), if low == high { low.to_string() } else { format!("{low} to {high}") })
    };
    numbers.iter().map(|x| x.as_ref().map_or(GroupSource::None, place)).collect()
}

fn no_field(samples: &[Sample], field: &str) -> Error {
    let metas = samples.iter().filter_map(|sample| sample.meta.as_object()).flatten();
    let fields: BTreeSet<&str> = metas.map(|(name, _)| name.as_str()).collect();
    Error::UnknownField { asked: field.into(), available: fields.into_iter().take(30).map(String::from).collect() }
}

/// The value of a field of a row, if it exists and is not null; a dot selects a field of an object.
pub fn field_value<'a>(meta: &'a Value, field: &str) -> Option<&'a Value> {
    let direct = meta.get(field);
    let found = direct.or_else(|| field.split('.').try_fold(meta, |value, name| value.get(name)))?;
    (!found.is_null()).then_some(found)
}

/// A value as a number, if it is one, or text that is one.
pub fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|x: &f64| x.is_finite())
}

fn name(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let mut items: Vec<String> = items.iter().map(Value::to_string).collect();
            items.sort();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample(meta: Value) -> Sample {
        let [id, key, text, source] = Default::default();
        Sample { id, key, text, images: vec![], source, meta, piece: None }
    }

    #[test]
    fn rows_are_grouped_by_columns_of_any_type() {
        let rows =
            [json!({"c": "b"}), json!({"c": 7}), json!({"c": null}), json!({"d": {"e": true}}), json!({"c": "b"})];
        let samples: Vec<_> = rows.into_iter().map(sample).collect();
        let groups = Groups::by_fields(&samples, "c").unwrap();
        assert_eq!((groups.names.join(" "), groups.of.clone()), ("7 b (none)".into(), vec![1, 0, 2, 2, 1]));
        assert_eq!(groups.sizes(), [1, 2, 2]);
        assert_eq!(Groups::by_fields(&samples, "d.e").unwrap().names, ["true", "(none)"]);
        let said = Groups::by_fields(&samples, "category").unwrap_err().to_string();
        assert!(said.contains("no row has a field category") && said.contains("c, d"), "{said}");
    }

    #[test]
    fn several_fields_bins_and_lists() {
        let rows = [
            json!({"c": "b", "y": 1}),
            json!({"c": "a", "y": 2}),
            json!({"c": "b", "y": 2}),
            json!({"c": "b", "y": 9.5}),
            json!({"y": null}),
        ];
        let samples: Vec<_> = rows.into_iter().map(sample).collect();
        let both = Groups::by_fields(&samples, "c, y").unwrap();
        assert_eq!(both.names, ["a / 2", "b / 1", "b / 2", "b / 9.5", "(none) / (none)"]);
        assert_eq!(both.singles(), 5);
        let bins = Groups::by_fields(&samples, "y:2").unwrap();
        assert_eq!(
            (bins.names, bins.of),
            (["1 to 2", "9.5", "(none)"].map(String::from).to_vec(), vec![0, 0, 0, 1, 2])
        );
        assert!(Groups::by_fields(&samples, "c:2").unwrap_err().to_string().contains("need numbers"));
        assert!(Groups::by_fields(&samples, "y:1").unwrap_err().to_string().contains("expected 2 to"));
        assert!(Groups::by_fields(&samples, "z:2").unwrap_err().to_string().contains("no row has a field z"));
        let lists: Vec<_> = [json!({"t": ["a", "b"]}), json!({"t": ["b", "a"]})].into_iter().map(sample).collect();
        assert_eq!(Groups::by_fields(&lists, "t").unwrap().names, [r#"["a","b"]"#]);
        let odd = [sample(json!({"a,b": 1}))];
        assert_eq!(Groups::by_fields(&odd, "a,b").unwrap().names, ["1"]);
    }
}
