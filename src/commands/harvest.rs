//! `sae harvest`: a data set through a model, its activations into the store; what was skipped is listed.

use super::Outcome;
use crate::args::{Device, Harvest};
use crate::terminal::{self, count};
use anyhow::Result;
use harvest::{Answers, ComputeDtype, Plan, Templating};
use sae_core::Run;
use sae_core::store::StoreRecord;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

/// Skipped rows that are printed; `run.json` and `--json` have all of them.
const SHOWN: usize = 10;

/// Runs the command.
pub fn run(args: &Harvest, dry: bool) -> Result<Outcome> {
    if dry {
        let plan = args.plan();
        plan.check()?;
        return Outcome::plan(json!({ "command": "harvest", "run": args.run, "plan": plan.described() }));
    }
    let start = Instant::now();
    let record = capture(args)?;
    let done = record.progress();
    let seconds = start.elapsed().as_secs_f64();
    let mut text = format!(
        "{} samples, {} tokens behind layers {:?} in {seconds:.1} s\n  {}",
        count(done.samples),
        count(done.rows),
        record.spec.layers,
        args.run.display()
    );
    if !record.skipped.is_empty() {
        text += &format!("\nskipped {} of {} rows:", count(record.skipped.len() as u64), count(done.source_rows));
        for skipped in record.skipped.iter().take(SHOWN) {
            text += &format!("\n  row {} ({}): {}", skipped.row, skipped.key, skipped.reason);
        }
        if record.skipped.len() > SHOWN {
            text += "\n  ... all of them are in run.json";
        }
    }
    let json = json!({
        "samples": done.samples, "tokens": done.rows, "layers": record.spec.layers, "skipped": record.skipped,
        "seconds": seconds,
    });
    Outcome::new(json, text)
}

/// Harvests, or goes on with an interrupted harvest, showing how far it is.
pub fn capture(args: &Harvest) -> Result<StoreRecord> {
    let plan = args.plan();
    plan.check()?;
    let run = Run::create(&args.run)?;
    let rows = plan.rows()?;
    let bar = terminal::bar("harvest", rows);
    let start = Instant::now();
    let mut before = None;
    let record = harvest::harvest(&plan, &run, &mut |progress| {
        // What an interrupted harvest had stored took no time in this one.
        let first = *before.get_or_insert(progress.positions);
        let speed = (progress.positions - first) as f64 / start.elapsed().as_secs_f64();
        bar.set_position(progress.samples + progress.skipped);
        bar.set_message(format!("{} tokens, {speed:.0}/s, {} skipped", count(progress.positions), progress.skipped));
    })?;
    bar.finish_and_clear();
    Ok(record)
}

impl Harvest {
    /// A harvest with everything else left to the defaults.
    pub fn new(model: PathBuf, data: PathBuf, layers: Vec<usize>, run: PathBuf, device: Device) -> Self {
        Self {
            model,
            data,
            layers,
            run,
            limit: None,
            dtype: ComputeDtype::F32,
            store_dtype: Default::default(),
            batch_tokens: 2_048,
            answers: Answers::All,
            map: Vec::new(),
            template: Templating::Auto,
            device,
            resume: false,
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            mapping: self.map.clone(),
            limit: self.limit,
            device: self.device.device,
            dtype: self.dtype,
            store_dtype: self.store_dtype,
            batch_tokens: self.batch_tokens,
            answers: self.answers,
            template: self.template,
            ..Plan::new(&self.model, &self.data, self.layers.clone())
        }
    }
}
