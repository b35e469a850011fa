//! Selections by features among more samples than memory holds the features of. A shortlist is made first, of a few times as many
//! samples as are kept; only its features are held. The selection among them is then the same as among all.
//!
//! - By a score, without near-duplicates: the shortlist has the best of each cell. If enough of them are no near-duplicates, the
//!   selection is that among all samples, since that never looks further. If not, it falls short, and [`Shortlisted::short`] says by
//!   how many.
//! - For diversity: samples are divided into blocks of [`BLOCK`] consecutive ones. Within each block the greedy selection chooses its
//!   share of the shortlist, and then again among what all blocks chose. This is GreeDi ("Distributed submodular maximization",
//!   Mirzasoleiman et al. 2013) with blocks in the place of machines. If each block chose as many samples as are kept in all, and
//!   samples were divided at random, it would have at least `(1 - 1/e) / 2` of the best value in expectation (Barbosa et al. 2015,
//!   "The power of randomization"). Blocks choose their share alone, and follow the order of the data, so there is no such
//!   guarantee here: `docs/SELECTION.md` has what it loses.
//!
//! Near-duplicates are looked for within blocks and then among the shortlist, so that no two kept samples of a group are alike.
//! Blocks are computed at the same time, and do not know each other: the result does not depend on the number of threads.

use super::{Decision, Keep, Plan, Rule};
use crate::{Error, Result};
use rayon::prelude::*;
use sae_core::analysis::feature_sets::FeatureSets;
use sae_core::error::{Cause, Hint, Setting};

/// Samples in a block.
pub const BLOCK: usize = super::greedy::EXACT;

/// How many blocks are held and computed at the same time, at most, however many threads there are.
const AT_ONCE: usize = 8;

/// Consecutive samples with their features.
struct Block {
    samples: Vec<u32>,
    sets: FeatureSets,
}

impl Block {
    fn new(d_sae: usize) -> Self {
        Self { samples: Vec::new(), sets: FeatureSets::from_sets(&[], d_sae) }
    }

    fn push(&mut self, sample: u32, set: &[u32]) {
        self.samples.push(sample);
        self.sets.push(set);
    }
}

/// A selection that sees the features of one sample after the other. Memory: the features of the shortlist, and of a block for each
/// thread, up to eight; a few bytes for each sample and feature.
///
/// ```
/// use filters::select::shortlist::Shortlist;
/// use filters::select::{Decision, Groups, Keep, Plan, Rule, Rules};
///
/// let scores: Vec<_> = (0..4).map(|n| (n.to_string(), None)).collect();
/// let groups = Groups::one(4);
/// let rules = Rules { rule: Rule::Diverse, ranked: false, ..Rules::new(Keep::Count(2), &groups) };
/// let plan = Plan::new(&scores, &rules)?;
/// let mut shortlist = Shortlist::new(&plan, 2.0, 3)?;
/// for (sample, set) in [&[0, 1][..], &[0], &[2], &[1]].into_iter().enumerate() {
///     shortlist.push(sample as u32, set)?;
/// }
/// let chosen = shortlist.finish();
/// let kept: Vec<usize> = (0..4).filter(|n| chosen.decisions[*n] == Decision::Kept).collect();
/// assert_eq!(kept, [0, 2]);
/// # Ok::<(), filters::Error>(())
/// ```
pub struct Shortlist<'a> {
    plan: &'a Plan<'a>,
    factor: f64,
    block_size: usize,
    d_sae: usize,
    /// The samples of each cell that may be kept.
    eligible: Vec<usize>,
    /// Those of them in blocks that have chosen their share.
    seen: Vec<usize>,
    /// By a score: whether each sample is on the shortlist.
    best: Option<Vec<bool>>,
    next: u32,
    block: Block,
    full: Vec<Block>,
    blocks: usize,
    listed: Block,
    decisions: Vec<Decision>,
    shown: Vec<bool>,
}

