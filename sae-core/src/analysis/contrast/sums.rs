//! Sums over the active features of all participants, from which effects and their variances follow.
//!
//! # Formulas
//! `y_ij` is what is measured of feature `j` in sample `i`: 1 or its strength, and 0 where it is not active. With `m_sj` the mean
//! of `y_ij` in stratum `s`, the sum of cluster `c` is `u_cj = sum_{i in c} t~_i (y_ij - m_sj) = a_cj - sum_s m_sj T_cs`, where
//! `a_cj` is the sum of `t~_i y_ij` over the samples of `c`, and `T_cs` that of `t~_i` over the samples of `c` in stratum `s`. The
//! variance of `U_j = sum_c u_cj` is
//! `V_j = sum_c u_cj^2 = sum_c a_cj^2 - 2 sum_c a_cj (m_j . T_c) + m_j' (T'T) m_j`: its first two terms have contributions of
//! clusters with the feature alone, and the last one needs no samples. With `q_c = sum_{i in c} t~_i^2` and the effect `b`, the
//! variance under the alternative is `W_j = V_j - 2 b sum_c u_cj q_c + b^2 sum_c q_c^2`. If samples are paired within clusters,
//! `t~` sums to zero in each pair, and `u_cj = a_cj`.
//!
//! The last term is computed from `T'T`, or from `T` where that has fewer numbers.
//!
//! Memory: the means of each feature and stratum, five numbers for each feature and column, and at most one for each participant
//! and column. Columns are summed [`LANES`] at a time, block by block of participants (`blocks.rs`), with features on all threads;
//! every sum has the same order on any number of threads.

use super::blocks::{self, List};
use super::design::Design;
use crate::analysis::feature_sets::FeatureSets;
use crate::autoencoder::kernel;
use rayon::prelude::*;
use std::ops::Range;

/// Number of columns that are summed at once.
const LANES: usize = 8;
/// Number of features that a thread sums at a time.
const FEATURES: usize = 64;

/// Share of `sum_c a_cj^2` below which `V_j` is zero, and share of this share for `sum_i t~_i^2`.
const ROUNDING: f64 = 1e-12;

/// A number for each of several columns; they are aligned, so that each is one line of the cache.
#[repr(C, align(64))]
#[derive(Clone, Copy, Default)]
struct Lanes([f64; LANES]);

/// How many participants have each feature, and how strongly.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// `m_sj`, by feature and stratum, `[features, strata]`.
    means: Vec<f64>,
    strata: usize,
    /// Participants, by feature.
    pub samples: Vec<u32>,
    /// Clusters in which the feature is active, by feature.
    pub clusters: Vec<u32>,
}

impl Counts {
    /// Counts the participants.
    pub fn new(design: &Design, sets: &FeatureSets) -> Self {
        let (features, strata) = (sets.d_sae(), design.strata());
        let mut means = vec![0.0; features * strata];
        // Of each feature the participants, the clusters, and the last cluster that has it, plus one.
        let mut numbers = vec![[0u32; 3]; features];
        let cluster_of = cluster_numbers(design);
        blocks::for_each_group(design, sets, |blocks| {
            let each = means.par_chunks_mut(strata.max(1)).zip(&mut numbers).enumerate().with_max_len(FEATURES);
            each.for_each(|(feature, (sums, [samples, clusters, last]))| {
                for block in blocks {
                    let list = block.list(feature);
                    *samples += list.numbers.len() as u32;
                    for (k, n) in list.numbers.iter().enumerate() {
                        let n = block.range.start + usize::from(*n);
                        sums[design.strata[n] as usize] += list.measured(k);
                        let cluster = cluster_of[n] + 1;
                        *clusters += u32::from(std::mem::replace(last, cluster) != cluster);
                    }
                }
            });
        });
        for means in means.chunks_mut(strata.max(1)) {
            means.iter_mut().zip(&design.sizes).for_each(|(mean, size)| *mean /= f64::from(*size));
        }
        let (samples, clusters) = numbers.into_iter().map(|[samples, clusters, _]| (samples, clusters)).unzip();
        Self { means, strata, samples, clusters }
    }

    /// `m_sj` of a feature, by stratum.
    pub fn means(&self, feature: usize) -> &[f64] {
        &self.means[feature * self.strata..][..self.strata]
    }
}

