//! How much to keep: an estimate, without labels, of the share of mismatched pairs, and of the score that separates them from
//! the matching ones. Selects nothing itself.
//!
//! The distribution of a score has two overlapping components, one of matching and one of mismatched pairs. If the component
//! of mismatched pairs is known, as it is for `pmi`, because texts and images can be mismatched on purpose,
//! [`keep_auto_against`] makes no assumption about the other one. [`keep_auto`] assumes that both are normal.

use crate::Result;
use rayon::prelude::*;
use sae_core::random::{self, SplitMix64};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Minimum number of scores for an estimate.
const LEAST: usize = 20;
/// Bytes that the metadata of a score table has at most.
const LIMIT: u64 = 16 << 20;
/// Number of bins of the histogram of `y` (see [`keep_auto_against`]).
const BINS: usize = 50;
/// Number of bootstrap draws of an interval.
const DRAWS: u64 = 400;

/// How much of a data set to keep by a score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeepEstimate {
    /// The share of the samples with a score that is kept.
    pub share_kept: f64,
    /// The lowest score that is kept. Above it, a sample is more likely to match than not.
    pub threshold: f64,
    /// The estimated share of mismatched pairs among the samples with a score.
    pub mismatched: f64,
    /// The interval that has the estimated share in 95 % of random draws of as many samples, if it is known. It does not say by how
    /// much the estimate exceeds the true share because matching pairs look mismatched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// What the estimate is based on.
    pub method: Method,
}

/// What an estimate is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The scores of pairs that were mismatched on purpose.
    Mismatched,
    /// A mixture of two normal distributions.
    Normals,
    /// The margins of preferences, some of which are flipped ([`crate::probe::Audit`]).
    Flipped,
}

/// Estimates how much to keep from the scores and from scores of mismatched pairs. Nothing with fewer than 20 of either.
///
/// # Formula
/// Let `y` of a score be the share of mismatched pairs below it. It is uniform for wrong pairs, and close to 1 for right ones.
/// The share of wrong pairs is `#(y <= c) / (n c)`, with the `c` between 0.2 and 0.5 that minimizes Storey's mean squared error
/// (Storey, Taylor and Siegmund 2004). The density `g` of `y` is increasing, so it is estimated by the isotonic fit of a
/// histogram (Grenander 1956). Of the samples at `y`, a share `mismatched / g(y)` is wrong (the local false discovery rate,
/// Efron et al. 2001). The threshold is the score at which this share falls to one half. The interval has 95 % of 400 bootstrap draws
/// of both kinds of scores.
///
/// Right pairs that a fit cannot tell from wrong ones, because it has seen too few pairs, count as wrong. So the share is an upper
/// estimate (`docs/SCORES.md` has figures).
pub fn keep_auto_against(scores: &[Option<f64>], mismatched: &[f64]) -> Option<KeepEstimate> {
    let scored: Vec<f64> = scores.iter().flatten().copied().filter(|s| !s.is_nan()).collect();
    let mut null: Vec<f64> = mismatched.iter().copied().filter(|s| !s.is_nan()).collect();
    if scored.len() < LEAST || null.len() < LEAST {
        return None;
    }
    null.sort_by(f64::total_cmp);
    let n = scored.len() as f64;
    let ends: Vec<[usize; 2]> =
        scored.iter().map(|s| [null.partition_point(|x| x < s), null.partition_point(|x| x <= s)]).collect();
    let place = |[below, to]: &[usize; 2]| (below + to) as f64 / 2.0 / null.len() as f64;
    let places: Vec<f64> = ends.iter().map(place).collect();
    let share = storey(&places);
    let mut bins = vec![0.0; BINS];
    places.iter().for_each(|y| bins[((y * BINS as f64) as usize).min(BINS - 1)] += BINS as f64 / n);
    let density = rising(&bins);
    let from = density.iter().position(|g| *g >= 2.0 * share).unwrap_or(BINS);
    let lowest = scored.iter().copied().fold(f64::INFINITY, f64::min);
    let threshold = match from {
        0 => lowest,
        // The quantile of the mismatched pairs at which the bin begins.
        _ => null[(from * null.len() / BINS).min(null.len() - 1)],
    };
    Some(KeepEstimate {
        share_kept: kept(&scored, threshold),
        threshold,
        mismatched: share,
        interval: Some(bootstrap(&ends, null.len())),
        method: Method::Mismatched,
    })
}

