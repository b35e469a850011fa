//! `sae harvest`: runs a model on a data set and stores its activations; lists the rows that were skipped.

use super::arguments::{DeviceArg, ReadingArgs, ShareArg};
use super::{Invocation, Outcome, hint};
use crate::cli::terminal::{count, counted};
use anyhow::Result;
use clap::Args;
use harvest::Plan;
use sae_core::device::DeviceChoice;
use sae_core::store::{Hook, Skipped, StoreDtype, hooks};
use sae_workbench::{HarvestReport, HarvestRequest};
use std::path::PathBuf;

/// `sae harvest`
#[derive(Args, Debug)]
#[command(after_help = "\
A shard is a block of consecutive rows of the data; shards are counted from 1. Each is captured into a run of its own, by one \
process at a time, and the same command continues it after an interruption. `sae merge` joins the shards into the run that one \
machine would have captured.

Examples:
  sae harvest --model llava-1.5-7b-hf --data train.jsonl --layers 16 --run run
  sae harvest ... --hooks layers.16.mlp_out  what the MLP of block 16 adds to the residual stream
  sae harvest ... --dry-run                  what it would read and hold in memory
  sae harvest ... --device cuda:0,cuda:1     on two GPUs of this machine, into one run
  sae harvest ... --pieces answers           both answers of preferences, the prompt only once
  sae harvest ... --pieces feedback          also the critique of an answer, behind it
  sae harvest ... --shard 3/8 --run run-3    on the third of eight machines
  # in a Slurm script with --array=1-8:
  sae harvest ... --shard auto --run run-$SLURM_ARRAY_TASK_ID
  sae harvest ... --data s3://lab/train.jsonl --images-root s3://lab/images
  sae merge run-1 run-2 run-3 run-4 run-5 run-6 run-7 run-8 --run run")]
pub struct HarvestArgs {
    /// Checkpoint: a folder in Hugging Face layout, or org/name@revision on the hub, which is downloaded once
    #[arg(long, group = "reader")]
    pub model: PathBuf,
    /// Data set: a .jsonl, .json, .parquet, .tar or .tar.gz file, a folder of them or of captioned images, or shards such as
    /// name-{000..012}.tar; or one of these in a bucket: s3://BUCKET/KEY, gs://BUCKET/KEY, az://CONTAINER/KEY, with a / at the end of a
    /// folder. Objects are copied into SAE_OBJECT_CACHE; images that rows name when they are read
    #[arg(long)]
    pub data: PathBuf,
    /// Decoder blocks whose outputs are captured, counted from 0: short for --hooks layers.L
    #[arg(long, value_delimiter = ',', required_unless_present = "hooks")]
    pub layers: Vec<usize>,
    /// What is captured: layers.L (the output of decoder block L), layers.L.mlp_in and layers.L.mlp_out (what its MLP reads, and what
    /// it adds to the residual stream), layers.L.attn_in and layers.L.attn_out (the same of attention); or, alone in its run, what
    /// images become before the decoder: vision.L (block L of the vision tower) or projector
    #[arg(long, value_name = "HOOKS", value_delimiter = ',')]
    pub hooks: Vec<Hook>,
    /// Run folder to write
    #[arg(long)]
    pub run: PathBuf,
    /// Read only the first rows of the data
    #[arg(long)]
    pub limit: Option<u64>,
    /// Capture one of several shards of the data, counted from 1: 1/8 to 8/8; auto: the one that the variables of a Slurm array, a Kubernetes Indexed Job, or RANK and WORLD_SIZE name
    #[arg(long, value_name = "N/OF|auto")]
    pub shard: Option<ShareArg>,
    /// How activations are stored: f32, f16 or bf16
    #[arg(long, default_value = "f32")]
    pub store_dtype: StoreDtype,
    /// Token positions in one file of activations; a sample is never divided
    #[arg(long, default_value_t = 65_536)]
    pub shard_tokens: usize,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// auto, cpu, cuda, cuda:N, vulkan, vulkan:N, metal, rocm or rocm:N; or several of one kind, which share the batches of the
    /// run: cuda:0,cuda:1
    #[arg(long, value_delimiter = ',', default_value = "auto")]
    pub device: Vec<DeviceChoice>,
    /// Capture the same samples once more with blank images, into RUN/blank; `sae score` then has the columns pmi_blank and pmi_token_min
    #[arg(long)]
    pub blank_images: bool,
    /// Capture what answers, sentences of the answer, or the nodes of a tree have in common once: answers, feedback (answers, and
    /// the critique of one behind it), sentences or tree (rows with id and parent_id, or nested replies)
    #[arg(long, value_name = "PIECES")]
    pub pieces: Option<harvest::Pieces>,
    /// Continue an interrupted run (the default if the run exists)
    #[arg(long)]
    pub resume: bool,
}

/// Number of skipped rows that are printed; `skipped.jsonl` has all of them.
const SHOWN: usize = 10;

impl HarvestArgs {
    fn request(&self) -> Result<HarvestRequest> {
        let plan = Plan {
            hooks: self.layers.iter().copied().map(Hook::block).chain(self.hooks.iter().copied()).collect(),
            shard: self.shard.map(ShareArg::share).transpose()?,
            pieces: self.pieces,
            store_dtype: self.store_dtype,
            part_rows: self.shard_tokens,
            more_devices: self.device[1..].to_vec(),
            ..self.reading.plan(&self.model, &self.data, self.limit, DeviceArg { device: self.device[0] })
        };
        Ok(HarvestRequest { plan, run: self.run.clone(), blank_images: self.blank_images })
    }
}

/// Runs the command.
pub fn run(args: &HarvestArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = args.request()?;
    invocation.outcome(|_| request.plan(), |control| request.run(control), |report| Ok(describe(report, args)))
}

fn describe(report: &HarvestReport, args: &HarvestArgs) -> String {
    let mut text = format!(
        "{}, {} at {} in {:.1} s\n  {}",
        counted(report.samples, "sample"),
        counted(report.tokens, "token"),
        hooks::in_words(&report.hooks),
        report.seconds,
        args.run.display()
    );
    if !report.skipped.is_empty() {
        text += &format!("\nskipped {} of {} rows:", count(report.skipped_rows), count(report.source_rows));
        text += &first(&report.skipped);
        if report.skipped_rows > SHOWN as u64 {
            text += "\n  ... all of them are in skipped.jsonl";
        }
    }
    text
}

/// The first skipped rows with their reasons, one per line.
pub fn first(skipped: &[Skipped]) -> String {
    let line = |row: &Skipped| {
        let hint = row.hint.as_ref().map(|hint| format!("; hint: {}", hint::words(hint))).unwrap_or_default();
        format!("\n  row {} ({}): {}{hint}", row.row, row.key, row.reason)
    };
    skipped.iter().take(SHOWN).map(line).collect()
}
