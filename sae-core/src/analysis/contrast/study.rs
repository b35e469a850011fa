//! The test of every feature in every column, its confirmation in clusters that were not used to find it, and the same
//! procedure on shuffled columns.

use super::design::{Column, Design};
use super::significance::{adjust, student, student_bound};
use super::sums::{ColumnSums, Counts, sums};
use super::{FEWEST_CLUSTERS, FEWEST_SAMPLES, MANY_CLUSTERS, permutation};
use crate::analysis::feature_sets::FeatureSets;
use crate::random;
use crate::{Error, Result};
use rand::Rng;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Number of clusters that each half must have for confirmation by default.
const CLUSTERS_TO_CONFIRM: usize = 100;
/// Number of columns that are summed at the same time: more of them would need less time, and memory for more values of all
/// participants.
const COLUMNS: usize = 24;
/// Numbers of features times strata that are counted at the same time, unless a single column has more. Few in tests, so that
/// columns are counted one after another.
const CELLS: usize = if cfg!(test) { 256 } else { 1 << 26 };
/// Distinguishes the random numbers of shuffles from those of other purposes.
const PURPOSE: u64 = 0x7368_7566;

/// How a study decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StudyOptions {
    /// The expected share of false findings among all.
    pub false_discovery_rate: f64,
    /// The share of clusters in which findings are confirmed: 0 confirms nothing, and `None` is a half if each half has 100
    /// clusters.
    pub confirm: Option<f64>,
    /// Number of times that the procedure is repeated with shuffled columns.
    pub shuffles: usize,
    /// Decides which clusters confirm, and how columns are shuffled.
    pub seed: u64,
}

impl Default for StudyOptions {
    fn default() -> Self {
        Self { false_discovery_rate: 0.1, confirm: None, shuffles: 20, seed: 0 }
    }
}

/// The result of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyReport {
    /// Every tested feature in every column, by column and feature.
    pub tested: Vec<TestedFeature>,
    /// Number of clusters that findings are made in.
    pub clusters: usize,
    /// Number of clusters that confirm; 0 if nothing was to be confirmed.
    pub confirming_clusters: usize,
    /// Number of findings with shuffled columns, by shuffle.
    pub shuffled: Vec<usize>,
    /// The tests of the first shuffle, without what is known about real columns: what chance looks like.
    pub chance: Vec<TestedFeature>,
    /// The participants of the part in which findings are made, and of the one that confirms.
    pub halves: [Vec<usize>; 2],
}

/// The test of a feature in a column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TestedFeature {
    /// The feature.
    pub feature: u32,
    /// Number of the column.
    pub column: usize,
    /// Participants in which it is active.
    pub samples: u32,
    /// Clusters in which it is active.
    pub clusters: u32,
    /// Share of the column's samples in which it is active; of all samples if the column is not an indicator.
    pub prevalence: f64,
    /// The same for all other samples; `None` if the column is not an indicator.
    pub prevalence_rest: Option<f64>,
    /// The odds ratio over strata (Mantel and Haenszel 1959), if the column is an indicator.
    pub odds_ratio: Option<f64>,
    /// The effect, where findings are made.
    pub estimate: Estimate,
    /// The test statistic.
    pub z: f64,
    /// The p-value, if there are enough clusters.
    pub p: Option<f64>,
    /// The p-value that is corrected for the number of tests.
    pub q: Option<f64>,
    /// Whether the feature was found.
    pub is_found: bool,
    /// The effect in the clusters that confirm, if the feature was found and there are any.
    pub confirmation: Option<Estimate>,
    /// Whether these clusters confirm it.
    pub is_confirmed: Option<bool>,
}

impl TestedFeature {
    /// Whether the feature differs: it was found, and confirmed if findings are confirmed.
    pub fn differs(&self) -> bool {
        self.is_found && self.is_confirmed != Some(false)
    }

    /// The effect to report: that of the clusters that confirm, if there are any, since those in which features were found
    /// exaggerate it.
    pub fn reported(&self) -> Estimate {
        self.confirmation.unwrap_or(self.estimate)
    }
}

/// An effect with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Change of prevalence (of mean strength, if that is measured) per unit of the column.
    pub effect: f64,
    /// Lower bound.
    pub lo: f64,
    /// Upper bound.
    pub hi: f64,
}

