//! `sae upload`: an autoencoder with its card, or a folder such as a filtered data set, to the hub.

use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted};
use anyhow::Result;
use clap::Args;
use harvest::hub::Destination;
use sae_workbench::upload::{UploadReport, UploadRequest, UploadSource};
use std::path::PathBuf;

/// `sae upload`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sae upload --run run --sae topk --to lab/llava-saes/layers.16   an autoencoder with a card
  sae upload kept --to datasets/lab/kept --private                what `sae filter` wrote
  sae upload --run run --sae topk --to lab/llava-saes --dry-run --json

HF_TOKEN is a token that may write; HF_ENDPOINT names a mirror. The repository is created if there is none, and public unless --private \
is given. Files are replaced by those with the same names, and none are deleted. Large files that the hub has are not sent again, so \
an interrupted upload is continued by the same command. What was uploaded is read with `sae import --from hub:lab/llava-saes/layers.16`.")]
pub struct UploadArgs {
    /// Folder whose files to upload; files whose names begin with a dot are left out
    #[arg(required_unless_present = "run", conflicts_with = "run")]
    pub folder: Option<PathBuf>,
    /// Run folder of an autoencoder to upload
    #[arg(long)]
    pub run: Option<PathBuf>,
    /// The autoencoder; may be left out if the run has only one
    #[arg(long, requires = "run")]
    pub sae: Option<String>,
    /// Where to upload. (Its name as help would be a link here.)
    #[arg(long, help = "Repository on the hub, and a folder in it: [datasets/]OWNER/REPO[@BRANCH][/PATH]")]
    pub to: Destination,
    /// Create the repository as a private one
    #[arg(long)]
    pub private: bool,
    /// Message of the commit
    #[arg(long)]
    pub message: Option<String>,
}

/// Runs the command.
pub fn run(args: &UploadArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let source = match (&args.folder, &args.run) {
        (Some(folder), _) => UploadSource::Folder(folder.clone()),
        (None, run) => {
            let run = run.clone().unwrap_or_default();
            UploadSource::Sae(sae_workbench::SaeChoice { sae: args.sae.clone(), ..sae_workbench::SaeChoice::new(run) })
        }
    };
    let (to, private, message) = (args.to.clone(), args.private, args.message.clone());
    let request = UploadRequest { source, to, private, message };
    invocation.outcome(|_| request.plan(), |control| request.run(control), |report| Ok(describe(report)))
}

fn describe(report: &UploadReport) -> String {
    let uploaded = &report.uploaded;
    let mut text = format!("{}, {} bytes", counted(uploaded.files as u64, "file"), count(uploaded.bytes));
    if uploaded.already_there > 0 {
        text += &format!("; the hub already had {}", counted(uploaded.already_there as u64, "large file"));
    }
    uploaded.ignored.iter().for_each(|file| text += &format!("\nleft out, because of .gitignore: {file}"));
    format!("{text}\n{}", uploaded.url)
}
