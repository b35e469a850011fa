//! Measures what a selection by way of a shortlist loses, on synthetic samples that are made one after the other:
//! `shortlist SAMPLES FEATURES KEPT ORDER RULE HOW [BLOCK]`. The probability of a feature is inversely proportional to its number, which is
//! roughly true for autoencoders, and one sample in ten is a near-copy of an earlier one.
//!
//! - ORDER: `mixed`, or `topics` (samples of a hundred topics, one topic after the other; half of the features of a sample are
//!   drawn in an order of its topic).
//! - RULE: `diverse`, or a number, which is a similarity for near-duplicates (the best scores without these), or both: `diverse,0.9`.
//! - HOW: `all` (what the program does without a shortlist), `exact` (the exact greedy selection, whatever the number of samples;
//!   for `diverse` alone), `none` (samples are made, and none is chosen), or a number: a shortlist that many times as large as what is kept.
//! - BLOCK: the samples in a block, if not as many as the program takes.

#![allow(clippy::print_stdout, reason = "a measurement for a terminal")]

mod process;

use filters::select::greedy::{self, Candidate};
use filters::select::objective::Objective;
use filters::select::shortlist::{BLOCK, Shortlist};
use filters::select::{Decision, Groups, Keep, Plan, Rule, Rules, choose};
use sae_core::analysis::feature_sets::FeatureSets;
use sae_core::random::SplitMix64;
use std::error::Error;
use std::time::Instant;

const D_SAE: usize = 65_536;
const TOPICS: usize = 100;

/// Synthetic samples.
struct Samples {
    count: usize,
    features: usize,
    has_topics: bool,
}

impl Samples {
    /// The features of a sample, ascending: of `2 * features` draws.
    fn set(&self, n: usize) -> Vec<u32> {
        let mut random = SplitMix64::new(SplitMix64::nth(1, n as u64));
        if n > 0 && n.is_multiple_of(10) {
            let original = (random.next_f64() * n as f64) as usize;
            // Not a copy of a copy.
            let mut set = self.set(if original.is_multiple_of(10) { original + 1 } else { original });
            set.pop();
            return set;
        }
        let topic = n * TOPICS / self.count;
        let mut set: Vec<u32> = (0..self.features * 2)
            .map(|draw| {
                let rank = ((D_SAE as f64).powf(random.next_f64()) as usize).min(D_SAE) - 1;
                // An odd factor gives each topic an order of its own.
                let is_own = self.has_topics && draw % 2 == 1;
                (if is_own { (rank * (2 * topic + 3) + 977 * topic) % D_SAE } else { rank }) as u32
            })
            .collect();
        set.sort_unstable();
        set.dedup();
        set
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [samples, features, kept, order, rule, how, block @ ..] = &arguments[..] else {
        let how = "all|exact|none|TIMES [BLOCK]";
        return Err(
            format!("expected SAMPLES FEATURES KEPT mixed|topics diverse|SIMILARITY|diverse,SIMILARITY {how}").into()
        );
    };
    let block = block.first().map_or(Ok(BLOCK), |block| block.parse())?;
    let (count, kept): (usize, usize) = (samples.parse()?, kept.parse()?);
    let samples = Samples { count, features: features.parse()?, has_topics: order == "topics" };
    let mut random = SplitMix64::new(2);
    let scores: Vec<_> = (0..count).map(|n| (format!("{n:08}"), Some(random.next_f64()))).collect();
    let groups = Groups::one(count);
    let (name, dedup) =
        rule.split_once(',').map_or((rule.as_str(), None), |(name, similarity)| (name, Some(similarity)));
    let (rule, dedup) = if name == "diverse" { (Rule::Diverse, dedup) } else { (Rule::Score, Some(name)) };
    let dedup: Option<f64> = dedup.map(str::parse).transpose()?;
    let rules = Rules { rule, dedup, ..Rules::new(Keep::Count(kept), &groups) };
    let plan = Plan::new(&scores, &rules)?;
    let candidate = |n: u32| Candidate { sample: n, group: 0, value: plan.value(n) };

    let begun = Instant::now();
    let (chosen, listed, short): (Vec<bool>, usize, usize) = if let Ok(factor) = how.parse::<f64>() {
        let mut shortlist = Shortlist::with_blocks(&plan, factor, D_SAE, block)?;
        (0..count).try_for_each(|n| shortlist.push(n as u32, &samples.set(n)))?;
        let found = shortlist.finish();
        let is_kept = found.decisions.iter().map(|decision| *decision == Decision::Kept);
        (is_kept.collect(), found.samples.len(), found.short)
    } else {
        let mut sets = FeatureSets::from_sets(&[], D_SAE);
        (0..count).for_each(|n| sets.push(&samples.set(n)));
        let rules = Rules { feature_sets: Some(&sets), ..rules };
        let mut chosen = vec![false; count];
        if how == "none" {
            // What the samples cost.
        } else if how == "exact" {
            let candidates: Vec<Candidate> = (0..count as u32).map(candidate).collect();
            let found = greedy::exact(&sets, Objective::Diverse, &candidates, &[kept]);
            found.iter().for_each(|n| chosen[*n as usize] = true);
        } else {
            let decisions = choose(&scores, &rules)?;
            decisions.iter().zip(&mut chosen).for_each(|(made, chosen)| *chosen = *made == Decision::Kept);
        }
        (chosen, count, 0)
    };
    let (passed, processor) = (begun.elapsed().as_secs_f64(), process::seconds());
    let peak = process::peak_memory();

    let mut sets = FeatureSets::from_sets(&[], D_SAE);
    let (mut of_chosen, mut score) = (Vec::new(), 0.0);
    for n in (0..count).filter(|n| chosen[*n]) {
        of_chosen.push(Candidate { sample: of_chosen.len() as u32, ..candidate(n as u32) });
        sets.push(&samples.set(n));
        score += scores[n].1.unwrap_or_default();
    }
    let worth = |objective| greedy::value(&sets, objective, of_chosen.iter().copied());
    println!(
        "{}: kept {}, {short} short, among {listed}; diversity {:.1}, features {:.0}, mean score {:.6}; {passed:.1} s, \
         {processor:.1} of processor time; {peak}",
        arguments.join(" "),
        of_chosen.len(),
        worth(Objective::Diverse),
        worth(Objective::NewFeatures),
        score / of_chosen.len().max(1) as f64,
    );
    Ok(())
}
