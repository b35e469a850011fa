//! The table of samples and features, for SQL and data frames.

use super::super::{Outcome, SaeReader};
use super::ExportArgs;
use crate::cli::terminal::{self, count};
use anyhow::{Result, bail};
use sae_core::analysis::{pass, samples_features};
use serde_json::json;

/// Runs the export.
pub fn run(args: &ExportArgs, dry: bool) -> Result<Outcome> {
    let opened = SaeReader::new(&args.of)?;
    if args.chosen.class.is_some() {
        bail!("--class is for features with their examples\nhint: --features N,.. limits the table");
    }
    let d_sae = opened.saved.weights.d_sae;
    if let Some(feature) = args.chosen.features.iter().find(|feature| **feature as usize >= d_sae) {
        bail!("there is no feature {feature}; the autoencoder has {d_sae}");
    }
    if args.out.exists() {
        bail!("the file is there already\nhint: name a new one: {}", args.out.display());
    }
    if dry {
        return opened.plan("export", json!({ "to": args.to.name(), "out": args.out }));
    }
    let bar = terminal::bar("features", opened.store.manifest().rows);
    let features = args.chosen.features.iter().copied().collect();
    let rows = samples_features::write(&args.out, &features, |observer| {
        let mut progress = |rows| bar.set_position(rows);
        pass::run(&opened.store, &opened.saved.weights, &opened.device, &mut [observer], &mut progress)
    })?;
    bar.finish_and_clear();
    let samples = opened.store.manifest().samples;
    let text = format!("{} rows of {} samples  {}", count(rows), count(samples), args.out.display());
    Outcome::new(json!({ "rows": rows, "samples": samples, "to": args.to.name(), "out": args.out }), text)
}
