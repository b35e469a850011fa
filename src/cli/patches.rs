//! `sae patches`: blackens the patches of images that have the fewest features; writes the scores of all patches and a contact sheet,
//! or measures what the other patches are worth to the model.

use super::arguments::{ReadingArgs, SaeArgs, Share, ThresholdArg};
use super::harvest::first;
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, table};
use anyhow::{Result, bail};
use clap::Args;
use sae_workbench::numbers::percent;
use sae_workbench::patches::{PatchCurve, PatchPoint};
use sae_workbench::{MeasurePatchesRequest, PatchesMeasured, PatchesReport, PatchesRequest};
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
    /// Share of an image's patches to keep; 50% if it is left out. With --measure, several are separated by commas; 0%,25%,50%,75%,100% if it is left out
    #[arg(long, value_delimiter = ',')]
    pub keep: Vec<Share>,
    /// Write no images, but measure how likely the model finds the answers with the other patches in black, and how often the right answer is the most likely of four
    #[arg(long)]
    pub measure: bool,
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
    fn measure_request(&self) -> MeasurePatchesRequest {
        let shares = if self.keep.is_empty() {
            vec![0.0, 0.25, 0.5, 0.75, 1.0]
        } else {
            self.keep.iter().map(|share| share.0).collect()
        };
        MeasurePatchesRequest { patches: self.request(shares[0]), keep: shares }
    }

    fn request(&self, keep: f64) -> PatchesRequest {
        PatchesRequest {
            sae: self.sae.choice(),
            model: self.reading.plan(&self.model, &self.data, self.limit, self.sae.device),
            methods: self.method.clone(),
            definition: self.mode,
            keep,
            out: self.out.clone(),
            sheet: self.sheet,
            threshold: self.threshold.value,
            seed: self.seed,
        }
    }
}

/// Runs the command.
pub fn run(args: &PatchesArgs, invocation: &mut Invocation) -> Result<Outcome> {
    if args.measure {
        let request = args.measure_request();
        let report = |report: &PatchesMeasured| Ok(describe_measured(report));
        return invocation.outcome(|_| request.plan(), |control| request.run(control), report);
    }
    let keep = match args.keep[..] {
        [] => 0.5,
        [share] => share.0,
        _ => bail!("--keep names {} shares: expected one, or --measure, which compares several", args.keep.len()),
    };
    let request = args.request(keep);
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

/// A table with a row for each method: the likelihoods by how much is kept, and another one for the right answers of four.
fn describe_measured(report: &PatchesMeasured) -> String {
    let shares = report.methods.values().next().map(|curve| &curve.points[..]).unwrap_or_default();
    let shares: Vec<String> = shares.iter().map(|point| format!("{} %", percent(point.keep))).collect();
    let rows = |title: &str, cell: &dyn Fn(&PatchPoint) -> String, area: &dyn Fn(&PatchCurve) -> Option<f64>| {
        let mut rows = vec![[vec![title.to_owned()], shares.clone(), vec!["area".into()]].concat()];
        rows.extend(report.methods.iter().map(|(name, curve)| {
            let area = area(curve).map_or("-".into(), |area| format!("{area:.4}"));
            [vec![(*name).to_owned()], curve.points.iter().map(cell).collect(), vec![area]].concat()
        }));
        table(&rows)
    };
    let nll = |point: &PatchPoint| match point.nll_se {
        Some(se) => format!("{:.4} ± {se:.4}", point.nll),
        None => format!("{:.4}", point.nll),
    };
    let right = |point: &PatchPoint| point.right.map_or("-".into(), |right| format!("{right:.3}"));
    format!(
        "{} on {}, {} samples, {} rows skipped{}\n\nnegative log-likelihood of the answer with the patches that a method keeps, nats per token\n{}\nshare of answers that are the most likely of four\n{}  {}",
        report.sae,
        report.model,
        count(report.samples as u64),
        count(report.skipped),
        first(&report.skipped_rows),
        rows("method", &nll, &|curve| curve.nll_area),
        rows("method", &right, &|curve| curve.right_area),
        report.file.display()
    )
}
