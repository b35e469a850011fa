//! `sae export`: an autoencoder of a run, written for another tool.

use super::{Outcome, only};
use crate::args::Export;
use crate::commands::info;
use anyhow::Result;
use sae_core::Run;
use sae_core::formats::{self, Summary};
use serde_json::json;

/// Runs the command.
pub fn run(args: &Export, dry: bool) -> Result<Outcome> {
    let run = Run::open(&args.run)?;
    let name = only(&args.sae, run.list("saes"), "autoencoder", "sae train")?;
    let saved = formats::load(&run.sae(&name))?;
    let summary = Summary::of(&saved);
    let text = format!("{name} as {}: {}  {}", args.to.name(), info::autoencoder(&summary), args.out.display());
    let json = json!({ "command": "export", "sae": name, "to": args.to.name(), "is": summary, "out": args.out });
    formats::check(args.to, &saved)?;
    formats::check_empty(&args.out)?;
    if dry {
        return Outcome::plan(json);
    }
    formats::create(args.to, &args.out, &saved)?;
    Outcome::new(json, text)
}
