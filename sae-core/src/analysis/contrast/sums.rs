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
//! Memory: the counts of each feature and stratum, and four numbers for each feature and column. Columns are summed
//! [`LANES`] at a time, on all threads; every sum has the same order on any number of threads.

use super::design::Design;
use crate::analysis::feature_sets::FeatureSets;
use pulp::Arch;
use rayon::prelude::*;

/// Number of columns that are summed at once.
const LANES: usize = 8;
/// Number of parts in which participants are counted at the same time.
const PARTS: usize = 8;

/// Share of `sum_c a_cj^2` below which `V_j` is zero, and share of this share for `sum_i t~_i^2`.
const ROUNDING: f64 = 1e-12;

type Lanes = [f64; LANES];

/// How many participants have each feature, and how strongly.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Sums of what is measured, by feature and stratum, `[features, strata]`.
    pub strata: Vec<f64>,
    /// Participants, by feature.
    pub samples: Vec<u32>,
    /// Clusters in which the feature is active, by feature.
    pub clusters: Vec<u32>,
}

impl Counts {
    /// Counts the participants.
    pub fn new(design: &Design, sets: &FeatureSets) -> Self {
        let (features, strata) = (sets.d_sae(), design.strata());
        let empty =
            || Self { strata: vec![0.0; features * strata], samples: vec![0; features], clusters: vec![0; features] };
        let chunk = design.clusters.len().div_ceil(PARTS).max(1);
        let count = |clusters: &[std::ops::Range<usize>]| {
            let mut counts = empty();
            // For each feature, the last cluster that has it, plus one.
            let mut seen = vec![0u32; features];
            for (cluster, range) in clusters.iter().enumerate() {
                for n in range.clone() {
                    for (feature, y) in sets.measured(design.samples[n] as usize) {
                        let feature = feature as usize;
                        counts.strata[feature * strata + design.strata[n] as usize] += y;
                        counts.samples[feature] += 1;
                        let cluster = cluster as u32 + 1;
                        counts.clusters[feature] +=
                            u32::from(std::mem::replace(&mut seen[feature], cluster) != cluster);
                    }
                }
            }
            counts
        };
        // Added in the order of the parts, so that sums do not depend on the number of threads.
        let parts: Vec<Self> = design.clusters.par_chunks(chunk).map(count).collect();
        parts.into_iter().reduce(Self::plus).unwrap_or_else(empty)
    }

    fn plus(mut self, other: Self) -> Self {
        let add = |a: &mut [u32], b: &[u32]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        self.strata.iter_mut().zip(&other.strata).for_each(|(a, b)| *a += b);
        add(&mut self.samples, &other.samples);
        add(&mut self.clusters, &other.clusters);
        self
    }
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
    let arch = Arch::new();
    let sum = |columns: &[Vec<f64>]| arch.dispatch(|| chunk(design, sets, counts, columns));
    residuals.par_chunks(LANES).flat_map_iter(sum).collect()
}

