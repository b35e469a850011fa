//! `sae pairs`: chooses pairs of answers for people to compare; prints what each topology would teach, and at which price.

use super::arguments::SaeArgs;
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted, table};
use anyhow::Result;
use clap::Args;
use sae_core::analysis::feature_sets::Part;
use sae_workbench::pairs::{MOST_FEATURES, MOST_PAIRS, Revealed, Topology, TopologyReport};
use sae_workbench::{PairsReport, PairsRequest};
use std::path::{Path, PathBuf};

/// `sae pairs`
#[derive(Args, Debug)]
#[command(after_help = "\
The run has to be captured with `sae harvest --pieces tree`. The reward of an answer is taken to be a weighted sum of its features. \
Every comparison makes the weights less uncertain; the report says how uncertain the difference of rewards of unrelated answers \
(those of different trees) still is after the comparisons of each topology, and compares the topologies at equal numbers of \
comparisons, of tokens that people read, and of tokens that the model generated.

Topologies:
  chain      two answers of different trees: what preference data usually is
  random     any two answers of a tree
  siblings   two answers that differ in their last piece alone
  mixed      siblings and random pairs in turns
  active     the pairs of a tree that lower the uncertainty most; label them in batches of 16

Examples:
  sae harvest --model llava-1.5-7b-hf --data trees.jsonl --pieces tree --layers 16 --run run
  sae pairs --run run --sae base --n 500 --out to-label
  sae pairs --run run --sae base --topology active --probe help --out next     start from a probe
  sae pairs --run run --sae base --compared to-label/active.jsonl --out next   go on after earlier pairs")]
pub struct PairsArgs {
    #[command(flatten)]
    pub sae: SaeArgs,
    /// New folder for the pairs of each topology, TOPOLOGY.jsonl, and the report, pairs.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Pairs of each topology
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=MOST_PAIRS as i64))]
    pub n: u32,
    /// Which topologies: chain, random, siblings, mixed, active
    #[arg(long, value_delimiter = ',', value_name = "NAME,..", default_value = "chain,random,siblings,mixed,active")]
    pub topology: Vec<Topology>,
    /// A probe of the kind pair, which says what is known so far; its features and its part are used
    #[arg(long, value_name = "NAME", conflicts_with = "part")]
    pub probe: Option<String>,
    /// Which positions of an answer are read: all (with content), user, answer, image or action
    #[arg(long, default_value = "answer")]
    pub part: Part,
    /// Features that the reward reads at most: those that are active in the most answers, but not in more than 90 %
    #[arg(long, value_name = "N", default_value_t = MOST_FEATURES as u32, value_parser = clap::value_parser!(u32).range(1..=MOST_FEATURES as i64))]
    pub features_most: u32,
    /// Standard deviation of the weights of scaled features before any comparison
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub scale: f64,
    /// Pairs that were compared before, lines of earlier output: the choice begins after them, and none is chosen again
    #[arg(long, value_name = "FILE,..", value_delimiter = ',')]
    pub compared: Vec<PathBuf>,
    /// A numeric field of answers with their known rewards: simulate the labels, and report how well they teach these rewards
    #[arg(long, value_name = "FIELD")]
    pub reveal: Option<String>,
    /// Seed of all draws
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Runs the command.
pub fn run(args: &PairsArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = PairsRequest {
        sae: args.sae.choice(),
        out: args.out.clone(),
        n: args.n as usize,
        topologies: args.topology.clone(),
        probe: args.probe.clone(),
        part: args.part,
        features: args.features_most as usize,
        scale: args.scale,
        compared: args.compared.clone(),
        reveal: args.reveal.clone(),
        seed: args.seed,
    };
    invocation.outcome(|_| request.plan(), |control| request.run(control), |report| Ok(describe(report, &args.out)))
}

fn describe(report: &PairsReport, out: &Path) -> String {
    let mut text = format!(
        "{} of {}, {}; uncertainty before any comparison {:.4}\n",
        counted(report.answers as u64, "answer"),
        counted(report.trees as u64, "tree"),
        counted(report.features as u64, "feature"),
        report.uncertainty,
    );
    if report.compared > 0 {
        let compared = counted(report.compared as u64, "comparison");
        text += &format!("after {compared} before: {:.4}\n", report.uncertainty_now);
    }
    for short in report.topologies.iter().filter(|topology| topology.pairs < report.asked) {
        let (name, pairs) = (short.topology.name(), counted(short.pairs as u64, "pair"));
        text += &format!("{name}: all {pairs} that could be chosen, fewer than the {}\n", count(report.asked as u64));
    }
    let equal = &report.equal_price;
    text += &format!(
        "uncertainty after all pairs, and at equal prices ({}, {} to read, {} to generate):\n",
        counted(equal.comparisons, "comparison"),
        counted(equal.tokens_read, "token"),
        counted(equal.tokens_generated, "token"),
    );
    let heads = ["topology", "pairs", "uncertainty", "by comparisons", "by tokens read", "by tokens generated"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    rows.extend(report.topologies.iter().map(|topology| row(report, topology)));
    text += &table(&rows);
    if report.best.comparisons.is_some() {
        text += "  * lowest at this price\n";
    }
    if let Some(field) = &report.reveal {
        text += &revealed(report, field);
    }
    format!("{text}\n  {}", out.display())
}

fn row(report: &PairsReport, topology: &TopologyReport) -> Vec<String> {
    let (at, best) = (&topology.at_equal_price, &report.best);
    let cell = |uncertainty: f64, best: Option<Topology>| {
        let mark = if best == Some(topology.topology) { "*" } else { " " };
        format!("{uncertainty:.4}{mark}")
    };
    vec![
        topology.topology.name().into(),
        count(topology.pairs as u64),
        format!("{:.4}", topology.uncertainty),
        cell(at.comparisons, best.comparisons),
        cell(at.tokens_read, best.tokens_read),
        cell(at.tokens_generated, best.tokens_generated),
    ]
}

fn revealed(report: &PairsReport, field: &str) -> String {
    let mut rows = vec![["topology", "labels", "accuracy on other pairs"].map(String::from).to_vec()];
    for topology in &report.topologies {
        let row = |revealed: &Revealed| {
            let accuracy = revealed.accuracy.map_or("-".into(), |accuracy| format!("{:.1} %", 100.0 * accuracy));
            vec![topology.topology.name().into(), count(revealed.labels as u64), accuracy]
        };
        rows.extend(topology.revealed.iter().map(row));
    }
    format!("unrelated answers in the order of {field}, by a reward fitted to simulated labels:\n{}", table(&rows))
}
