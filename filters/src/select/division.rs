//! How a budget is shared among groups: in proportion to their sizes, equally, or by numbers that were asked for.

use super::Groups;
use crate::{Error, Result};
use sae_core::error::{Cause, Hint, Setting};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// How groups share a budget.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Division {
    /// In proportion to their sizes ([`apportion`]).
    #[default]
    Proportional,
    /// As much for each; what a small group cannot use goes to the others.
    Equal,
    /// So many of each group that is named, and of each other group (`*`), if that is said. Groups that are not named share
    /// the budget in proportion.
    Quotas(BTreeMap<String, usize>),
}

/// The name that stands for all groups without a quota of their own.
const OTHERS: &str = "*";

impl Division {
    /// How much each group may keep. Without a total there is no limit.
    ///
    /// # Errors
    /// A quota of a group that there is not; groups without a quota where there is no total to share.
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
        let there = first(groups.names.iter().map(String::as_str).collect());
        return Err(Error::request(format!("there is no group {} (the groups are {there})", first(unknown))));
    }
    let quota = |name: &String| quotas.get(name).or_else(|| quotas.get(OTHERS)).copied();
    let own: Vec<Option<usize>> = groups.names.iter().map(quota).collect();
    let without: Vec<&str> =
        groups.names.iter().zip(&own).filter(|(_, quota)| quota.is_none()).map(|(name, _)| name.as_str()).collect();
    if !without.is_empty() && total == 0 {
        let text = format!("groups have no quota, and no share to keep was given for them: {}", first(without));
        let hint =
            Hint::AnyOf(vec![Hint::set(Setting::Quota, "'*=N' for all others"), Hint::Set(Setting::Keep, vec![])]);
        return Err(Error::request(Cause::with_hint(text, hint)));
    }
    let left = total.saturating_sub(own.iter().flatten().sum());
    let sharing: Vec<usize> = sizes.iter().zip(&own).map(|(size, own)| if own.is_some() { 0 } else { *size }).collect();
    let shares = apportion(left, &sharing);
    Ok(own.into_iter().zip(shares).map(|(own, share)| own.unwrap_or(share)).collect())
}

/// Shares `total` equally among groups that are large enough for it; groups that are not give all they have. What cannot be
/// divided goes to the first groups.
fn equal(total: usize, sizes: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).filter(|group| sizes[*group] > 0).collect();
    order.sort_by_key(|group| (sizes[*group], Reverse(*group)));
    let mut quotas = vec![0; sizes.len()];
    let (mut left, mut groups) = (total, order.len());
    for group in order {
        // The smallest of those that are left; the rest of the division is for the last ones.
        quotas[group] = (left / groups).min(sizes[group]);
        left -= quotas[group];
        groups -= 1;
    }
    quotas
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

    #[test]
    fn equal_shares_go_to_groups_that_have_enough() {
        assert_eq!(equal(10, &[98, 1, 50]), [5, 1, 4]);
        assert_eq!(equal(9, &[3, 3, 3]), [3, 3, 3]);
        assert_eq!(equal(4, &[3, 3, 3]), [2, 1, 1]);
        assert_eq!(equal(100, &[2, 0, 5]), [2, 0, 5]);
        assert_eq!(equal(0, &[2]), [0]);
    }

    #[test]
    fn quotas_are_of_groups_that_there_are() {
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
