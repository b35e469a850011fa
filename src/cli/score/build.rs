//! From a run to its score table: one pass over each store that is needed, then tables. Prints nothing but progress.

use super::super::SaeReader;
use crate::cli::terminal;
use anyhow::{Context, Result, bail};
use filters::align::align_samples;
use filters::definition::Definition;
use filters::keep::{self, KeepEstimate, ScoreMetadata, keep_auto_against};
use filters::pmi::{self, BLANK_DIR, Folds, Set, Unit};
use filters::pooling::{PooledStore, SamplePooler};
use filters::rank;
use filters::scores::{self, Scores};
use filters::top_tokens::TopTokens;
use filters::weights::Weights;
use sae_core::analysis::index::{read_features, write_features};
use sae_core::analysis::pass;
use sae_core::store::sample::Sample;
use sae_core::store::{Store, load_samples};
use sae_core::{Run, file};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is to be scored, and how.
pub struct Request<'a> {
    /// Whose definitions.
    pub modes: &'a [Definition],
    /// A feature is active above it.
    pub threshold: f32,
    /// Of the column `random`.
    pub seed: u64,
    /// Runs that weights and `pmi` are fitted to, in place of the run that is scored; it may be among them.
    pub calibrate: &'a [PathBuf],
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
    pub keep: BTreeMap<String, KeepEstimate>,
    /// Why there is no column of [`COLUMNS`], if so.
    pub without: BTreeMap<String, String>,
}

/// One store after its pass.
struct Passed {
    samples: Vec<Sample>,
    pooled: PooledStore,
    /// Its images with the texts as the model reads them under white images, if that was captured.
    blank: Option<PooledStore>,
    tops: Option<TopTokens>,
}

/// Fits, by the column that they make.
type Fits = BTreeMap<&'static str, Folds>;

/// Scores the run of an autoencoder and writes the table.
pub fn build(opened: &SaeReader, request: &Request) -> Result<Built> {
    let _lock = opened.run.lock()?;
    let rejected = request.rejected.map(|path| companion(opened, path, "--rejected")).transpose()?;
    let same = |path: &Path| path.canonicalize().ok() == opened.run.root().canonicalize().ok();
    let others = request.calibrate.iter().filter(|path| !same(path));
    let others = others.map(|path| companion(opened, path, "--calibrate")).collect::<Result<Vec<_>>>()?;
    let own_too = request.calibrate.is_empty() || request.calibrate.iter().any(|path| same(path));
    let own = passed(opened, &opened.run, &opened.store, request.threshold, own_too, "score")?;
    let of = |(run, store): &(Run, Store)| passed(opened, run, store, request.threshold, true, "calibrate");
    let calibration = others.iter().map(of).collect::<Result<Vec<_>>>()?;
    let fitted: Vec<&Passed> = own_too.then_some(&own).into_iter().chain(&calibration).collect();
    let stage = terminal::stage("fit");
    // Weights are means over the strongest tokens of one store: those of the first that was named.
    let first = fitted.first().context("something is fitted")?;
    let store = if own_too { &opened.store } else { &others[0].1 };
    let weights = Weights::from_top_tokens(first.tops.as_ref().context("weights were asked for")?, store)?;
    let (mut scores, usual) = scores::score(&own.samples, &own.pooled, &weights, request.modes, None, request.seed)?;

    let (mut fits, mut keep, mut without) = (Fits::new(), BTreeMap::new(), BTreeMap::new());
    for column in COLUMNS {
        let sets: Option<Vec<Set>> = fitted.iter().map(|passed| passed.set(column)).collect();
        let (Some(sets), Some(pooled)) = (sets, own.side(column)) else {
            if column != PMI && fitted.iter().chain([&&own]).any(|passed| passed.blank.is_some()) {
                let why = format!("not every run that takes part has its {BLANK_DIR} beside it");
                without.insert(column.to_string(), why);
            }
            continue;
        };
        let unit = if column == PMI_TOKEN { Unit::Token } else { Unit::Sample };
        match Folds::fit(&sets, &own.samples, &pmi::Options { unit, ..pmi::Options::default() }) {
            Ok(folds) => {
                let values = folds.score(&own.samples, pooled)?;
                // A text with one wrong token is no draw from mismatched pairs, which the estimate knows alone.
                if unit == Unit::Sample {
                    let auto = keep_auto_against(&values, &folds.mismatched(&own.samples, pooled)?);
                    keep.extend(auto.map(|auto| (column.to_string(), auto)));
                }
                scores.columns.insert(column.into(), values);
                fits.insert(column, folds);
            }
            Err(filters::Error::Request(why)) => {
                scores.columns.insert(column.into(), vec![None; own.samples.len()]);
                without.insert(column.into(), why.text);
            }
            Err(other) => return Err(other.into()),
        }
    }
    drop(stage);
    if let Some((run, store)) = rejected {
        let passed = passed(opened, &run, &store, request.threshold, false, "score rejected")?;
        let pair = align_samples(&own.samples, &passed.samples);
        if pair.iter().all(Option::is_none) {
            bail!(
                "--rejected has none of the samples\nhint: harvest the same data with --answers rejected: {}",
                run.root().display()
            );
        }
        let (mut others, _) =
            scores::score(&passed.samples, &passed.pooled, &weights, request.modes, Some(&usual), request.seed)?;
        for (column, folds) in &fits {
            if let Some(pooled) = passed.side(column) {
                others.columns.insert((*column).into(), folds.score(&passed.samples, pooled)?);
            }
        }
        scores.add_rejected(&others, &pair);
    }
    let lengths = lengths(&scores);
    let built = Built { scores, weights, lengths, keep, without };
    write(opened, request, &built, &fits)?;
    Ok(built)
}

