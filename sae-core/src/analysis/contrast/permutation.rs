//! Permutation tests for few clusters, for which Student's distribution is not to be trusted.
//!
//! If a column has one value in each cluster, the values are permuted among clusters. `U_j` is then `sum_c t_c r_cj`, where
//! `r_cj = y_cj - sum_s (n_cs / n_s) y_sj` does not depend on the column (`y_cj` and `y_sj` are the sums of `y_ij` in
//! a cluster and in a stratum, `n_cs` and `n_s` all samples there). Otherwise the signs of the clusters' sums `u_cj` are
//! drawn. The p-value is `(1 + b) / (1 + B)`, where `b` of `B` permutations have a `|U_j|` at least as large.

use super::design::Design;
use super::sums::Counts;
use crate::analysis::feature_sets::FeatureSets;
use crate::random;
use rand::Rng;
use rand::seq::SliceRandom;
use rayon::prelude::*;

/// Number of permutations.
const PERMUTATIONS: usize = 4999;

/// Distinguishes these random numbers from those of other purposes.
const PURPOSE: u64 = 0x7065_726d;

/// The p-values of some features in each column: `[columns, features]`.
pub(super) fn p_values(
    design: &Design,
    sets: &FeatureSets,
    counts: &Counts,
    (values, residuals): (&[Vec<f64>], &[Vec<f64>]),
    features: &[u32],
    seed: u64,
) -> Vec<Vec<f64>> {
    let constant = !design.is_paired() && values.iter().all(|column| design.is_constant_in_clusters(column));
    let clusters = design.clusters.len();
    if constant {
        let matrix = cluster_sums(design, sets, counts, features, |_| 1.0);
        let mut rng = random::chacha(seed, PURPOSE);
        let mut order: Vec<usize> = (0..clusters).collect();
        let orders = (0..PERMUTATIONS).map(|_| {
            order.shuffle(&mut rng);
            order.clone()
        });
        let orders: Vec<Vec<usize>> = orders.collect();
        let test = |column: &Vec<f64>| {
            let own: Vec<f64> = design.clusters.iter().map(|range| column[range.start]).collect();
            compare(&matrix, &own, |c, b| own[orders[b][c]])
        };
        return values.iter().map(test).collect();
    }
    let test = |(n, column): (usize, &Vec<f64>)| {
        let matrix = cluster_sums(design, sets, counts, features, |n| column[n]);
        let mut rng = random::chacha(seed, PURPOSE + 1 + n as u64);
        let signs: Vec<u64> = (0..PERMUTATIONS).map(|_| rng.next_u64()).collect();
        compare(&matrix, &vec![1.0; clusters], |c, b| if signs[b] >> c & 1 == 1 { 1.0 } else { -1.0 })
    };
    residuals.iter().enumerate().map(test).collect()
}

/// The p-value of each row of a matrix `[features, clusters]`: its product with `own` is compared with those with permuted
/// weights, of cluster `c` in permutation `b`.
fn compare(matrix: &[Vec<f64>], own: &[f64], weight: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let weights: Vec<Vec<f64>> = (0..own.len()).map(|c| (0..PERMUTATIONS).map(|b| weight(c, b)).collect()).collect();
    let p_value = |row: &Vec<f64>| {
        let observed: f64 = row.iter().zip(own).map(|(m, t)| m * t).sum();
        let mut permuted = vec![0.0; PERMUTATIONS];
        for (m, weights) in row.iter().zip(&weights) {
            permuted.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += m * weight);
        }
        // Sums in another order may differ in their last bits.
        let bound = observed.abs() * (1.0 - 1e-9);
        let extreme = permuted.iter().filter(|sum| sum.abs() >= bound).count();
        (1 + extreme) as f64 / (1 + PERMUTATIONS) as f64
    };
    matrix.par_iter().map(p_value).collect()
}

/// The sums over each cluster, `[features, clusters]`, of `weight * (y_ij - m_sj)`: with weight 1, these are `r_cj`, and with
/// the residuals of a column, `u_cj`. If samples are paired within clusters, residuals sum to zero, and `m_sj` is left out.
fn cluster_sums(
    design: &Design,
    sets: &FeatureSets,
    counts: &Counts,
    features: &[u32],
    weight: impl Fn(usize) -> f64,
) -> Vec<Vec<f64>> {
    let strata = design.strata();
    let place = places(features, sets.d_sae());
    let mut matrix = vec![vec![0.0; design.clusters.len()]; features.len()];
    for (c, range) in design.clusters.iter().enumerate() {
        let mut weights = vec![0.0; strata];
        for n in range.clone() {
            let (stratum, weight) = (design.strata[n] as usize, weight(n));
            weights[stratum] += weight;
            for (feature, y) in sets.measured(design.samples[n] as usize) {
                if let Some(row) = place[feature as usize] {
                    matrix[row as usize][c] += weight * y;
                }
            }
        }
        if design.is_paired() {
            continue;
        }
        for (row, feature) in matrix.iter_mut().zip(features) {
            row[c] -= counts.means(*feature as usize).iter().zip(&weights).map(|(m, w)| m * w).sum::<f64>();
        }
    }
    matrix
}

/// The place of each feature in `features`.
fn places(features: &[u32], d_sae: usize) -> Vec<Option<u32>> {
    let mut places = vec![None; d_sae];
    (0..).zip(features).for_each(|(place, feature)| places[*feature as usize] = Some(place));
    places
}