/// A design with the feature sets of its samples.
#[derive(Clone, Copy, Debug)]
pub struct Study<'a> {
    /// The participants.
    pub design: &'a Design,
    /// The features of all samples of the store.
    pub sets: &'a FeatureSets,
}

/// Tests every feature in every column.
///
/// # Errors
/// A column in which nothing varies within strata (and pairs); too few clusters to confirm.
pub fn study(study: Study, columns: &[Column], options: &StudyOptions) -> Result<StudyReport> {
    let Study { design, sets } = study;
    for column in columns {
        check_variation(design, column)?;
    }
    let halves = divide(design, options)?;
    let parts: Vec<(&Design, &[usize])> = halves.iter().map(|(design, members)| (design, &members[..])).collect();
    let counts: Vec<Counts> = parts.iter().map(|(design, _)| Counts::new(design, sets)).collect();
    let procedure = Procedure { sets, parts: &parts, counts: &counts, rate: options.false_discovery_rate };

    // The columns, and then those of each shuffle, several of them in one pass over the features.
    let times: Vec<usize> = (0..=options.shuffles).collect();
    let (mut tested, mut shuffled, mut chance) = (Vec::new(), Vec::new(), Vec::new());
    for times in times.chunks((COLUMNS / columns.len().max(1)).max(1)) {
        let shuffle = |time: &usize| {
            let seed = random::SplitMix64::nth(options.seed, *time as u64);
            (*time > 0).then(|| Shuffle::new(design, columns, seed))
        };
        let shuffles: Vec<Option<Shuffle>> = times.iter().map(shuffle).collect();
        let values = |n: usize| {
            let column = &columns[n % columns.len()].values[..];
            let shuffle = shuffles[n / columns.len()].as_ref();
            shuffle.map_or(Cow::Borrowed(column), |shuffle| Cow::Owned(shuffle.apply(design, column)))
        };
        let mut tests = procedure.tests(times.len() * columns.len(), values);
        for (time, tests) in times.iter().zip(tests.chunks_mut(columns.len().max(1))) {
            if *time == 0 {
                procedure.permute(tests, columns, options.seed);
            }
            let found = procedure.decide(tests);
            if *time == 0 {
                tested = procedure.rows(tests, &found);
                continue;
            }
            shuffled.push(found.iter().filter(|found| found.is_confirmed != Some(false)).count());
            if *time == 1 {
                chance = procedure.rows(tests, &found);
            }
        }
    }
    describe(design, sets, columns, &counts, &mut tested);
    let members = |half: usize| halves.get(half).map_or(Vec::new(), |(_, members)| members.clone());
    Ok(StudyReport {
        tested,
        clusters: parts[0].0.clusters.len(),
        confirming_clusters: parts.get(1).map_or(0, |(design, _)| design.clusters.len()),
        shuffled,
        chance,
        halves: [members(0), members(1)],
    })
}

fn check_variation(design: &Design, column: &Column) -> Result<()> {
    let residuals = design.residuals(&column.values);
    let left: f64 = residuals.iter().map(|t| t * t).sum();
    let all: f64 = column.values.iter().map(|t| t * t).sum();
    if left > 1e-12 * all {
        return Ok(());
    }
    let within = if design.is_paired() { "strata and pairs" } else { "strata of equal length" };
    Err(Error::config(format!("{} does not vary within {within}, so nothing can be tested", column.name)))
}

/// The part in which findings are made and the part that confirms, or the whole design.
fn divide(design: &Design, options: &StudyOptions) -> Result<Vec<(Design, Vec<usize>)>> {
    let whole = || vec![(design.clone(), (0..design.samples.len()).collect())];
    let share = options.confirm.unwrap_or(0.5);
    if share <= 0.0 {
        return Ok(whole());
    }
    let [confirm, find] = design.divide(share, options.seed);
    let clusters = [&find, &confirm].map(|(half, _)| half.clusters.len());
    match options.confirm {
        None if clusters.iter().any(|clusters| *clusters < CLUSTERS_TO_CONFIRM) => Ok(whole()),
        Some(_) if clusters.iter().any(|clusters| *clusters < FEWEST_CLUSTERS as usize) => {
            let [found, confirming] = clusters;
            let text = format!(
                "there are {found} clusters to find features in and {confirming} to confirm them: each needs \
                 {FEWEST_CLUSTERS} or more"
            );
            Err(Error::config(text))
        }
        _ => Ok(vec![find, confirm]),
    }
}

