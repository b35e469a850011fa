//! Predicts a value of a sample from a few of its features: the features are chosen along an L1 path, and weighed by least
//! squares. The same for words in place of features is the baseline that features should beat; [`Ridge`] on mean hidden
//! states is the dense one.
//!
//! # Method
//! The 2,000 features that correlate most with the value take part, standardized. Coordinate descent (Friedman,
//! Hastie and Tibshirani 2010) minimizes `|t - X b|^2 / 2n + l |b|_1` on a descending path of penalties `l`, until as many
//! features as wanted have weights. These are fitted again by least squares, without the penalty, which would shrink them.

use faer::{Mat, Side, prelude::Solve};
use sae_core::analysis::feature_sets::FeatureSets;
use serde::Serialize;
use std::collections::BTreeMap;

/// Number of features among which the path chooses.
const CANDIDATES: usize = 2000;
/// Number of samples in which a candidate is active at least.
const FEWEST: u32 = 10;
/// Number of penalties on the path, and the ratio of the last one to the first one.
const PENALTIES: i32 = 60;
const LAST_PENALTY: f64 = 1e-3;
/// Sweeps of coordinate descent for one penalty, at most.
const SWEEPS: usize = 200;
/// Penalties of ridge regression that are tried, as multiples of the mean diagonal element.
const RIDGES: [f64; 5] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0];

/// A linear prediction from features.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Prediction {
    /// The value of a sample without any of the features.
    pub intercept: f64,
    /// Features with their weights, in ascending order of features.
    pub weights: Vec<(u32, f64)>,
}

impl Prediction {
    /// Fits at most `most` features to the values of some samples.
    ///
    /// ```
    /// use filters::prediction::Prediction;
    /// use sae_core::analysis::feature_sets::FeatureSets;
    ///
    /// // Feature 1 adds 2 to the value; feature 0 is active in every third sample.
    /// let sets: Vec<Vec<u32>> = (0..60).map(|n| [(n % 3, 0), (n % 2, 1)].into_iter().filter(|f| f.0 == 0).map(|f| f.1).collect()).collect();
    /// let sets = FeatureSets::from_sets(&sets, 2);
    /// let values: Vec<(u32, f64)> = (0..60).map(|n| (n, if n % 2 == 0 { 3.0 } else { 1.0 })).collect();
    /// let found = Prediction::fit(&sets, &values, 1);
    /// assert_eq!(found.weights[0].0, 1);
    /// assert!((found.predict(&sets, 4) - 3.0).abs() < 1e-6);
    /// ```
    pub fn fit(sets: &FeatureSets, values: &[(u32, f64)], most: usize) -> Self {
        let mean = values.iter().map(|(_, t)| t).sum::<f64>() / values.len().max(1) as f64;
        let problem = Problem::new(sets, values, mean);
        let chosen = problem.choose(most);
        let weights = problem.least_squares(&chosen);
        let found = chosen.iter().zip(&weights);
        let intercept = mean - found.clone().map(|(place, weight)| weight * problem.means[*place]).sum::<f64>();
        let mut weights: Vec<(u32, f64)> = found.map(|(place, weight)| (problem.features[*place], *weight)).collect();
        weights.sort_by_key(|(feature, _)| *feature);
        Self { intercept, weights }
    }

    /// The predicted value of a sample.
    pub fn predict(&self, sets: &FeatureSets, sample: u32) -> f64 {
        let weight = |feature: u32| {
            let place = self.weights.binary_search_by_key(&feature, |(feature, _)| *feature).ok()?;
            Some(self.weights[place].1)
        };
        self.intercept + sets.features(sample as usize).filter_map(weight).sum::<f64>()
    }
}

/// The products that a path needs.
struct Problem {
    features: Vec<u32>,
    /// Shares of the samples in which the features are active.
    means: Vec<f64>,
    /// Their standard deviations.
    deviations: Vec<f64>,
    /// Covariances of the features, `[candidates, candidates]`.
    gram: Vec<f64>,
    /// Covariances with the value.
    with_value: Vec<f64>,
}

