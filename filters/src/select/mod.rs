//! Selects samples: by one score, in groups, without near-duplicates, or for diversity. Reads and writes no files.

pub mod diversity;
mod division;
mod groups;
mod keep;
pub mod near_duplicates;

pub use division::{Division, apportion};
pub use groups::{Groups, field_value, number};
pub use keep::Keep;

use crate::{Error, Result};
use diversity::{Candidate, cover};
use near_duplicates::Kept;
use sae_core::analysis::feature_sets::FeatureSets;
use sae_core::error::{Cause, Hint, Setting};

/// The rules of a selection.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// How much to keep.
    pub keep: Keep,
    /// The groups of the samples.
    pub groups: &'a Groups,
    /// How that amount is divided among groups.
    pub division: &'a Division,
    /// The features of the samples, which the next two rules need.
    pub feature_sets: Option<&'a FeatureSets>,
    /// The similarity (0 to 1) from which on a sample is not kept if its group has a better one with such similar features.
    pub dedup: Option<f64>,
    /// Whether to keep the samples that together cover most features, rather than those with the highest scores.
    pub diverse: bool,
}

/// The decision about a sample, with its reason.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// The sample is kept.
    Kept,
    /// It has no score.
    NoScore,
    /// Other samples have higher scores, or its score is below the threshold.
    Below,
    /// It has the same score as the last kept sample of its group. Ties were broken by id.
    Tied,
    /// It is a near-duplicate of a better sample.
    Alike {
        /// The number of that sample.
        of: u32,
        /// The Jaccard similarity of their features.
        similarity: f64,
    },
    /// Other samples cover more new features.
    Covered,
    /// The given decisions do not keep it.
    Decided,
}

impl Decision {
    /// The reason in a word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::NoScore => "no score",
            Self::Below => "below threshold",
            Self::Tied => "equal score",
            Self::Alike { .. } => "duplicate",
            Self::Covered => "adds little",
            Self::Decided => "decisions",
        }
    }

    /// All reasons, in the order of a report.
    pub const REASONS: [&'static str; 6] =
        ["no score", "below threshold", "equal score", "duplicate", "adds little", "decisions"];
}

/// Decides about every sample. Samples with the highest scores are kept, and ties are broken by id. Samples without a score
/// are never kept.
///
/// A share refers to *all* samples and is rounded to the nearest number. The number is divided among groups by [`Division`]. A
/// threshold is the same for all groups. Near-duplicates are skipped, so that the next best samples take their place.
///
/// # Errors
/// The rules contradict each other, or they require an estimate that was not made.
pub fn choose(scores: &[(String, Option<f64>)], rules: &Rules) -> Result<Vec<Decision>> {
    let request = |text: &str| Err(Error::request(text));
    let ranked = rank(scores);
    let score = |n: u32| scores[n as usize].1.unwrap_or(f64::NEG_INFINITY);
    let group = |n: u32| rules.groups.of[n as usize];
    let (total, threshold) = match rules.keep {
        Keep::Share(share) => (Some((share * scores.len() as f64).round() as usize), f64::NEG_INFINITY),
        Keep::Count(count) => (Some(count), f64::NEG_INFINITY),
        Keep::Quotas => (Some(0), f64::NEG_INFINITY),
        Keep::AtLeast(threshold) => (None, threshold),
        Keep::Auto => return request("the share to keep was not estimated before the selection"),
    };
    if total.is_none() && rules.diverse {
        let text = "a threshold keeps every sample above it, so that a diverse selection has nothing to choose";
        return Err(Error::request(Cause::with_hint(text, Hint::set(Setting::Keep, "a share or a number"))));
    }
    let quotas = rules.division.quotas(total, rules.groups)?;
    let feature_sets = match (rules.feature_sets, rules.dedup.is_some() || rules.diverse) {
        (None, true) => return request("the samples' features are not at hand"),
        (Some(feature_sets), true) if feature_sets.len() != scores.len() => {
            return request("the samples' features are of other samples");
        }
        (feature_sets, _) => feature_sets,
    };

    let mut fates = vec![Decision::NoScore; scores.len()];
    let mut left = quotas.clone();
    let mut kept = rules.dedup.and_then(|similarity| Some(Kept::new(feature_sets?, &rules.groups.of, similarity)));
    let mut candidates = Vec::new();
    for (place, n) in ranked.iter().enumerate() {
        let left = &mut left[group(*n) as usize];
        fates[*n as usize] = if *left == 0 || score(*n) < threshold {
            Decision::Below
        } else if let Some((of, similarity)) = kept.as_mut().and_then(|kept| kept.admit(*n)) {
            Decision::Alike { of, similarity }
        } else if rules.diverse {
            // Ranks are used, because scores have no fixed scale and may be negative.
            let value = (ranked.len() - place) as f64 / ranked.len() as f64;
            candidates.push(Candidate { sample: *n, group: group(*n), value });
            Decision::Covered
        } else {
            *left -= 1;
            Decision::Kept
        };
    }
    if let Some(feature_sets) = feature_sets.filter(|_| rules.diverse) {
        cover(feature_sets, &candidates, &quotas).iter().for_each(|n| fates[*n as usize] = Decision::Kept);
        return Ok(fates);
    }
    let lowest = lowest(scores, rules.groups, &fates);
    for &n in &ranked {
        if fates[n as usize] == Decision::Below && lowest[group(n) as usize] == Some(score(n)) {
            fates[n as usize] = Decision::Tied;
        }
    }
    Ok(fates)
}

