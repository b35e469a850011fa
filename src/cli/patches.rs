//! `sae patches`: blackens the patches of images that have the fewest features; writes the scores of all patches and a contact sheet.

use super::arguments::{ReadingArgs, SaeArgs, Share, ThresholdArg};
use super::harvest::first;
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, table};
use anyhow::Result;
use clap::Args;
use sae_workbench::{PatchesReport, PatchesRequest};
use std::path::PathBuf;

/// `sae patches`
#[derive(Args, Debug)]
pub struct PatchesArgs {
    #[command(flatten)]
    pub sae: SaeArgs,
    /// Folder of the checkpoint that the run was captured from, or org/name on the Hugging Face hub
    #[arg(long, group = "reader")]
    pub model: PathBuf,
    /// Data set whose images are filtered
    #[arg(long)]
    pub data: PathBuf,
    /// Score of a patch: l0, l1, co_l0, cosine, random or norm; several are separated by commas
    #[arg(long, value_delimiter = ',', default_value = "co_l0")]
    pub method: Vec<filters::patches::Method>,
    /// Whose definition: paper, release or corrected
    #[arg(long, default_value = "paper")]
    pub mode: filters::Definition,
    /// Share of an image's patches to keep
    #[arg(long, default_value = "50%")]
    pub keep: Share,
    /// New folder for the images
    #[arg(long)]
    pub out: PathBuf,
    /// Read only the first rows of the data
    #[arg(long)]
    pub limit: Option<u64>,
    /// Images on the contact sheet
    #[arg(long, default_value_t = 12)]
    pub sheet: usize,
    #[command(flatten)]
    pub threshold: ThresholdArg,
    /// Seed of the method `random`
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

impl PatchesArgs {
    fn request(&self) -> PatchesRequest {
        PatchesRequest {
            sae: self.sae.choice(),
            model: self.reading.plan(&self.model, &self.data, self.limit, self.sae.device),
            methods: self.method.clone(),
            definition: self.mode,
            keep: self.keep.0,
            out: self.out.clone(),
            sheet: self.sheet,
            threshold: self.threshold.value,
            seed: self.seed,
        }
    }
}

/// Runs the command.
pub fn run(args: &PatchesArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = args.request();
    invocation.outcome(|_| request.plan(), |control| request.run(control), |report| Ok(describe(report, args)))
}

fn describe(report: &PatchesReport, args: &PatchesArgs) -> String {
    let mut rows = vec![["method", "patches", "kept", "share"].map(String::from).to_vec()];
    for (name, counts) in &report.methods {
        let share = format!("{:.1} %", 100.0 * counts.kept as f64 / counts.patches.max(1) as f64);
        rows.push(vec![(*name).into(), count(counts.patches), count(counts.kept), share]);
    }
    let methods: Vec<&str> = args.method.iter().map(|method| method.name()).collect();
    format!(
        "{} images of {} samples, {} rows skipped{}\n{}  {}\n  {} (the images, then {})",
        count(report.images),
        count(report.samples),
        count(report.skipped),
        first(&report.skipped_rows),
        table(&rows),
        report.file.display(),
        report.sheet.display(),
        methods.join(", "),
    )
}