/// What was chosen by way of a shortlist.
pub struct Shortlisted {
    /// The decision about each sample.
    pub decisions: Vec<Decision>,
    /// The samples of the shortlist, ascending.
    pub samples: Vec<u32>,
    /// Their features.
    pub sets: FeatureSets,
    /// The number of blocks; 0 if scores alone make the shortlist.
    pub blocks: usize,
    /// The number of features that at least one sample has, on the shortlist or not.
    pub shown: usize,
    /// How many more samples were to be kept, of cells that have samples beyond the shortlist.
    pub short: usize,
}

impl<'a> Shortlist<'a> {
    /// No samples. The shortlist has about `factor` times as many samples as are kept.
    ///
    /// # Errors
    /// A rule that a shortlist cannot approach; a factor below 1.
    pub fn new(plan: &'a Plan<'a>, factor: f64, d_sae: usize) -> Result<Self> {
        Self::with_blocks(plan, factor, d_sae, BLOCK)
    }

    /// [`Shortlist::new`] with blocks of another size than [`BLOCK`].
    ///
    /// # Errors
    /// As [`Shortlist::new`].
    pub fn with_blocks(plan: &'a Plan<'a>, factor: f64, d_sae: usize, block_size: usize) -> Result<Self> {
        if !(factor >= 1.0 && factor.is_finite()) {
            return Err(Error::request(format!("a shortlist of {factor} times what is kept: expected at least 1")));
        }
        let mut eligible = vec![0; plan.quotas().len()];
        plan.eligible().iter().for_each(|n| eligible[plan.cell(*n)] += 1);
        if let Keep::AtLeast(_) = plan.rules().keep {
            let text = "a threshold may keep every sample above it, so that no shortlist is short";
            return Err(Error::request(Cause::with_hint(text, Hint::Unset(Setting::Shortlist))));
        }
        let best = match plan.rules().rule {
            Rule::Diverse => None,
            Rule::Score => Some(best(plan, factor)),
            Rule::GreedSelect | Rule::Match(_) => {
                let text = "a shortlist is for samples that are diverse, or without near-duplicates";
                return Err(Error::request(Cause::with_hint(text, Hint::Unset(Setting::Shortlist))));
            }
        };
        Ok(Self {
            plan,
            factor,
            block_size: block_size.max(1),
            d_sae,
            seen: vec![0; eligible.len()],
            eligible,
            best,
            next: 0,
            block: Block::new(d_sae),
            full: Vec::new(),
            blocks: 0,
            listed: Block::new(d_sae),
            decisions: (0..plan.samples() as u32).map(|n| plan.unlisted(n)).collect(),
            shown: vec![false; d_sae],
        })
    }

    /// Takes in the features of a sample, ascending. Samples come in the order of their numbers; those that are left out have none.
    ///
    /// # Errors
    /// A sample that does not follow the one before, or has features that are not ascending or do not exist.
    pub fn push(&mut self, sample: u32, set: &[u32]) -> Result<()> {
        if sample < self.next || sample as usize >= self.plan.samples() {
            return Err(Error::request(format!("sample {sample} does not follow the samples before it")));
        }
        if !set.is_sorted() {
            return Err(Error::request(format!("the features of sample {sample} are not in ascending order")));
        }
        for feature in set {
            let shown = self.shown.get_mut(*feature as usize);
            *shown.ok_or_else(|| Error::request(format!("sample {sample} has no feature {feature}")))? = true;
        }
        (self.next..sample).for_each(|without| self.take(without, &[]));
        self.take(sample, set);
        self.next = sample + 1;
        Ok(())
    }

    fn take(&mut self, sample: u32, set: &[u32]) {
        if let Some(best) = &self.best {
            if best[sample as usize] {
                self.listed.push(sample, set);
            }
            return;
        }
        self.block.push(sample, set);
        if self.block.samples.len() == self.block_size {
            self.full.push(std::mem::replace(&mut self.block, Block::new(self.d_sae)));
        }
        if self.full.len() >= rayon::current_num_threads().min(AT_ONCE) {
            self.list();
        }
    }