/// The column of pairs as the model reads them.
pub const PMI: &str = "pmi";
/// The column of texts read under white images.
pub const PMI_BLANK: &str = "pmi_blank";
/// The column of the least of their tokens.
pub const PMI_TOKEN: &str = "pmi_token_min";
/// The columns that are fitted.
pub const COLUMNS: [&str; 3] = [PMI, PMI_BLANK, PMI_TOKEN];

impl Passed {
    /// What a column is made of.
    fn side(&self, column: &str) -> Option<&PooledStore> {
        if column == PMI { Some(&self.pooled) } else { self.blank.as_ref() }
    }

    fn set(&self, column: &str) -> Option<Set<'_>> {
        self.side(column).map(|pooled| Set { samples: &self.samples, pooled })
    }
}

/// Another run's activations of the same hook and width.
pub(super) fn companion(opened: &SaeReader, path: &Path, flag: &str) -> Result<(Run, Store)> {
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

fn passed(opened: &SaeReader, run: &Run, store: &Store, threshold: f32, weigh: bool, what: &str) -> Result<Passed> {
    let samples = load_samples(run)?;
    let d_sae = opened.saved.weights.d_sae;
    let scratch = opened.run.root().join("scores");
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let over = |store: &Store, pool: SamplePooler, tops: Option<&mut TopTokens>, what: &str| -> Result<PooledStore> {
        let mut pool = pool;
        let bar = terminal::bar(what, store.manifest().rows);
        let mut progress = |rows| bar.set_position(rows);
        let mut observers: Vec<&mut dyn pass::Observer> = vec![&mut pool];
        observers.extend(tops.map(|tops| tops as &mut dyn pass::Observer));
        pass::run(store, &opened.saved.weights, &opened.device, &mut observers, &mut progress)?;
        bar.finish_and_clear();
        Ok(pool.finish()?)
    };
    let mut tops = weigh.then(|| TopTokens::new(d_sae, threshold));
    let pool = |samples: usize| SamplePooler::new(samples, d_sae, threshold, &scratch);
    let pooled = over(store, pool(samples.len())?, tops.as_mut(), what)?;
    let blank = run.root().join(BLANK_DIR);
    let blank = match blank.is_dir() {
        true => {
            let (run, store) = companion(opened, &blank, "the folder of the blank-image pass")?;
            let texts = load_samples(&run)?;
            let of_texts = over(&store, pool(texts.len())?.with_tokens(), None, "texts with blank images")?;
            Some(pooled.with_text(&of_texts, &align_samples(&samples, &texts), &scratch)?)
        }
        false => None,
    };
    Ok(Passed { samples, pooled, blank, tops })
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

fn write(opened: &SaeReader, request: &Request, built: &Built, fits: &Fits) -> Result<()> {
    let Built { scores, weights, .. } = built;
    let path = opened.run.scores(&opened.name);
    for column in COLUMNS {
        let fit = fit_path(&path, column);
        match fits.get(column) {
            Some(folds) => pmi::write(&fit, folds, opened.saved.weights.d_sae)?,
            None if fit.exists() => {
                std::fs::remove_file(&fit).with_context(|| format!("cannot remove {}", fit.display()))?
            }
            None => (),
        }
    }
    let weighted = json!({
        "paper": weights.paper.iter().flatten().count(), "release": weights.release.iter().flatten().count(),
        "corrected": weights.corrected.iter().flatten().count(),
    });
    let few: serde_json::Map<String, Value> =
        Definition::ALL.iter().zip(weights.too_few).map(|(mode, n)| (mode.name().into(), json!(n))).collect();
    let mut more = json!({
        "weighted_features": weighted, "too_few_tokens": few, "baseline": weights.baseline, "pmi": null,
        "without": built.without, "rank_correlation_with_tokens": built.lengths,
    });
    for (column, folds) in fits {
        more[*column] = json!({
            "calibration_samples": folds.samples, "folds": folds.without.len(), "options": folds.whole.options,
        });
    }
    let Value::Object(more) = more else { bail!("an object was made") };
    file::write_json(&keep::beside(&path), &ScoreMetadata { keep: built.keep.clone(), more })?;
    scores.write(&path, &opened.name)?;
    // Weights of the run that was scored; of a calibration run they belong to that run's index.
    let features = opened.run.features(&opened.name).join("features.parquet");
    if request.calibrate.is_empty() && features.exists() {
        let mut rows = read_features(&features)?;
        super::super::index::weigh(&mut rows, weights);
        write_features(&features, &rows)?;
    }
    let note = json!({
        "mode": request.modes, "threshold": request.threshold, "seed": request.seed, "samples": scores.rows.len(),
        "weighted_features": weighted, "calibrate": request.calibrate, "rejected": request.rejected,
    });
    opened.run.write_step(&format!("score/{}", opened.name), &note)?;
    Ok(())
}

/// The fits behind a column, beside the table.
pub(super) fn fit_path(table: &Path, column: &str) -> PathBuf {
    table.with_extension(format!("{column}.safetensors"))
}
