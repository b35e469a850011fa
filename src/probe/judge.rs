//! How good a probe is on samples that its fits have not seen, beside the baselines that have to be beaten.

use super::Features;
use super::report::{CategoryReport, Quality, QualityMeasure};
use filters::auc::auc;
use filters::prediction::Ridge;
use filters::probe::measures;
use filters::probe::{FOLDS, Fit, Kind, Rows, Targets};
use sae_core::random::{SplitMix64, mix, unit};
use std::collections::BTreeMap;

/// Bootstrap samples of an interval.
const DRAWS: usize = 200;
/// Samples, or pairs, of a category that is reported.
const FEWEST: usize = 20;

/// What predictions are compared with.
pub(super) struct Judge<'a> {
    pub targets: &'a Targets,
    /// The number of levels.
    pub levels: usize,
    /// The group of each row: groups are drawn whole for intervals.
    pub groups: &'a [String],
    pub seed: u64,
}

impl Judge<'_> {
    /// The quality of the probe and of its baselines.
    pub fn quality(&self, fit: &Fit, baselines: &Baselines, seed: u64) -> Quality {
        let value =
            |predicted: &[Option<f64>]| self.measure(&self.pairs(predicted).map(|(_, pair)| pair).collect::<Vec<_>>());
        Quality {
            measure: self.measured_by(),
            features: value(&fit.out_of_fold),
            interval: self.interval(&fit.out_of_fold),
            dense: value(&baselines.dense()),
            words: value(&baselines.words()),
            length: value(&baselines.length()),
            random: value(&baselines.random(seed)),
        }
    }

    /// What the quality is measured by.
    fn measured_by(&self) -> QualityMeasure {
        match self.targets.kind() {
            Kind::Binary | Kind::Cost => QualityMeasure::Auc,
            Kind::Ordinal => QualityMeasure::QuadraticKappa,
            Kind::Linear => QualityMeasure::R2,
            Kind::Pair => QualityMeasure::Accuracy,
        }
    }

    /// The quality in each category that has enough samples. `members` are the numbers of the rows' samples.
    pub fn by_category(&self, fit: &Fit, members: &[usize], categories: &[Option<String>]) -> Vec<CategoryReport> {
        let of = |row: usize| categories[members[row]].as_deref();
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        (0..members.len()).filter_map(of).for_each(|name| *names.entry(name).or_default() += 1);
        let report = |(name, samples): (&str, usize)| {
            let pairs = self.pairs(&fit.out_of_fold).filter(|(row, _)| of(*row) == Some(name));
            let pairs: Vec<(f64, f64)> = pairs.map(|(_, pair)| pair).collect();
            (pairs.len() >= FEWEST).then(|| CategoryReport {
                category: name.into(),
                samples,
                quality: self.measure(&pairs),
            })
        };
        names.into_iter().filter_map(report).collect()
    }

    /// Predictions with what is known, each with its row: those of rows, or the margin of each pair. Where nothing is predicted
    /// there is none.
    fn pairs<'a>(&'a self, predicted: &'a [Option<f64>]) -> Box<dyn Iterator<Item = (usize, (f64, f64))> + 'a> {
        match self.targets {
            Targets::Pair(pairs) => Box::new(
                pairs
                    .iter()
                    .filter_map(|[better, worse]| Some((*better, (predicted[*better]? - predicted[*worse]?, 1.0)))),
            ),
            targets => {
                let known = move |row: usize| Some((row, (predicted[row]?, known(targets, row))));
                Box::new((0..predicted.len()).filter_map(known))
            }
        }
    }

    fn measure(&self, pairs: &[(f64, f64)]) -> Option<f64> {
        match self.targets.kind() {
            Kind::Binary | Kind::Cost => {
                let of =
                    |value: f64| pairs.iter().filter(|(_, known)| *known == value).map(|(p, _)| *p).collect::<Vec<_>>();
                auc(&of(1.0), &of(0.0))
            }
            Kind::Ordinal => {
                let highest = self.levels.saturating_sub(1) as f64;
                let level =
                    |(predicted, known): &(f64, f64)| (*known as u32, predicted.round().clamp(0.0, highest) as u32);
                measures::quadratic_kappa(&pairs.iter().map(level).collect::<Vec<_>>(), self.levels)
            }
            Kind::Linear => measures::explained(pairs),
            Kind::Pair => {
                let right = |(margin, _): &(f64, f64)| {
                    if *margin > 0.0 {
                        1.0
                    } else if *margin == 0.0 {
                        0.5
                    } else {
                        0.0
                    }
                };
                (!pairs.is_empty()).then(|| pairs.iter().map(right).sum::<f64>() / pairs.len() as f64)
            }
        }
    }

    /// A 95 % interval: the quantiles over bootstrap samples of groups (Efron 1979).
    fn interval(&self, predicted: &[Option<f64>]) -> Option<[f64; 2]> {
        let mut of_group: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        self.pairs(predicted).for_each(|(row, pair)| of_group.entry(&self.groups[row]).or_default().push(pair));
        let groups: Vec<Vec<(f64, f64)>> = of_group.into_values().collect();
        if groups.is_empty() {
            return None;
        }
        let mut random = SplitMix64::new(self.seed);
        let mut draw = || -> Option<f64> {
            let drawn = (0..groups.len()).flat_map(|_| groups[random.below(groups.len())].iter().copied());
            self.measure(&drawn.collect::<Vec<_>>())
        };
        let mut values: Vec<f64> = (0..DRAWS).filter_map(|_| draw()).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get(((values.len().max(1) - 1) as f64 * share).round() as usize).copied();
        Some([at(0.025)?, at(0.975)?])
    }
}