impl Problem {
    fn new(sets: &FeatureSets, values: &[(u32, f64)], mean: f64) -> Self {
        let n = values.len() as f64;
        let (mut counts, mut sums) = (vec![0u32; sets.d_sae()], vec![0.0; sets.d_sae()]);
        for (sample, t) in values {
            for feature in sets.features(*sample as usize) {
                counts[feature as usize] += 1;
                sums[feature as usize] += t - mean;
            }
        }
        let share = |feature: u32| f64::from(counts[feature as usize]) / n;
        let deviation = |feature: u32| (share(feature) * (1.0 - share(feature))).sqrt();
        let correlation = |feature: u32| (sums[feature as usize] / n / deviation(feature)).abs();
        let varies = |feature: &u32| {
            let count = counts[*feature as usize];
            count >= FEWEST && f64::from(count) < n
        };
        let mut features: Vec<u32> = (0..sets.d_sae() as u32).filter(varies).collect();
        features.sort_by(|a, b| correlation(*b).total_cmp(&correlation(*a)).then(a.cmp(b)));
        features.truncate(CANDIDATES);
        features.sort_unstable();

        let places: BTreeMap<u32, usize> = features.iter().copied().zip(0..).collect();
        let width = features.len();
        let mut both = vec![0u32; width * width];
        let mut active = Vec::new();
        for (sample, _) in values {
            active.clear();
            active.extend(sets.features(*sample as usize).filter_map(|feature| places.get(&feature).copied()));
            for a in &active {
                active.iter().for_each(|b| both[a * width + b] += 1);
            }
        }
        let means: Vec<f64> = features.iter().map(|feature| share(*feature)).collect();
        let gram = both.iter().enumerate();
        let gram = gram.map(|(at, count)| f64::from(*count) / n - means[at / width] * means[at % width]).collect();
        Self {
            deviations: features.iter().map(|feature| deviation(*feature)).collect(),
            with_value: features.iter().map(|feature| sums[*feature as usize] / n).collect(),
            means,
            gram,
            features,
        }
    }

    /// The places of at most `most` features: those of the last penalty of the path with no more.
    fn choose(&self, most: usize) -> Vec<usize> {
        let width = self.features.len();
        // Standardized: the features have variance 1, and the gradient is `with_value / deviation - gram b`.
        let mut gradient: Vec<f64> = self.with_value.iter().zip(&self.deviations).map(|(c, d)| c / d).collect();
        let first = gradient.iter().fold(0.0f64, |most, g| most.max(g.abs()));
        let mut weights = vec![0.0; width];
        let mut chosen = Vec::new();
        for step in 1..=PENALTIES {
            let penalty = first * LAST_PENALTY.powf(f64::from(step) / f64::from(PENALTIES));
            for _ in 0..SWEEPS {
                let mut largest = 0.0f64;
                for j in 0..width {
                    let full = gradient[j] + weights[j];
                    let new = full.signum() * (full.abs() - penalty).max(0.0);
                    let change = new - weights[j];
                    if change != 0.0 {
                        weights[j] = new;
                        largest = largest.max(change.abs());
                        let row = &self.gram[j * width..(j + 1) * width];
                        for (k, covariance) in row.iter().enumerate() {
                            gradient[k] -= change * covariance / (self.deviations[j] * self.deviations[k]);
                        }
                    }
                }
                if largest < 1e-6 * first {
                    break;
                }
            }
            let active: Vec<usize> = (0..width).filter(|j| weights[*j] != 0.0).collect();
            if active.len() > most {
                break;
            }
            chosen = active;
        }
        chosen
    }

    fn least_squares(&self, chosen: &[usize]) -> Vec<f64> {
        let width = self.features.len();
        let gram = Mat::from_fn(chosen.len(), chosen.len(), |i, j| self.gram[chosen[i] * width + chosen[j]]);
        let right = Mat::from_fn(chosen.len(), 1, |i, _| self.with_value[chosen[i]]);
        solve(gram, &right, 1e-6)
    }
}

/// Solves `(gram + ridge * mean diagonal) x = right`.
fn solve(mut gram: Mat<f64>, right: &Mat<f64>, ridge: f64) -> Vec<f64> {
    let width = gram.nrows();
    let mean = (0..width).map(|i| gram[(i, i)]).sum::<f64>() / width.max(1) as f64;
    (0..width).for_each(|i| gram[(i, i)] += ridge * mean);
    match gram.llt(Side::Lower) {
        Ok(factor) => {
            let solved = factor.solve(right);
            (0..width).map(|i| solved[(i, 0)]).collect()
        }
        Err(_) => vec![0.0; width],
    }
}

/// A linear prediction from dense rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Ridge {
    means: Vec<f64>,
    intercept: f64,
    weights: Vec<f64>,
}

