//! Quantiles of a number within groups, so that a selection cannot prefer samples by that number. Knows no scores.

use super::groups::{GroupSource, into_bins};
use super::{Groups, apportion};
use crate::{Error, Result};
use sae_core::error::{Cause, Hint, Setting};
use std::collections::{BTreeMap, BTreeSet};

/// Number of quantiles.
pub const QUANTILES: usize = 20;

/// Groups that are divided by quantiles of a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantiles {
    /// The quantile of each sample within its group, named by its range of numbers.
    pub cells: Groups,
    /// The group of each cell.
    pub group: Vec<u32>,
    /// The number of different quantiles: [`QUANTILES`], or fewer if equal numbers fill several of them.
    pub quantiles: usize,
    /// The number of samples without a number. They form a cell of their own in each group.
    pub without_number: usize,
}

impl Quantiles {
    /// Divides all samples into [`QUANTILES`] parts of about the same size by their values of `field`, and the groups by them.
    /// Equal numbers are in the same part.
    ///
    /// # Errors
    /// There are not two different numbers.
    pub fn new(groups: &Groups, field: &str, values: &[Option<f64>]) -> Result<Self> {
        let mut numbers = values.iter().flatten();
        let first = numbers.next();
        if first.is_none_or(|first| numbers.all(|other| other == first)) {
            let text = match first {
                Some(first) => format!("all samples with {field} have the same, {first}: it divides nothing"),
                None => format!("no sample has a number {field}"),
            };
            return Err(Error::request(Cause::with_hint(text, Hint::Change(Setting::Within))));
        }
        let sources = into_bins(values, QUANTILES);
        let cell = |(group, source): (&u32, &GroupSource)| (*group, source.clone());
        let cell_of: Vec<(u32, GroupSource)> = groups.of.iter().zip(&sources).map(cell).collect();
        let mut numbers: BTreeMap<&(u32, GroupSource), u32> = cell_of.iter().map(|cell| (cell, 0)).collect();
        numbers.values_mut().zip(0..).for_each(|(number, n)| *number = n);
        let name = |(group, source): &(u32, GroupSource)| match groups.names[*group as usize].as_str() {
            "" => source.name().to_owned(),
            group => format!("{group} / {}", source.name()),
        };
        Ok(Self {
            cells: Groups {
                names: numbers.keys().map(|cell| name(cell)).collect(),
                of: cell_of.iter().map(|cell| numbers[cell]).collect(),
            },
            group: numbers.keys().map(|(group, _)| *group).collect(),
            quantiles: sources.iter().filter(|source| **source != GroupSource::None).collect::<BTreeSet<_>>().len(),
            without_number: values.iter().filter(|value| value.is_none()).count(),
        })
    }

    /// Divides the quota of each group among its cells in proportion to their sizes.
    pub(super) fn divide(&self, quotas: &[usize]) -> Vec<usize> {
        let sizes = self.cells.sizes();
        let mut divided = Vec::with_capacity(sizes.len());
        // The cells of a group follow one another.
        for cells in self.group.chunk_by(|a, b| a == b) {
            let sizes = &sizes[divided.len()..divided.len() + cells.len()];
            divided.extend(apportion(quotas[cells[0] as usize], sizes));
        }
        divided
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equal_numbers_are_in_one_quantile_and_the_quota_is_used(
            values in prop::collection::vec(prop::option::weighted(0.9, 0u8..60), 2..200), quota in 0usize..250
        ) {
            let values: Vec<Option<f64>> = values.into_iter().map(|value| value.map(f64::from)).collect();
            if let Ok(quantiles) = Quantiles::new(&Groups::one(values.len()), "n", &values) {
                prop_assert!(quantiles.quantiles <= QUANTILES);
                let divided = quantiles.divide(&[quota]);
                prop_assert_eq!(divided.iter().sum::<usize>(), quota.min(values.len()));
                prop_assert!(divided.iter().zip(quantiles.cells.sizes()).all(|(quota, size)| *quota <= size));
                for (cell, value) in quantiles.cells.of.iter().zip(&values) {
                    let same = values.iter().zip(&quantiles.cells.of).filter(|(other, _)| *other == value);
                    prop_assert!(same.into_iter().all(|(_, other)| other == cell));
                }
            }
        }
    }

    #[test]
    fn each_of_twenty_quantiles_keeps_the_same_share() {
        let values: Vec<Option<f64>> = (0..200).map(|n| Some(f64::from(n * 7 % 200))).collect();
        let quantiles = Quantiles::new(&Groups::one(200), "n", &values).unwrap();
        assert_eq!((quantiles.quantiles, quantiles.cells.sizes()), (20, vec![10; 20]));
        assert_eq!(quantiles.divide(&[60]), [3; 20]);
        assert_eq!(quantiles.cells.names[19], "190 to 199");
    }

    #[test]
    fn groups_are_divided_and_samples_without_a_number_stay_together() {
        let groups = Groups { names: vec!["a".into(), "b".into()], of: vec![0, 0, 0, 1, 1, 1] };
        let values = [Some(1.0), Some(2.0), None, Some(1.0), Some(1.0), Some(2.0)];
        let quantiles = Quantiles::new(&groups, "n", &values).unwrap();
        assert_eq!(quantiles.cells.names, ["a / 1", "a / 2", "a / (none)", "b / 1", "b / 2"]);
        assert_eq!(
            (quantiles.cells.of.clone(), quantiles.group.clone()),
            (vec![0, 1, 2, 3, 3, 4], vec![0, 0, 0, 1, 1])
        );
        assert_eq!((quantiles.quantiles, quantiles.without_number), (2, 1));
        assert_eq!(quantiles.divide(&[2, 3]), [1, 1, 0, 2, 1]);
    }

    #[test]
    fn a_number_that_does_not_vary_is_rejected() {
        let said =
            |values: &[Option<f64>]| Quantiles::new(&Groups::one(values.len()), "n", values).unwrap_err().to_string();
        assert!(said(&[Some(3.0), None, Some(3.0)]).contains("have the same, 3"));
        assert!(said(&[None, None]).contains("no sample has a number n"));
    }
}