/// The lowest score that is kept in each group.
pub fn lowest(scores: &[(String, Option<f64>)], groups: &Groups, fates: &[Decision]) -> Vec<Option<f64>> {
    let mut lowest: Vec<Option<f64>> = vec![None; groups.names.len()];
    for ((group, fate), (_, score)) in groups.of.iter().zip(fates).zip(scores) {
        if let (Decision::Kept, Some(score)) = (fate, score) {
            let lowest = &mut lowest[*group as usize];
            *lowest = Some(lowest.map_or(*score, |lowest| lowest.min(*score)));
        }
    }
    lowest
}

/// Samples with the same score as the last kept sample of their group, if not all of them are kept. Their ids decided.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Ties {
    /// Number of samples with such a score.
    pub samples: u64,
    /// Number of these samples that are kept.
    pub stay: u64,
    /// The score, if it is the same in all groups.
    pub score: Option<f64>,
}

impl Ties {
    /// The ties of a selection. `None` if no sample was left out because of one.
    pub fn new(scores: &[(String, Option<f64>)], groups: &Groups, fates: &[Decision]) -> Option<Self> {
        let mut tied: Vec<Option<f64>> = vec![None; groups.names.len()];
        for ((group, fate), (_, score)) in groups.of.iter().zip(fates).zip(scores) {
            if *fate == Decision::Tied {
                tied[*group as usize] = *score;
            }
        }
        let ties = |stays: bool| {
            let at_the_tie = groups.of.iter().zip(fates).zip(scores).filter(|((group, fate), (_, score))| {
                let wanted = if stays { Decision::Kept } else { Decision::Tied };
                **fate == wanted && score.is_some() && *score == tied[**group as usize]
            });
            at_the_tie.count() as u64
        };
        let mut levels = tied.iter().flatten();
        let first = *levels.next()?;
        let (stay, go) = (ties(true), ties(false));
        Some(Self { samples: stay + go, stay, score: levels.all(|score| *score == first).then_some(first) })
    }
}

/// Decides for every sample whether it is kept, by its score alone.
pub fn select(scores: &[(String, Option<f64>)], keep: Keep) -> Result<Vec<bool>> {
    let groups = Groups::one(scores.len());
    let division = &Division::Proportional;
    let rules = Rules { keep, groups: &groups, division, feature_sets: None, dedup: None, diverse: false };
    Ok(choose(scores, &rules)?.into_iter().map(|fate| fate == Decision::Kept).collect())
}

