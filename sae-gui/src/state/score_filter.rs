//! What a score keeps: the samples ranked by it, how many are kept, what is near the threshold, how it agrees with another score.
//! The ranking and the division among groups are those of `sae filter`. Draws nothing and writes nothing.

use super::format::{count, counted, real};
use super::score_description::Validation;
use filters::keep::{KeepEstimate, keep_auto};
use filters::score_names::{self, COSINE, PMI, PMI_BLANK};
use filters::select::budget::BudgetRule;
use filters::select::{Decision, Division, Groups, Keep, Rules, choose};
use filters::{Definition, rank};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Bars of the histogram.
pub const BARS: usize = 64;
/// Cells along each side of the plot of two scores.
pub const SIDE: usize = 96;
/// The correlation of two scores is computed from this many pairs at most; more would not change two digits.
const PAIRS: usize = 200_000;

/// The score table of an autoencoder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Content hashes, one per sample; ties are broken by them.
    pub ids: Vec<String>,
    /// The samples that a filter chooses among, ascending, in a run whose samples are pieces of rows. Otherwise all are.
    pub candidates: Option<Vec<u32>>,
    /// Columns by name.
    pub columns: Vec<(String, Vec<Option<f64>>)>,
    /// How much to keep, by column, as `sae score` estimated it.
    pub estimates: BTreeMap<String, KeepEstimate>,
    /// How well `sae validate` found the scores to work.
    pub validation: Validation,
}

impl Scores {
    /// The index of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|(own, _)| own == name)
    }

    /// The number of samples that a filter chooses among.
    fn total(&self) -> usize {
        self.candidates.as_ref().map_or(self.ids.len(), Vec::len)
    }

    /// The samples that a filter chooses among.
    pub fn candidates(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.total()).map(|n| self.candidates.as_ref().map_or(n as u32, |candidates| candidates[n]))
    }
}

/// The two sides of a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Samples that are kept.
    Kept,
    /// Samples that are dropped.
    Dropped,
}

impl Side {
    /// The title of its column.
    pub fn title(self) -> &'static str {
        match self {
            Self::Kept => "Kept",
            Self::Dropped => "Dropped",
        }
    }
}

/// Which samples of a side are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Those nearest to the threshold: the ones to judge it by.
    #[default]
    NearThreshold,
    /// The highest scores that are kept, the lowest that are dropped.
    Extremes,
}

/// Groups of samples that each keep their share.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouping {
    /// The columns of the data set, as `--by-group` takes them.
    pub fields: String,
    /// Whether every group keeps equally many, rather than in proportion to its size.
    pub equal: bool,
    /// The groups.
    pub groups: Groups,
}

/// What a person has set on the Filter page. It outlives the score table, which may be read again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilterSettings {
    /// The score that decides.
    pub by: Option<String>,
    /// The score that it is compared with.
    pub other: Option<String>,
    /// How many samples it keeps.
    pub keep: Option<usize>,
    /// The groups that each keep their share.
    pub grouping: Option<Grouping>,
    /// Choices by hand: whether a sample is kept.
    pub choices: BTreeMap<u32, bool>,
}

/// A ranking by one score, with what is kept of it.
#[derive(Clone, Debug)]
pub struct ScoreFilter {
    scores: Scores,
    column: usize,
    other: usize,
    /// Samples with a score, the highest first.
    ranked: Vec<u32>,
    /// How many samples are to be kept, before choices by hand.
    target: usize,
    grouping: Option<Grouping>,
    /// A budget, and whether each sample is kept within it. It is found elsewhere, for this score, number and grouping.
    budgeted: Option<(BudgetRule, Vec<bool>)>,
    /// By sample: whether it is kept, choices by hand included.
    kept: Vec<bool>,
    /// Choices by hand: whether a sample is kept.
    choices: BTreeMap<u32, bool>,
    bounds: [f64; 2],
    bars: Vec<u32>,
    kept_bars: Vec<u32>,
    agreement: Agreement,
    /// Counts the changes of what is kept.
    version: u64,
}

