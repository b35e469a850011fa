//! `sae convert`: an autoencoder of any known format, written as another.

use super::Outcome;
use crate::args::Convert;
use crate::commands::info;
use anyhow::Result;
use sae_core::autoencoder::formats::{self, Summary};
use serde_json::json;

/// Runs the command.
pub fn run(args: &Convert, dry: bool) -> Result<Outcome> {
    let from = match args.from {
        Some(format) => format,
        None => formats::detect(&args.from_path)?,
    };
    let saved = formats::load_with(from, &args.from_path, args.k)?;
    let summary = Summary::new(&saved);
    let text =
        format!("{} -> {}: {}  {}", from.name(), args.to.name(), info::autoencoder(&summary), args.to_path.display());
    let json =
        json!({ "command": "convert", "from": from.name(), "to": args.to.name(), "sae": summary, "out": args.to_path });
    // The plan finds out whatever the work would: a format that cannot express it, a folder in the way.
    formats::check(args.to, &saved)?;
    formats::check_empty(&args.to_path)?;
    if dry {
        return Outcome::plan(json);
    }
    formats::create(args.to, &args.to_path, &saved)?;
    Outcome::new(json, text)
}
