//! Who takes part in a contrast, and how: samples in strata and clusters, in an order that does not depend on the order of
//! the store.

use crate::random;
use std::collections::BTreeMap;
use std::ops::Range;

/// Number of samples for which there is one stratum of length, and the bounds of their number.
const SAMPLES_PER_STRATUM: usize = 2000;
const STRATA: Range<usize> = 10..50;
/// Change of a residual, relative to the largest value of its column, below which alternating projections end.
const UNCHANGED: f64 = 1e-12;
/// Number of alternations after which they end in any case.
const ALTERNATIONS: usize = 10_000;

/// A sample that takes part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Participant {
    /// The name of its cluster: samples of one cluster may depend on each other.
    pub cluster: String,
    /// What orders the samples of a cluster, the same in every store that has the sample: its id and key.
    pub identity: String,
    /// Number of the sample in the store.
    pub sample: u32,
    /// Number of its stratum.
    pub stratum: u32,
    /// The number of its pair (or larger set) of samples that are compared with each other only.
    pub pair: Option<u32>,
}

/// A question: a value for each participant, in the order of the design.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name, such as that of a group.
    pub name: String,
    /// The values.
    pub values: Vec<f64>,
}

/// The participants of a contrast, ordered by cluster and identity.
#[derive(Clone, Debug, Default)]
pub struct Design {
    /// Number of the sample in the store.
    pub(super) samples: Vec<u32>,
    pub(super) strata: Vec<u32>,
    /// Number of participants in each stratum.
    pub(super) sizes: Vec<u32>,
    /// The participants of each cluster.
    pub(super) clusters: Vec<Range<usize>>,
    /// The names of the clusters.
    pub(super) names: Vec<String>,
    /// The pair of each participant, if samples are paired.
    pub(super) pairs: Option<Vec<u32>>,
}

impl Design {
    /// Orders the participants.
    ///
    /// # Panics
    /// If some participants have a pair and others have none.
    pub fn new(mut participants: Vec<Participant>) -> Self {
        participants.sort_unstable();
        let mut design = Self::default();
        let paired = participants.iter().filter(|p| p.pair.is_some()).count();
        assert!(paired == 0 || paired == participants.len(), "all participants have a pair, or none has");
        design.pairs = (paired > 0).then(|| number(participants.iter().map(|p| p.pair.unwrap_or_default())));
        design.strata = number(participants.iter().map(|p| p.stratum));
        design.sizes = vec![0; design.strata.iter().max().map_or(0, |last| *last as usize + 1)];
        design.strata.iter().for_each(|stratum| design.sizes[*stratum as usize] += 1);
        for (n, participant) in participants.into_iter().enumerate() {
            match design.names.last() {
                Some(name) if *name == participant.cluster => {
                    design.clusters.last_mut().expect("a name has a cluster").end = n + 1;
                }
                _ => {
                    design.names.push(participant.cluster);
                    design.clusters.push(n..n + 1);
                }
            }
            design.samples.push(participant.sample);
        }
        design
    }

    /// The numbers of the samples in the store, in the order of the design.
    pub fn samples(&self) -> &[u32] {
        &self.samples
    }

    /// The names of the clusters.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The participants of each cluster.
    pub fn clusters(&self) -> &[Range<usize>] {
        &self.clusters
    }

    /// Number of strata.
    pub fn strata(&self) -> usize {
        self.sizes.len()
    }

    /// Whether samples are compared within pairs.
    pub fn is_paired(&self) -> bool {
        self.pairs.is_some()
    }

    /// The clusters whose hash is below `share` of all hashes, and the others, each with the participants that it has here.
    pub fn divide(&self, share: f64, seed: u64) -> [(Self, Vec<usize>); 2] {
        let first = |name: &String| {
            let hash = random::mix(random::fnv1a(name.bytes()) ^ random::mix(seed));
            random::unit(hash) < share
        };
        let in_first: Vec<bool> = self.names.iter().map(first).collect();
        [true, false].map(|side| self.subset(|cluster| in_first[cluster] == side))
    }

    /// The design of some of the clusters, and the participants that it has here.
    pub fn subset(&self, contains: impl Fn(usize) -> bool) -> (Self, Vec<usize>) {
        let mut part = Self::default();
        let mut members = Vec::new();
        for (cluster, range) in self.clusters.iter().enumerate().filter(|(cluster, _)| contains(*cluster)) {
            part.names.push(self.names[cluster].clone());
            part.clusters.push(members.len()..members.len() + range.len());
            members.extend(range.clone());
        }
        part.samples = members.iter().map(|n| self.samples[*n]).collect();
        part.strata = number(members.iter().map(|n| self.strata[*n]));
        part.sizes = vec![0; part.strata.iter().max().map_or(0, |last| *last as usize + 1)];
        part.strata.iter().for_each(|stratum| part.sizes[*stratum as usize] += 1);
        part.pairs = self.pairs.as_ref().map(|pairs| number(members.iter().map(|n| pairs[*n])));
        (part, members)
    }

    /// Values minus their means in strata, and, if samples are paired, in pairs.
    pub fn residuals(&self, values: &[f64]) -> Vec<f64> {
        let mut residuals = values.to_vec();
        subtract_means(&mut residuals, &self.strata, self.sizes.len());
        let Some(pairs) = &self.pairs else { return residuals };
        let (count, largest) = (
            pairs.iter().max().map_or(0, |last| *last as usize + 1),
            values.iter().fold(0.0f64, |a, b| a.max(b.abs())),
        );
        for _ in 0..ALTERNATIONS {
            let before = residuals.clone();
            subtract_means(&mut residuals, pairs, count);
            subtract_means(&mut residuals, &self.strata, self.sizes.len());
            let changed = before.iter().zip(&residuals).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            if changed <= UNCHANGED * largest {
                break;
            }
        }
        // Sums within pairs are zero to the last bit of the projection that counts for the variance.
        subtract_means(&mut residuals, pairs, count);
        residuals
    }