/// The cluster of each participant.
fn cluster_numbers(design: &Design) -> Vec<u32> {
    (0..).zip(&design.clusters).flat_map(|(cluster, range)| std::iter::repeat_n(cluster, range.len())).collect()
}

/// What one column has of each feature.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ColumnSums {
    /// `U_j`.
    pub u: Vec<f64>,
    /// `V_j`.
    pub v: Vec<f64>,
    /// `sum_c u_cj q_c`.
    pub uq: Vec<f64>,
    /// `sum_i t~_i^2`.
    pub squares: f64,
    /// `sum_c q_c^2`.
    pub q_squares: f64,
}

/// The sums of columns, given by their residuals `t~`.
pub(super) fn sums(design: &Design, sets: &FeatureSets, counts: &Counts, residuals: &[Vec<f64>]) -> Vec<ColumnSums> {
    let mut some: Vec<SomeColumns> =
        residuals.chunks(LANES).map(|columns| SomeColumns::new(columns, sets.d_sae(), design)).collect();
    blocks::for_each_group(design, sets, |blocks| {
        some.par_iter_mut().for_each(|some| {
            let (columns, totals) = (some.columns, &mut some.totals);
            let tables: Vec<BlockTable> =
                blocks.par_iter().map(|block| BlockTable::new(design, columns, block.range.clone())).collect();
            kernel::wide(
                #[inline(always)]
                || {
                    for table in &tables {
                        totals.add(table);
                    }
                },
            );
            some.features.par_chunks_mut(FEATURES).enumerate().with_max_len(1).for_each(|(n, features)| {
                kernel::wide(
                    #[inline(always)]
                    || {
                        for (block, table) in blocks.iter().zip(&tables) {
                            for (feature, sums) in (n * FEATURES..).zip(features.iter_mut()) {
                                table.add_feature(block.list(feature), counts.means(feature), sums);
                            }
                        }
                    },
                );
            });
        });
    });
    some.iter().flat_map(|some| some.finish(counts)).collect()
}

/// Up to [`LANES`] columns, with their sums over the blocks that were read.
struct SomeColumns<'a> {
    columns: &'a [Vec<f64>],
    features: Vec<FeatureSums>,
    totals: Totals,
}

/// Sums of a feature over the clusters that have ended: `U_j`, `sum_c a_cj^2`, `sum_c a_cj q_c` and `sum_c a_cj (m_j . T_c)`; and
/// `a_cj` of the cluster that goes on in the next block.
#[derive(Clone, Default)]
struct FeatureSums {
    u: Lanes,
    squares: Lanes,
    q: Lanes,
    cross: Lanes,
    open: Lanes,
}

/// Sums that no feature changes: `T'T` or `T`, `sum_c T_c q_c`, `sum_c q_c` and `sum_c q_c^2`.
struct Totals {
    by_stratum: ByStratum,
    stratum_q: Vec<Lanes>,
    squares: Lanes,
    q_squares: Lanes,
}

/// What the last term of `V_j` is computed from.
enum ByStratum {
    /// `T'T`, `[strata, strata]`, if there are at least as many participants.
    Products(Vec<Lanes>),
    /// `T` otherwise: the strata of each cluster with its `T_cs`, and where those of each cluster end. Nothing if samples are
    /// paired.
    Clusters { strata: Vec<u32>, values: Vec<Lanes>, ends: Vec<usize> },
}

/// The values of a block's participants, and those of its clusters.
struct BlockTable {
    /// `t~_i`, by participant.
    t: Vec<Lanes>,
    /// The cluster of each participant, counted from the first of the block.
    cluster_of: Vec<u32>,
    /// `q_c` of whole clusters.
    q: Vec<Lanes>,
    /// Where each cluster begins in the next two, and the end of the last one.
    first: Vec<u32>,
    /// The strata of each cluster, and `T_cs`; none if samples are paired.
    strata: Vec<u32>,
    by_stratum: Vec<Lanes>,
    /// Whether the first cluster has participants before this block, and the last one behind it.
    continues: bool,
    goes_on: bool,
}