/// How columns get values of other participants.
enum Shuffle {
    /// Each participant has the value of another one: permuted within pairs.
    Participants(Vec<usize>),
    /// Each cluster has the value of another one.
    Clusters(Vec<usize>),
    /// If the values of a cluster differ and samples are not paired, the residuals of each cluster keep their places and get a
    /// random sign.
    Signs(Vec<f64>),
}

impl Shuffle {
    fn new(design: &Design, columns: &[Column], seed: u64) -> Self {
        let mut rng = random::chacha(seed, PURPOSE);
        if let Some(pairs) = &design.pairs {
            let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
            (0..).zip(pairs).for_each(|(n, pair)| members.entry(*pair).or_default().push(n));
            let mut source: Vec<usize> = (0..design.samples.len()).collect();
            for members in members.values() {
                let mut order = members.clone();
                order.shuffle(&mut rng);
                members.iter().zip(order).for_each(|(n, from)| source[*n] = from);
            }
            return Self::Participants(source);
        }
        if columns.iter().all(|column| design.is_constant_in_clusters(&column.values)) {
            let mut order: Vec<usize> = (0..design.clusters.len()).collect();
            order.shuffle(&mut rng);
            return Self::Clusters(order);
        }
        Self::Signs(design.clusters.iter().map(|_| if rng.next_u64() & 1 == 1 { 1.0 } else { -1.0 }).collect())
    }

    /// The values of a column after the shuffle.
    fn apply(&self, design: &Design, column: &[f64]) -> Vec<f64> {
        match self {
            Self::Participants(source) => source.iter().map(|from| column[*from]).collect(),
            Self::Clusters(order) => {
                let mut values = vec![0.0; column.len()];
                for (range, from) in design.clusters.iter().zip(order) {
                    values[range.clone()].fill(column[design.clusters[*from].start]);
                }
                values
            }
            Self::Signs(signs) => {
                let mut values = design.residuals(column);
                for (range, sign) in design.clusters.iter().zip(signs) {
                    values[range.clone()].iter_mut().for_each(|value| *value *= sign);
                }
                values
            }
        }
    }
}

/// Finds features in the first part, and confirms them in the second one, if there is one.
struct Procedure<'a> {
    sets: &'a FeatureSets,
    parts: &'a [(&'a Design, &'a [usize])],
    counts: &'a [Counts],
    rate: f64,
}

/// The tests of one column, in each part.
struct Tests {
    sums: Vec<ColumnSums>,
    /// The p-values of permutations in the first part, by feature.
    permuted: BTreeMap<u32, f64>,
}

/// A finding.
struct Found {
    column: usize,
    feature: u32,
    is_confirmed: Option<bool>,
}