    /// The share of the variance of a column that strata explain.
    pub fn explained(&self, values: &[f64]) -> f64 {
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let total: f64 = values.iter().map(|t| (t - mean).powi(2)).sum();
        let mut residuals = values.to_vec();
        subtract_means(&mut residuals, &self.strata, self.sizes.len());
        let left: f64 = residuals.iter().map(|t| t * t).sum();
        if total > 0.0 { 1.0 - left / total } else { 0.0 }
    }

    /// Whether a column has one value in each cluster.
    pub(super) fn is_constant_in_clusters(&self, values: &[f64]) -> bool {
        self.clusters.iter().all(|range| values[range.clone()].iter().all(|t| *t == values[range.start]))
    }
}

fn subtract_means(values: &mut [f64], groups: &[u32], count: usize) {
    let mut sums = vec![(0.0, 0u32); count];
    for (value, group) in values.iter().zip(groups) {
        let (sum, n) = &mut sums[*group as usize];
        (*sum, *n) = (*sum + value, *n + 1);
    }
    for (value, group) in values.iter_mut().zip(groups) {
        let (sum, n) = sums[*group as usize];
        *value -= sum / f64::from(n);
    }
}

/// Numbers without gaps, in ascending order of the given ones.
fn number(values: impl Iterator<Item = u32> + Clone) -> Vec<u32> {
    let mut numbers: BTreeMap<u32, u32> = values.clone().map(|value| (value, 0)).collect();
    numbers.values_mut().zip(0..).for_each(|(number, n)| *number = n);
    values.map(|value| numbers[&value]).collect()
}

/// Strata of about equally many samples by length: 10 to 50, one for each 2,000 samples. Samples of the same length are in
/// the same stratum.
pub fn length_strata(lengths: &[u32]) -> Vec<u32> {
    let count = (lengths.len() / SAMPLES_PER_STRATUM).clamp(STRATA.start, STRATA.end);
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let place = |length: &u32| sorted.partition_point(|other| other < length) * count / sorted.len();
    lengths.iter().map(|length| place(length) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn participant(sample: u32, cluster: &str, stratum: u32, pair: Option<u32>) -> Participant {
        Participant { cluster: cluster.into(), identity: format!("{sample:04}"), sample, stratum, pair }
    }

    #[test]
    fn participants_are_ordered_by_cluster_and_strata_are_numbered_without_gaps() {
        let design = Design::new(vec![
            participant(3, "b", 9, None),
            participant(0, "b", 4, None),
            participant(2, "a", 9, None),
            participant(1, "c", 4, None),
        ]);
        assert_eq!(design.samples, [2, 0, 3, 1]);
        assert_eq!(design.clusters, [0..1, 1..3, 3..4]);
        assert_eq!((design.strata.clone(), design.sizes.clone()), (vec![1, 0, 1, 0], vec![2, 2]));
        let (part, members) = design.subset(|cluster| cluster != 1);
        assert_eq!((part.samples, members), (vec![2, 1], vec![0, 3]));
    }

    #[test]
    fn residuals_sum_to_zero_in_strata_and_in_pairs() {
        let participants = (0..60).map(|n| participant(n, &(n / 3).to_string(), n * 7 % 5, Some(n / 3)));
        let design = Design::new(participants.collect());
        let values: Vec<f64> = design.samples.iter().map(|n| f64::from(n * n % 11)).collect();
        let residuals = design.residuals(&values);
        let sum = |groups: &[u32], group: u32| {
            groups.iter().zip(&residuals).filter(|(g, _)| **g == group).map(|(_, r)| r).sum::<f64>()
        };
        assert!((0..5).all(|stratum| sum(&design.strata, stratum).abs() < 1e-6));
        assert!((0..20).all(|pair| sum(design.pairs.as_ref().unwrap(), pair).abs() < 1e-12));
        assert!(residuals.iter().any(|r| r.abs() > 0.1));
    }

    #[test]
    fn strata_of_length_hold_equal_lengths_together() {
        let lengths: Vec<u32> = (0..100).map(|n| if n < 55 { 7 } else { n }).collect();
        let strata = length_strata(&lengths);
        assert!(strata[..55].iter().all(|s| *s == strata[0]));
        assert!(strata.windows(2).all(|two| two[0] <= two[1]) && strata[99] == 9);
        let design =
            Design::new((0..100).map(|n| participant(n, &format!("{n:03}"), strata[n as usize], None)).collect());
        assert!(design.explained(&lengths.iter().map(|l| f64::from(*l)).collect::<Vec<_>>()) > 0.98);
    }

    #[test]
    fn halves_depend_on_the_seed_and_on_names_alone() {
        let design = Design::new((0..1000).map(|n| participant(n, &n.to_string(), 0, None)).collect());
        let [(first, members), (second, _)] = design.divide(0.5, 0);
        assert!(first.samples.len().abs_diff(500) < 80 && first.samples.len() + second.samples.len() == 1000);
        let (part, _) = design.subset(|cluster| cluster < 300);
        let [(_, again), _] = part.divide(0.5, 0);
        assert_eq!(again, members.iter().copied().filter(|n| *n < 300).collect::<Vec<_>>());
        assert_ne!(design.divide(0.5, 1)[0].1, members);
    }
}
