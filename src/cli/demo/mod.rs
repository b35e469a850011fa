//! `sae demo`: the full pipeline on the bundled model and data, its plots and its report.

mod report;

use super::arguments::DeviceArg;
use super::eval;
use super::{Invocation, Outcome};
use crate::plots::{self, Distribution, FeatureRow};
use anyhow::Result;
use clap::Args;
use filters::words::WordFeatures;
use sae_workbench::demo::WordExamples;
use sae_workbench::{DemoReport, DemoRequest, assets};
use std::path::PathBuf;

/// `sae demo`
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Folder for everything the demo makes
    #[arg(long, default_value = "demo-run")]
    pub run: PathBuf,
    /// Folder of the bundled model and data; assets, or where a package has installed them, if left out
    #[arg(long)]
    pub assets: Option<PathBuf>,
    /// Training steps of each autoencoder
    #[arg(long, default_value_t = 1600)]
    pub steps: u64,
    /// Autoencoders to train, each with its own seed; the report is about the first
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub seeds: u64,
    #[command(flatten)]
    pub device: DeviceArg,
}

/// Runs the command.
pub fn run(args: &DemoArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = DemoRequest {
        run: args.run.clone(),
        assets: args.assets.clone().unwrap_or_else(assets::folder),
        steps: args.steps,
        seeds: args.seeds,
        device: args.device.device,
    };
    let report = |report: &DemoReport| {
        draw(report)?;
        Ok(report::describe(report))
    };
    invocation.outcome(|_| Ok(request.plan()), |control| request.run(control), report)
}

fn draw(report: &DemoReport) -> Result<()> {
    let scores = report.captions.scores.iter().zip(&report.values).map(|(judged, [right, swapped])| Distribution {
        title: format!("{}   AUC {:.3}", judged.score, judged.auc),
        right: right.clone(),
        swapped: swapped.clone(),
    });
    plots::distributions(&report.run.join("scores.png"), &scores.collect::<Vec<_>>())?;
    eval::draw(&report.run, &report.sae, &report.evaluation)?;
    let recognized = &report.recognized;
    if recognized.shown.is_empty() {
        return Ok(());
    }
    let rows = recognized.shown.iter().zip(&recognized.examples).map(|(word, examples)| row(word, examples));
    let headings = ["strongest patches (framed)", "strongest tokens, in their captions"];
    plots::contact_sheet(&report.run.join("features.png"), headings, &rows.collect::<Vec<_>>())
}

/// A word's row of the contact sheet.
fn row<'a>(word: &WordFeatures, examples: &'a WordExamples) -> FeatureRow<'a> {
    FeatureRow {
        title: word.word.clone(),
        notes: vec![
            format!("patches: feature {}", word.image.feature),
            format!("correlation {:.2} (chance {:.2})", word.image.correlation, word.image.chance),
            format!("tokens: feature {}", word.text.feature),
            format!("{:.0} % of its activation (chance {:.1} %)", 100.0 * word.text.share, 100.0 * word.text.base),
        ],
        patches: &examples.patches,
        texts: &examples.texts,
    }
}