impl Procedure<'_> {
    /// Whether a feature is tested: it is active often enough where findings are made.
    fn is_tested(&self, feature: usize) -> bool {
        let clusters = self.parts[0].0.clusters.len() as u32;
        let counts = &self.counts[0];
        counts.samples[feature] >= FEWEST_SAMPLES && counts.clusters[feature] >= FEWEST_CLUSTERS.min(clusters)
    }

    fn features(&self) -> Vec<u32> {
        (0..self.sets.d_sae() as u32).filter(|feature| self.is_tested(*feature as usize)).collect()
    }

    /// The sums of some columns, whose values over the whole design are computed when they are needed.
    fn tests<'v>(&self, count: usize, values: impl Fn(usize) -> Cow<'v, [f64]> + Sync) -> Vec<Tests> {
        let mut tests: Vec<Tests> = (0..count).map(|_| Tests { sums: Vec::new(), permuted: BTreeMap::new() }).collect();
        for (some, tests) in (0..).step_by(COLUMNS).zip(tests.chunks_mut(COLUMNS)) {
            for ((design, members), counts) in self.parts.iter().zip(self.counts) {
                let residuals = |n: usize| design.residuals(&values_of(members, &values(some + n)));
                let residuals: Vec<Vec<f64>> = (0..tests.len()).into_par_iter().map(residuals).collect();
                let sums = sums(design, self.sets, counts, &residuals);
                tests.iter_mut().zip(sums).for_each(|(tests, sums)| tests.sums.push(sums));
            }
        }
        tests
    }

    /// Adds the p-values of permutations to the tests of columns, if there are few clusters.
    fn permute(&self, tests: &mut [Tests], columns: &[Column], seed: u64) {
        let (design, members) = self.parts[0];
        if !(FEWEST_CLUSTERS..MANY_CLUSTERS).contains(&(design.clusters.len() as u32)) {
            return;
        }
        let values: Vec<Vec<f64>> = columns.iter().map(|column| values_of(members, &column.values)).collect();
        let residuals: Vec<Vec<f64>> = values.iter().map(|values| design.residuals(values)).collect();
        let features = self.features();
        let p = permutation::p_values(design, self.sets, &self.counts[0], (&values, &residuals), &features, seed);
        for (tests, p) in tests.iter_mut().zip(p) {
            tests.permuted = features.iter().copied().zip(p).collect();
        }
    }

    /// The two-sided p-value of a feature in the first part.
    fn p_value(&self, tests: &Tests, feature: u32) -> Option<f64> {
        let clusters = self.parts[0].0.clusters.len() as u32;
        if clusters < FEWEST_CLUSTERS {
            return None;
        }
        let z = statistic(&tests.sums[0], feature as usize, clusters as usize)?;
        let p = 2.0 * student(z.abs(), f64::from(clusters - 1));
        Some(tests.permuted.get(&feature).map_or(p, |permuted| p.max(*permuted)))
    }

    /// What is found among some columns.
    fn decide(&self, tests: &[Tests]) -> Vec<Found> {
        let features = self.features();
        let pairs = (0..tests.len()).flat_map(|column| features.iter().map(move |feature| (column, *feature)));
        let tested: Vec<(usize, u32, f64)> = pairs
            .filter_map(|(column, feature)| Some((column, feature, self.p_value(&tests[column], feature)?)))
            .collect();
        let p: Vec<f64> = tested.iter().map(|(_, _, p)| *p).collect();
        let found = tested.iter().zip(adjust(&p)).filter(|(_, q)| *q <= self.rate);
        let mut found: Vec<Found> = found
            .map(|((column, feature, _), _)| Found { column: *column, feature: *feature, is_confirmed: None })
            .collect();
        if let Some((design, _)) = self.parts.get(1) {
            let clusters = design.clusters.len();
            // One-sided tests in the direction that was found.
            let p = found.iter().map(|found| {
                let sums = &tests[found.column].sums;
                let sign = sums[0].u[found.feature as usize].signum();
                let z = statistic(&sums[1], found.feature as usize, clusters);
                z.map_or(1.0, |z| student(sign * z, clusters as f64 - 1.0))
            });
            let q = adjust(&p.collect::<Vec<_>>());
            found.iter_mut().zip(q).for_each(|(found, q)| found.is_confirmed = Some(q <= self.rate));
        }
        found
    }

    /// The rows of the report, without what [`describe`] adds.
    fn rows(&self, tests: &[Tests], found: &[Found]) -> Vec<TestedFeature> {
        let features = self.features();
        let found: BTreeMap<(usize, u32), &Found> = found.iter().map(|f| ((f.column, f.feature), f)).collect();
        let mut rows = Vec::with_capacity(tests.len() * features.len());
        for (column, tests) in tests.iter().enumerate() {
            for feature in &features {
                let j = *feature as usize;
                let found = found.get(&(column, *feature));
                let estimate = |part: usize| estimate(&tests.sums[part], j, self.parts[part].0.clusters.len());
                rows.push(TestedFeature {
                    feature: *feature,
                    column,
                    estimate: estimate(0),
                    z: statistic(&tests.sums[0], j, self.parts[0].0.clusters.len()).unwrap_or(0.0),
                    p: self.p_value(tests, *feature),
                    is_found: found.is_some(),
                    confirmation: found.filter(|_| self.parts.len() > 1).map(|_| estimate(1)),
                    is_confirmed: found.and_then(|found| found.is_confirmed),
                    ..TestedFeature::default()
                });
            }
        }
        let with_p: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].p.is_some()).collect();
        let q = adjust(&with_p.iter().filter_map(|row| rows[*row].p).collect::<Vec<_>>());
        with_p.into_iter().zip(q).for_each(|(row, q)| rows[row].q = Some(q));
        rows
    }
}

/// The values of some participants.
fn values_of(members: &[usize], column: &[f64]) -> Vec<f64> {
    members.iter().map(|n| column[*n]).collect()
}