/// What is known about a row, as a number; a cost is 1 for unsafe rows.
fn known(targets: &Targets, row: usize) -> f64 {
    match targets {
        Targets::Binary(of) => f64::from(u8::from(of[row])),
        Targets::Ordinal(of) => f64::from(of[row]),
        Targets::Linear(of) => of[row],
        Targets::Cost(_, rates) => f64::from(u8::from(rates[row] < 0.0)),
        Targets::Pair(_) => 1.0,
    }
}

/// The mean squared difference of calibrated probabilities from what happened.
pub(super) fn brier(calibrated: &[Option<f64>], outcomes: &[Option<f64>]) -> Option<f64> {
    let pairs =
        calibrated.iter().zip(outcomes).filter_map(|(probability, outcome)| Some(((*probability)?, (*outcome)?)));
    measures::brier(&pairs.collect::<Vec<_>>())
}

/// Predictions from anything but features, with the same folds.
pub(super) struct Baselines<'a> {
    pub features: &'a Features,
    /// The sample of every row.
    pub members: &'a [usize],
    pub targets: &'a Targets,
    pub folds: &'a [usize],
}

impl Baselines<'_> {
    /// Ridge regression on mean hidden states.
    fn dense(&self) -> Vec<Option<f64>> {
        self.ridge(|row| self.features.mean(self.members[row]).map(<[f32]>::to_vec))
    }

    /// A probe on the words of the samples.
    fn words(&self) -> Vec<Option<f64>> {
        Fit::new(&Rows::from_sets(&self.features.words).pick(self.members), self.targets, self.folds).out_of_fold
    }

    /// Ridge regression on the logarithm of the number of positions.
    fn length(&self) -> Vec<Option<f64>> {
        self.ridge(|row| Some(vec![f64::from(self.features.positions[self.members[row]]).ln() as f32]))
    }

    /// What is known about other rows, drawn at random.
    fn random(&self, seed: u64) -> Vec<Option<f64>> {
        let mut random = SplitMix64::new(mix(seed ^ 0x7261_6e64));
        let rows = self.members.len();
        let draw = |row| match self.targets {
            Targets::Pair(_) | Targets::Binary(_) | Targets::Cost(..) => unit(SplitMix64::nth(seed, row as u64 + 1)),
            targets => known(targets, random.below(rows)),
        };
        (0..rows).map(draw).map(Some).collect()
    }

    /// Ridge regression; for pairs, on differences.
    fn ridge(&self, of_row: impl Fn(usize) -> Option<Vec<f32>>) -> Vec<Option<f64>> {
        let rows: Vec<Option<Vec<f32>>> = (0..self.members.len()).map(of_row).collect();
        let mut predicted = vec![None; rows.len()];
        for fold in 0..FOLDS {
            let trains = |row: usize| self.folds[row] != fold;
            let train: Vec<(Vec<f32>, f64)> = match self.targets {
                Targets::Pair(pairs) => {
                    let pairs = pairs.iter().filter(|[better, _]| trains(*better));
                    let difference = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f32>>();
                    let both = pairs.filter_map(|[better, worse]| {
                        let (better, worse) = (rows[*better].as_ref()?, rows[*worse].as_ref()?);
                        Some([(difference(better, worse), 1.0), (difference(worse, better), -1.0)])
                    });
                    both.flatten().collect()
                }
                targets => {
                    let rows = rows.iter().enumerate().filter(|(row, _)| trains(*row));
                    rows.filter_map(|(row, values)| Some((values.clone()?, known(targets, row)))).collect()
                }
            };
            if train.is_empty() {
                continue;
            }
            let model = Ridge::fit(&train.iter().map(|(row, value)| (row.as_slice(), *value)).collect::<Vec<_>>());
            for (row, values) in rows.iter().enumerate().filter(|(row, _)| !trains(*row)) {
                predicted[row] = values.as_ref().map(|values| model.predict(values));
            }
        }
        predicted
    }
}