impl Ridge {
    /// Fits rows of equal width with their values. The penalty is the best of five on every fifth row, which the others predict.
    pub fn fit(rows: &[(&[f32], f64)]) -> Self {
        let fifth = |is_tried: bool| -> Vec<(&[f32], f64)> {
            rows.iter().enumerate().filter(|(n, _)| (n % 5 == 0) == is_tried).map(|(_, row)| *row).collect()
        };
        let (tried, others) = (fifth(true), fifth(false));
        let inner = Moments::new(&others);
        let error = |penalty: f64| -> f64 {
            let fit = inner.fit(penalty);
            tried.iter().map(|(row, t)| (fit.predict(row) - t).powi(2)).sum()
        };
        let errors = RIDGES.map(|penalty| (penalty, error(penalty)));
        let best = errors.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(1.0, |best| best.0);
        Moments::new(rows).fit(best)
    }

    /// The predicted value of a row.
    pub fn predict(&self, row: &[f32]) -> f64 {
        let centered = row.iter().zip(&self.means).map(|(x, mean)| f64::from(*x) - mean);
        self.intercept + centered.zip(&self.weights).map(|(x, weight)| x * weight).sum::<f64>()
    }
}

/// Means and covariances of rows and values.
struct Moments {
    means: Vec<f64>,
    intercept: f64,
    gram: Mat<f64>,
    right: Mat<f64>,
}

impl Moments {
    fn new(rows: &[(&[f32], f64)]) -> Self {
        let n = rows.len().max(1) as f64;
        let width = rows.first().map_or(0, |(row, _)| row.len());
        let mut means = vec![0.0; width];
        rows.iter().for_each(|(row, _)| means.iter_mut().zip(*row).for_each(|(mean, x)| *mean += f64::from(*x) / n));
        let intercept = rows.iter().map(|(_, t)| t / n).sum();
        let centered = Mat::from_fn(rows.len(), width, |i, j| f64::from(rows[i].0[j]) - means[j]);
        let values = Mat::from_fn(rows.len(), 1, |i, _| rows[i].1 - intercept);
        let gram = centered.transpose() * &centered;
        let right = centered.transpose() * &values;
        Self { means, intercept, gram, right }
    }

    fn fit(&self, penalty: f64) -> Ridge {
        let weights = solve(self.gram.clone(), &self.right, penalty);
        Ridge { means: self.means.clone(), intercept: self.intercept, weights }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::random::SplitMix64;

    #[test]
    fn the_features_that_matter_are_chosen_among_many_and_not_shrunk() {
        let mut random = SplitMix64::new(1);
        let mut sets = Vec::new();
        let mut values = Vec::new();
        for sample in 0..800u32 {
            let set: Vec<u32> = (0..300).filter(|_| random.next_f64() < 0.2).collect();
            let weight = |feature: &u32| match feature {
                7 => 2.0,
                40 => -1.0,
                299 => 1.5,
                _ => 0.0,
            };
            values.push((sample, 0.5 + set.iter().map(weight).sum::<f64>() + 0.2 * (random.next_f64() - 0.5)));
            sets.push(set);
        }
        let sets = FeatureSets::from_sets(&sets, 300);
        let found = Prediction::fit(&sets, &values, 3);
        assert_eq!(found.weights.iter().map(|(feature, _)| *feature).collect::<Vec<_>>(), [7, 40, 299]);
        for ((_, weight), truth) in found.weights.iter().zip([2.0, -1.0, 1.5]) {
            assert!((weight - truth).abs() < 0.05, "{weight} {truth}");
        }
        assert!((found.intercept - 0.5).abs() < 0.05);
        let error: f64 = values.iter().map(|(sample, t)| (found.predict(&sets, *sample) - t).powi(2)).sum();
        assert!(error / 800.0 < 0.01);
    }

    #[test]
    fn nothing_is_chosen_where_nothing_varies() {
        let sets = FeatureSets::from_sets(&vec![vec![0]; 40], 2);
        let values: Vec<_> = (0..40).map(|n| (n, f64::from(n % 2))).collect();
        assert_eq!(Prediction::fit(&sets, &values, 5), Prediction { intercept: 0.5, weights: vec![] });
        assert_eq!(Prediction::fit(&sets, &[], 5).weights, []);
    }

    #[test]
    fn ridge_regression_finds_a_direction() {
        let mut random = SplitMix64::new(2);
        let rows: Vec<Vec<f32>> = (0..300).map(|_| (0..12).map(|_| random.next_f64() as f32 - 0.5).collect()).collect();
        let value = |row: &[f32]| f64::from(row[3]) - 2.0 * f64::from(row[9]) + 0.25;
        let pairs: Vec<_> = rows.iter().map(|row| (row.as_slice(), value(row))).collect();
        let found = Ridge::fit(&pairs);
        let error: f64 = pairs.iter().map(|(row, t)| (found.predict(row) - t).powi(2)).sum();
        assert!(error / 300.0 < 1e-4, "{error}");
    }
}