impl BlockTable {
    fn new(design: &Design, columns: &[Vec<f64>], range: Range<usize>) -> Self {
        let value = |n: usize| Lanes(std::array::from_fn(|k| columns.get(k).map_or(0.0, |column| column[n])));
        let begins = design.clusters.partition_point(|cluster| cluster.end <= range.start);
        let ends = design.clusters.partition_point(|cluster| cluster.start < range.end);
        let clusters = &design.clusters[begins..ends];
        let mut table = Self {
            t: range.clone().map(value).collect(),
            cluster_of: Vec::with_capacity(range.len()),
            q: Vec::with_capacity(clusters.len()),
            first: vec![0],
            strata: Vec::new(),
            by_stratum: Vec::new(),
            continues: clusters.first().is_some_and(|cluster| cluster.start < range.start),
            goes_on: clusters.last().is_some_and(|cluster| cluster.end > range.end),
        };
        // The place of each stratum of the cluster, plus one.
        let mut place = vec![0; design.strata()];
        for (cluster, members) in (0..).zip(clusters) {
            let inside = members.start.max(range.start)..members.end.min(range.end);
            table.cluster_of.extend(std::iter::repeat_n(cluster, inside.len()));
            let start = table.strata.len();
            let mut q = Lanes::default();
            for n in members.clone() {
                let t = value(n);
                q.add_product(&t, &t);
                if design.is_paired() {
                    continue;
                }
                let place = &mut place[design.strata[n] as usize];
                if *place == 0 {
                    table.strata.push(design.strata[n]);
                    table.by_stratum.push(Lanes::default());
                    *place = table.strata.len();
                }
                table.by_stratum[*place - 1].add(&t);
            }
            table.strata[start..].iter().for_each(|stratum| place[*stratum as usize] = 0);
            table.first.push(table.strata.len() as u32);
            table.q.push(q);
        }
        table
    }

    /// The strata of a cluster, with its `T_cs`.
    #[inline(always)]
    fn strata(&self, cluster: usize) -> impl Iterator<Item = (usize, &Lanes)> + Clone {
        let range = self.first[cluster] as usize..self.first[cluster + 1] as usize;
        self.strata[range.clone()].iter().map(|s| *s as usize).zip(&self.by_stratum[range])
    }

    /// Adds the participants that have a feature to its sums.
    #[inline(always)]
    fn add_feature(&self, list: List, means: &[f64], sums: &mut FeatureSums) {
        let mut cluster = match list.numbers.first() {
            _ if self.continues => 0,
            Some(n) => self.cluster_of[usize::from(*n)],
            None => return,
        };
        let mut own = sums.clone();
        let mut a = own.open;
        own.open = Lanes::default();
        for (k, n) in list.numbers.iter().enumerate() {
            let n = usize::from(*n);
            if self.cluster_of[n] != cluster {
                self.end_cluster(cluster as usize, &a, means, &mut own);
                (cluster, a) = (self.cluster_of[n], Lanes::default());
            }
            a.add_scaled(list.measured(k), &self.t[n]);
        }
        if self.goes_on && cluster as usize + 1 == self.q.len() {
            own.open = a;
        } else {
            self.end_cluster(cluster as usize, &a, means, &mut own);
        }
        *sums = own;
    }

    #[inline(always)]
    fn end_cluster(&self, cluster: usize, a: &Lanes, means: &[f64], sums: &mut FeatureSums) {
        sums.u.add(a);
        sums.squares.add_product(a, a);
        sums.q.add_product(a, &self.q[cluster]);
        let mut expected = Lanes::default();
        self.strata(cluster).for_each(|(s, t)| expected.add_scaled(means[s], t));
        sums.cross.add_product(a, &expected);
    }
}

impl Totals {
    fn new(design: &Design) -> Self {
        let strata = design.strata();
        let by_stratum = match strata.checked_mul(strata) {
            Some(products) if products <= design.samples.len() && !design.is_paired() => {
                ByStratum::Products(vec![Lanes::default(); products])
            }
            _ => ByStratum::Clusters { strata: Vec::new(), values: Vec::new(), ends: Vec::new() },
        };
        let stratum_q = vec![Lanes::default(); if design.is_paired() { 0 } else { strata }];
        Self { by_stratum, stratum_q, squares: Lanes::default(), q_squares: Lanes::default() }
    }

