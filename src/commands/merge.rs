//! `sae merge`: looks at the shards of a job and joins them into one run.

use super::Outcome;
use crate::args::Merge;
use crate::terminal::{self, count};
use anyhow::Result;
use sae_core::store;
use serde_json::json;

/// Runs the command.
pub fn run(args: &Merge, dry: bool) -> Result<Outcome> {
    let bar = terminal::bar("check", 0);
    let merge = store::Merge::check(&args.shards, &mut |rows, of| {
        bar.set_length(of);
        bar.set_position(rows);
    })?;
    bar.finish_and_clear();
    let whole = merge.progress();
    let mut json = json!({
        "command": "merge", "run": args.run, "shards": args.shards, "samples": whole.samples, "tokens": whole.rows,
        "source_rows": whole.source_rows,
    });
    if dry {
        return Outcome::plan(json);
    }
    let merged = merge.write(&args.run)?;
    json["linked"] = merged.linked.into();
    json["copied"] = merged.copied.into();
    json["skipped"] = merged.record.skipped.len().into();
    let text = format!(
        "{} samples, {} tokens of {} shards; {} files of activations are shared with them, {} copied\n  {}",
        count(whole.samples),
        count(whole.rows),
        args.shards.len(),
        count(merged.linked as u64),
        count(merged.copied as u64),
        args.run.display()
    );
    Outcome::new(json, text)
}
