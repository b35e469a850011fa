//! How well a few features predict a column, in samples that took no part in the fit, beside length, words and mean hidden
//! states.

use crate::Result;
use filters::auc;
use filters::prediction::{Prediction, Ridge};
use filters::words::spell;
use sae_core::analysis::between::PositionChoice;
use sae_core::analysis::contrast::{Column, Design};
use sae_core::analysis::feature_sets::FeatureSets;
use sae_core::analysis::summary::{SampleSummary, SummaryObserver};
use sae_core::random::{self, SplitMix64};
use sae_core::store::Store;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Number of parts of the clusters; each is predicted from the others.
const FOLDS: u64 = 5;
/// Samples that a fit uses at most; they are chosen by a hash.
const FITTED: usize = 50_000;
/// Bootstrap samples of an interval.
const DRAWS: usize = 200;

/// How well a column is predicted out of fold: AUC for a group, the share of explained variance (R^2) for numbers.
#[derive(Clone, Debug, Serialize)]
pub struct PredictionReport {
    /// The column.
    pub column: String,
    /// `auc` or `r2`.
    pub measure: &'static str,
    /// From features.
    pub features: Option<f64>,
    /// The 95 % interval, from bootstrap samples of clusters.
    pub features_interval: Option<[f64; 2]>,
    /// From as many words.
    pub words: Option<f64>,
    /// From the logarithm of the number of positions.
    pub length: Option<f64>,
    /// From mean hidden states (ridge regression).
    pub hidden: Option<f64>,
    /// The features with their weights, fitted to all samples.
    pub model: Prediction,
    /// The predictions of all samples of the run.
    #[serde(skip)]
    pub predicted: Vec<Option<f64>>,
}

impl PredictionReport {
    /// Whether a feature has a weight.
    pub fn uses(&self, feature: u32) -> bool {
        self.model.weights.iter().any(|(other, _)| *other == feature)
    }
}

/// What predictions are made from.
pub(super) struct Sources<'a> {
    pub design: &'a Design,
    pub sets: &'a FeatureSets,
    /// The words of every sample, numbered.
    pub words: &'a FeatureSets,
    /// The number of positions of every sample.
    pub positions: &'a [u32],
    pub hidden: &'a PartMeans,
    /// The fold of every participant.
    pub folds: &'a [u64],
    /// The number of features, and of words.
    pub most: usize,
    pub seed: u64,
}

/// The fold of every participant: samples of a cluster are in the same one.
pub(super) fn folds(design: &Design, seed: u64) -> Vec<u64> {
    let mut folds = vec![0; design.samples().len()];
    for (range, name) in design.clusters().iter().zip(design.names()) {
        folds[range.clone()].fill(random::mix(random::fnv1a(name.bytes()) ^ random::mix(seed ^ 0x666f_6c64)) % FOLDS);
    }
    folds
}

impl Sources<'_> {
    /// Predicts a column.
    pub fn predict(&self, column: &Column) -> PredictionReport {
        let samples = self.design.samples();
        let is_indicator = column.values.iter().all(|t| *t == 0.0 || *t == 1.0);
        let from = |sets: &FeatureSets| {
            self.out_of_fold(column, |train| {
                let model = Prediction::fit(sets, train, self.most);
                move |sample: u32| model.predict(sets, sample)
            })
        };
        let features = from(self.sets);
        let words = from(self.words);
        let log_length = |sample: u32| [f64::from(self.positions[sample as usize].max(1)).ln() as f32];
        let length = self.out_of_fold(column, |train| {
            let rows: Vec<([f32; 1], f64)> = train.iter().map(|(sample, t)| (log_length(*sample), *t)).collect();
            let model = Ridge::fit(&rows.iter().map(|(row, t)| (&row[..], *t)).collect::<Vec<_>>());
            move |sample: u32| model.predict(&log_length(sample))
        });
        let held = |n: &usize| self.hidden.mean(samples[*n]).is_some();
        let hidden_members: Vec<usize> = (0..samples.len()).filter(held).collect();
        let hidden = self.out_of_fold(column, |train| {
            let rows = train.iter().filter_map(|(sample, t)| Some((self.hidden.mean(*sample)?, *t)));
            let model = Ridge::fit(&rows.collect::<Vec<_>>());
            move |sample: u32| self.hidden.mean(sample).map_or(f64::NAN, |row| model.predict(row))
        });
        let all: Vec<usize> = (0..samples.len()).collect();
        let judge = |predicted: &[f64], members: &[usize]| quality(predicted, column, members, is_indicator);
        let interval = interval(self.design.clusters(), &features, &column.values, is_indicator, self.seed);
        let whole: Vec<(u32, f64)> = self.fitted(column, |_| true);
        let model = Prediction::fit(self.sets, &whole, self.most);
        // Samples without a value are predicted by the model that was fitted to all that have one.
        let mut predicted: Vec<Option<f64>> = (0..self.positions.len())
            .map(|n| (self.positions[n] > 0).then(|| model.predict(self.sets, n as u32)))
            .collect();
        samples.iter().zip(&features).for_each(|(sample, value)| predicted[*sample as usize] = Some(*value));
        PredictionReport {
            column: column.name.clone(),
            measure: if is_indicator { "auc" } else { "r2" },
            features: judge(&features, &all),
            features_interval: interval,
            words: judge(&words, &all),
            length: judge(&length, &all),
            hidden: judge(&hidden, &hidden_members),
            model,
            predicted,
        }
    }

    /// The prediction of every participant by a model that was fitted to the other folds.
    fn out_of_fold<P: Fn(u32) -> f64>(&self, column: &Column, fit: impl Fn(&[(u32, f64)]) -> P) -> Vec<f64> {
        let mut predicted = vec![0.0; column.values.len()];
        for fold in 0..FOLDS {
            let train = self.fitted(column, |n| self.folds[n] != fold);
            let model = fit(&train);
            for (n, sample) in self.design.samples().iter().enumerate().filter(|(n, _)| self.folds[*n] == fold) {
                predicted[n] = model(*sample);
            }
        }
        predicted
    }

    /// Samples with their values, for a fit.
    fn fitted(&self, column: &Column, takes: impl Fn(usize) -> bool) -> Vec<(u32, f64)> {
        let members: Vec<usize> = (0..column.values.len()).filter(|n| takes(*n)).collect();
        let share = FITTED as f64 / members.len().max(1) as f64;
        let samples = self.design.samples();
        let chosen = |n: &usize| random::unit(SplitMix64::nth(self.seed, *n as u64 + 1)) < share;
        members.into_iter().filter(chosen).map(|n| (samples[n], column.values[n])).collect()
    }
}