/// The samples with a score, in descending order.
fn rank(scores: &[(String, Option<f64>)]) -> Vec<u32> {
    let score = |n: &u32| scores[*n as usize].1.unwrap_or(f64::NEG_INFINITY);
    let mut ranked: Vec<u32> = (0..scores.len() as u32).filter(|n| !score(n).is_nan()).collect();
    ranked.retain(|n| scores[*n as usize].1.is_some());
    let id = |n: &u32| &scores[*n as usize].0;
    ranked.sort_by(|a, b| score(b).total_cmp(&score(a)).then_with(|| id(a).cmp(id(b))).then(a.cmp(b)));
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scores(values: &[Option<f64>]) -> Vec<(String, Option<f64>)> {
        values.iter().enumerate().map(|(n, score)| (format!("{n:03}"), *score)).collect()
    }

    proptest! {
        #[test]
        fn kept_samples_have_no_lower_scores_than_others(
            values in prop::collection::vec(prop::option::of(0u8..10), 1..60), count in 1usize..80
        ) {
            let scores = scores(&values.iter().map(|s| s.map(f64::from)).collect::<Vec<_>>());
            let scored = scores.iter().filter(|s| s.1.is_some()).count();
            let kept = select(&scores, Keep::Count(count)).unwrap();
            prop_assert_eq!(kept.iter().filter(|k| **k).count(), count.min(scored));
            let scores_of = |stays: bool| scores.iter().zip(&kept).filter(move |(_, k)| **k == stays).filter_map(|((_, s), _)| *s);
            let (low, high) = (scores_of(true).fold(f64::INFINITY, f64::min), scores_of(false).fold(f64::NEG_INFINITY, f64::max));
            prop_assert!(low >= high);
            let by_threshold = select(&scores, Keep::AtLeast(5.0)).unwrap();
            prop_assert!(scores.iter().zip(by_threshold).all(|((_, s), k)| k == s.is_some_and(|s| s >= 5.0)));
        }
    }

    #[test]
    fn ties_are_distinguished_from_low_scores() {
        use Decision::{Below, Kept, NoScore, Tied};
        let fates = |values: &[Option<f64>], keep| {
            let (groups, division) = (Groups::one(values.len()), &Division::Proportional);
            let rules = Rules { keep, groups: &groups, division, feature_sets: None, dedup: None, diverse: false };
            choose(&scores(values), &rules)
        };
        let values = [Some(1.0), Some(0.0), Some(0.0), Some(-1.0), Some(0.0), None, Some(f64::NAN)];
        let expected = [Kept, Kept, Tied, Below, Tied, NoScore, NoScore];
        assert_eq!(fates(&values, Keep::Count(2)).unwrap(), expected);
        assert!(!fates(&values, Keep::AtLeast(0.0)).unwrap().contains(&Tied));
        let groups = Groups::one(values.len());
        let ties = Ties::new(&scores(&values), &groups, &expected);
        assert_eq!(ties, Some(Ties { samples: 3, stay: 1, score: Some(0.0) }));
        assert_eq!(Ties::new(&scores(&values), &groups, &fates(&values, Keep::Count(1)).unwrap()), None);
    }

    #[test]
    fn no_group_disappears_and_duplicates_are_replaced() {
        let scores = scores(&[Some(9.0), Some(8.0), Some(7.0), Some(6.0), Some(1.0), None]);
        let groups = Groups { names: vec!["a".into(), "b".into()], of: vec![0, 0, 0, 0, 1, 1] };
        let sets = [vec![0, 1, 2], vec![0, 1, 2], vec![3], vec![4], vec![0, 1, 2], vec![]];
        let feature_sets = FeatureSets::from_sets(&sets, 5);
        let rules = Rules {
            keep: Keep::Count(3),
            groups: &groups,
            division: &Division::Proportional,
            feature_sets: Some(&feature_sets),
            dedup: None,
            diverse: false,
        };
        use Decision::{Alike, Below, Covered, Kept, NoScore};
        assert_eq!(choose(&scores, &rules).unwrap(), [Kept, Kept, Below, Below, Kept, NoScore]);
        let like_first = Alike { of: 0, similarity: 1.0 };
        let distinct = Rules { dedup: Some(0.9), ..rules };
        assert_eq!(choose(&scores, &distinct).unwrap(), [Kept, like_first, Kept, Below, Kept, NoScore]);
        let diverse = Rules { diverse: true, keep: Keep::Share(0.5), ..distinct };
        assert_eq!(choose(&scores, &diverse).unwrap(), [Kept, like_first, Kept, Covered, Kept, NoScore]);
        let threshold = Rules { keep: Keep::AtLeast(6.5), ..rules };
        assert_eq!(choose(&scores, &threshold).unwrap(), [Kept, Kept, Kept, Below, Below, NoScore]);
        assert!(choose(&scores, &Rules { diverse: true, ..threshold }).unwrap_err().hint().is_some());
        assert!(choose(&scores, &Rules { keep: Keep::Auto, ..rules }).is_err());
    }
}
