//! `sae score`: a score a sample and method, in `scores/<name>.parquet`.

use super::{Opened, Outcome};
use crate::args::Score;
use crate::terminal::{count, table};
use anyhow::Result;
use filters::active::ActiveSets;
use filters::scores::{self, Scores};
use filters::weights::TopTokens;
use sae_core::store::load_samples;
use serde_json::json;

/// Runs the command.
pub fn run(args: &Score, dry: bool) -> Result<Outcome> {
    let opened = Opened::new(&args.of)?;
    if dry {
        return opened.plan("score", json!({}));
    }
    let scores = build(&opened, args.threshold.value, args.seed)?;
    let skipped = scores.rows.iter().filter(|r| r.reason.is_some()).count() as u64;
    let mut lines = vec![["score", "samples", "min", "median", "max"].map(String::from).to_vec()];
    for (name, values) in &scores.columns {
        let mut values: Vec<f64> = values.iter().copied().flatten().collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get((share * (values.len() as f64 - 1.0)) as usize).copied().unwrap_or(f64::NAN);
        let cell = |share: f64| format!("{:.3}", at(share));
        lines.push(vec![name.clone(), count(values.len() as u64), cell(0.0), cell(0.5), cell(1.0)]);
    }
    let path = opened.run.scores(&opened.name);
    let text = format!("{}  without a score (no text or no image): {skipped}\n  {}", table(&lines), path.display());
    let columns: Vec<_> = scores.columns.keys().collect();
    Outcome::new(
        json!({ "samples": scores.rows.len(), "without_score": skipped, "columns": columns, "file": path }),
        text,
    )
}

/// Scores the run of an autoencoder and writes the table.
pub(super) fn build(opened: &Opened, threshold: f32, seed: u64) -> Result<Scores> {
    let samples = load_samples(&opened.run)?;
    let mut tops = TopTokens::new(opened.saved.weights.d_sae, threshold);
    let mut sets = ActiveSets::new(samples.len(), threshold);
    opened.pass("score", &mut [&mut tops, &mut sets])?;
    let weights = tops.paper(&opened.store)?;
    let scores = scores::score(&samples, &sets.finish(), &weights, seed);
    let _lock = opened.run.lock()?;
    scores.write(&opened.run.scores(&opened.name))?;
    let weighted = weights.iter().flatten().count();
    let note = json!({ "mode": "paper", "threshold": threshold, "seed": seed, "samples": samples.len(), "weighted_features": weighted });
    opened.run.note(&format!("score/{}", opened.name), &note)?;
    Ok(scores)
}