/// The quantiles 0.025 and 0.975 of [`storey`] over bootstrap draws of the scores and of the `of` mismatched scores. `ends` has, for
/// each score, how many of the mismatched scores are below it, and how many at most as high.
fn bootstrap(ends: &[[usize; 2]], of: usize) -> [f64; 2] {
    let draw = |draw: u64| {
        let mut random = SplitMix64::new(random::mix(draw));
        // How many drawn mismatched scores are among the first i.
        let mut up_to = vec![0usize; of + 1];
        (0..of).for_each(|_| up_to[random.below(of) + 1] += 1);
        (0..of).for_each(|i| up_to[i + 1] += up_to[i]);
        let place = |[below, to]: [usize; 2]| (up_to[below] + up_to[to]) as f64 / 2.0 / of as f64;
        storey(&(0..ends.len()).map(|_| place(ends[random.below(ends.len())])).collect::<Vec<_>>())
    };
    let mut shares: Vec<f64> = (0..DRAWS).into_par_iter().map(draw).collect();
    shares.sort_by(f64::total_cmp);
    [0.025, 0.975].map(|quantile| shares[(quantile * (DRAWS - 1) as f64).round() as usize])
}

/// The share of values that are uniformly distributed, where the others are close to 1.
fn storey(places: &[f64]) -> f64 {
    let n = places.len() as f64;
    let share_below = |c: f64| places.iter().filter(|y| **y <= c).count() as f64 / (n * c);
    // Below 0.2, too few samples are counted, and the variance rather than the bias would decide.
    let cuts: Vec<f64> = (4..=10).map(|i| 0.05 * f64::from(i)).collect();
    let lowest = cuts.iter().map(|c| share_below(*c)).fold(f64::INFINITY, f64::min);
    let error = |c: f64| {
        let low = share_below(c) * c;
        low * (1.0 - low) / (n * c * c) + (share_below(c) - lowest).powi(2)
    };
    let best = cuts.iter().copied().min_by(|a, b| error(*a).total_cmp(&error(*b)));
    best.map_or(1.0, share_below).clamp(0.0, 1.0)
}

/// The closest non-decreasing values, computed by pooling adjacent violators.
fn rising(values: &[f64]) -> Vec<f64> {
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for value in values {
        let mut block = (*value, 1);
        while let Some((before, count)) = blocks.last().copied().filter(|b| b.0 > block.0) {
            let total = count + block.1;
            block = ((before * count as f64 + block.0 * block.1 as f64) / total as f64, total);
            blocks.pop();
        }
        blocks.push(block);
    }
    blocks.iter().flat_map(|(value, count)| std::iter::repeat_n(*value, *count)).collect()
}

/// Estimates how much to keep from the scores alone, by fitting a mixture of two normal distributions with expectation
/// maximization. If two do not explain the scores better than one (Schwarz's criterion), everything is kept. Nothing with
/// fewer than 20 scores.
pub fn keep_auto(scores: &[Option<f64>]) -> Option<KeepEstimate> {
    let mut scored: Vec<f64> = scores.iter().flatten().copied().filter(|s| s.is_finite()).collect();
    if scored.len() < LEAST {
        return None;
    }
    scored.sort_by(f64::total_cmp);
    let n = scored.len() as f64;
    let mean = scored.iter().sum::<f64>() / n;
    let deviation = (scored.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n).sqrt();
    let method = Method::Normals;
    let all = KeepEstimate { share_kept: 1.0, threshold: scored[0], mismatched: 0.0, interval: None, method };
    if deviation <= 0.0 {
        return Some(all);
    }
    let log_density = |x: f64, (mean, deviation): (f64, f64)| {
        -0.5 * ((x - mean) / deviation).powi(2) - deviation.ln() - 0.5 * std::f64::consts::TAU.ln()
    };
    let quantile = |share: f64| scored[((n - 1.0) * share) as usize];
    let (mut low, mut high, mut share) = ((quantile(0.15), deviation), (quantile(0.65), deviation), 0.3f64);
    let mut likelihood = f64::NEG_INFINITY;
    for _ in 0..500 {
        let (mut sums, mut new) = ([[0.0f64; 3]; 2], 0.0);
        for x in &scored {
            let (a, b) = (share.ln() + log_density(*x, low), (1.0 - share).ln() + log_density(*x, high));
            let top = a.max(b);
            let total = top + ((a - top).exp() + (b - top).exp()).ln();
            new += total;
            for (sum, r) in sums.iter_mut().zip([(a - total).exp(), (b - total).exp()]) {
                sum.iter_mut().zip([r, r * x, r * x * x]).for_each(|(sum, v)| *sum += v);
            }
        }
        let mean_and_deviation = |[weight, sum, squares]: [f64; 3]| {
            let weight = weight.max(1e-9);
            let mean = sum / weight;
            (mean, (squares / weight - mean * mean).max(1e-4 * deviation * deviation).sqrt())
        };
        (low, high, share) =
            (mean_and_deviation(sums[0]), mean_and_deviation(sums[1]), (sums[0][0] / n).clamp(1e-6, 1.0 - 1e-6));
        if (new - likelihood).abs() < 1e-9 * n {
            break;
        }
        likelihood = new;
    }
    let one: f64 = scored.iter().map(|x| log_density(*x, (mean, deviation))).sum();
    if 2.0 * (likelihood - one) < 3.0 * n.ln() {
        return Some(all);
    }
    if low.0 > high.0 {
        (low, high, share) = (high, low, 1.0 - share);
    }
    // The point below the mean of the right pairs at which the wrong ones become more likely.
    let wrong = |x: f64| share.ln() + log_density(x, low) > (1.0 - share).ln() + log_density(x, high);
    let threshold = scored.iter().rev().copied().find(|x| *x < high.0 && wrong(*x));
    let threshold =
        threshold.map_or(scored[0], |below| scored.iter().copied().find(|x| *x > below).unwrap_or(f64::INFINITY));
    Some(KeepEstimate { share_kept: kept(&scored, threshold), threshold, mismatched: share, interval: None, method })
}