/// `z`; `None` if the feature does not vary.
fn statistic(sums: &ColumnSums, feature: usize, clusters: usize) -> Option<f64> {
    let variance = sums.v[feature] * correction(clusters);
    (variance > 0.0).then(|| sums.u[feature] / variance.sqrt())
}

/// The effect, with an interval from the variance under the alternative.
fn estimate(sums: &ColumnSums, feature: usize, clusters: usize) -> Estimate {
    let effect = sums.u[feature] / sums.squares;
    let variance = sums.v[feature] - 2.0 * effect * sums.uq[feature] + effect * effect * sums.q_squares;
    let error = (variance.max(0.0) * correction(clusters)).sqrt() / sums.squares;
    let half = student_bound(clusters as f64 - 1.0) * error;
    Estimate { effect, lo: effect - half, hi: effect + half }
}

fn correction(clusters: usize) -> f64 {
    clusters as f64 / (clusters as f64 - 1.0).max(1.0)
}

/// Adds counts and prevalences over all participants to the rows of a report, which are ordered by column. `counts` are those
/// of parts that have no cluster in common.
///
/// Memory: a count for each feature and stratum, of all participants and of the groups that are counted at the same time, which
/// have [`CELLS`] counts together unless a single one has more.
fn describe(design: &Design, sets: &FeatureSets, columns: &[Column], counts: &[Counts], tested: &mut [TestedFeature]) {
    let is_indicator = |column: &Column| column.values.iter().all(|t| *t == 0.0 || *t == 1.0);
    let indicators: Vec<bool> = columns.iter().map(is_indicator).collect();
    let every = if indicators.contains(&true) { count_strata(design, sets, |_| true) } else { Vec::new() };
    let (strata, samples) = (design.strata(), design.samples.len() as f64);
    let describe_column = |rows: &mut [TestedFeature]| {
        for row in rows.iter_mut() {
            let j = row.feature as usize;
            row.samples = counts.iter().map(|part| part.samples[j]).sum();
            row.clusters = counts.iter().map(|part| part.clusters[j]).sum();
            row.prevalence = f64::from(row.samples) / samples;
        }
        let column = rows[0].column;
        if !indicators[column] {
            return;
        }
        let in_group = |n: usize| columns[column].values[n] == 1.0;
        let group = count_strata(design, sets, in_group);
        let mut group_sizes = vec![0u32; strata];
        for n in (0..design.samples.len()).filter(|n| in_group(*n)) {
            group_sizes[design.strata[n] as usize] += 1;
        }
        let members = f64::from(group_sizes.iter().sum::<u32>());
        for row in rows {
            let own = row.feature as usize * strata..(row.feature as usize + 1) * strata;
            let (own, every) = (&group[own.clone()], &every[own]);
            let active = f64::from(own.iter().sum::<u32>());
            row.prevalence = active / members;
            row.prevalence_rest = Some((f64::from(row.samples) - active) / (samples - members));
            row.odds_ratio = odds_ratio(own, every, &group_sizes, &design.sizes);
        }
    };
    let at_once = (CELLS / (sets.d_sae() * strata).max(1)).max(1);
    let mut by_column: Vec<&mut [TestedFeature]> = tested.chunk_by_mut(|a, b| a.column == b.column).collect();
    for some in by_column.chunks_mut(at_once) {
        some.par_iter_mut().for_each(|rows| describe_column(rows));
    }
}

/// How many participants of a group have each feature, by feature and stratum.
fn count_strata(design: &Design, sets: &FeatureSets, contains: impl Fn(usize) -> bool) -> Vec<u32> {
    let strata = design.strata();
    let mut counts = vec![0; sets.d_sae() * strata];
    for n in (0..design.samples.len()).filter(|n| contains(*n)) {
        for feature in sets.features(design.samples[n] as usize) {
            counts[feature as usize * strata + design.strata[n] as usize] += 1;
        }
    }
    counts
}

/// The odds ratio of Mantel and Haenszel, from counts by stratum: of the group and of all samples, with the feature and
/// altogether. `None` if it is not defined.
fn odds_ratio(own: &[u32], every: &[u32], group: &[u32], all: &[u32]) -> Option<f64> {
    let (mut above, mut below) = (0.0, 0.0);
    for s in 0..all.len() {
        let [own, every, group, all] = [own[s], every[s], group[s], all[s]].map(f64::from);
        above += own * (all - group - (every - own)) / all;
        below += (group - own) * (every - own) / all;
    }
    (below > 0.0).then(|| above / below)
}