/// Two scores against each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Numbers of samples in cells that divide both scores' ranges equally, from the lower left on row by row.
    pub cells: Vec<u32>,
    /// Lowest and highest value of the score that decides, and of the other.
    pub bounds: [[f64; 2]; 2],
    /// Spearman's rank correlation.
    pub correlation: Option<f64>,
    /// Number of samples that have both scores.
    pub pairs: usize,
}

impl ScoreFilter {
    /// Ranks by the best column that is there and keeps half of the samples. Nothing if there is no column.
    pub fn new(scores: Scores) -> Option<Self> {
        let corrected = score_names::column(COSINE, Definition::Corrected);
        let paper = score_names::column(COSINE, Definition::Paper);
        let preferred = [PMI_BLANK, PMI, &corrected, &paper];
        let column = preferred.iter().find_map(|name| scores.column(name)).unwrap_or(0);
        let other = (0..scores.columns.len()).find(|at| *at != column).unwrap_or(column);
        scores.columns.get(column)?;
        let mut filter = Self {
            scores,
            column,
            other,
            ranked: Vec::new(),
            target: 0,
            grouping: None,
            budgeted: None,
            kept: Vec::new(),
            choices: BTreeMap::new(),
            bounds: [0.0; 2],
            bars: Vec::new(),
            kept_bars: Vec::new(),
            agreement: Agreement::default(),
            version: 0,
        };
        filter.rank();
        filter.keep_share(0.5);
        Some(filter)
    }

    /// What is set, for [`ScoreFilter::restore`].
    pub fn settings(&self) -> FilterSettings {
        FilterSettings {
            by: Some(self.name().to_owned()),
            other: Some(self.other().to_owned()),
            keep: Some(self.target),
            grouping: self.grouping.clone(),
            choices: self.choices.clone(),
        }
    }

    /// Sets what was set before, as far as the table still has the scores and samples.
    pub fn restore(&mut self, settings: FilterSettings) {
        let column = |name: Option<String>| name.and_then(|name| self.scores.column(&name));
        let (by, other) = (column(settings.by), column(settings.other));
        by.into_iter().for_each(|column| self.decide_by(column));
        other.into_iter().for_each(|column| self.compare_with(column));
        if settings.grouping.is_some() {
            self.set_grouping(settings.grouping);
        }
        settings.keep.into_iter().for_each(|count| self.keep(count));
        for (sample, keep) in settings.choices {
            self.choose([sample], Some(keep));
        }
    }

    /// The score table.
    pub fn scores(&self) -> &Scores {
        &self.scores
    }

    /// Number of all samples that a filter chooses among.
    pub fn total(&self) -> usize {
        self.scores.total()
    }

    /// Number of samples without this score. They are kept only if they are chosen by hand.
    pub fn without_score(&self) -> usize {
        self.total() - self.ranked.len()
    }

    /// The score that decides.
    pub fn name(&self) -> &str {
        &self.scores.columns[self.column].0
    }

    /// The score that it is compared with.
    pub fn other(&self) -> &str {
        &self.scores.columns[self.other].0
    }

    /// Lets another score decide. The share that is kept stays the same.
    pub fn decide_by(&mut self, column: usize) {
        if column < self.scores.columns.len() && column != self.column {
            self.column = column;
            self.budgeted = None;
            self.rank();
            self.decide();
        }
    }

    /// Compares with another score.
    pub fn compare_with(&mut self, column: usize) {
        if column < self.scores.columns.len() && column != self.other {
            self.other = column;
            self.agree();
        }
    }

    /// The score of a sample; negative infinity if it has none.
    pub fn score(&self, sample: u32) -> f64 {
        self.value(self.column, sample).unwrap_or(f64::NEG_INFINITY)
    }

    fn value(&self, column: usize, sample: u32) -> Option<f64> {
        self.scores.columns[column].1.get(sample as usize).copied().flatten().filter(|value| !value.is_nan())
    }