fn kept(scored: &[f64], threshold: f64) -> f64 {
    scored.iter().filter(|s| **s >= threshold).count() as f64 / scored.len().max(1) as f64
}

/// `scores/<name>.json`, next to the table `scores/<name>.parquet`: how the scores were computed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScoreMetadata {
    /// The estimates of how much to keep, by column.
    pub keep: BTreeMap<String, KeepEstimate>,
    /// Further results of `sae score`.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// The path of the file next to a score table.
pub fn beside(table: &Path) -> PathBuf {
    table.with_extension("json")
}

/// The metadata next to a table; none if there is no file.
///
/// # Errors
/// The file has another content.
fn metadata(table: &Path) -> Result<ScoreMetadata> {
    let path = beside(table);
    Ok(if path.exists() { sae_core::file::read_json(&path, LIMIT)? } else { ScoreMetadata::default() })
}

/// The estimate for a column that was saved next to the table. Nothing if there is none.
///
/// # Errors
/// The file was not written by `sae score` or `sae probe`.
pub fn saved(table: &Path, column: &str) -> Result<Option<KeepEstimate>> {
    Ok(metadata(table)?.keep.get(column).copied())
}

/// Saves the estimate for a column next to the table, beside those of other columns.
///
/// # Errors
/// The file was not written by `sae score` or `sae probe`, or cannot be written.
pub fn save(table: &Path, column: &str, estimate: KeepEstimate) -> Result<()> {
    let mut metadata = metadata(table)?;
    metadata.keep.insert(column.into(), estimate);
    Ok(sae_core::file::write_json(&beside(table), &metadata)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::random;

    /// Normally distributed numbers, reproducible on every machine (Box and Muller 1958).
    fn normal(n: usize, seed: u64, mean: f64) -> Vec<f64> {
        let draw = |k: usize, s: u64| random(&k.to_string(), seed * 2 + s).max(1e-12);
        (0..n).map(|k| mean + (-2.0 * draw(k, 0).ln()).sqrt() * (std::f64::consts::TAU * draw(k, 1)).cos()).collect()
    }

    #[test]
    fn the_share_of_wrong_pairs_is_found_by_both() {
        for share in [0.0, 0.1, 0.25, 0.5] {
            let wrong = (2000.0 * share) as usize;
            let scores: Vec<Option<f64>> =
                normal(wrong, 1, -1.0).into_iter().chain(normal(2000 - wrong, 2, 2.5)).map(Some).collect();
            let known = keep_auto_against(&scores, &normal(2000, 3, -1.0)).unwrap();
            let normals = keep_auto(&scores).unwrap();
            for found in [known, normals] {
                assert!((found.mismatched - share).abs() < 0.04, "{share}: {found:?}");
                assert!((found.share_kept - (1.0 - share)).abs() < 0.06, "{share}: {found:?}");
            }
        }
    }

    #[test]
    fn the_interval_of_the_share_narrows_with_more_pairs_and_holds_the_share() {
        let width = |n: usize| {
            let wrong = n / 4;
            let scores: Vec<Option<f64>> =
                normal(wrong, 4, -1.0).into_iter().chain(normal(n - wrong, 5, 4.0)).map(Some).collect();
            let found = keep_auto_against(&scores, &normal(n, 6, -1.0)).unwrap();
            let [low, high] = found.interval.unwrap();
            assert!(low < found.mismatched && found.mismatched < high, "{found:?}");
            assert!(low <= 0.25 && 0.25 <= high, "{found:?}");
            assert_eq!(keep_auto_against(&scores, &normal(n, 6, -1.0)), Some(found));
            high - low
        };
        let (few, many) = (width(400), width(6400));
        // The deviation falls with the root of the number: by 4.
        assert!((0.15..0.45).contains(&(many / few)), "{few} {many}");
    }

    #[test]
    fn few_or_equal_scores_part_nothing() {
        assert_eq!(keep_auto(&[Some(1.0); 5]), None);
        let equal = keep_auto(&[Some(1.0); 30]).unwrap();
        assert_eq!((equal.share_kept, equal.mismatched), (1.0, 0.0));
    }

    #[test]
    fn values_that_fall_are_pooled() {
        assert_eq!(rising(&[1.0, 3.0, 2.0, 2.5, 0.5, 4.0]), [1.0, 2.0, 2.0, 2.0, 2.0, 4.0]);
    }
}
