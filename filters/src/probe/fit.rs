//! Fits a probe: chooses the penalty by cross-validation, and scores every row by a fit that has not seen it.

use super::isotonic::Isotonic;
use super::loss::{Kind, Targets, sigmoid};
use super::rows::Rows;
use super::solver::{Penalty, Problem, Solution};
use rayon::prelude::*;
use sae_core::random;
use serde::{Deserialize, Serialize};

/// Number of parts of the data; each is scored by a fit to the others.
pub const FOLDS: usize = 5;
/// Number of penalties on the path, and the ratio of the last one to the first one.
const PENALTIES: i32 = 30;
const LAST_PENALTY: f64 = 1e-2;
/// Penalties in a row that have to be worse before smaller ones are not tried.
const PATIENCE: usize = 5;
/// The quadratic penalty, as a share of the L1 penalty.
const L2_SHARE: f64 = 0.1;
/// Accuracy of the gradient on the path, and of the final fit, as shares of the penalty.
const TOLERANCES: [f64; 2] = [1e-3, 1e-6];
/// Number of rows in which a feature is not 0, at least.
const FEWEST: u32 = 10;

/// A linear function of features, with the offsets of its loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Features with their weights, in ascending order of features.
    pub weights: Vec<(u32, f64)>,
    /// The intercept; for levels, the thresholds; for pairs, nothing.
    pub offsets: Vec<f64>,
}

impl Probe {
    fn new(solution: &Solution, features: &[u32], deviations: &[f64]) -> Self {
        let weights = features.iter().zip(&solution.weights).filter(|(_, weight)| **weight != 0.0);
        let weights = weights.map(|(feature, weight)| (*feature, weight / deviations[*feature as usize]));
        Self { weights: weights.collect(), offsets: solution.offsets.clone() }
    }

    /// The weight of a feature.
    pub fn weight(&self, feature: u32) -> f64 {
        let place = self.weights.binary_search_by_key(&feature, |(feature, _)| *feature);
        place.map_or(0.0, |place| self.weights[place].1)
    }

    /// The score of a row: a logit, the expected level, a number, a reward, or a cost.
    pub fn score(&self, kind: Kind, row: impl Iterator<Item = (u32, f32)>) -> f64 {
        let linear: f64 = row.map(|(feature, value)| f64::from(value) * self.weight(feature)).sum();
        match kind {
            Kind::Ordinal => self.offsets.iter().map(|threshold| sigmoid(linear - threshold)).sum(),
            Kind::Pair => linear,
            Kind::Binary | Kind::Linear | Kind::Cost => linear + self.offsets[0],
        }
    }
}

/// The mean loss on held-out rows for one penalty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathPoint {
    /// The L1 penalty.
    pub penalty: f64,
    /// The mean over folds.
    pub loss: f64,
    /// The standard error of the mean.
    pub standard_error: f64,
    /// Features with weights in the fit to all rows.
    pub features: usize,
}

/// A fitted probe.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The fit to all rows.
    pub probe: Probe,
    /// Held-out losses along the path.
    pub path: Vec<PathPoint>,
    /// The place on the path of the penalty that was chosen: the largest whose loss is within one standard error of the
    /// smallest (Breiman et al. 1984).
    pub chosen: usize,
    /// The score of every row by the fit that has not seen its fold. `None` for rows of no fold.
    pub out_of_fold: Vec<Option<f64>>,
}

/// Assigns folds to groups: rows of a group are in one fold.
///
/// ```
/// let folds = filters::probe::folds(["a", "b", "a"], 0);
/// assert_eq!(folds[0], folds[2]);
/// ```
pub fn folds<'a>(groups: impl IntoIterator<Item = &'a str>, seed: u64) -> Vec<usize> {
    let fold = |name: &str| random::mix(random::fnv1a(name.bytes()) ^ random::mix(seed ^ 0x7072_6f62)) % FOLDS as u64;
    groups.into_iter().map(|name| fold(name) as usize).collect()
}

