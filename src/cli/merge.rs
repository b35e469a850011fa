//! `sae merge`: looks at the shards of a job and joins them into one run, together with what was captured of them with
//! blank images.

use super::Outcome;
use crate::cli::terminal::{self, count, counted};
use anyhow::{Result, bail};
use clap::Args;
use filters::pmi::BLANK_DIR;
use sae_core::store;
use serde_json::json;
use std::path::PathBuf;

/// `sae merge`
#[derive(Args, Debug)]
#[command(after_help = "\
All shards have to be of one model, one data set and the same arguments, finished, each there once; every byte of their
activations is compared with its hash. What is wrong is listed, and then nothing is written. Activations are not copied
where the new run lies on the same file system: it shares the files (hard links), and shards may be removed afterwards.

Examples:
  sae merge run-* --run run
  sae merge run-* --run run --dry-run        only look at them")]
pub struct MergeArgs {
    /// Run folders of the shards, in any order
    #[arg(required = true, value_name = "SHARD")]
    pub shards: Vec<PathBuf>,
    /// New run folder
    #[arg(long)]
    pub run: PathBuf,
}

/// Runs the command.
pub fn run(args: &MergeArgs, dry: bool) -> Result<Outcome> {
    let blank = blank(&args.shards)?;
    let merge = check(&args.shards)?;
    let blank = (!blank.is_empty()).then(|| check(&blank)).transpose()?;
    let whole = merge.progress();
    let mut json = json!({
        "command": "merge", "run": args.run, "shards": args.shards, "samples": whole.samples, "tokens": whole.rows,
        "source_rows": whole.source_rows, "blank_images": blank.is_some(),
    });
    if dry {
        return Outcome::plan(json);
    }
    let mut merged = merge.write(&args.run)?;
    if let Some(blank) = &blank {
        let second = blank.write(&args.run.join(BLANK_DIR))?;
        merged.linked += second.linked;
        merged.copied += second.copied;
    }
    json["linked"] = merged.linked.into();
    json["copied"] = merged.copied.into();
    json["skipped"] = whole.skipped().into();
    let also = if blank.is_some() { ", and the same with blank images" } else { "" };
    let text = format!(
        "{}, {} of {}{also}; {} of activations shared with them, {} copied\n  {}",
        counted(whole.samples, "sample"),
        counted(whole.rows, "token"),
        counted(args.shards.len() as u64, "shard"),
        counted(merged.linked as u64, "file"),
        count(merged.copied as u64),
        args.run.display()
    );
    Outcome::new(json, text)
}

fn check(shards: &[PathBuf]) -> Result<store::Merge> {
    let bar = terminal::bar("check", 0);
    let merge = store::Merge::check(shards, &mut |rows, of| {
        bar.set_length(of);
        bar.set_position(rows);
    })?;
    bar.finish_and_clear();
    Ok(merge)
}

/// The shards' passes with blank images: all of them have one, or none has.
fn blank(shards: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let (with, without): (Vec<&PathBuf>, Vec<_>) = shards.iter().partition(|shard| shard.join(BLANK_DIR).is_dir());
    if !with.is_empty() && !without.is_empty() {
        let without: Vec<_> = without.iter().map(|shard| shard.display().to_string()).collect();
        bail!(
            "these shards lack the pass with blank images that others have (folder {BLANK_DIR}): {}\nhint: run their `sae \
             harvest` again with --blank-images, or remove the folder {BLANK_DIR} of the others",
            without.join(", ")
        );
    }
    Ok(with.into_iter().map(|shard| shard.join(BLANK_DIR)).collect())
}
