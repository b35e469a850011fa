//! What a score keeps: the samples in its order, how many stay, what lies around the threshold, how it agrees with another
//! score. The order is the one that `sae filter` selects by. Draws nothing and writes nothing.

use filters::score_names::{self, COSINE, PMI, PMI_BLANK};
use filters::{Definition, rank};
use std::cmp::Ordering;

/// Bars of the histogram.
pub const BARS: usize = 64;
/// Cells along each side of the picture of two scores.
pub const SIDE: usize = 96;
/// Pairs that the agreement of two scores is computed from at most; more would not change two digits.
const PAIRS: usize = 200_000;

/// The score table of an autoencoder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Content hashes, a sample each; ties are broken by them.
    pub ids: Vec<String>,
    /// Columns by name.
    pub columns: Vec<(String, Vec<Option<f64>>)>,
    /// Above which activation the scores count a feature as active, where the run tells.
    pub threshold: Option<f32>,
}

impl Scores {
    /// The place of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|(own, _)| own == name)
    }
}

/// The two sides of a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It stays.
    Kept,
    /// It goes.
    Dropped,
}

/// Which of a side's samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// Those next to the threshold: the ones to judge it by.
    #[default]
    Near,
    /// The best of the kept, the worst of the dropped.
    Far,
}

/// A score, ranked, with how many samples stay.
#[derive(Clone, Debug)]
pub struct Sieve {
    scores: Scores,
    column: usize,
    other: usize,
    /// Samples with a score, the best first.
    ranked: Vec<u32>,
    kept: usize,
    bounds: [f64; 2],
    bars: Vec<u32>,
    agreement: Agreement,
}

/// Two scores against each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Samples in cells of equal shares of both scores' ranges, from the lower left on row by row.
    pub cells: Vec<u32>,
    /// Spearman's rank correlation.
    pub correlation: Option<f64>,
    /// Samples that have both.
    pub pairs: usize,
}

impl Sieve {
    /// Scores with half of the samples kept, by the best column that is there.
    pub fn new(scores: Scores) -> Option<Self> {
        let corrected = score_names::column(COSINE, Definition::Corrected);
        let paper = score_names::column(COSINE, Definition::Paper);
        let usual = [PMI_BLANK, PMI, &corrected, &paper];
        let column = usual.iter().find_map(|name| scores.column(name)).unwrap_or(0);
        let other = (0..scores.columns.len()).find(|at| *at != column).unwrap_or(column);
        scores.columns.get(column)?;
        let mut sieve = Self {
            scores,
            column,
            other,
            ranked: Vec::new(),
            kept: 0,
            bounds: [0.0; 2],
            bars: Vec::new(),
            agreement: Agreement::default(),
        };
        sieve.arrange();
        sieve.keep_share(0.5);
        Some(sieve)
    }

    /// The scores.
    pub fn scores(&self) -> &Scores {
        &self.scores
    }

    /// Number of all samples.
    pub fn total(&self) -> usize {
        self.scores.ids.len()
    }

    /// Samples without this score: they never stay.
    pub fn without(&self) -> usize {
        self.total() - self.ranked.len()
    }

    /// Name of the score that decides.
    pub fn name(&self) -> &str {
        &self.scores.columns[self.column].0
    }

    /// Name of the score that it is compared with.
    pub fn other(&self) -> &str {
        &self.scores.columns[self.other].0
    }

    /// Lets another score decide; the share that is kept stays.
    pub fn decide_by(&mut self, column: usize) {
        if column < self.scores.columns.len() && column != self.column {
            let share = self.share();
            self.column = column;
            self.arrange();
            self.keep_share(share);
        }
    }

    /// Compares with another score.
    pub fn compare_with(&mut self, column: usize) {
        if column < self.scores.columns.len() && column != self.other {
            self.other = column;
            self.agree();
        }
    }

    fn score(&self, sample: u32) -> f64 {
        self.scores.columns[self.column].1[sample as usize].unwrap_or(f64::NEG_INFINITY)
    }