/// The AUC of an indicator, or R^2.
fn quality(predicted: &[f64], column: &Column, members: &[usize], is_indicator: bool) -> Option<f64> {
    let pairs = || members.iter().map(|n| (predicted[*n], column.values[*n]));
    if is_indicator {
        let of = |value: f64| pairs().filter(|(_, t)| *t == value).map(|(p, _)| p).collect::<Vec<_>>();
        return auc::auc(&of(1.0), &of(0.0));
    }
    let mean = pairs().map(|(_, t)| t).sum::<f64>() / members.len() as f64;
    let (left, all) =
        pairs().fold((0.0, 0.0), |(left, all), (p, t)| (left + (t - p).powi(2), all + (t - mean).powi(2)));
    (all > 0.0).then(|| 1.0 - left / all)
}

/// A 95 % interval of the AUC or R^2 of predictions: the quantiles over bootstrap samples of clusters (Efron 1979; Field and
/// Welsh 2007), which keep samples that depend on each other together.
fn interval(
    clusters: &[Range<usize>],
    predicted: &[f64],
    values: &[f64],
    is_indicator: bool,
    seed: u64,
) -> Option<[f64; 2]> {
    let mut order: Vec<usize> = (0..predicted.len()).collect();
    order.sort_by(|a, b| predicted[*a].total_cmp(&predicted[*b]));
    let mut random = SplitMix64::new(seed);
    let mut weights = vec![0.0; predicted.len()];
    let draw = |_| {
        let mut counts = vec![0.0; clusters.len()];
        clusters.iter().for_each(|_| counts[random.below(clusters.len())] += 1.0);
        clusters.iter().zip(&counts).for_each(|(range, count)| weights[range.clone()].fill(*count));
        if is_indicator {
            weighted_auc(&order, predicted, values, &weights)
        } else {
            weighted_r2(predicted, values, &weights)
        }
    };
    let mut all: Vec<f64> = (0..DRAWS).filter_map(draw).collect();
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all.get((all.len().saturating_sub(1) as f64 * share).round() as usize).copied();
    Some([at(0.025)?, at(0.975)?])
}

/// The AUC of samples that occur as often as their weights say, from their order by prediction.
fn weighted_auc(order: &[usize], predicted: &[f64], values: &[f64], weights: &[f64]) -> Option<f64> {
    let (mut below, mut above, mut wins) = (0.0, 0.0, 0.0);
    for ties in order.chunk_by(|a, b| predicted[*a] == predicted[*b]) {
        let sum = |value: f64| ties.iter().filter(|n| values[**n] == value).map(|n| weights[*n]).sum::<f64>();
        let (good, bad) = (sum(1.0), sum(0.0));
        wins += good * (below + bad / 2.0);
        (below, above) = (below + bad, above + good);
    }
    (below * above > 0.0).then(|| wins / (below * above))
}

/// R^2 of samples that occur as often as their weights say.
fn weighted_r2(predicted: &[f64], values: &[f64], weights: &[f64]) -> Option<f64> {
    let sum = |of: &dyn Fn(usize) -> f64| (0..values.len()).map(|n| weights[n] * of(n)).sum::<f64>();
    let mean = sum(&|n| values[n]) / sum(&|_| 1.0);
    let (left, all) = (sum(&|n| (values[n] - predicted[n]).powi(2)), sum(&|n| (values[n] - mean).powi(2)));
    (all > 0.0).then(|| 1.0 - left / all)
}

/// The mean hidden states of samples, as far as summaries have them.
pub(crate) struct PartMeans {
    d_in: usize,
    /// The place of each sample in `means`, for samples that are held.
    places: Vec<Option<usize>>,
    means: Vec<f32>,
}