    /// Adds the clusters that begin in a block.
    #[inline(always)]
    fn add(&mut self, table: &BlockTable) {
        let count = self.stratum_q.len();
        for (cluster, q) in table.q.iter().enumerate().skip(usize::from(table.continues)) {
            for (s, t) in table.strata(cluster) {
                self.stratum_q[s].add_product(t, q);
            }
            match &mut self.by_stratum {
                ByStratum::Products(products) => {
                    for (s, t) in table.strata(cluster) {
                        for (other, product) in table.strata(cluster) {
                            products[s * count + other].add_product(t, product);
                        }
                    }
                }
                ByStratum::Clusters { strata, values, ends } => {
                    let start = values.len();
                    for (s, t) in table.strata(cluster) {
                        strata.push(s as u32);
                        values.push(*t);
                    }
                    if values.len() > start {
                        ends.push(values.len());
                    }
                }
            }
            self.squares.add(q);
            self.q_squares.add_product(q, q);
        }
    }

    /// `sum_c (m_j . T_c)^2`, given `m_j`.
    #[inline(always)]
    fn expected_squares(&self, means: &[f64]) -> Lanes {
        let mut sum = Lanes::default();
        match &self.by_stratum {
            ByStratum::Products(products) => {
                for (s, m) in means.iter().enumerate().filter(|(_, m)| **m > 0.0) {
                    let mut row = Lanes::default();
                    for (product, m) in products[s * means.len()..(s + 1) * means.len()].iter().zip(means) {
                        row.add_scaled(*m, product);
                    }
                    sum.add_scaled(*m, &row);
                }
            }
            ByStratum::Clusters { strata, values, ends } => {
                let mut start = 0;
                for end in ends {
                    let mut expected = Lanes::default();
                    for (s, t) in strata[start..*end].iter().zip(&values[start..*end]) {
                        expected.add_scaled(means[*s as usize], t);
                    }
                    sum.add_product(&expected, &expected);
                    start = *end;
                }
            }
        }
        sum
    }

    /// `V_j` and `sum_c u_cj q_c` of a feature, given `m_j`.
    #[inline(always)]
    fn variance(&self, own: &FeatureSums, means: &[f64]) -> [Lanes; 2] {
        let (mut v, mut uq) = (own.squares, own.q);
        for (m, stratum_q) in means.iter().zip(&self.stratum_q).filter(|(m, _)| **m > 0.0) {
            uq.add_scaled(-m, stratum_q);
        }
        v.add(&self.expected_squares(means));
        v.add_scaled(-2.0, &own.cross);
        [v, uq]
    }
}

impl<'a> SomeColumns<'a> {
    fn new(columns: &'a [Vec<f64>], features: usize, design: &Design) -> Self {
        Self { columns, features: vec![FeatureSums::default(); features], totals: Totals::new(design) }
    }

    /// The sums of each column.
    fn finish(&self, counts: &Counts) -> Vec<ColumnSums> {
        let Totals { squares, q_squares, .. } = &self.totals;
        let some = |(n, features): (usize, &[FeatureSums])| {
            let mut found = Vec::with_capacity(features.len());
            kernel::wide(
                #[inline(always)]
                || {
                    for (feature, own) in (n * FEATURES..).zip(features) {
                        found.push(self.totals.variance(own, counts.means(feature)));
                    }
                },
            );
            found
        };
        let variances: Vec<[Lanes; 2]> = self.features.par_chunks(FEATURES).enumerate().flat_map_iter(some).collect();
        let column = |k: usize| {
            let mut sums = ColumnSums { squares: squares.0[k], q_squares: q_squares.0[k], ..ColumnSums::default() };
            for (own, [v, uq]) in self.features.iter().zip(&variances) {
                // A feature that does not vary within strata, or within pairs, leaves rounding errors of these sizes.
                let rounding = ROUNDING * (own.squares.0[k] + ROUNDING * squares.0[k]);
                sums.u.push(own.u.0[k]);
                sums.v.push(if v.0[k] > rounding { v.0[k] } else { 0.0 });
                sums.uq.push(uq.0[k]);
            }
            sums
        };
        (0..self.columns.len()).map(column).collect()
    }
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, value: &Self) {
        (0..LANES).for_each(|k| self.0[k] += value.0[k]);
    }

    #[inline(always)]
    fn add_product(&mut self, a: &Self, b: &Self) {
        (0..LANES).for_each(|k| self.0[k] += a.0[k] * b.0[k]);
    }

    #[inline(always)]
    fn add_scaled(&mut self, scale: f64, value: &Self) {
        (0..LANES).for_each(|k| self.0[k] += scale * value.0[k]);
    }
}
