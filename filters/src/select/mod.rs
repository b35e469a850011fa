//! Selects samples: by one score, in groups, without near-duplicates, or for diversity. Reads and writes no files.

pub mod budget;
mod division;
pub mod greedy;
mod groups;
mod keep;
pub mod near_duplicates;
pub mod objective;
mod plan;
mod quantiles;
pub mod shortlist;

pub use division::{Division, apportion};
pub use groups::{Groups, field_value, number};
pub use keep::Keep;
pub use plan::Plan;
pub use quantiles::{QUANTILES, Quantiles};

use crate::{Error, Result};
use objective::{Objective, TargetDistribution};
use sae_core::analysis::feature_sets::FeatureSets;

/// The rules of a selection.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// How much to keep.
    pub keep: Keep,
    /// The groups of the samples.
    pub groups: &'a Groups,
    /// How that amount is divided among groups.
    pub division: &'a Division,
    /// The quantiles among which the amount of each group is divided in proportion to their sizes.
    pub within: Option<&'a Quantiles>,
    /// Whether samples are ranked by their scores, and those without one are not kept. Otherwise all samples have the same
    /// value, and their order is that of their ids.
    pub ranked: bool,
    /// What makes a set of samples good.
    pub rule: Rule<'a>,
    /// The features of the samples, which all rules but the scores need, and near-duplicates.
    pub feature_sets: Option<&'a FeatureSets>,
    /// The similarity (0 to 1) from which on a sample is not kept if its group has a better one with such similar features.
    pub dedup: Option<f64>,
    /// Seed of the draws where the number of samples makes a selection stochastic ([`greedy`]).
    pub seed: u64,
}

impl<'a> Rules<'a> {
    /// Keeps the samples with the highest scores, in proportion to the sizes of the groups.
    pub fn new(keep: Keep, groups: &'a Groups) -> Self {
        Self {
            keep,
            groups,
            division: &Division::Proportional,
            within: None,
            ranked: true,
            rule: Rule::Score,
            feature_sets: None,
            dedup: None,
            seed: 0,
        }
    }

    /// Whether the features of the samples decide.
    fn need_features(&self) -> bool {
        self.dedup.is_some() || self.rule.objective().is_some()
    }

    /// The groups that each have a quota: quantiles within groups, or the groups themselves.
    fn cells(&self) -> &'a Groups {
        self.within.map_or(self.groups, |within| &within.cells)
    }
}

/// What makes a set of samples good.
#[derive(Clone, Copy, Debug, Default)]
pub enum Rule<'a> {
    /// High scores.
    #[default]
    Score,
    /// Many features together, weighted by the ranks of the scores ([`Objective::Diverse`]).
    Diverse,
    /// SAE-GreedSelect: each sample in turn is the one with the most features that no sample before it has (Yang et al. 2025,
    /// "Diversity-driven Data Selection for Language Model Tuning through Sparse Autoencoder"). Scores only break ties.
    GreedSelect,
    /// The features of a target set, in the same proportions; weighted by the ranks of the scores.
    Match(&'a TargetDistribution),
}

impl<'a> Rule<'a> {
    /// The function of features that is maximized; none if scores decide.
    pub fn objective(self) -> Option<Objective<'a>> {
        match self {
            Self::Score => None,
            Self::Diverse => Some(Objective::Diverse),
            Self::GreedSelect => Some(Objective::NewFeatures),
            Self::Match(target) => Some(Objective::Match(target)),
        }
    }
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
    /// It has a score, but not all costs that budgets limit.
    NoCost,
    /// It would be kept without budgets: its score is not worth its cost.
    OverBudget,
    /// Other samples cover more new features.
    Covered,
    /// The given decisions do not keep it.
    Decided,
    /// There are decisions about other samples, and none about it.
    Undecided,
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
            Self::NoCost => "no cost",
            Self::OverBudget => "over budget",
            Self::Covered => "adds little",
            Self::Decided => "decisions",
            Self::Undecided => "no decision",
        }
    }

    /// All reasons, in the order of a report.
    pub const REASONS: [&'static str; 9] = [
        "no score",
        "below threshold",
        "equal score",
        "duplicate",
        "no cost",
        "over budget",
        "adds little",
        "decisions",
        "no decision",
    ];
}

/// Decides about every sample. Samples with the highest scores are kept, and ties are broken by id. Samples without a score
/// are never kept, unless scores do not rank.
///
/// A share refers to *all* samples and is rounded to the nearest number. The number is divided among groups by [`Division`], and
/// within groups among [`Quantiles`]. A threshold is the same for all groups. Near-duplicates are skipped, so that the next best
/// samples take their place.
///
/// # Errors
/// The rules contradict each other, or they require an estimate that was not made.
pub fn choose(scores: &[(String, Option<f64>)], rules: &Rules) -> Result<Vec<Decision>> {
    let all: Vec<u32> = (0..scores.len() as u32).collect();
    let plan = Plan::new(scores, rules)?;
    let feature_sets = match (rules.feature_sets, rules.need_features()) {
        (None, true) => return Err(Error::request("the samples' features are not at hand")),
        (Some(feature_sets), true) if feature_sets.len() != scores.len() => {
            return Err(Error::request("the samples' features are of other samples"));
        }
        (feature_sets, _) => feature_sets,
    };
    let mut decisions = plan.decide(&all, feature_sets, plan.quotas());
    plan.mark_ties(&mut decisions);
    Ok(decisions)
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
    Ok(choose(scores, &Rules::new(keep, &groups))?.into_iter().map(|fate| fate == Decision::Kept).collect())
}

