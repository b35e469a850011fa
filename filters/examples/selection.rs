//! Measures the time and memory of selections on synthetic samples: `selection SAMPLES FEATURES_PER_SAMPLE [KEPT] [RULE...]`. The
//! probability of a feature is inversely proportional to its number, which is roughly true for autoencoders. One sample in ten
//! is a near-copy of another. The rules are `score`, `diverse`, `exact` (the exact greedy selection, whatever the number of
//! samples), `greedselect`, `match`, and a number, which is a similarity for near-duplicates; without any, all but `exact`.

#![allow(clippy::print_stdout, reason = "a measurement for a terminal")]

mod process;

use filters::select::greedy::{self, Candidate};
use filters::select::objective::{Objective, TargetDistribution};
use filters::select::{Decision, Groups, Keep, Rule, Rules, choose};
use sae_core::analysis::feature_sets::FeatureSets;
use sae_core::random::SplitMix64;
use std::error::Error;
use std::time::Instant;

const D_SAE: usize = 65_536;

fn feature(random: &mut SplitMix64) -> u32 {
    ((D_SAE as f64).powf(random.next_f64()) as u32).min(D_SAE as u32) - 1
}

/// Sets of `2 * features` draws. Memory: the packed sets, and one set in the clear.
fn sets(samples: usize, features: usize, seed: u64) -> FeatureSets {
    let mut random = SplitMix64::new(seed);
    let mut sets = FeatureSets::from_sets(&[], D_SAE);
    let mut set: Vec<u32> = Vec::new();
    for n in 0..samples {
        set.clear();
        if n > 0 && n % 10 == 0 {
            set.extend(sets.features((random.next_f64() * n as f64) as usize));
            set.truncate(set.len().saturating_sub(1).max(1));
        } else {
            set.extend((0..features * 2).map(|_| feature(&mut random)));
        }
        set.sort_unstable();
        set.dedup();
        sets.push(&set);
    }
    sets
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize| arguments.get(n).and_then(|argument| argument.parse::<usize>().ok());
    let (Some(samples), Some(features)) = (number(0), number(1)) else {
        return Err("expected SAMPLES FEATURES_PER_SAMPLE [KEPT] [RULE...]".into());
    };
    let kept = number(2).unwrap_or(samples / 10);
    let asked = arguments.get(3..).unwrap_or_default();
    let start = Instant::now();
    let feature_sets = sets(samples, features, 1);
    let each = (0..samples).map(|n| feature_sets.count(n)).sum::<usize>() as f64 / samples as f64;
    println!(
        "{samples} samples of {each:.0} features, packed {:.2} bytes a feature, made in {:.1} s",
        feature_sets.bytes() as f64 / each / samples as f64,
        start.elapsed().as_secs_f64()
    );
    let mut random = SplitMix64::new(2);
    let scores: Vec<_> = (0..samples).map(|n| (format!("{n:08}"), Some(random.next_f64()))).collect();
    let groups = Groups::one(samples);
    let target = TargetDistribution::new(&sets(1000, features / 2 + 1, 3))?;
    let rules = Rules { feature_sets: Some(&feature_sets), ..Rules::new(Keep::Count(kept), &groups) };
    let by_rule = |rule| Rules { rule, ..rules };
    let all = [
        ("score", rules),
        ("diverse", by_rule(Rule::Diverse)),
        ("greedselect", by_rule(Rule::GreedSelect)),
        ("match", by_rule(Rule::Match(&target))),
        ("0.9", Rules { dedup: Some(0.9), ..rules }),
        ("0.7", Rules { dedup: Some(0.7), ..rules }),
    ];
    // Ranks are the values of samples, as in `choose`.
    let mut ranked: Vec<u32> = (0..samples as u32).collect();
    ranked.sort_by(|a, b| {
        scores[*b as usize].1.unwrap_or_default().total_cmp(&scores[*a as usize].1.unwrap_or_default())
    });
    let candidate = |(place, n): (usize, &u32)| Candidate {
        sample: *n,
        group: 0,
        value: (samples - place) as f64 / samples as f64,
    };
    let candidates: Vec<Candidate> = ranked.iter().enumerate().map(candidate).collect();
    let report = |name: &str, started: (Instant, f64), chosen: &[bool]| {
        let of_chosen = || candidates.iter().filter(|candidate| chosen[candidate.sample as usize]).copied();
        let worth = |objective| greedy::value(&feature_sets, objective, of_chosen());
        println!(
            "{name}: {:.2} s, {:.2} s of processor time; {} kept: diversity {:.1}, features {:.0}, match {:.4}",
            started.0.elapsed().as_secs_f64(),
            process::seconds() - started.1,
            of_chosen().count(),
            worth(Objective::Diverse),
            worth(Objective::NewFeatures),
            worth(Objective::Match(&target)),
        );
    };
    let wanted = |name: &str| asked.iter().any(|asked| asked == name) || (asked.is_empty() && name != "exact");
    for (name, rules) in all.iter().filter(|(name, _)| wanted(name)) {
        let started = (Instant::now(), process::seconds());
        let decisions = choose(&scores, rules)?;
        report(name, started, &decisions.iter().map(|decision| *decision == Decision::Kept).collect::<Vec<_>>());
    }
    for (name, objective) in [("exact diverse", Objective::Diverse), ("exact match", Objective::Match(&target))] {
        if wanted("exact") {
            let started = (Instant::now(), process::seconds());
            let mut chosen = vec![false; samples];
            greedy::exact(&feature_sets, objective, &candidates, &[kept])
                .iter()
                .for_each(|n| chosen[*n as usize] = true);
            report(name, started, &chosen);
            let started = (Instant::now(), process::seconds());
            chosen.fill(false);
            greedy::stochastic(&feature_sets, objective, &candidates, &[kept], 0)
                .iter()
                .for_each(|n| chosen[*n as usize] = true);
            report(&name.replace("exact", "stochastic"), started, &chosen);
        }
    }
    println!("peak memory {}", process::peak_memory());
    Ok(())
}
