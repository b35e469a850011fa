//! `sae pass`: makes a part of the passes of an index or a scoring.

use super::arguments::{SaeArgs, ShareArg};
use super::index::IndexOptions;
use super::score::ScoringArgs;
use super::{Invocation, Outcome};
use crate::cli::terminal::counted;
use anyhow::Result;
use clap::{Args, Subcommand};
use sae_core::analysis::between::{Markers, Part};
use sae_workbench::{PartOperation, PassReport, PassRequest, SummariesRequest};
use std::path::PathBuf;

/// `sae pass`
#[derive(Subcommand, Debug)]
pub enum Pass {
    /// Make a part of the pass of `sae index`
    #[command(after_help = "\
Examples:
  sae pass index --run run --sae base --part 3/8
  sae pass index --run run --sae base --part auto        by the variables of a scheduler
  sae reduce --run run run/parts/index-base-*            when all parts are there")]
    Index(IndexPassArgs),
    /// Make a part of the passes of `sae score`
    #[command(after_help = "\
Probes, critiques and likelihoods need passes of their own. `sae score` adds their columns afterward, from one more pass.

Examples:
  sae pass score --run run --sae base --part 3/8
  sae reduce --run run run/parts/score-base-*            when all parts are there")]
    Score(ScorePassArgs),
    /// Make a part of the pass whose summaries of samples `sae contrast`, `sae probe` and `sae filter` read
    #[command(after_help = "\
Questions about the same positions then need no pass of their own.

Examples:
  sae pass summaries --run run --sae base --positions answer --part 3/8
  sae reduce --run run run/parts/summaries-base-*        when all parts are there
  sae contrast --run run --groups correct --part answer")]
    Summaries(SummariesPassArgs),
}

/// `sae pass index`
#[derive(Args, Debug)]
pub struct IndexPassArgs {
    #[command(flatten)]
    pub index: IndexOptions,
    #[command(flatten)]
    pub part: PartArgs,
}

/// `sae pass score`
#[derive(Args, Debug)]
pub struct ScorePassArgs {
    #[command(flatten)]
    pub score: ScoringArgs,
    #[command(flatten)]
    pub part: PartArgs,
}

/// `sae pass summaries`
#[derive(Args, Debug)]
pub struct SummariesPassArgs {
    #[command(flatten)]
    pub sae: SaeArgs,
    /// Which positions of a sample count: all, user, answer, think, image or action, as for `sae contrast --part` and `sae probe --part`; everything, template tokens included, for `sae filter`
    #[arg(long, value_name = "POSITIONS", default_value = "all", value_parser = positions)]
    pub positions: Part,
    /// Of these positions, only those between two texts of the sample
    #[arg(long, num_args = 2, value_names = ["BEGIN", "END"])]
    pub between: Vec<String>,
    #[command(flatten)]
    pub part: PartArgs,
}

impl SummariesPassArgs {
    fn request(&self) -> Result<SummariesRequest> {
        let between = match &self.between[..] {
            [open, close] => Some(Markers::new(open, close).map_err(anyhow::Error::msg)?),
            _ => None,
        };
        Ok(SummariesRequest { sae: self.sae.choice(), positions: self.positions, between })
    }
}

/// Which part, and where to.
#[derive(Args, Debug)]
pub struct PartArgs {
    /// Which of several parts, counted from 1: 1/8 to 8/8; auto: the one that the scheduler's variables name, as for `sae harvest --shard auto`
    #[arg(long, value_name = "N/OF|auto")]
    pub part: ShareArg,
    /// Folder of the part files (default: parts in the run); or s3://BUCKET/FOLDER/, where each part becomes a folder that `sae reduce` reads
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl Pass {
    /// Which part it is, and where it goes.
    pub fn part(&self) -> &PartArgs {
        match self {
            Self::Index(args) => &args.part,
            Self::Score(args) => &args.part,
            Self::Summaries(args) => &args.part,
        }
    }

    /// The operation, and its autoencoder.
    pub fn what(&self) -> (&'static str, &SaeArgs) {
        match self {
            Self::Index(args) => ("index", &args.index.sae),
            Self::Score(args) => ("score", &args.score.sae),
            Self::Summaries(args) => ("summaries", &args.sae),
        }
    }

    fn request(&self) -> Result<PassRequest> {
        let operation = match self {
            Self::Index(args) => PartOperation::Index(args.index.request()),
            Self::Score(args) => PartOperation::Score(Box::new(args.score.request()?)),
            Self::Summaries(args) => PartOperation::Summaries(args.request()?),
        };
        let PartArgs { part, out } = self.part();
        let command = without_part(std::env::args());
        Ok(PassRequest { operation, part: part.share()?, folder: out.clone(), command })
    }
}

/// Reads which positions count.
fn positions(name: &str) -> Result<Part, String> {
    if name == Part::Everything.name() {
        return Ok(Part::Everything);
    }
    name.parse().map_err(|error| format!("{error}, or {}", Part::Everything.name()))
}

/// The words of this command, with `{part}` in the place of the part.
fn without_part(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_part = false;
    for (n, word) in words.enumerate() {
        found.push(match word.as_str() {
            // Wherever the program is here, it may be elsewhere where the command is used.
            _ if n == 0 => "sae".into(),
            _ if is_part => "{part}".into(),
            word if word.starts_with("--part=") => "--part={part}".into(),
            word => word.to_owned(),
        });
        is_part = word == "--part";
    }
    found
}

/// Runs the command.
pub fn run(pass: &Pass, invocation: &mut Invocation) -> Result<Outcome> {
    let request = pass.request()?;
    invocation.outcome(|_| request.plan(), |control| request.run(control), |report| Ok(describe(report)))
}

fn describe(report: &PassReport) -> String {
    let PassReport { plan, existed, bytes } = report;
    let shards = plan.shards.iter().map(|(store, shards)| match shards.len() {
        0 => format!("no shard of {store}"),
        1 => format!("shard {} of {store}", shards.start),
        _ => format!("shards {} to {} of {store}", shards.start, shards.end - 1),
    });
    let (shards, existed) = (shards.collect::<Vec<_>>().join(", "), if *existed { "; it was made before" } else { "" });
    format!(
        "part {} of {}: {shards}{existed}\n{}  {}",
        plan.part,
        plan.operation,
        counted(*bytes, "byte"),
        plan.file.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_a_command_is_left_open() {
        let open = |words: &[&str]| without_part(words.iter().map(|word| word.to_string())).join(" ");
        assert_eq!(
            open(&["/bin/sae", "pass", "index", "--part", "3/8", "--run", "r"]),
            "sae pass index --part {part} --run r"
        );
        assert_eq!(open(&["sae", "pass", "--part=auto"]), "sae pass --part={part}");
    }
}
