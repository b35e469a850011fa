//! From a run to its score table: one pass over each store that is needed, then tables. Prints nothing but progress.

use super::super::Opened;
use crate::terminal;
use anyhow::{Context, Result, bail};
use filters::keep::{self, Auto, Beside, keep_auto_against};
use filters::mode::Mode;
use filters::pmi::{self, Folds};
use filters::pool::{Pool, PooledSamples};
use filters::rank;
use filters::scores::{self, Scores};
use filters::tops::TopTokens;
use filters::weights::Weights;
use sae_core::index::{read_features, write_features};
use sae_core::pass;
use sae_core::sample::Sample;
use sae_core::store::{Store, load_samples};
use sae_core::{Run, file};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is to be scored, and how.
pub struct Request<'a> {
    /// Whose definitions.
    pub modes: &'a [Mode],
    /// A feature is active above it.
    pub threshold: f32,
    /// Of the column `random`.
    pub seed: u64,
    /// Run that weights and `pmi` are fitted to, in place of the run that is scored.
    pub calibrate: Option<&'a Path>,
    /// Run of the same samples with their rejected answers.
    pub rejected: Option<&'a Path>,
}

/// What came out.
pub struct Built {
    /// The table.
    pub scores: Scores,
    /// Weights of the features.
    pub weights: Weights,
    /// Rank correlation of each score with the number of text and image positions.
    pub lengths: BTreeMap<String, f64>,
    /// How much to keep, by column.
    pub keep: BTreeMap<String, Auto>,
    /// Why there is no `pmi`, if so.
    pub without_pmi: Option<String>,
}

/// One store after its pass.
struct Passed {
    samples: Vec<Sample>,
    pooled: PooledSamples,
    weights: Option<Weights>,
}

/// Scores the run of an autoencoder and writes the table.
pub fn build(opened: &Opened, request: &Request) -> Result<Built> {
    let _lock = opened.run.lock()?;
    let other = |path: Option<&Path>, what: &str| path.map(|path| companion(opened, path, what)).transpose();
    let (calibration, rejected) = (other(request.calibrate, "--calibrate")?, other(request.rejected, "--rejected")?);
    // A run that is calibrated on itself is fitted in folds, as without the flag.
    let same = |run: &Run| run.root().canonicalize().ok() == opened.run.root().canonicalize().ok();
    let calibration = calibration.filter(|(run, _)| !same(run));
    let own = passed(opened, &opened.run, &opened.store, request.threshold, calibration.is_none(), "score")?;
    let calibration = match calibration {
        Some((run, store)) => Some(passed(opened, &run, &store, request.threshold, true, "calibrate")?),
        None => None,
    };
    let fitted = calibration.as_ref().unwrap_or(&own);
    let weights = fitted.weights.clone().context("weights were asked for")?;
    let (mut scores, usual) = scores::score(&own.samples, &own.pooled, &weights, request.modes, None, request.seed)?;
    let folds = Folds::fit(&fitted.samples, &fitted.pooled, calibration.is_none(), &pmi::Options::default());
    let (folds, without_pmi) = match folds {
        Ok(folds) => (Some(folds), None),
        Err(filters::Error::Request(why)) => (None, Some(why)),
        Err(other) => return Err(other.into()),
    };
    let mut keep = BTreeMap::new();
    let none = || vec![None; own.samples.len()];
    let pmi = folds.as_ref().map_or(Ok(none()), |folds| folds.score(&own.samples, &own.pooled))?;
    if let Some(folds) = &folds {
        let auto = keep_auto_against(&pmi, &folds.mismatched(&own.samples, &own.pooled)?);
        keep.extend(auto.map(|auto| ("pmi".to_string(), auto)));
    }
    scores.columns.insert("pmi".into(), pmi);
    if let Some((run, store)) = rejected {
        let passed = passed(opened, &run, &store, request.threshold, false, "score rejected")?;
        let pair = pairs(&own.samples, &passed.samples, run.root())?;
        let (mut others, _) =
            scores::score(&passed.samples, &passed.pooled, &weights, request.modes, Some(&usual), request.seed)?;
        if let Some(folds) = &folds {
            // The fit that has not seen the chosen answer's sample has not seen its image either.
            let mut as_chosen = passed.samples.clone();
            for (sample, row) in own.samples.iter().zip(&pair) {
                if let Some(row) = row {
                    as_chosen[*row].id.clone_from(&sample.id);
                }
            }
            others.columns.insert("pmi".into(), folds.score(&as_chosen, &passed.pooled)?);
        }
        scores.add_rejected(&others, &pair);
    }
    let lengths = lengths(&scores);
    write(opened, request, &scores, &weights, &lengths, &keep, folds.as_ref(), without_pmi.as_deref())?;
    Ok(Built { scores, weights, lengths, keep, without_pmi })
}

/// Another run's activations of the same hook and width.
fn companion(opened: &Opened, path: &Path, flag: &str) -> Result<(Run, Store)> {
    let run = Run::open(path)?;
    let hook = &opened.store.manifest().hook;
    let store = Store::open(&run, hook)
        .with_context(|| format!("{flag} has to hold activations of {hook}, which the autoencoder is of"))?;
    super::super::check_width(&opened.saved, &store)?;
    if store.manifest().model != opened.store.manifest().model {
        bail!(
            "{flag} is of the model {}, the run of {}: {}",
            store.manifest().model,
            opened.store.manifest().model,
            path.display()
        );
    }
    Ok((run, store))
}