/// Sums up to [`LANES`] columns; compiled for every vector width, with the same results.
#[inline(always)]
fn chunk(design: &Design, sets: &FeatureSets, counts: &Counts, columns: &[Vec<f64>]) -> Vec<ColumnSums> {
    let (features, strata) = (sets.d_sae(), design.strata());
    let value = |n: usize| -> Lanes { std::array::from_fn(|k| columns.get(k).map_or(0.0, |column| column[n])) };
    let paired = design.is_paired();
    let shares: Vec<f64> = design.sizes.iter().map(|size| 1.0 / f64::from(*size)).collect();

    let mut sums = vec![FeatureSums::default(); features];
    // The features of a cluster, their `a_c`, and their places in both; 0 is none, and n + 1 is place n.
    let (mut touched, mut a): (Vec<u32>, Vec<Lanes>) = (Vec::new(), Vec::new());
    let mut place = vec![0u32; features];
    // `T_c`, and the strata that the cluster has.
    let mut by_stratum = vec![[0.0; LANES]; strata];
    let mut has: Vec<u32> = Vec::new();
    // `T'T` and `sum_c T_c q_c`.
    let mut products = vec![[0.0; LANES]; if paired { 0 } else { strata * strata }];
    let mut stratum_q = vec![[0.0; LANES]; strata];
    let (mut squares, mut q_squares) = ([0.0; LANES], [0.0; LANES]);

    for range in &design.clusters {
        let mut q = [0.0; LANES];
        for n in range.clone() {
            let t = value(n);
            add_product(&mut q, &t, &t);
            let stratum = design.strata[n];
            if !has.contains(&stratum) {
                has.push(stratum);
            }
            add(&mut by_stratum[stratum as usize], &t);
            for (feature, y) in sets.measured(design.samples[n] as usize) {
                let place = &mut place[feature as usize];
                if *place == 0 {
                    touched.push(feature);
                    a.push([0.0; LANES]);
                    *place = touched.len() as u32;
                }
                add_scaled(&mut a[*place as usize - 1], y, &t);
            }
        }
        for (feature, own) in touched.drain(..).zip(a.drain(..)) {
            let feature = feature as usize;
            place[feature] = 0;
            let sums = &mut sums[feature];
            add(&mut sums.u, &own);
            add_product(&mut sums.squares, &own, &own);
            add_product(&mut sums.q, &own, &q);
            if !paired {
                let mut expected = [0.0; LANES];
                for stratum in &has {
                    let s = *stratum as usize;
                    let m = counts.strata[feature * strata + s] * shares[s];
                    add_scaled(&mut expected, m, &by_stratum[s]);
                }
                add_product(&mut sums.cross, &own, &expected);
            }
        }
        if !paired {
            for s in &has {
                for other in &has {
                    let product = &mut products[*s as usize * strata + *other as usize];
                    add_product(product, &by_stratum[*s as usize], &by_stratum[*other as usize]);
                }
                add_product(&mut stratum_q[*s as usize], &by_stratum[*s as usize], &q);
            }
        }
        has.drain(..).for_each(|s| by_stratum[s as usize] = [0.0; LANES]);
        add(&mut squares, &q);
        add_product(&mut q_squares, &q, &q);
    }

    let column = |k: usize| ColumnSums { squares: squares[k], q_squares: q_squares[k], ..ColumnSums::default() };
    let mut found: Vec<ColumnSums> = (0..columns.len()).map(column).collect();
    let mut m = vec![0.0; strata];
    for (j, own) in sums.iter().enumerate() {
        let (mut v, mut uq) = (own.squares, own.q);
        if !paired && counts.samples[j] > 0 {
            (0..strata).for_each(|s| m[s] = counts.strata[j * strata + s] * shares[s]);
            let mut quadratic = [0.0; LANES];
            for s in (0..strata).filter(|s| m[*s] > 0.0) {
                let mut row = [0.0; LANES];
                for (other, product) in products[s * strata..(s + 1) * strata].iter().enumerate() {
                    add_scaled(&mut row, m[other], product);
                }
                add_scaled(&mut quadratic, m[s], &row);
                add_scaled(&mut uq, -m[s], &stratum_q[s]);
            }
            add(&mut v, &quadratic);
            add_scaled(&mut v, -2.0, &own.cross);
        }
        for (k, column) in found.iter_mut().enumerate() {
            column.u.push(own.u[k]);
            // A feature that does not vary within strata, or within pairs, leaves rounding errors of these sizes.
            let rounding = ROUNDING * (own.squares[k] + ROUNDING * squares[k]);
            column.v.push(if v[k] > rounding { v[k] } else { 0.0 });
            column.uq.push(uq[k]);
        }
    }
    found
}

/// Sums of a feature: `U_j`, `sum_c a_cj^2`, `sum_c a_cj q_c` and `sum_c a_cj (m_j . T_c)`.
#[derive(Clone, Default)]
struct FeatureSums {
    u: Lanes,
    squares: Lanes,
    q: Lanes,
    cross: Lanes,
}

#[inline(always)]
fn add(sum: &mut Lanes, value: &Lanes) {
    (0..LANES).for_each(|k| sum[k] += value[k]);
}

#[inline(always)]
fn add_product(sum: &mut Lanes, a: &Lanes, b: &Lanes) {
    (0..LANES).for_each(|k| sum[k] += a[k] * b[k]);
}

#[inline(always)]
fn add_scaled(sum: &mut Lanes, scale: f64, value: &Lanes) {
    (0..LANES).for_each(|k| sum[k] += scale * value[k]);
}
