//! `sae export`: an autoencoder of a run for another tool, or its features for people elsewhere.

mod features;
mod samples;

use super::{Outcome, sae_name};
use crate::args::{Export, Target};
use crate::commands::info;
use anyhow::{Result, bail};
use sae_core::Run;
use sae_core::autoencoder::formats::{self, Format, Summary};
use serde_json::json;

/// Runs the command.
pub fn run(args: &Export, dry: bool) -> Result<Outcome> {
    match args.to {
        Target::Autoencoder(format) => autoencoder(format, args, dry),
        Target::SamplesFeatures => samples::run(args, dry),
        _ => features::run(args, dry),
    }
}

fn autoencoder(format: Format, args: &Export, dry: bool) -> Result<Outcome> {
    if !args.chosen.features.is_empty() || args.chosen.class.is_some() {
        bail!("{} is a format of autoencoders, which are written whole", format.name());
    }
    let run = Run::open(&args.of.run)?;
    let name = sae_name(&args.of.sae, &run)?;
    let saved = formats::load(&run.sae_dir(&name))?;
    let summary = Summary::new(&saved);
    let text = format!("{name} as {}: {}  {}", format.name(), info::autoencoder(&summary), args.out.display());
    let json = json!({ "command": "export", "sae": name, "to": format.name(), "is": summary, "out": args.out });
    formats::check(format, &saved)?;
    formats::check_empty(&args.out)?;
    if dry {
        return Outcome::plan(json);
    }
    formats::create(format, &args.out, &saved)?;
    Outcome::new(json, text)
}
