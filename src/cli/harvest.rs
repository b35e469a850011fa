//! `sae harvest`: a data set through a model, its activations into the store; what was skipped is listed.

use super::arguments::{DeviceArg, ReadingArgs};
use super::{Outcome, model};
use crate::cli::terminal::{self, count, counted, size};
use anyhow::Result;
use clap::Args;
use filters::pmi::BLANK_DIR;
use harvest::Plan;
use sae_core::Run;
use sae_core::store::StoreDtype;
use sae_core::store::{Skipped, StoreRecord, load_samples};
use serde_json::json;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

/// `sae harvest`
#[derive(Args, Debug)]
#[command(after_help = "\
Shards are consecutive rows of the data, counted from 1. Each is a run of its own, which an interrupted harvest goes on
with; a run has one writer. `sae merge` joins them to what one machine would have captured.

Examples:
  sae harvest --model llava-1.5-7b-hf --data train.jsonl --layers 16 --run run
  sae harvest ... --dry-run                  what it will read and hold in memory
  sae harvest ... --shard 3/8 --run run-3    on the third of eight machines
  # in a Slurm script with --array=1-8:
  sae harvest ... --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT --run run-$SLURM_ARRAY_TASK_ID
  sae merge run-1 run-2 run-3 run-4 run-5 run-6 run-7 run-8 --run run")]
pub struct HarvestArgs {
    /// Checkpoint: a folder in Hugging Face layout, or org/name@revision on the hub, which is downloaded once
    #[arg(long)]
    pub model: PathBuf,
    /// Data set: a .jsonl, .json, .parquet, .tar or .tar.gz file, a folder of them or of captioned images, or shards such
    /// as name-{000..012}.tar
    #[arg(long)]
    pub data: PathBuf,
    /// Decoder blocks to capture behind, counted from 0
    #[arg(long, value_delimiter = ',', required = true)]
    pub layers: Vec<usize>,
    /// Run folder to write
    #[arg(long)]
    pub run: PathBuf,
    /// Read only the first rows of the data
    #[arg(long)]
    pub limit: Option<u64>,
    /// Capture one of several shards of the data, counted from 1: 1/8 to 8/8
    #[arg(long, value_name = "N/OF")]
    pub shard: Option<harvest::Shard>,
    /// How activations are stored: f32, f16 or bf16
    #[arg(long, default_value = "f32")]
    pub store_dtype: StoreDtype,
    /// Token positions of one shard; a sample is never cut in two
    #[arg(long, default_value_t = 65_536)]
    pub shard_tokens: usize,
    #[command(flatten)]
    pub reading: ReadingArgs,
    #[command(flatten)]
    pub device: DeviceArg,
    /// Capture the same samples once more with white images, into RUN/apart: `sae score` then has pmi_blank and
    /// pmi_token_min
    #[arg(long)]
    pub blank_images: bool,
    /// Go on with an interrupted run (which is what happens anyway)
    #[arg(long)]
    pub resume: bool,
}

/// Skipped rows that are printed; `skipped.jsonl` has all of them.
const SHOWN: usize = 10;

/// Runs the command.
pub fn run(args: &HarvestArgs, dry: bool) -> Result<Outcome> {
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
    print_notes(&outlook.notes);
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
    print_notes(&plan.notes.take());
    Ok(record)
}

/// Prints what people should know about the data although it costs no row.
pub fn print_notes(notes: &[String]) {
    notes.iter().for_each(|note| eprintln!("note: {note}"));
}

/// Harvests the samples of a finished harvest with white images, into the folder of the run where `sae score` looks for them.
pub fn capture_blank(plan: &Plan, run: &Path) -> Result<StoreRecord> {
    let samples = load_samples(&Run::open(run)?)?;
    capture(&plan.blank(&samples), &run.join(BLANK_DIR))
}

fn plan(args: &HarvestArgs, dry: bool) -> Result<Plan> {
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
pub fn reading(args: &ReadingArgs, plan: Plan) -> Plan {
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
