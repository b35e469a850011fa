//! The samples in the order of a score, and what a rule keeps of them. The order is that of `sae filter`.

use filters::keep::KeepEstimate;
use filters::select::Keep;
use serde::Serialize;

/// Bars of a histogram.
const BARS: usize = 64;

/// Samples ranked by one score.
pub struct Ranking {
    /// Samples with a score, the highest first.
    ranked: Vec<u32>,
    /// Their scores, in the same order.
    scores: Vec<f64>,
    /// All samples.
    total: usize,
    /// How much to keep, as it was estimated when the samples were scored.
    estimate: Option<KeepEstimate>,
}

/// Samples whose scores are between two edges.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bar {
    /// The lower edge.
    pub low: f64,
    /// The upper edge.
    pub high: f64,
    /// Samples.
    pub samples: usize,
    /// Those that are kept.
    pub kept: usize,
}

impl Ranking {
    /// Ranks samples by their scores; of equal ones the smaller id comes first.
    pub fn new(values: &[Option<f64>], ids: &[&str], estimate: Option<KeepEstimate>) -> Self {
        let scored =
            values.iter().zip(0u32..).filter_map(|(value, n)| Some((value.filter(|value| !value.is_nan())?, n)));
        let mut ranked: Vec<(f64, u32)> = scored.collect();
        let id = |n: u32| ids.get(n as usize).copied().unwrap_or_default();
        ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| id(a.1).cmp(id(b.1))).then(a.1.cmp(&b.1)));
        let (scores, ranked) = ranked.into_iter().unzip();
        Self { ranked, scores, total: values.len(), estimate }
    }

    /// All samples.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Samples with a score.
    pub fn scored(&self) -> usize {
        self.ranked.len()
    }

    /// The estimate of how much to keep.
    pub fn estimate(&self) -> Option<KeepEstimate> {
        self.estimate
    }

    /// How many samples a rule keeps; nothing if it needs an estimate or quotas that there are not.
    pub fn count(&self, keep: Keep) -> Option<usize> {
        let above = |threshold: f64| self.scores.partition_point(|score| *score >= threshold);
        let count = match keep {
            Keep::Share(share) => (share * self.total as f64).round() as usize,
            Keep::Count(count) => count,
            Keep::AtLeast(threshold) => above(threshold),
            Keep::Auto => above(self.estimate?.threshold),
            Keep::Quotas => return None,
        };
        Some(count.min(self.ranked.len()))
    }

    /// The score of the last sample that is kept of `count`.
    pub fn threshold(&self, count: usize) -> Option<f64> {
        self.scores.get(count.checked_sub(1)?).copied()
    }

    /// The samples on both sides of a threshold, those nearest to it first: kept, dropped.
    pub fn around(&self, count: usize, samples: usize) -> [Vec<(u32, f64)>; 2] {
        let pair = |at: usize| (self.ranked[at], self.scores[at]);
        let kept = (count.saturating_sub(samples)..count).rev().map(pair).collect();
        [kept, (count..(count + samples).min(self.ranked.len())).map(pair).collect()]
    }

    /// How many samples are in equal parts of the range of finite scores, if the first `count` are kept. Infinite scores count to
    /// the outermost bars.
    pub fn histogram(&self, count: usize) -> Vec<Bar> {
        // Positive infinity comes first, negative infinity last.
        let first = self.scores.partition_point(|score| *score == f64::INFINITY);
        let end = self.scores.partition_point(|score| *score > f64::NEG_INFINITY);
        let (Some(high), Some(low)) = (self.scores.get(first), self.scores[..end].last()) else { return Vec::new() };
        let (low, high) = if high > low { (*low, *high) } else { (low - 0.5, low + 0.5) };
        let edge = |bar: usize| low + (high - low) * bar as f64 / BARS as f64;
        // Samples at or above the lower edge of a bar are before this place.
        let place = |bar: usize| match bar {
            0 => self.scores.len(),
            BARS => 0,
            bar => self.scores.partition_point(|score| *score >= edge(bar)),
        };
        let bar = |bar: usize| {
            let (from, to) = (place(bar + 1), place(bar));
            Bar { low: edge(bar), high: edge(bar + 1), samples: to - from, kept: count.clamp(from, to) - from }
        };
        (0..BARS).map(bar).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use filters::select::select;
    use proptest::prelude::*;

    fn ranking(values: &[Option<f64>]) -> (Vec<String>, Ranking) {
        // Equal scores have ids in another order than their numbers.
        let ids: Vec<String> = (0..values.len()).map(|n| format!("{:03}", n * 37 % 101)).collect();
        let texts: Vec<&str> = ids.iter().map(String::as_str).collect();
        let ranking = Ranking::new(values, &texts, None);
        (ids, ranking)
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_filter_keeps(
            values in prop::collection::vec(prop::option::of(-3i8..3), 1..60),
            keep in prop::sample::select(vec![
                Keep::Share(0.5), Keep::Share(0.01), Keep::Share(1.0), Keep::Count(7), Keep::AtLeast(0.0), Keep::AtLeast(9.0),
            ]),
        ) {
            let values: Vec<Option<f64>> = values.iter().map(|value| value.map(f64::from)).collect();
            let (ids, ranking) = ranking(&values);
            let scores: Vec<_> = ids.iter().cloned().zip(values.iter().copied()).collect();
            let expected = select(&scores, keep).unwrap();
            let count = ranking.count(keep).unwrap();
            let mut kept = vec![false; values.len()];
            ranking.around(count, count)[0].iter().for_each(|(sample, _)| kept[*sample as usize] = true);
            prop_assert_eq!(&kept, &expected);
            let bars = ranking.histogram(count);
            let sums = bars.iter().fold((0, 0), |sums, bar| (sums.0 + bar.samples, sums.1 + bar.kept));
            let scored = values.iter().flatten().count();
            prop_assert_eq!(sums, if bars.is_empty() { (0, 0) } else { (scored, count) });
            for bar in &bars {
                let inside = |value: &&f64| **value >= bar.low && **value < bar.high;
                let counted = values.iter().flatten().filter(inside).count();
                // The highest score is in the last bar.
                prop_assert!(bar.samples >= counted && bar.kept <= bar.samples);
            }
        }
    }

    #[test]
    fn infinite_scores_and_missing_ones_are_counted() {
        let values = [Some(f64::INFINITY), Some(1.0), None, Some(0.0), Some(f64::NEG_INFINITY), Some(f64::NAN)];
        let (_, ranking) = ranking(&values);
        assert_eq!((ranking.total(), ranking.scored(), ranking.threshold(2)), (6, 4, Some(1.0)));
        let bars = ranking.histogram(2);
        assert_eq!((bars[0].samples, bars[0].low, bars[BARS - 1].samples, bars[BARS - 1].high), (2, 0.0, 2, 1.0));
        assert_eq!((ranking.threshold(0), ranking.count(Keep::Auto)), (None, None));
        assert!(Ranking::new(&[None], &["a"], None).histogram(0).is_empty());
    }
}
