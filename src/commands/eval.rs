//! `sae eval`: how well an autoencoder stands for the activations of its run, text and image apart.

use super::{Opened, Outcome};
use crate::args::OfSae;
use crate::terminal::{count, table};
use anyhow::Result;
use sae_core::eval::{Evaluation, Evaluator, Report};

/// Runs the command.
pub fn run(args: &OfSae, dry: bool) -> Result<Outcome> {
    let opened = Opened::new(args)?;
    if dry {
        return opened.plan("eval");
    }
    let mut evaluator = Evaluator::new(&opened.saved.weights);
    opened.pass("eval", &mut [&mut evaluator])?;
    let report = evaluator.report();
    let text = format!("{} on {}\n{}", opened.name, opened.store.manifest().hook, describe(&report));
    Outcome::new(report, text)
}

/// The report as a table: a row a modality.
pub fn describe(report: &Report) -> String {
    let header = ["positions", "tokens", "L0", "FVU", "cosine", "norm ratio", "dead"];
    let row = |name: &str, e: &Evaluation| {
        vec![
            name.to_string(),
            count(e.tokens),
            format!("{:.1}", e.l0),
            format!("{:.4}", e.fvu),
            format!("{:.4}", e.cosine),
            format!("{:.3}", e.relative_norm),
            format!("{:.1} %", 100.0 * e.dead),
        ]
    };
    let mut rows = vec![header.map(String::from).to_vec()];
    rows.extend(report.by_modality.iter().map(|(m, e)| row(&format!("{m:?}").to_lowercase(), e)));
    rows.push(row("all", &report.all));
    table(&rows)
}