    fn arrange(&mut self) {
        let values = &self.scores.columns[self.column].1;
        let mut ranked: Vec<(f64, u32)> =
            values.iter().zip(0..).filter_map(|(v, n)| Some((v.filter(|v| !v.is_nan())?, n))).collect();
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
            self.bars[share(*score, self.bounds, BARS)] += 1;
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
            let [x, y] = [0, 1].map(|side| share(pair[side], bounds[side], SIDE));
            cells[y * SIDE + x] += 1;
        }
        let every = pairs.len().div_ceil(PAIRS).max(1);
        let [a, b] = [0, 1].map(|side| pairs.iter().step_by(every).map(|pair| pair[side]).collect::<Vec<_>>());
        let correlation = if a.is_empty() { None } else { rank::correlation(&a, &b) };
        self.agreement = Agreement { cells, correlation, pairs: pairs.len() };
    }

    /// Lowest and highest score.
    pub fn bounds(&self) -> [f64; 2] {
        self.bounds
    }

    /// Samples in equal parts of the range of scores.
    pub fn bars(&self) -> &[u32] {
        &self.bars
    }

    /// How it agrees with the other score.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// How many samples stay.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Which share of all samples that is.
    pub fn share(&self) -> f64 {
        self.kept as f64 / self.total().max(1) as f64
    }

    /// The lowest score that stays.
    pub fn threshold(&self) -> Option<f64> {
        self.kept.checked_sub(1).map(|last| self.score(self.ranked[last]))
    }

    /// Keeps the best so many.
    pub fn keep(&mut self, count: usize) {
        self.kept = count.min(self.ranked.len());
    }

    /// Keeps the best share of all samples.
    pub fn keep_share(&mut self, share: f64) {
        self.keep((share.clamp(0.0, 1.0) * self.total() as f64).round() as usize);
    }

    /// Keeps all that score as much.
    pub fn keep_above(&mut self, threshold: f64) {
        self.kept = self.ranked.partition_point(|n| self.score(*n) >= threshold);
    }

    /// Whether a sample stays.
    pub fn stays(&self, sample: u32) -> bool {
        self.ranked[..self.kept].contains(&sample)
    }

    /// Up to `count` samples of a side, with their scores; those at its end first.
    pub fn examples(&self, side: Side, end: End, count: usize) -> Vec<(u32, f64)> {
        let (kept, dropped) = self.ranked.split_at(self.kept);
        let samples: Vec<u32> = match (side, end) {
            (Side::Kept, End::Near) => kept.iter().rev().take(count).copied().collect(),
            (Side::Kept, End::Far) => kept.iter().take(count).copied().collect(),
            (Side::Dropped, End::Near) => dropped.iter().take(count).copied().collect(),
            (Side::Dropped, End::Far) => dropped.iter().rev().take(count).copied().collect(),
        };
        samples.into_iter().map(|n| (n, self.score(n))).collect()
    }

    /// All scores of a sample, by name.
    pub fn of_sample(&self, sample: u32) -> Vec<(&str, Option<f64>)> {
        let value = |values: &[Option<f64>]| values.get(sample as usize).copied().flatten();
        self.scores.columns.iter().map(|(name, values)| (name.as_str(), value(values))).collect()
    }

    /// How many samples of a hundred score lower than this one.
    pub fn percentile(&self, name: &str, sample: u32) -> Option<f64> {
        let values = &self.scores.columns[self.scores.column(name)?].1;
        let own = values.get(sample as usize).copied().flatten()?;
        let all = values.iter().flatten();
        let lower = all.clone().filter(|value| **value < own).count();
        Some(100.0 * lower as f64 / all.count().max(1) as f64)
    }
}

/// Which of `parts` equal parts of a range a value is in.
fn share(value: f64, [low, high]: [f64; 2], parts: usize) -> usize {
    // What is infinite counts at the end that it lies beyond; a cast does not wrap.
    (((value - low) / (high - low) * parts as f64) as usize).min(parts - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use filters::select::{Keep, select};
    use proptest::prelude::*;

    fn scores(values: &[Option<f64>]) -> Scores {
        let ids = (0..values.len()).map(|n| format!("{:03}", (n * 37) % 101)).collect();
        let reversed = values.iter().map(|v| v.map(|v| -v)).collect();
        Scores { ids, columns: vec![("pmi".into(), values.to_vec()), ("random".into(), reversed)], threshold: None }
    }

    proptest! {
        #[test]
        fn what_stays_is_what_the_command_keeps(
            values in prop::collection::vec(prop::option::of((-6i8..6).prop_map(f64::from)), 1..60),
            count in 0usize..70,
            threshold in -7.0f64..7.0,
        ) {
            let mut sieve = Sieve::new(scores(&values)).unwrap();
            let pairs: Vec<_> = sieve.scores().ids.iter().cloned().zip(values.iter().copied()).collect();
            let stays = |sieve: &Sieve| (0..values.len() as u32).map(|n| sieve.stays(n)).collect::<Vec<_>>();
            sieve.keep(count);
            prop_assert_eq!(stays(&sieve), select(&pairs, Keep::Count(count)).unwrap());
            sieve.keep_above(threshold);
            prop_assert_eq!(stays(&sieve), select(&pairs, Keep::AtLeast(threshold)).unwrap());
            prop_assert_eq!(sieve.kept() + sieve.examples(Side::Dropped, End::Near, 99).len() + sieve.without(), values.len());
            prop_assert_eq!(sieve.bars().iter().sum::<u32>() as usize, values.iter().flatten().count());
        }
    }

    #[test]
    fn examples_begin_where_they_are_to() {
        let values: Vec<_> = (0..10).map(|n| Some(f64::from(n))).collect();
        let mut sieve = Sieve::new(scores(&values)).unwrap();
        sieve.keep(4);
        let first = |side, end| sieve.examples(side, end, 2).iter().map(|(n, _)| *n).collect::<Vec<_>>();
        assert_eq!([first(Side::Kept, End::Near), first(Side::Kept, End::Far)], [vec![6, 7], vec![9, 8]]);
        assert_eq!([first(Side::Dropped, End::Near), first(Side::Dropped, End::Far)], [vec![5, 4], vec![0, 1]]);
        assert_eq!(sieve.threshold(), Some(6.0));
        assert_eq!(sieve.percentile("pmi", 5), Some(50.0));
    }

    #[test]
    fn two_scores_that_turn_each_other_round_disagree() {
        let values: Vec<_> = (0..10).map(|n| Some(f64::from(n))).collect();
        let mut sieve = Sieve::new(scores(&values)).unwrap();
        assert_eq!((sieve.agreement().correlation, sieve.agreement().pairs), (Some(-1.0), 10));
        sieve.decide_by(1);
        sieve.compare_with(1);
        assert_eq!(sieve.agreement().correlation, Some(1.0));
        assert!(Sieve::new(Scores::default()).is_none());
    }
}