    /// Chooses within the blocks that are full.
    fn list(&mut self) {
        let blocks = std::mem::take(&mut self.full);
        let quotas: Vec<Vec<usize>> = blocks.iter().map(|block| self.quotas(block)).collect();
        let decide =
            |(block, quotas): (&Block, &Vec<usize>)| self.plan.decide(&block.samples, Some(&block.sets), quotas);
        let decided: Vec<Vec<Decision>> = blocks.par_iter().zip(&quotas).map(decide).collect();
        self.blocks += blocks.len();
        for (block, decided) in blocks.iter().zip(decided) {
            for (n, decision) in decided.into_iter().enumerate() {
                let sample = block.samples[n];
                self.decisions[sample as usize] = decision;
                if decision == Decision::Kept {
                    self.listed.push(sample, &block.sets.features(n).collect::<Vec<u32>>());
                }
            }
        }
    }

    /// How many samples of each cell the next block puts on the shortlist: its share, so that all blocks so far have theirs, rounded
    /// up once and not for each block.
    fn quotas(&mut self, block: &Block) -> Vec<usize> {
        let mut here = vec![0usize; self.eligible.len()];
        let eligible = block.samples.iter().filter(|n| self.plan.is_eligible(**n));
        eligible.for_each(|n| here[self.plan.cell(*n)] += 1);
        let share = |(cell, here): (usize, usize)| {
            let whole = self.factor * self.plan.quotas()[cell] as f64;
            let up_to = |seen: usize| (whole * seen as f64 / self.eligible[cell].max(1) as f64).ceil() as usize;
            let seen = self.seen[cell];
            self.seen[cell] += here;
            (up_to(seen + here) - up_to(seen)).min(here)
        };
        here.into_iter().enumerate().map(share).collect()
    }

    /// Chooses among the shortlist.
    pub fn finish(mut self) -> Shortlisted {
        (self.next..self.plan.samples() as u32).for_each(|without| self.take(without, &[]));
        let last = std::mem::replace(&mut self.block, Block::new(self.d_sae));
        self.full.extend(Some(last).filter(|block| !block.samples.is_empty()));
        self.list();
        let Self { plan, eligible, listed, mut decisions, shown, blocks, .. } = self;
        let decided = plan.decide(&listed.samples, Some(&listed.sets), plan.quotas());
        let mut missing: Vec<usize> = plan.quotas().iter().zip(&eligible).map(|(quota, all)| *quota.min(all)).collect();
        let mut beyond = eligible;
        for (sample, decision) in listed.samples.iter().zip(decided) {
            let cell = plan.cell(*sample);
            beyond[cell] -= 1;
            missing[cell] -= usize::from(decision == Decision::Kept);
            decisions[*sample as usize] = decision;
        }
        plan.mark_ties(&mut decisions);
        let short = missing.iter().zip(&beyond).filter(|(_, beyond)| **beyond > 0).map(|(missing, _)| missing).sum();
        let shown = shown.into_iter().filter(|shown| *shown).count();
        Shortlisted { decisions, samples: listed.samples, sets: listed.sets, blocks, shown, short }
    }
}

