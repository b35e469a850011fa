//! `sae push` and `sae pull`: folders into a bucket, and from there.

use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted};
use anyhow::Result;
use clap::Args;
use harvest::objects::ObjectUrl;
use sae_workbench::{PullReport, PullRequest, PushReport, PushRequest};
use std::path::PathBuf;

/// `sae push`
#[derive(Args, Debug)]
#[command(after_help = "\
Others see the folder complete or not at all: its files come first, and sae-files.json, with their sizes and hashes, is written last and \
only if there is none. If a folder with the same data is there, nothing is written, and the status is 0: a part of a job may be made and \
pushed any number of times. A folder with other data is never replaced. An interrupted push is continued by the same command, on this \
machine or on another one that has made the same data.

Credentials and endpoints are those of the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, \
AWS_ENDPOINT_URL; GOOGLE_APPLICATION_CREDENTIALS; AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY), or those of the machine's role. \
Requests that fail are repeated for SAE_OBJECT_RETRY_SECONDS (900).

Examples:
  sae push run s3://lab/runs/llava
  # in a job array: capture on the node's own disk, keep the result in the bucket
  sae harvest ... --shard auto --run $TMPDIR/shard && sae push $TMPDIR/shard s3://lab/job/shard-$SLURM_ARRAY_TASK_ID
  sae merge s3://lab/job/ --run run
  sae filter ... --out kept && sae push kept s3://lab/kept")]
pub struct PushArgs {
    /// A finished run or any other folder, or a file; names that begin with a dot are left out
    pub path: PathBuf,
    /// Folder in the bucket: s3://BUCKET/KEY, gs://BUCKET/KEY or az://CONTAINER/KEY
    #[arg(value_name = "ADDRESS")]
    pub to: String,
}

/// `sae pull`
#[derive(Args, Debug)]
#[command(after_help = "\
Every file is compared with the hash that `sae push` has recorded. An interrupted pull is continued by the same command. Credentials are \
those of the environment, as for `sae push`.

Examples:
  sae pull s3://lab/runs/llava run
  sae pull s3://lab/kept kept")]
pub struct PullArgs {
    /// Folder in the bucket that `sae push` has written
    #[arg(value_name = "ADDRESS")]
    pub from: String,
    /// New folder
    pub folder: PathBuf,
}

/// Runs `sae push`.
pub fn run(args: &PushArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = PushRequest { path: args.path.clone(), to: address(&args.to)? };
    invocation.outcome(|_| request.plan(), |control| request.run(control), |report| Ok(pushed(report)))
}

/// Runs `sae pull`.
pub fn pull(args: &PullArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = PullRequest { from: address(&args.from)?, folder: args.folder.clone() };
    invocation.outcome(|_| Ok(request.plan()), |control| request.run(control), |report| Ok(pulled(report)))
}

/// The address in an argument. It is not read together with the arguments, whose errors repeat them: it may hold a password.
fn address(text: &str) -> Result<ObjectUrl> {
    Ok(text.parse::<ObjectUrl>().map_err(sae_core::Error::config)?)
}

fn pushed(report: &PushReport) -> String {
    let PushReport { plan, pushed } = report;
    let existed = if pushed.existed { "; it was there already, with the same data" } else { "" };
    let others = match &pushed.other_records[..] {
        [] => String::new(),
        records => format!("\n  records there that differ from those here: {}", records.join(", ")),
    };
    format!("{}, {} bytes{existed}\n  {}{others}", counted(pushed.files as u64, "file"), count(pushed.bytes), plan.to)
}

fn pulled(report: &PullReport) -> String {
    let PullReport { plan, pulled } = report;
    format!("{}, {} bytes\n  {}", counted(pulled.files as u64, "file"), count(pulled.bytes), plan.folder.display())
}
