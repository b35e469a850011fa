//! `sae harvest`: a data set through a model, its activations into the store; what was skipped is listed.

use super::{Outcome, model};
use crate::args::{Harvest, Reading};
use crate::terminal::{self, count, counted, size};
use anyhow::Result;
use filters::pmi::BLANK_DIR;
use harvest::Plan;
use sae_core::Run;
use sae_core::store::{Skipped, StoreRecord, load_samples};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Skipped rows that are printed; `skipped.jsonl` has all of them.
const SHOWN: usize = 10;

/// Runs the command.
pub fn run(args: &Harvest, dry: bool) -> Result<Outcome> {
    let plan = plan(args, dry)?;
    if dry {
        return Outcome::plan(json!({ "command": "harvest", "run": args.run, "plan": plan.preview()? }));
    }
    let start = Instant::now();
    let record = capture(&plan, &args.run)?;
    if args.blank_images {
        capture_blank(&plan, &args.run)?;
    }
    let done = record.progress();
    let seconds = start.elapsed().as_secs_f64();
    let skipped_rows = done.skipped();
    let mut text = format!(
        "{}, {} behind layers {:?} in {seconds:.1} s\n  {}",
        counted(done.samples, "sample"),
        counted(done.rows, "token"),
        record.spec.layers,
        args.run.display()
    );
    if !record.skipped.is_empty() {
        text += &format!("\nskipped {} of {} rows:", count(skipped_rows), count(done.source_rows));
        text += &first(&record.skipped);
        if skipped_rows > SHOWN as u64 {
            text += "\n  ... all of them are in skipped.jsonl";
        }
    }
    let json = json!({
        "samples": done.samples, "tokens": done.rows, "layers": record.spec.layers, "skipped": record.skipped,
        "skipped_rows": skipped_rows, "seconds": seconds,
    });
    Outcome::new(json, text)
}

/// The first skipped rows with their reasons, a line each.
pub fn first(skipped: &[Skipped]) -> String {
    let line = |row: &Skipped| format!("\n  row {} ({}): {}", row.row, row.key, row.reason);
    skipped.iter().take(SHOWN).map(line).collect()
}

/// Harvests, or goes on with an interrupted harvest, showing how far it is.
pub fn capture(plan: &Plan, run: &Path) -> Result<StoreRecord> {
    // Before the run folder is made: a plan that cannot work leaves nothing behind.
    let outlook = plan.preview()?;
    let (rows, memory) = (outlook.rows, outlook.memory);
    let run = Run::create(run)?;
    tell(&outlook.notes);
    eprintln!(
        "memory: about {}: weights {}, a part {}, its samples {}, batches {}; {} of the checkpoint mapped",
        size(memory.total),
        size(memory.weights),
        size(memory.part),
        size(memory.samples),
        size(memory.batch),
        size(memory.mapped),
    );
    let bar = terminal::bar("harvest", rows);
    let start = Instant::now();
    let mut before = None;
    let record = harvest::harvest(plan, &run, &mut |progress| {
        bar.set_position(progress.samples + progress.skipped);
        // What an interrupted harvest had stored took no time in this one.
        let first = *before.get_or_insert_with(|| {
            bar.reset_eta();
            progress.positions
        });
        let speed = (progress.positions - first) as f64 / start.elapsed().as_secs_f64();
        bar.set_message(format!("{} tokens, {speed:.0}/s, {} skipped", count(progress.positions), progress.skipped));
    })?;
    bar.finish_and_clear();
    tell(&plan.notes.take());
    Ok(record)
}

fn tell(notes: &[String]) {
    notes.iter().for_each(|note| eprintln!("note: {note}"));
}

/// Harvests the samples of a finished harvest with white images, into the folder of the run where `sae score` looks for them.
pub fn capture_blank(plan: &Plan, run: &Path) -> Result<StoreRecord> {
    let samples = load_samples(&Run::open(run)?)?;
    capture(&plan.blank(&samples), &run.join(BLANK_DIR))
}

fn plan(args: &Harvest, dry: bool) -> Result<Plan> {
    let model = model::folder(&args.model, dry)?;
    Ok(Plan {
        limit: args.limit,
        shard: args.shard,
        device: args.device.device,
        store_dtype: args.store_dtype,
        part_rows: args.shard_tokens,
        ..reading(&args.reading, Plan::new(model, &args.data, args.layers.clone()))
    })
}

/// A plan with what was said about reading the data.
pub fn reading(args: &Reading, plan: Plan) -> Plan {
    Plan {
        mapping: args.map.clone(),
        images_root: args.images_root.clone(),
        fetch_images: args.fetch_images,
        dtype: args.dtype,
        batch_tokens: args.batch_tokens,
        answers: args.answers,
        template: args.template,
        ..plan
    }
}