/// The best samples of each cell, `factor` times as many as may be kept.
fn best(plan: &Plan, factor: f64) -> Vec<bool> {
    let mut left: Vec<usize> = plan.quotas().iter().map(|quota| (factor * *quota as f64).ceil() as usize).collect();
    let mut best = vec![false; plan.samples()];
    for n in plan.eligible() {
        let left = &mut left[plan.cell(*n)];
        best[*n as usize] = *left > 0;
        *left = left.saturating_sub(1);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::objective::Objective;
    use crate::select::{Groups, Rules, choose, greedy};
    use proptest::prelude::*;
    use rayon::ThreadPoolBuilder;
    use sae_core::random::SplitMix64;

    type Scores = Vec<(String, Option<f64>)>;

    /// Sets and scores of samples: one in five copies the features of another, and one in nine has no score.
    fn samples(count: usize, seed: u64) -> (Vec<Vec<u32>>, Scores) {
        let mut random = SplitMix64::new(seed);
        let mut sets: Vec<Vec<u32>> = Vec::new();
        for n in 0..count {
            let set = match n % 5 {
                4 => sets[random.below(n)].clone(),
                _ => (0..64).filter(|feature| random.below(feature + 2) == 0).map(|feature| feature as u32).collect(),
            };
            sets.push(set);
        }
        let score = |n: usize, random: &mut SplitMix64| (n % 9 != 8).then(|| random.next_f64());
        let scores = (0..count).map(|n| (format!("{n:05}"), score(n, &mut random))).collect();
        (sets, scores)
    }

    fn listed(plan: &Plan, sets: &[Vec<u32>], factor: f64, block: usize) -> Shortlisted {
        let mut shortlist = Shortlist::with_blocks(plan, factor, 64, block).unwrap();
        // Samples without features may be left out.
        for (n, set) in sets.iter().enumerate().filter(|(_, set)| !set.is_empty()) {
            shortlist.push(n as u32, set).unwrap();
        }
        shortlist.finish()
    }

    proptest! {
        #[test]
        fn by_a_score_a_shortlist_that_suffices_gives_the_decisions_of_all_samples(
            seed: u64, count in 1usize..30, groups in 1u32..4, tenths in 3u32..=10
        ) {
            let (sets, scores) = samples(90, seed);
            let groups = Groups { names: (0..groups).map(|n| n.to_string()).collect(), of: (0..90).map(|n| n % groups).collect() };
            let feature_sets = FeatureSets::from_sets(&sets, 64);
            let (dedup, feature_sets) = (Some(f64::from(tenths) / 10.0), Some(&feature_sets));
            let rules = Rules { dedup, feature_sets, ..Rules::new(Keep::Count(count), &groups) };
            let plan = Plan::new(&scores, &rules).unwrap();
            let kept = |decisions: &[Decision]| (0..90).filter(|n| decisions[*n] == Decision::Kept).collect::<Vec<_>>();
            let all = kept(&choose(&scores, &rules).unwrap());
            for factor in [1.0, 2.0, 100.0] {
                let found = listed(&plan, &sets, factor, 16);
                if found.short == 0 {
                    prop_assert_eq!(kept(&found.decisions), all.clone(), "factor {}", factor);
                } else {
                    prop_assert!(factor < 100.0 && kept(&found.decisions).len() <= all.len());
                }
                prop_assert!(found.samples.len() <= (factor * count as f64).ceil() as usize + groups.names.len() * factor as usize);
            }
        }

        #[test]
        fn the_kept_are_as_many_as_asked_and_no_two_are_alike(seed: u64, count in 1usize..30, is_ranked: bool) {
            let (sets, scores) = samples(90, seed);
            let (groups, feature_sets) = (Groups::one(90), FeatureSets::from_sets(&sets, 64));
            let rules = Rules { rule: Rule::Diverse, ranked: is_ranked, dedup: Some(0.8), ..Rules::new(Keep::Count(count), &groups) };
            let plan = Plan::new(&scores, &rules).unwrap();
            let found = listed(&plan, &sets, 2.0, 20);
            let kept: Vec<usize> = (0..90).filter(|n| found.decisions[*n] == Decision::Kept).collect();
            prop_assert_eq!(kept.len() + found.short, count);
            prop_assert_eq!(found.blocks, 5);
            prop_assert!(found.samples.len() <= 2 * count);
            for (place, a) in kept.iter().enumerate() {
                prop_assert!(!is_ranked || scores[*a].1.is_some());
                prop_assert!(kept[..place].iter().all(|b| feature_sets.similarity(*a, *b) < 0.8));
            }
        }
    }

    #[test]
    fn one_block_is_the_exact_selection_and_several_lose_little_on_any_number_of_threads() {
        let (sets, scores) = samples(2000, 1);
        let (groups, feature_sets) = (Groups::one(2000), FeatureSets::from_sets(&sets, 64));
        let rules =
            Rules { rule: Rule::Diverse, feature_sets: Some(&feature_sets), ..Rules::new(Keep::Count(60), &groups) };
        let (plan, all) = (Plan::new(&scores, &rules).unwrap(), choose(&scores, &rules).unwrap());
        let whole = listed(&plan, &sets, 1.0, 2000);
        assert!(whole.decisions == all && whole.blocks == 1);
        let worth = |decisions: &[Decision]| {
            let kept = (0..2000u32).filter(|n| decisions[*n as usize] == Decision::Kept);
            let candidates = kept.map(|sample| greedy::Candidate { sample, group: 0, value: plan.value(sample) });
            greedy::value(&feature_sets, Objective::Diverse, candidates)
        };
        let with_threads = |threads: usize, factor: f64| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| listed(&plan, &sets, factor, 150))
        };
        let found = with_threads(1, 2.0);
        assert_eq!((found.blocks, found.samples.len()), (14, with_threads(3, 2.0).samples.len()));
        assert!(found.decisions == with_threads(3, 2.0).decisions && found.decisions != all);
        let share = worth(&found.decisions) / worth(&all);
        assert!(share > 0.97 && share <= 1.0 + 1e-9, "{share}");
        // More than the share of the first blocks alone.
        assert!(worth(&found.decisions) > worth(&with_threads(2, 1.0).decisions));
        assert_eq!(found.shown, feature_sets.frequencies().iter().filter(|count| **count > 0).count());
    }

    #[test]
    fn many_small_groups_do_not_make_a_shortlist_long() {
        let (sets, scores) = samples(400, 2);
        let groups = Groups { names: (0..40).map(|n| n.to_string()).collect(), of: (0..400).map(|n| n % 40).collect() };
        let rules = Rules { rule: Rule::Diverse, ranked: false, ..Rules::new(Keep::Count(40), &groups) };
        let plan = Plan::new(&scores, &rules).unwrap();
        let found = listed(&plan, &sets, 2.0, 40);
        // Each group has one sample in each of ten blocks.
        assert_eq!((found.blocks, found.samples.len(), found.short), (10, 80, 0));
    }

    #[test]
    fn what_does_not_belong_to_a_shortlist_is_rejected() {
        let (sets, scores) = samples(10, 1);
        let groups = Groups::one(10);
        let rules = Rules { rule: Rule::Diverse, ..Rules::new(Keep::Count(3), &groups) };
        let plan = Plan::new(&scores, &rules).unwrap();
        let said = |result: Result<()>| result.unwrap_err().to_string();
        assert!(said(Shortlist::new(&plan, 0.5, 64).map(drop)).contains("expected at least 1"));
        let greedselect = Rules { rule: Rule::GreedSelect, ..rules };
        let other = Plan::new(&scores, &greedselect).unwrap();
        assert!(said(Shortlist::new(&other, 2.0, 64).map(drop)).contains("a shortlist is for"));
        let threshold = Rules { dedup: Some(0.9), ..Rules::new(Keep::AtLeast(0.5), &groups) };
        let high = Plan::new(&scores, &threshold).unwrap();
        assert!(said(Shortlist::new(&high, 2.0, 64).map(drop)).contains("a threshold may keep every sample"));
        let mut shortlist = Shortlist::new(&plan, 2.0, 64).unwrap();
        assert!(said(shortlist.push(3, &[2, 1])).contains("sample 3 are not in ascending order"));
        shortlist.push(3, &sets[3]).unwrap();
        assert!(said(shortlist.push(3, &sets[3])).contains("sample 3 does not follow"));
        assert!(said(shortlist.push(10, &[])).contains("sample 10 does not follow"));
        assert!(said(shortlist.push(4, &[64])).contains("no feature 64"));
    }
}