/// All samples, in the order of their ids.
fn by_id(scores: &[(String, Option<f64>)]) -> Vec<u32> {
    let mut samples: Vec<u32> = (0..scores.len() as u32).collect();
    samples.sort_by(|a, b| scores[*a as usize].0.cmp(&scores[*b as usize].0).then(a.cmp(b)));
    samples
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
        let fates =
            |values: &[Option<f64>], keep| choose(&scores(values), &Rules::new(keep, &Groups::one(values.len())));
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
        let rules = Rules { feature_sets: Some(&feature_sets), ..Rules::new(Keep::Count(3), &groups) };
        use Decision::{Alike, Below, Covered, Kept, NoScore};
        assert_eq!(choose(&scores, &rules).unwrap(), [Kept, Kept, Below, Below, Kept, NoScore]);
        let like_first = Alike { of: 0, similarity: 1.0 };
        let distinct = Rules { dedup: Some(0.9), ..rules };
        assert_eq!(choose(&scores, &distinct).unwrap(), [Kept, like_first, Kept, Below, Kept, NoScore]);
        let diverse = Rules { rule: Rule::Diverse, keep: Keep::Share(0.5), ..distinct };
        assert_eq!(choose(&scores, &diverse).unwrap(), [Kept, like_first, Kept, Covered, Kept, NoScore]);
        let threshold = Rules { keep: Keep::AtLeast(6.5), ..rules };
        assert_eq!(choose(&scores, &threshold).unwrap(), [Kept, Kept, Kept, Below, Below, NoScore]);
        assert!(choose(&scores, &Rules { rule: Rule::Diverse, ..threshold }).unwrap_err().hint().is_some());
        // Without a ranking, the sample without a score is as good as any.
        let unranked = Rules { ranked: false, rule: Rule::GreedSelect, keep: Keep::Quotas, ..rules };
        let each = Division::Quotas([("*".to_owned(), 2)].into());
        let fates = choose(&scores, &Rules { division: &each, ..unranked }).unwrap();
        assert_eq!(fates, [Kept, Covered, Kept, Covered, Kept, Kept]);
        let unranked = Rules { ranked: false, ..threshold };
        assert!(choose(&scores, &unranked).unwrap_err().to_string().contains("needs a score"));
        assert!(choose(&scores, &Rules { keep: Keep::Auto, ..rules }).is_err());
    }

    #[test]
    fn a_share_is_kept_inside_each_quantile() {
        // The score is the length: without quantiles, the longest half would be kept.
        let lengths: Vec<Option<f64>> = (0..40).map(|n| Some(f64::from(n))).collect();
        let scores = scores(&lengths);
        let groups = Groups { names: vec!["a".into(), "b".into()], of: (0..40).map(|n| n / 20).collect() };
        let quantiles = Quantiles::new(&groups, "length", &lengths).unwrap();
        let rules = Rules { within: Some(&quantiles), ..Rules::new(Keep::Share(0.5), &groups) };
        let kept = |rules: &Rules| -> Vec<usize> {
            let fates = choose(&scores, rules).unwrap();
            (0..40).filter(|n| fates[*n] == Decision::Kept).collect()
        };
        assert_eq!(kept(&rules), (0..20).map(|n| 2 * n + 1).collect::<Vec<_>>());
        let feature_sets = FeatureSets::from_sets(&vec![vec![0]; 40], 1);
        let diverse = Rules { rule: Rule::Diverse, feature_sets: Some(&feature_sets), ..rules };
        assert_eq!(kept(&diverse), kept(&rules));
        // Quantiles do not hide near-duplicates: one sample of each group is kept.
        let distinct = Rules { dedup: Some(1.0), feature_sets: Some(&feature_sets), ..rules };
        assert_eq!(kept(&distinct), [19, 39]);
        let threshold = Rules { keep: Keep::AtLeast(3.0), ..rules };
        assert!(choose(&scores, &threshold).unwrap_err().to_string().contains("no share to keep"));
    }

    #[test]
    fn the_kept_set_resembles_the_target() {
        // One sample in ten shows features 10 to 19. All samples show one of the features 0 to 6, and most a rare one.
        let set = |n: u32| match n % 10 {
            3 => vec![n % 7, 10 + n % 9, 19],
            _ => vec![n % 7, 20 + n % 97],
        };
        let sets: Vec<Vec<u32>> = (0..200).map(set).collect();
        let feature_sets = FeatureSets::from_sets(&sets, 120);
        let target: Vec<Vec<u32>> = (0..40u32).map(|n| vec![n % 7, 10 + (n * 5) % 9, 19]).collect();
        let target = TargetDistribution::new(&FeatureSets::from_sets(&target, 120)).unwrap();
        let scores = scores(&vec![None; 200]);
        let groups = Groups::one(200);
        let rules = Rules {
            ranked: false,
            rule: Rule::Match(&target),
            feature_sets: Some(&feature_sets),
            ..Rules::new(Keep::Count(20), &groups)
        };
        let planted = |rules: &Rules| {
            let fates = choose(&scores, rules).unwrap();
            (0..200).filter(|n| n % 10 == 3 && fates[*n] == Decision::Kept).count()
        };
        assert_eq!(planted(&rules), 20);
        // Diversity alone takes each planted feature once or twice.
        assert!(planted(&Rules { rule: Rule::Diverse, ..rules }) < 12);
    }
}