impl PartMeans {
    pub fn new(samples: usize, d_in: usize) -> Self {
        Self { d_in, places: vec![None; samples], means: Vec::new() }
    }

    /// The number of samples, held or not.
    pub(crate) fn samples(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn mean(&self, sample: u32) -> Option<&[f32]> {
        let place = self.places[sample as usize]?;
        Some(&self.means[place * self.d_in..(place + 1) * self.d_in])
    }
}

impl SummaryObserver for PartMeans {
    fn observe_sample(&mut self, summary: &SampleSummary) -> sae_core::Result<()> {
        if !summary.mean.is_empty() {
            self.places[summary.sample as usize] = Some(self.means.len() / self.d_in);
            self.means.extend_from_slice(summary.mean);
        }
        Ok(())
    }
}

/// The words of the positions that count in every sample.
pub(crate) fn part_words(store: &Store, choice: &PositionChoice, samples: usize) -> Result<Vec<BTreeSet<String>>> {
    let mut by_sample: Vec<BTreeSet<String>> = vec![BTreeSet::new(); samples];
    for (number, range) in store.parts()?.into_iter().enumerate() {
        let table = store.token_table(number)?;
        for sample in range {
            let mut tokens = table.tokens(table.rows(sample)?)?;
            // Other tokens separate words.
            tokens.iter_mut().for_each(|token| token.special |= !choice.contains_token(sample, token));
            by_sample[sample as usize] = spell(&tokens).into_iter().map(|(_, word)| word).collect();
        }
    }
    store.paths().pool(&mut by_sample, |words, before| words.extend(before.iter().cloned()));
    Ok(by_sample)
}

/// The words of samples, numbered in ascending order.
pub(crate) fn number_words(by_sample: &[BTreeSet<String>]) -> FeatureSets {
    let known: BTreeSet<&String> = by_sample.iter().flatten().collect();
    let numbers: BTreeMap<&String, u32> = known.into_iter().zip(0..).collect();
    let sets: Vec<Vec<u32>> = by_sample.iter().map(|words| words.iter().map(|word| numbers[word]).collect()).collect();
    FeatureSets::from_sets(&sets, numbers.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 clusters of 5 samples; the prediction is the value plus noise that the samples of a cluster share.
    fn noisy(is_indicator: bool) -> (Vec<Range<usize>>, Vec<f64>, Vec<f64>) {
        let mut random = SplitMix64::new(8);
        let clusters: Vec<Range<usize>> = (0..100).map(|c| 5 * c..5 * c + 5).collect();
        let (mut predicted, mut values) = (Vec::new(), Vec::new());
        for cluster in 0..100 {
            let (noise, value) = (3.0 * (random.next_f64() - 0.5), random.next_f64());
            let value = if is_indicator { f64::from(u8::from(cluster % 2 == 0)) } else { value };
            predicted.extend([value + noise; 5]);
            values.extend([value; 5]);
        }
        (clusters, predicted, values)
    }

    #[test]
    fn intervals_are_those_of_clusters() {
        for is_indicator in [true, false] {
            let (clusters, predicted, values) = noisy(is_indicator);
            let alone: Vec<Range<usize>> = (0..500).map(|n| n..n + 1).collect();
            let width = |clusters: &[Range<usize>]| {
                let [lo, hi] = interval(clusters, &predicted, &values, is_indicator, 0).unwrap();
                let column = Column { name: String::new(), values: values.clone() };
                let whole = quality(&predicted, &column, &(0..500).collect::<Vec<_>>(), is_indicator).unwrap();
                assert!((lo..=hi).contains(&whole), "{lo} {whole} {hi}");
                hi - lo
            };
            // Five equal samples in each cluster: standard errors are sqrt(5) as large as those of 500 samples.
            let ratio = width(&clusters) / width(&alone);
            assert!((1.6..3.0).contains(&ratio), "{ratio}");
        }
        let (clusters, predicted, _) = noisy(true);
        assert_eq!(interval(&clusters, &predicted, &[1.0; 500], true, 0), None);
    }

    #[test]
    fn weights_count_as_repetitions() {
        let (predicted, values) = ([0.2, 0.2, 0.5, 0.9, 0.4], [0.0, 1.0, 1.0, 0.0, 1.0]);
        let weights = [2.0, 1.0, 0.0, 3.0, 1.0];
        let repeated = [0, 0, 1, 3, 3, 3, 4];
        let of = |all: &[f64]| repeated.iter().map(|n| all[*n]).collect::<Vec<_>>();
        let (p, column) = (of(&predicted), Column { name: String::new(), values: of(&values) });
        let members: Vec<usize> = (0..repeated.len()).collect();
        let order = [0, 1, 4, 2, 3];
        let auc = weighted_auc(&order, &predicted, &values, &weights).unwrap();
        assert!((auc - quality(&p, &column, &members, true).unwrap()).abs() < 1e-12);
        let r2 = weighted_r2(&predicted, &values, &weights).unwrap();
        assert!((r2 - quality(&p, &column, &members, false).unwrap()).abs() < 1e-12);
    }
}
