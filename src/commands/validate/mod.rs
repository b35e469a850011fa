//! `sae validate`: faults of known kinds and rates, and which score or baseline finds them; a report, a JSON file, a picture.

mod experiment;
mod report;

use super::{Outcome, SaeReader};
use crate::args::Validate;
use crate::plots::{self, Interval, Panel};
use anyhow::{Result, bail};
use harvest::data::CorruptionKind;
use report::Report;
use sae_core::file;
use serde_json::json;

/// Runs the command.
pub fn run(args: &Validate, dry: bool) -> Result<Outcome> {
    let opened = SaeReader::new(&args.of)?;
    let faults = if args.fault.is_empty() { CorruptionKind::TRIED.to_vec() } else { args.fault.clone() };
    let trials: Vec<(CorruptionKind, f64)> =
        faults.iter().flat_map(|fault| args.share.iter().map(|share| (*fault, share.0))).collect();
    if args.share.is_empty() || args.limit == 0 {
        bail!("at least one share of at least one row is needed");
    }
    let plan = experiment::plan(args, &opened, dry)?;
    if dry {
        let trials: Vec<_> = trials.iter().map(|(fault, share)| json!({ "fault": fault, "share": share })).collect();
        return opened.plan("validate", json!({ "trials": trials, "limit": args.limit, "model": plan.model }));
    }
    let folder = opened.run.root().join("validate");
    let mut report = Report::new(&opened.name, &plan);
    for (fault, share) in trials {
        report.add(experiment::run(args, &opened, &plan, &folder, fault, share)?);
    }
    let (path, drawn) = (folder.join(format!("{}.json", opened.name)), folder.join(format!("{}.png", opened.name)));
    file::write_json(&path, &report)?;
    let names = report.names();
    let panels = report.trials.iter().filter(|trial| !trial.scores.is_empty()).map(|trial| Panel {
        title: format!("{} ({} %)", trial.fault.name().replace('-', " "), experiment::percent(trial.share)),
        rows: names
            .iter()
            .filter_map(|name| Some(((*name).clone(), Interval::from(*trial.scores.get(*name)?))))
            .collect(),
    });
    plots::intervals(&drawn, "AUC: good rows against rows with a fault", 0.5, &panels.collect::<Vec<_>>())?;
    let text = format!("{}\n  {}\n  {}", report.describe(), path.display(), drawn.display());
    Outcome::new(&report, text)
}
