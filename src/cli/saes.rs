//! `sae saes`: released autoencoders of others, in a list that ships with the program.

use super::{Invocation, Outcome};
use crate::cli::terminal::{columns, count};
use anyhow::Result;
use clap::{Args, Subcommand};
use sae_workbench::published::{FoundSae, SearchSaesReport, SearchSaesRequest};

/// `sae saes`
#[derive(Subcommand, Debug)]
pub enum Saes {
    /// Find released autoencoders by model, layer and other words, in the list of SAELens that ships with the program
    #[command(after_help = "\
The list is that of SAELens 6.54.12: 13,857 autoencoders in 170 releases. Those whose hook `sae harvest` captures come first. The first column is what `sae import --from` takes.

Examples:
  sae saes search gemma-3-4b-it layer 17
  sae saes search qwen3-8b residual layer 18
  sae saes search gemma-scope-2-27b-it transcoder --limit 5 --json")]
    Search(SearchArgs),
}

/// `sae saes search`
#[derive(Args, Debug)]
pub struct SearchArgs {
    /// Words that all occur in the model, repository, path, release, hook or architecture; `layer 17` asks for a decoder block, and `residual` for the outputs of decoder blocks
    #[arg(required = true)]
    pub words: Vec<String>,
    /// Autoencoders to show at most
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
}

/// Runs the command.
pub fn run(saes: &Saes, invocation: &mut Invocation) -> Result<Outcome> {
    let Saes::Search(args) = saes;
    let request = SearchSaesRequest { words: args.words.clone(), limit: args.limit };
    invocation.outcome(|_| request.run(), |_| request.run(), |report| Ok(describe(report)))
}

fn describe(report: &SearchSaesReport) -> String {
    let head =
        ["import --from", "model", "hook", "architecture", "L0", "captured", "read as"].map(String::from).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(report.saes.iter().map(row)).collect();
    let shown = report.saes.len();
    let rest = if shown < report.found {
        format!("{} of {}; more words or a larger --limit show others", count(shown as u64), count(report.found as u64))
    } else {
        count(shown as u64)
    };
    format!("{}{rest}", columns(&rows))
}

fn row(sae: &FoundSae) -> Vec<String> {
    let or = |text: Option<&str>, none: &str| text.filter(|text| !text.is_empty()).unwrap_or(none).to_owned();
    let l0 = sae.l0.map_or("?".to_owned(), |l0| l0.to_string());
    let captured = if sae.captured { "yes" } else { "no" };
    let (hook, architecture) = (or(Some(sae.hook), "?"), or(sae.architecture, "?"));
    vec![
        sae.from.clone(),
        sae.model.to_owned(),
        hook,
        architecture,
        l0,
        captured.to_owned(),
        or(sae.format, "not read"),
    ]
}
