//! Groups of samples by a field of their rows, and how a budget is shared among them. Knows no scores.

use crate::{Error, Result};
use sae_core::sample::Sample;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The name of the group of samples that lack the field.
const NONE: &str = "(none)";

/// A group for every sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups {
    /// Names, in order; samples without the field are in a group of their own, the last.
    pub names: Vec<String>,
    /// The group of each sample.
    pub of: Vec<u32>,
}

impl Groups {
    /// All samples in one group without a name.
    pub fn one(samples: usize) -> Self {
        Self { names: vec![String::new()], of: vec![0; samples] }
    }

    /// Samples by the value of a column that their rows had. A dot leads into an object: `info.category`.
    ///
    /// # Errors
    /// No row has the field; those that there are, are named.
    pub fn by_field(samples: &[Sample], field: &str) -> Result<Self> {
        let values: Vec<Option<String>> = samples.iter().map(|sample| value(&sample.meta, field)).collect();
        if values.iter().all(Option::is_none) {
            let there: BTreeMap<&str, ()> = samples
                .iter()
                .filter_map(|s| s.meta.as_object())
                .flatten()
                .map(|(name, _)| (name.as_str(), ()))
                .collect();
            let there: Vec<_> = there.into_keys().take(30).collect();
            let hint = match there.is_empty() {
                true => "rows have no columns but their texts and images".to_string(),
                false => format!("rows have {}", there.join(", ")),
            };
            return Err(Error::Request(format!("no row has a field {field} to group by\nhint: {hint}")));
        }
        let mut numbers: BTreeMap<&str, u32> = values.iter().flatten().map(|value| (value.as_str(), 0)).collect();
        numbers.values_mut().zip(0..).for_each(|(number, n)| *number = n);
        let mut names: Vec<String> = numbers.keys().map(|name| name.to_string()).collect();
        let of = values.iter().map(|value| value.as_ref().map_or(names.len() as u32, |value| numbers[value.as_str()]));
        let of = of.collect();
        if values.iter().any(Option::is_none) {
            names.push(NONE.into());
        }
        Ok(Self { names, of })
    }

    /// Samples in each group.
    pub fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.names.len()];
        self.of.iter().for_each(|group| sizes[*group as usize] += 1);
        sizes
    }
}

fn value(meta: &Value, field: &str) -> Option<String> {
    let direct = meta.get(field);
    let found = direct.or_else(|| field.split('.').try_fold(meta, |value, name| value.get(name)))?;
    match found {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Shares `total` among groups in proportion to their sizes, by largest remainders (ties: the earlier group); while there
/// is enough for it, every group that has members gets one.
pub fn apportion(total: usize, sizes: &[usize]) -> Vec<usize> {
    let all: usize = sizes.iter().sum();
    let total = total.min(all);
    if all == 0 {
        return vec![0; sizes.len()];
    }
    // Sizes are counts of samples (u32), so that the products fit.
    let product = |size: usize| total as u128 * size as u128;
    let mut quota: Vec<usize> = sizes.iter().map(|size| (product(*size) / all as u128) as usize).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|group| (Reverse(product(sizes[*group]) % all as u128), *group));
    let rest = total - quota.iter().sum::<usize>();
    order.iter().take(rest).for_each(|group| quota[*group] += 1);
    for group in 0..sizes.len() {
        let largest = (0..sizes.len()).max_by_key(|other| (quota[*other], Reverse(*other)));
        if let Some(largest) = largest.filter(|l| quota[group] == 0 && sizes[group] > 0 && quota[*l] > 1) {
            quota[largest] -= 1;
            quota[group] = 1;
        }
    }
    quota
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn sample(meta: Value) -> Sample {
        let [id, key, text, source] = Default::default();
        Sample { id, key, text, images: vec![], source, meta }
    }

    #[test]
    fn rows_are_grouped_by_a_column_whatever_it_holds() {
        let rows =
            [json!({"c": "b"}), json!({"c": 7}), json!({"c": null}), json!({"d": {"e": true}}), json!({"c": "b"})];
        let samples: Vec<_> = rows.into_iter().map(sample).collect();
        let groups = Groups::by_field(&samples, "c").unwrap();
        assert_eq!((groups.names.join(" "), groups.of.clone()), ("7 b (none)".into(), vec![1, 0, 2, 2, 1]));
        assert_eq!(groups.sizes(), [1, 2, 2]);
        assert_eq!(Groups::by_field(&samples, "d.e").unwrap().names, ["true", "(none)"]);
        let said = Groups::by_field(&samples, "category").unwrap_err().to_string();
        assert!(said.contains("no row has a field category") && said.contains("c, d"), "{said}");
    }

    #[test]
    fn small_groups_are_not_erased_while_there_is_enough() {
        assert_eq!(apportion(10, &[98, 1, 1]), [8, 1, 1]);
        assert_eq!(apportion(2, &[98, 1, 1]), [1, 1, 0]);
        assert_eq!(apportion(3, &[2, 0, 2]), [2, 0, 1]);
        assert_eq!(apportion(9, &[2, 2]), [2, 2]);
        assert_eq!(apportion(5, &[0, 0]), [0, 0]);
    }

    proptest! {
        #[test]
        fn a_budget_is_spent_and_no_group_gets_more_than_it_has(
            sizes in prop::collection::vec(0usize..50, 1..8), total in 0usize..200
        ) {
            let quota = apportion(total, &sizes);
            prop_assert_eq!(quota.iter().sum::<usize>(), total.min(sizes.iter().sum()));
            prop_assert!(quota.iter().zip(&sizes).all(|(quota, size)| quota <= size));
            let members = sizes.iter().filter(|size| **size > 0).count();
            if total >= members {
                prop_assert!(quota.iter().zip(&sizes).all(|(quota, size)| *quota > 0 || *size == 0));
            }
        }
    }
}
