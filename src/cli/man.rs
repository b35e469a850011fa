//! `sae man`: the manual pages of `sae` and of each of its commands, made of the same text as `--help`.

use super::{Args, Invocation, Outcome};
use anyhow::Result;
use clap::{Command, CommandFactory};
use sae_core::file;
use serde_json::json;
use std::path::PathBuf;

/// `sae man`
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Example:
  sae man ~/.local/share/man/man1 && man sae-harvest")]
pub struct ManArgs {
    /// Folder for sae.1, sae-harvest.1 and so on; created if it does not exist
    pub folder: PathBuf,
}

/// Writes the pages, replacing those of an older version.
pub fn run(args: &ManArgs, invocation: &Invocation) -> Result<Outcome> {
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add_pages(&command, &mut pages)?;
    let paths: Vec<PathBuf> = pages.iter().map(|(name, _)| args.folder.join(name)).collect();
    if invocation.dry_run {
        return Outcome::plan(json!({ "command": "man", "files": paths }));
    }
    for (path, (_, page)) in paths.iter().zip(&pages) {
        file::write_bytes(path, page)?;
    }
    let text = format!("Wrote {} manual pages to {}", paths.len(), args.folder.display());
    Outcome::new(json!({ "files": paths }), text)
}

/// Names and contents of the page of a command and of those below it.
fn add_pages(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let man = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    pages.push((man.get_filename(), page));
    command.get_subcommands().filter(|command| !command.is_hide_set()).try_for_each(|command| add_pages(command, pages))
}