    fn rank(&mut self) {
        let values = &self.scores.columns[self.column].1;
        let value = |n: u32| values.get(n as usize).copied().flatten().filter(|value| !value.is_nan());
        let mut ranked: Vec<(f64, u32)> =
            self.scores.candidates().filter_map(|n| value(n).map(|value| (value, n))).collect();
        let id = |n: u32| &self.scores.ids[n as usize];
        let order = |a: &(f64, u32), b: &(f64, u32)| -> Ordering {
            b.0.total_cmp(&a.0).then_with(|| id(a.1).cmp(id(b.1))).then(a.1.cmp(&b.1))
        };
        ranked.sort_unstable_by(order);
        let finite = || ranked.iter().map(|(score, _)| *score).filter(|score| score.is_finite());
        let (high, low) = (finite().next().unwrap_or(1.0), finite().next_back().unwrap_or(0.0));
        self.bounds = if high > low { [low, high] } else { [low - 0.5, high + 0.5] };
        self.bars = vec![0; BARS];
        for (score, _) in &ranked {
            self.bars[part_of(*score, self.bounds, BARS)] += 1;
        }
        self.ranked = ranked.into_iter().map(|(_, n)| n).collect();
        self.agree();
    }

    fn agree(&mut self) {
        let [own, other] = [self.column, self.other].map(|at| &self.scores.columns[at].1);
        let both = |(a, b): (&Option<f64>, &Option<f64>)| Some([(*a)?, (*b)?]);
        let finite = |pair: &[f64; 2]| pair.iter().all(|v| v.is_finite());
        let pairs: Vec<[f64; 2]> = own.iter().zip(other).filter_map(both).filter(finite).collect();
        let bounds = [0, 1].map(|side| {
            let values = pairs.iter().map(|pair| pair[side]);
            let low = values.clone().fold(f64::INFINITY, f64::min);
            let high = values.fold(f64::NEG_INFINITY, f64::max);
            if high > low { [low, high] } else { [low - 0.5, low + 0.5] }
        });
        let mut cells = vec![0; SIDE * SIDE];
        for pair in &pairs {
            let [x, y] = [0, 1].map(|side| part_of(pair[side], bounds[side], SIDE));
            cells[y * SIDE + x] += 1;
        }
        let every = pairs.len().div_ceil(PAIRS).max(1);
        let [a, b] = [0, 1].map(|side| pairs.iter().step_by(every).map(|pair| pair[side]).collect::<Vec<_>>());
        let correlation = if a.is_empty() { None } else { rank::correlation(&a, &b) };
        self.agreement = Agreement { cells, bounds, correlation, pairs: pairs.len() };
    }

    /// Lowest and highest score.
    pub fn bounds(&self) -> [f64; 2] {
        self.bounds
    }

    /// Numbers of samples in equal parts of the range of scores.
    pub fn bars(&self) -> &[u32] {
        &self.bars
    }

    /// How many of each part are kept.
    pub fn kept_bars(&self) -> &[u32] {
        &self.kept_bars
    }

    /// The lowest and the highest score of a bar.
    pub fn bar_edges(&self, bar: usize) -> [f64; 2] {
        let [low, high] = self.bounds;
        [bar, bar + 1].map(|edge| low + edge as f64 / BARS as f64 * (high - low))
    }

    /// How the score agrees with the other one.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// How many samples are kept.
    pub fn kept(&self) -> usize {
        self.kept.iter().filter(|kept| **kept).count()
    }

    /// How many samples are to be kept, before choices by hand.
    pub fn target(&self) -> usize {
        self.target
    }

    /// The share of all samples that is to be kept, before choices by hand.
    pub fn share(&self) -> f64 {
        self.target as f64 / self.total().max(1) as f64
    }

    /// The score from which on samples are kept, ignoring choices by hand. With groups, the lowest of any group. Nothing within a
    /// budget, which drops samples with higher scores than some that it keeps.
    pub fn threshold(&self) -> Option<f64> {
        if self.budgeted.is_some() { None } else { self.lowest() }
    }

    /// The lowest score that is kept, ignoring choices by hand.
    fn lowest(&self) -> Option<f64> {
        let by_score = |sample: &&u32| self.kept[**sample as usize] && !self.choices.contains_key(*sample);
        self.ranked.iter().rev().find(by_score).map(|sample| self.score(*sample))
    }