fn passed(opened: &Opened, run: &Run, store: &Store, threshold: f32, weigh: bool, what: &str) -> Result<Passed> {
    let samples = load_samples(run)?;
    let d_sae = opened.saved.weights.d_sae;
    let scratch = opened.run.root().join("scores");
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let mut pool = Pool::new(samples.len(), d_sae, threshold, &scratch)?;
    let mut tops = TopTokens::new(d_sae, threshold);
    let bar = terminal::bar(what, store.manifest().rows);
    let mut progress = |rows| bar.set_position(rows);
    let mut observers: Vec<&mut dyn pass::Observer> = vec![&mut pool];
    if weigh {
        observers.push(&mut tops);
    }
    pass::run(store, &opened.saved.weights, &opened.device, &mut observers, &mut progress)?;
    bar.finish_and_clear();
    let weights = weigh.then(|| Weights::of(&tops, store)).transpose()?;
    Ok(Passed { samples, pooled: pool.finish()?, weights })
}

/// Which rejected row belongs to each sample: that of the same place in the data, or else of the same key.
fn pairs(chosen: &[Sample], rejected: &[Sample], place: &Path) -> Result<Vec<Option<usize>>> {
    let index = |of: fn(&Sample) -> &str| -> BTreeMap<String, usize> {
        rejected.iter().enumerate().map(|(n, s)| (of(s).to_string(), n)).collect()
    };
    let by_source = index(|s| &s.source);
    let by_key = index(|s| &s.key);
    let pair: Vec<_> = chosen
        .iter()
        .map(|s| {
            by_source.get(&s.source).filter(|n| rejected[**n].key == s.key).or_else(|| by_key.get(&s.key)).copied()
        })
        .collect();
    if pair.iter().all(Option::is_none) {
        bail!(
            "--rejected has none of the samples\nhint: harvest the same data with --answers rejected: {}",
            place.display()
        );
    }
    Ok(pair)
}

/// Rank correlation of every score with the number of positions.
fn lengths(scores: &Scores) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for (name, values) in &scores.columns {
        let scored =
            values.iter().zip(&scores.rows).filter_map(|(v, r)| Some(((*v)?, f64::from(r.n_text + r.n_image))));
        let (values, lengths): (Vec<f64>, Vec<f64>) = scored.unzip();
        found.extend(rank::correlation(&values, &lengths).map(|r| (name.clone(), r)));
    }
    found
}

#[expect(clippy::too_many_arguments)]
fn write(
    opened: &Opened,
    request: &Request,
    scores: &Scores,
    weights: &Weights,
    lengths: &BTreeMap<String, f64>,
    keep: &BTreeMap<String, Auto>,
    folds: Option<&Folds>,
    without_pmi: Option<&str>,
) -> Result<()> {
    let path = opened.run.scores(&opened.name);
    let fit = fit_path(&path);
    match folds {
        Some(folds) => pmi::write(&fit, folds, opened.saved.weights.d_sae)?,
        None if fit.exists() => {
            std::fs::remove_file(&fit).with_context(|| format!("cannot remove {}", fit.display()))?
        }
        None => (),
    }
    let weighted = json!({
        "paper": weights.paper.iter().flatten().count(), "release": weights.release.iter().flatten().count(),
        "corrected": weights.corrected.iter().flatten().count(),
    });
    let few: serde_json::Map<String, Value> =
        Mode::ALL.iter().zip(weights.too_few).map(|(mode, n)| (mode.name().into(), json!(n))).collect();
    let pmi = folds
        .map(|f| json!({ "calibration_samples": f.samples, "folds": f.without.len(), "options": f.whole.options }));
    let more = json!({
        "weighted_features": weighted, "too_few_tokens": few, "baseline": weights.baseline, "pmi": pmi,
        "without_pmi": without_pmi, "rank_correlation_with_tokens": lengths,
    });
    let Value::Object(more) = more else { bail!("an object was made") };
    file::write_json(&keep::beside(&path), &Beside { keep: keep.clone(), more })?;
    scores.write(&path)?;
    // Weights of the run that was scored; of a calibration run they belong to that run's index.
    let features = opened.run.features(&opened.name).join("features.parquet");
    if request.calibrate.is_none() && features.exists() {
        let mut rows = read_features(&features)?;
        super::super::index::weigh(&mut rows, weights);
        write_features(&features, &rows)?;
    }
    let note = json!({
        "mode": request.modes, "threshold": request.threshold, "seed": request.seed, "samples": scores.rows.len(),
        "weighted_features": weighted, "calibrate": request.calibrate, "rejected": request.rejected,
    });
    opened.run.note(&format!("score/{}", opened.name), &note)?;
    Ok(())
}

/// The fits behind `pmi`, beside the table.
pub(super) fn fit_path(table: &Path) -> PathBuf {
    table.with_extension("pmi.safetensors")
}
