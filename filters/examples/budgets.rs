//! Measures the time of selections within budgets on synthetic samples, and how far they are from the bound:
//! `budgets SAMPLES KEPT BUDGETS`. Scores and costs depend on each other; the first cost is a level from 0 to 3.

#![allow(clippy::print_stdout, reason = "a measurement for a terminal")]

use filters::select::budget::{Budget, Budgets, choose};
use filters::select::{Groups, Keep, Rules};
use sae_core::random::SplitMix64;
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [samples, kept, budgets] = numbers[..] else { return Err("expected SAMPLES KEPT BUDGETS".into()) };
    let mut random = SplitMix64::new(1);
    let (mut scores, mut costs) = (Vec::new(), vec![Vec::new(); budgets]);
    for n in 0..samples {
        let help = random.next_f64() + random.next_f64();
        scores.push((format!("{n:08}"), Some(help)));
        for (budget, costs) in costs.iter_mut().enumerate() {
            let cost = 0.5 * help + 1.5 * random.next_f64();
            costs.push(Some(if budget == 0 { (cost * 1.5).floor() } else { cost }));
        }
    }
    let mean = |costs: &[Option<f64>]| costs.iter().flatten().sum::<f64>() / samples as f64;
    let budget = |costs: Vec<Option<f64>>| -> Result<Budget, String> {
        Ok(Budget { rule: format!("cost<={}", 0.8 * mean(&costs)).parse()?, costs })
    };
    let limits = costs.into_iter().map(budget).collect::<Result<Vec<Budget>, String>>()?;
    let groups = Groups::one(samples);
    let start = Instant::now();
    let found =
        choose(&scores, &Rules::new(Keep::Count(kept), &groups), &Budgets { limits: &limits, ..Budgets::default() })?;
    let bound = found.report.bound.unwrap_or_default();
    println!(
        "{kept} of {samples} within {budgets} budgets: {:.2} s, {} points of frontiers; mean score {:.6}, bound {bound:.6}, gap {:.1e}",
        start.elapsed().as_secs_f64(),
        found.frontier.len(),
        found.report.score,
        (bound - found.report.score) / bound,
    );
    Ok(())
}