    /// The lowest score that is kept in the group of a sample, ignoring choices by hand; without groups, of all samples.
    pub fn threshold_for(&self, sample: u32) -> Option<f64> {
        let Some(grouping) = self.grouping.as_ref().filter(|_| self.budgeted.is_none()) else {
            return self.threshold();
        };
        let group = |sample: u32| grouping.groups.of.get(sample as usize);
        let by_score = |other: &&u32| {
            group(**other) == group(sample) && self.kept[**other as usize] && !self.choices.contains_key(*other)
        };
        self.ranked.iter().rev().find(by_score).map(|other| self.score(*other))
    }

    /// How much is kept and by which rule, in sentences.
    pub fn summary(&self) -> String {
        let name = self.name();
        let (kept, total) = (count(self.kept() as u64), count(self.total() as u64));
        let rule = match (self.budget(), &self.grouping, self.lowest().map(real)) {
            (_, _, None) => String::new(),
            (Some(budget), _, Some(lowest)) => {
                format!(": the highest mean {name} within the budget {budget}; the lowest {name} is {lowest}")
            }
            (None, None, Some(lowest)) => format!(": those with the highest {name}, down to {lowest}"),
            (None, Some(grouping), Some(lowest)) => {
                let groups = counted(grouping.groups.names.len(), "group");
                let share = if grouping.equal { "equally many" } else { "the same share" };
                format!(
                    ": of each of {groups} {share}, those with the highest {name}; the lowest of any group is {lowest}"
                )
            }
        };
        let mut text = format!("{kept} of {total} samples are kept{rule}.");
        if self.without_score() > 0 {
            text += &format!(" {} without a score are dropped.", count(self.without_score() as u64));
        }
        if !self.choices.is_empty() {
            text += &format!(" {} by hand.", counted(self.choices.len(), "choice"));
        }
        text
    }

    /// Keeps the highest `count` scores.
    pub fn keep(&mut self, count: usize) {
        let target = count.min(self.ranked.len());
        self.budgeted = self.budgeted.take().filter(|_| target == self.target);
        self.target = target;
        self.decide();
    }

    /// Keeps a share of all samples, those with the highest scores.
    pub fn keep_share(&mut self, share: f64) {
        self.keep((share.clamp(0.0, 1.0) * self.total() as f64).round() as usize);
    }

    /// Keeps all samples that score at least this much.
    pub fn keep_above(&mut self, threshold: f64) {
        self.keep(self.ranked.partition_point(|n| self.score(*n) >= threshold));
    }

    /// The estimate of how much to keep: the one that `sae score` saved, else one from the scores alone.
    pub fn estimate(&self) -> Option<KeepEstimate> {
        let saved = self.scores.estimates.get(self.name()).copied();
        saved.or_else(|| keep_auto(&self.scores.columns[self.column].1))
    }

    /// The groups that each keep their share, if there are any.
    pub fn grouping(&self) -> Option<&Grouping> {
        self.grouping.as_ref()
    }

    /// Divides what is kept among groups, or no longer.
    pub fn set_grouping(&mut self, grouping: Option<Grouping>) {
        self.grouping = grouping.filter(|grouping| grouping.groups.of.len() == self.scores.ids.len());
        self.budgeted = None;
        self.decide();
    }

    /// The budget that the kept samples are within, if there is one and its selection is known.
    pub fn budget(&self) -> Option<&BudgetRule> {
        self.budgeted.as_ref().map(|(rule, _)| rule)
    }

    /// Keeps the samples of a selection within a budget, or those with the highest scores again. It has the samples that a filter
    /// chooses among.
    pub fn set_budgeted(&mut self, budgeted: Option<(BudgetRule, Vec<bool>)>) {
        self.budgeted = budgeted.filter(|(_, kept)| kept.len() == self.total());
        self.decide();
    }

    /// Choices by hand: whether a sample is kept.
    pub fn choices(&self) -> &BTreeMap<u32, bool> {
        &self.choices
    }