impl Fit {
    /// Fits a probe to rows, `[rows, features]`. `folds` has the fold of each row; the rows of a pair have to be in the same one.
    pub fn new(rows: &Rows, targets: &Targets, folds: &[usize]) -> Self {
        let deviations = rows.deviations();
        let counts = rows.counts();
        let varies = |feature: &u32| counts[*feature as usize] >= FEWEST && deviations[*feature as usize] > 1e-9;
        let features: Vec<u32> = (0..rows.width() as u32).filter(varies).collect();
        let scaled = rows.columns(&features, |feature| 1.0 / deviations[feature as usize]);
        let all: Vec<usize> = (0..targets.len()).collect();
        let of_fold = |fold: usize, is_in: bool| -> Vec<usize> {
            all.iter().copied().filter(|example| (folds[targets.rows(*example)[0]] == fold) == is_in).collect()
        };
        let whole = Problem { rows: &scaled, targets, examples: &all };
        let largest = whole.largest_penalty().0;
        let penalties =
            (0..PENALTIES).map(|step| largest * LAST_PENALTY.powf(f64::from(step) / f64::from(PENALTIES - 1)));
        // The last part, after all folds, trains on all rows.
        let parts: Vec<_> = (0..=FOLDS).map(|fold| (of_fold(fold, false), of_fold(fold, true))).collect();
        let has_rows: Vec<usize> = (0..FOLDS).filter(|fold| !parts[*fold].1.is_empty()).collect();
        let problem = |part: usize| Problem { examples: &parts[part].0, ..whole };
        let (mut before, start): (Vec<f64>, Vec<Solution>) =
            (0..=FOLDS).into_par_iter().map(|part| problem(part).largest_penalty()).unzip();
        let mut steps: Vec<Vec<Solution>> = Vec::new();
        let mut path: Vec<PathPoint> = Vec::new();
        for l1 in penalties {
            let last = steps.last().unwrap_or(&start);
            let penalty = Penalty { l1, l2: L2_SHARE * l1 };
            let found: Vec<Solution> = (0..=FOLDS)
                .into_par_iter()
                .map(|part| problem(part).minimize(&last[part], before[part], penalty, TOLERANCES[0]))
                .collect();
            let loss = |fold: &usize| found[*fold].loss(&Problem { examples: &parts[*fold].1, ..whole });
            let (loss, standard_error) = mean_and_error(&has_rows.iter().map(loss).collect::<Vec<f64>>());
            let features = found[FOLDS].weights.iter().filter(|weight| **weight != 0.0).count();
            path.push(PathPoint { penalty: l1, loss, standard_error, features });
            steps.push(found);
            before.fill(l1);
            if is_past(&path) {
                break;
            }
        }
        let chosen = one_standard_error(&path);
        let l1 = path[chosen].penalty;
        let refine = |part: usize| {
            let penalty = Penalty { l1, l2: L2_SHARE * l1 };
            let found = problem(part).minimize(&steps[chosen][part], l1, penalty, TOLERANCES[1]);
            Probe::new(&found, &features, &deviations)
        };
        let mut probes: Vec<Probe> = (0..=FOLDS).into_par_iter().map(refine).collect();
        let takes_part = taking_part(targets, rows.len());
        let score = |row: usize| takes_part[row].then(|| probes[folds[row]].score(targets.kind(), rows.row(row)));
        let out_of_fold = (0..rows.len()).map(score).collect();
        Self { probe: probes.pop().unwrap_or_default(), path, chosen, out_of_fold }
    }
}

/// Which rows are in an example.
fn taking_part(targets: &Targets, rows: usize) -> Vec<bool> {
    let mut takes_part = vec![false; rows];
    (0..targets.len()).flat_map(|example| targets.rows(example)).for_each(|row| takes_part[row] = true);
    takes_part
}

fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, (variance / n).sqrt())
}

/// Whether the last penalties are all more than a standard error worse than the best one, so that smaller ones are not worth a fit.
fn is_past(path: &[PathPoint]) -> bool {
    let Some(recent) = path.len().checked_sub(PATIENCE) else { return false };
    let best = path.iter().min_by(|a, b| a.loss.total_cmp(&b.loss));
    let bound = best.map_or(f64::INFINITY, |best| best.loss + best.standard_error);
    path[recent..].iter().all(|point| point.loss > bound)
}

fn one_standard_error(path: &[PathPoint]) -> usize {
    let best = path.iter().min_by(|a, b| a.loss.total_cmp(&b.loss));
    let bound = best.map_or(0.0, |best| best.loss + best.standard_error);
    path.iter().position(|point| point.loss <= bound).unwrap_or(0)
}

/// Calibrates the scores of rows with known values: every row by the rows of the other folds. Also returns the calibration by all
/// rows.
pub fn calibrate(scores: &[Option<f64>], values: &[Option<f64>], folds: &[usize]) -> (Isotonic, Vec<Option<f64>>) {
    let known = |takes: &dyn Fn(usize) -> bool| -> Isotonic {
        let pairs =
            (0..scores.len()).filter(|row| takes(folds[*row])).filter_map(|row| Some((scores[row]?, values[row]?)));
        Isotonic::fit(pairs)
    };
    let without: Vec<Isotonic> = (0..FOLDS).map(|fold| known(&|other| other != fold)).collect();
    let calibrated = scores.iter().zip(folds).map(|(score, fold)| score.map(|score| without[*fold].at(score)));
    (known(&|_| true), calibrated.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::random::SplitMix64;

    fn path(losses: &[f64]) -> Vec<PathPoint> {
        losses.iter().map(|loss| PathPoint { penalty: 1.0, loss: *loss, standard_error: 0.1, features: 0 }).collect()
    }

    #[test]
    fn a_path_ends_after_five_penalties_that_are_clearly_worse() {
        assert!(!is_past(&path(&[1.0, 0.5, 0.7, 0.7, 0.7, 0.7])));
        assert!(is_past(&path(&[1.0, 0.5, 0.7, 0.7, 0.7, 0.7, 0.7])));
        assert!(!is_past(&path(&[1.0, 0.5, 0.7, 0.7, 0.55, 0.7, 0.7])));
        assert!(!is_past(&path(&[1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4])));
    }

    /// 300 rows of 60 features, each present in a third of them. Feature 0 decides the label, or nothing does.
    fn fit(decides: bool) -> Fit {
        let mut random = SplitMix64::new(7);
        let (mut rows, mut labels) = (Rows::new(60), Vec::new());
        for _ in 0..300 {
            let row: Vec<(u32, f32)> = (0..60).filter(|_| random.below(3) == 0).map(|feature| (feature, 1.0)).collect();
            let noise = random.below(2) == 0;
            labels.push(if decides { row.first().is_some_and(|(feature, _)| *feature == 0) } else { noise });
            rows.push(row);
        }
        let names: Vec<String> = (0..300).map(|row| row.to_string()).collect();
        Fit::new(&rows, &Targets::Binary(labels), &folds(names.iter().map(String::as_str), 0))
    }

    #[test]
    fn labels_without_a_law_end_the_path_and_get_no_weights() {
        let (noise, law) = (fit(false), fit(true));
        assert!(noise.path.len() < PENALTIES as usize && noise.probe.weights.is_empty());
        assert!(law.path.len() == PENALTIES as usize && law.probe.weights[0].0 == 0);
    }
}
