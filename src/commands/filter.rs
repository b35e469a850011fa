//! `sae filter`: writes the rows that stay, and those that go, in the format of the data, with a manifest.

use super::{Outcome, only};
use crate::args::Filter;
use crate::terminal::count;
use anyhow::{Context, Result, bail};
use filters::scores::read_column;
use filters::select::{Keep, select};
use filters::write::{Rows, Written, check_empty};
use sae_core::sample::Sample;
use sae_core::store::{STEP, StoreRecord, load_samples};
use sae_core::{Run, file};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};

/// What a filter did; `filter.json` beside the kept rows holds the same.
#[derive(Serialize)]
pub struct Filtered {
    run: PathBuf,
    sae: String,
    by: String,
    keep: String,
    /// Lowest score that stayed.
    threshold: Option<f64>,
    /// BLAKE3 of the score table that decided.
    scores_blake3: String,
    /// Rows and images that stayed.
    pub kept: Written,
    /// Rows that went.
    pub dropped: u64,
    /// Samples without a score, which never stay.
    without_score: u64,
    /// Rows that never became samples when the run was made: neither kept nor dropped.
    skipped_at_harvest: u64,
}

/// Runs the command.
pub fn run(args: &Filter, dry: bool) -> Result<Outcome> {
    let run = Run::open(&args.run)?;
    let tables = run.list("scores").into_iter().filter_map(|f| f.strip_suffix(".parquet").map(String::from)).collect();
    let sae = only(&args.sae, tables, "score table", "sae score")?;
    if dry {
        let scores = read_column(&run.scores(&sae), &args.by)?;
        let kept = select(&scores, args.keep).iter().filter(|k| **k).count();
        return Outcome::plan(json!({ "command": "filter", "by": args.by, "keep": kept, "of": scores.len() }));
    }
    let filtered = write(&run, &sae, &args.by, args.keep, &args.out, args.dropped.as_deref())?;
    let text = format!(
        "kept {} of {} samples by {} >= {:.4}\n  {}",
        count(filtered.kept.rows),
        count(filtered.kept.rows + filtered.dropped),
        args.by,
        filtered.threshold.unwrap_or(f64::NAN),
        args.out.display(),
    );
    Outcome::new(filtered, text)
}

/// Selects by a score and writes both sides.
pub fn write(run: &Run, sae: &str, by: &str, keep: Keep, out: &Path, dropped: Option<&Path>) -> Result<Filtered> {
    let scores = read_column(&run.scores(sae), by)?;
    let samples = load_samples(run)?;
    let matches = samples.len() == scores.len() && samples.iter().zip(&scores).all(|(s, (id, _))| s.id == *id);
    if !matches {
        bail!("the scores are of other samples than the run's\nhint: run `sae score` again");
    }
    let kept = select(&scores, keep);
    if !kept.contains(&true) {
        bail!("no sample would stay: --keep {keep} by {by}");
    }
    let record: StoreRecord = run.noted(STEP)?.context("run.json does not say where the data came from")?;
    let root = record.spec.arguments["data_root"].as_str().context("run.json does not say where the data lies")?;
    let root = Path::new(root);
    let side = |stays: bool| samples.iter().zip(&kept).filter(move |(_, k)| **k == stays).map(|(s, _): (&Sample, _)| s);
    for folder in [Some(out), dropped].into_iter().flatten() {
        check_empty(folder)?;
    }
    let written = Rows::of(side(true))?.write(root, out)?;
    if let Some(folder) = dropped {
        Rows::of(side(false))?.write(root, folder)?;
    }
    let lowest = scores.iter().zip(&kept).filter(|(_, k)| **k).filter_map(|((_, s), _)| *s).min_by(f64::total_cmp);
    let filtered = Filtered {
        run: run.root().to_path_buf(),
        sae: sae.into(),
        by: by.into(),
        keep: keep.to_string(),
        threshold: lowest,
        scores_blake3: file::hash(&run.scores(sae))?,
        kept: written,
        dropped: side(false).count() as u64,
        without_score: scores.iter().filter(|(_, s)| s.is_none()).count() as u64,
        skipped_at_harvest: record.skipped.len() as u64,
    };
    file::write_json(&out.join("filter.json"), &filtered)?;
    Ok(filtered)
}