    /// Keeps or drops samples by hand; nothing lets the score decide again.
    pub fn choose(&mut self, samples: impl IntoIterator<Item = u32>, keep: Option<bool>) {
        for sample in samples.into_iter().filter(|sample| (*sample as usize) < self.scores.ids.len()) {
            match keep {
                Some(keep) => drop(self.choices.insert(sample, keep)),
                None => drop(self.choices.remove(&sample)),
            }
        }
        self.decide();
    }

    /// Another number whenever something else is kept.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn decide(&mut self) {
        self.version += 1;
        self.kept = vec![false; self.scores.ids.len()];
        match (&self.budgeted, &self.grouping) {
            (Some((_, kept)), _) => {
                self.scores.candidates().zip(kept).for_each(|(sample, kept)| self.kept[sample as usize] = *kept);
            }
            (None, None) => self.ranked[..self.target].iter().for_each(|n| self.kept[*n as usize] = true),
            (None, Some(grouping)) => {
                let values = &self.scores.columns[self.column].1;
                let score = |n: u32| (self.scores.ids[n as usize].clone(), values[n as usize]);
                let scores: Vec<_> = self.scores.candidates().map(score).collect();
                let of = self.scores.candidates().map(|n| grouping.groups.of[n as usize]).collect();
                let groups = Groups { names: grouping.groups.names.clone(), of };
                let division = if grouping.equal { Division::Equal } else { Division::Proportional };
                let rules = Rules { division: &division, ..Rules::new(Keep::Count(self.target), &groups) };
                // A count, divided among groups without signatures, is never contradictory.
                let decisions = choose(&scores, &rules).unwrap_or_default();
                let made = self.scores.candidates().zip(decisions);
                made.for_each(|(sample, made)| self.kept[sample as usize] = made == Decision::Kept);
            }
        }
        self.choices.iter().for_each(|(sample, keep)| self.kept[*sample as usize] = *keep);
        self.kept_bars = vec![0; BARS];
        for sample in self.ranked.iter().filter(|sample| self.kept[**sample as usize]) {
            let bar = part_of(self.score(*sample), self.bounds, BARS);
            self.kept_bars[bar] += 1;
        }
    }

    /// Whether a sample is kept.
    pub fn is_kept(&self, sample: u32) -> bool {
        self.kept.get(sample as usize).copied().unwrap_or(false)
    }

    /// Up to `count` samples of a side, in the order in which they are looked at.
    pub fn examples(&self, side: Side, part: Part, count: usize) -> Vec<u32> {
        let on_side = |sample: &&u32| self.is_kept(**sample) == (side == Side::Kept);
        let found = self.ranked.iter().filter(on_side);
        let from_the_top = matches!((side, part), (Side::Kept, Part::Extremes) | (Side::Dropped, Part::NearThreshold));
        if from_the_top { found.take(count).copied().collect() } else { found.rev().take(count).copied().collect() }
    }

    /// All scores of a sample, by name.
    pub fn of_sample(&self, sample: u32) -> Vec<(&str, Option<f64>)> {
        let columns = self.scores.columns.iter().enumerate();
        columns.map(|(at, (name, _))| (name.as_str(), self.value(at, sample))).collect()
    }

    /// The value of a named score for a sample.
    pub fn value_of(&self, name: &str, sample: u32) -> Option<f64> {
        self.value(self.scores.column(name)?, sample)
    }

    /// The percentile of a value of a score: how many samples of a hundred have a lower one.
    pub fn percentile(&self, name: &str, value: f64) -> Option<f64> {
        let values = &self.scores.columns[self.scores.column(name)?].1;
        let all = values.iter().flatten().filter(|value| !value.is_nan());
        let lower = all.clone().filter(|other| **other < value).count();
        Some(100.0 * lower as f64 / all.count().max(1) as f64)
    }
}

/// Which of `parts` equal parts of a range a value is in. What is outside counts to the nearest part.
fn part_of(value: f64, [low, high]: [f64; 2], parts: usize) -> usize {
    // A cast saturates.
    (((value - low) / (high - low) * parts as f64) as usize).min(parts - 1)
}

#[cfg(test)]
mod tests;
