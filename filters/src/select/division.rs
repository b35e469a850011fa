//! How the number of samples to keep is divided among groups: in proportion to their sizes, equally, or by given quotas.

use super::Groups;
use crate::{Error, Result};
use sae_core::error::{Cause, Hint, Setting};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// How the number of samples to keep is divided among groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Division {
    /// In proportion to the sizes of the groups ([`apportion`]).
    #[default]
    Proportional,
    /// The same amount for each group. What a small group cannot use is divided among the others.
    Equal,
    /// A quota for each named group, and optionally one for each other group (`*`). Without the latter, the other groups share
    /// the rest in proportion to their sizes.
    Quotas(BTreeMap<String, usize>),
}

/// The name that stands for each group without its own quota.
const OTHERS: &str = "*";

impl Division {
    /// How many samples each group may keep. Without a total there is no limit.
    ///
    /// # Errors
    /// There is a quota of a group that does not exist, or a group without a quota although there is no total to divide.
    pub(super) fn quotas(&self, total: Option<usize>, groups: &Groups) -> Result<Vec<usize>> {
        let sizes = groups.sizes();
        match (self, total) {
            (Self::Quotas(quotas), total) => named(quotas, total.unwrap_or(0), groups, &sizes),
            (_, None) => Ok(vec![usize::MAX; sizes.len()]),
            (Self::Proportional, Some(total)) => Ok(apportion(total, &sizes)),
            (Self::Equal, Some(total)) => Ok(equal(total, &sizes)),
        }
    }
}

fn named(quotas: &BTreeMap<String, usize>, total: usize, groups: &Groups, sizes: &[usize]) -> Result<Vec<usize>> {
    let first = |names: Vec<&str>| names.into_iter().take(20).collect::<Vec<_>>().join(", ");
    let unknown: Vec<&str> = quotas.keys().map(String::as_str).filter(|name| *name != OTHERS).collect();
    let unknown: Vec<&str> =
        unknown.into_iter().filter(|name| !groups.names.iter().any(|group| group == name)).collect();
    if !unknown.is_empty() {
        let existing = first(groups.names.iter().map(String::as_str).collect());
        return Err(Error::request(format!("there is no group {} (the groups are {existing})", first(unknown))));
    }
    let quota = |name: &String| quotas.get(name).or_else(|| quotas.get(OTHERS)).copied();
    let given: Vec<Option<usize>> = groups.names.iter().map(quota).collect();
    let without: Vec<&str> =
        groups.names.iter().zip(&given).filter(|(_, quota)| quota.is_none()).map(|(name, _)| name.as_str()).collect();
    if !without.is_empty() && total == 0 {
        let text = format!("groups have no quota, and no share to keep was given for them: {}", first(without));
        let hint =
            Hint::AnyOf(vec![Hint::set(Setting::Quota, "'*=N' for all others"), Hint::Set(Setting::Keep, vec![])]);
        return Err(Error::request(Cause::with_hint(text, hint)));
    }
    let left = total.saturating_sub(given.iter().flatten().sum());
    let sharing: Vec<usize> =
        sizes.iter().zip(&given).map(|(size, given)| if given.is_some() { 0 } else { *size }).collect();
    let shares = apportion(left, &sharing);
    Ok(given.into_iter().zip(shares).map(|(given, share)| given.unwrap_or(share)).collect())
}

/// Divides `total` equally among groups that are large enough. Smaller groups keep all their samples. The remainder of the
/// division goes to the first groups.
fn equal(total: usize, sizes: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).filter(|group| sizes[*group] > 0).collect();
    order.sort_by_key(|group| (sizes[*group], Reverse(*group)));
    let mut quotas = vec![0; sizes.len()];
    let (mut left, mut groups) = (total, order.len());
    for group in order {
        // Groups are visited from the smallest to the largest, so the remainder is left for the last ones.
        quotas[group] = (left / groups).min(sizes[group]);
        left -= quotas[group];
        groups -= 1;
    }
    quotas
}

/// Divides `total` among groups in proportion to their sizes, by the method of largest remainders. Ties are broken by the order
/// of the groups. If `total` is large enough, every group that has members gets at least one.
pub fn apportion(total: usize, sizes: &[usize]) -> Vec<usize> {
    let all: usize = sizes.iter().sum();
    let total = total.min(all);
    if all == 0 {
        return vec![0; sizes.len()];
    }
    // Sizes are numbers of samples (u32), so the products do not overflow.
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

    #[test]
    fn equal_shares_are_limited_by_the_sizes_of_groups() {
        assert_eq!(equal(10, &[98, 1, 50]), [5, 1, 4]);
        assert_eq!(equal(9, &[3, 3, 3]), [3, 3, 3]);
        assert_eq!(equal(4, &[3, 3, 3]), [2, 1, 1]);
        assert_eq!(equal(100, &[2, 0, 5]), [2, 0, 5]);
        assert_eq!(equal(0, &[2]), [0]);
    }

    #[test]
    fn quotas_of_unknown_groups_are_rejected() {
        let names = ["animals", "people", "things"].map(String::from).to_vec();
        let groups = Groups { names, of: vec![0, 0, 0, 0, 1, 2, 2, 2] };
        let quotas = |pairs: &[(&str, usize)], total| {
            let pairs = pairs.iter().map(|(name, n)| (name.to_string(), *n));
            Division::Quotas(pairs.collect()).quotas(total, &groups).map_err(|error| error.to_string())
        };
        assert_eq!(quotas(&[("people", 2), ("*", 1)], None), Ok(vec![1, 2, 1]));
        assert_eq!(quotas(&[("people", 1)], Some(5)), Ok(vec![2, 1, 2]));
        assert!(quotas(&[("people", 1)], None).unwrap_err().contains("animals, things"));
        assert!(quotas(&[("cats", 1)], Some(5)).unwrap_err().contains("no group cats"));
    }

    #[test]
    fn small_groups_keep_a_sample_if_the_number_allows() {
        assert_eq!(apportion(10, &[98, 1, 1]), [8, 1, 1]);
        assert_eq!(apportion(2, &[98, 1, 1]), [1, 1, 0]);
        assert_eq!(apportion(3, &[2, 0, 2]), [2, 0, 1]);
        assert_eq!(apportion(9, &[2, 2]), [2, 2]);
        assert_eq!(apportion(5, &[0, 0]), [0, 0]);
    }

    proptest! {
        #[test]
        fn the_number_is_used_and_no_group_exceeds_its_size(
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
