//! Measures the time and memory of a selection on synthetic samples: `selection SAMPLES FEATURES_PER_SAMPLE`. The probability
//! of a feature is inversely proportional to its number, which is roughly true for autoencoders. One sample in ten is a
//! near-copy of another.

#![allow(clippy::print_stdout, reason = "a measurement for a terminal")]

use filters::select::{Division, Groups, Keep, Rules, choose};
use sae_core::analysis::feature_sets::FeatureSets;
use sae_core::random::SplitMix64;
use std::error::Error;
use std::time::Instant;

const D_SAE: usize = 65_536;

fn feature(random: &mut SplitMix64) -> u32 {
    ((D_SAE as f64).powf(random.next_f64()) as u32).min(D_SAE as u32) - 1
}

fn main() -> Result<(), Box<dyn Error>> {
    let argument = |n: usize| -> Result<usize, Box<dyn Error>> {
        Ok(std::env::args().nth(n).ok_or("expected SAMPLES and FEATURES_PER_SAMPLE")?.parse()?)
    };
    let (samples, features) = (argument(1)?, argument(2)?);
    let mut random = SplitMix64::new(1);
    let mut sets: Vec<Vec<u32>> = Vec::with_capacity(samples);
    for n in 0..samples {
        let mut set: Vec<u32> = if n > 0 && n % 10 == 0 {
            let mut copy = sets[(random.next_f64() * n as f64) as usize].clone();
            copy.truncate(copy.len().saturating_sub(1).max(1));
            copy
        } else {
            (0..features * 2).map(|_| feature(&mut random)).collect()
        };
        set.sort_unstable();
        set.dedup();
        sets.push(set);
    }
    let each = sets.iter().map(Vec::len).sum::<usize>() as f64 / samples as f64;
    let feature_sets = FeatureSets::from_sets(&sets, D_SAE);
    drop(sets);
    println!(
        "{samples} samples of {each:.0} features, packed {:.1} bytes a feature",
        feature_sets.bytes() as f64 / each / samples as f64
    );
    let scores: Vec<_> = (0..samples).map(|n| (format!("{n:08}"), Some(random.next_f64()))).collect();
    let groups = Groups::one(samples);
    let rules = Rules {
        keep: Keep::Share(0.5),
        division: &Division::Proportional,
        groups: &groups,
        feature_sets: Some(&feature_sets),
        dedup: None,
        diverse: false,
    };
    for (name, rules) in [
        ("score alone", rules),
        ("diverse, 10 %", Rules { diverse: true, keep: Keep::Share(0.1), ..rules }),
        ("diverse, 50 %", Rules { diverse: true, ..rules }),
        ("dedup 0.9", Rules { dedup: Some(0.9), ..rules }),
        ("dedup 0.7", Rules { dedup: Some(0.7), ..rules }),
    ] {
        let start = Instant::now();
        let decisions = choose(&scores, &rules)?;
        let mut counts = std::collections::BTreeMap::new();
        decisions.iter().for_each(|decision| *counts.entry(decision.reason()).or_insert(0) += 1);
        println!("{name}: {:.2} s {counts:?}", start.elapsed().as_secs_f64());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    Ok(())
}
