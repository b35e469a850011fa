//! Scoring: scores of every sample by every method, in `scores/<name>.parquet`, with the fits that they are based on. Needs
//! one pass over each store that takes part.

mod passes;

use passes::{AllCollected, Companions, Passed};
pub(crate) use passes::{Participants, scratch};

use crate::control::{Control, Stage};
use crate::passes::Passes;
use crate::sae::{LoadedSae, SaeChoice, SaePlan};
use crate::{Error, Result, feedback, index, likelihood, model, probe};
use filters::align::align_samples;
use filters::column::ScoreTable;
use filters::definition::{Definition, Sides};
use filters::keep::{self, KeepEstimate, ScoreMetadata, keep_auto_against};
use filters::pmi::{self, BLANK_DIR, Folds, References, Set, Unit};
use filters::score_names::{FEEDBACK_FIT, FITTED, JOINED, KEPT, PMI, PMI_BLANK, PMI_RELATIVE, PMI_TOKEN_MIN};
use filters::scores::{self, Scores};
use filters::weights::{ModelScore, Weights};
use filters::{Threshold, rank};
use harvest::Plan;
use sae_core::analysis::index::{read_features, write_features};
use sae_core::store::load_samples;
use sae_core::store::sample::Sample;
use sae_core::{file, path_text};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What to score, and how.
///
/// ```
#[doc = include_str!("../example_run.md")]
/// use sae_workbench::{Control, ExplainRequest, SaeChoice, ScoreRequest};
///
/// # let run = example_run()?;
/// let sae = SaeChoice::new(run.path());
/// let report = ScoreRequest::new(sae.clone()).run(&mut Control::default())?;
/// let scores = &report.scores.columns["pmi_blank"];
/// assert_eq!(scores.len(), report.samples);
///
/// // Why the first sample has its score: it is the sum of what the components add.
/// let explained = ExplainRequest { sae, sample: "0".into() }.run()?;
/// assert!((explained.explanation.pmi - scores[0].expect("a score")).abs() < 1e-3);
/// # Ok::<(), sae_workbench::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ScoreRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// How to score.
    pub options: ScoreOptions,
}

/// How samples are scored.
#[derive(Clone, Debug)]
pub struct ScoreOptions {
    /// Which definitions of the scores are computed.
    pub definitions: Vec<Definition>,
    /// A feature counts as active on a token above this activation.
    pub threshold: Threshold,
    /// The modalities that are compared.
    pub sides: Sides,
    /// Seed of the column `random`.
    pub seed: u64,
    /// Runs that `pmi` is fitted to (and the weights, to the first) instead of the run that is scored, which may be one of them.
    pub calibrate: Vec<PathBuf>,
    /// A run of the same samples with their rejected answers, for margins.
    pub rejected: Option<PathBuf>,
    /// Other autoencoders of the run, whose features `pmi` is fitted to as well.
    pub beside: Vec<String>,
    /// Files of probes of this autoencoder, whose scores are added.
    pub probes: Vec<PathBuf>,
    /// The field that says which column a sample was melted from, in a run of responses, refinements and critiques. Adds
    /// `feedback_fit`.
    pub feedback: Option<String>,
    /// A model and the data set that the run was captured from. Adds the likelihoods of the answers, and how sharp and noisy the
    /// images are. The layers of the plan do not matter.
    pub reading: Option<Plan>,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self {
            definitions: Definition::ALL.to_vec(),
            threshold: Threshold::Auto,
            sides: Sides::default(),
            seed: 0,
            calibrate: Vec::new(),
            rejected: None,
            beside: Vec::new(),
            probes: Vec::new(),
            feedback: None,
            reading: None,
        }
    }
}

/// What scoring would do.
pub type ScorePlan = SaePlan<ScoreDetails>;

/// What is particular to scoring.
#[derive(Clone, Debug, Serialize)]
pub struct ScoreDetails {
    /// The definitions: one, or `all`.
    pub mode: &'static str,
    /// Runs that are fitted to.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub calibrate: Vec<PathBuf>,
    /// The run with rejected answers.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub rejected: Option<PathBuf>,
    /// Other autoencoders whose features `pmi` is fitted to as well.
    pub beside: Vec<String>,
    /// The modalities that are compared.
    pub sides: Sides,
    /// Files of probes whose scores are added.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub probes: Vec<PathBuf>,
    /// The field that names what a sample is, for `feedback_fit`.
    pub feedback: Option<String>,
    /// The model whose likelihoods are added.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub model: Option<PathBuf>,
    /// The data set that it reads.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub data: Option<PathBuf>,
}

impl ScoreOptions {
    /// Checks what only a later part of scoring would notice.
    fn check(&self, sae: &LoadedSae) -> Result<()> {
        probe::check(sae, &self.probes)?;
        if self.reading.is_some() && sae.store.paths().are_pieces() {
            return Err(sae_core::Error::Pieces { path: sae.run.root().to_path_buf() }.into());
        }
        match &self.feedback {
            Some(field) => feedback::check(&load_samples(&sae.run)?, field),
            None => Ok(()),
        }
    }
}

/// What was scored.
#[derive(Clone, Debug, Serialize)]
pub struct ScoreReport {
    /// Samples.
    pub samples: usize,
    /// Whether they are pieces of rows.
    pub pieces: bool,
    /// Samples without some of the scores; the table says why.
    pub without_score: usize,
    /// Columns with scores, in the order of the table.
    pub columns: Vec<String>,
    /// The table.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub file: PathBuf,
    /// Features with too few tokens for a weight, by definition: paper, release, corrected.
    pub too_few_tokens: [u64; 3],
    /// How similar text and image are in the features of the model, by definition.
    pub model_score: BTreeMap<&'static str, ModelScore>,
    /// Why a column is missing or has no values, by column.
    pub without: BTreeMap<String, String>,
    /// Estimates of how much to keep, by column.
    pub keep: BTreeMap<String, KeepEstimate>,
    /// The number of pairs that a column was fitted to.
    pub calibration_samples: BTreeMap<&'static str, usize>,
    /// Rank correlation of every score with the number of text and image positions.
    pub rank_correlation_with_tokens: BTreeMap<String, f64>,
    /// The scores.
    #[serde(skip)]
    pub scores: Scores,
}

impl ScoreRequest {
    /// Scores by every definition, with `pmi` fitted to the run itself.
    pub fn new(sae: SaeChoice) -> Self {
        Self { sae, options: ScoreOptions::default() }
    }

    /// What [`ScoreRequest::run`] would do.
    ///
    /// # Errors
    /// No such run or autoencoder; probes of another one, or a field without critiques.
    pub fn plan(&self) -> Result<ScorePlan> {
        let mode = match &self.options.definitions[..] {
            [one] => one.name(),
            _ => "all",
        };
        let sae = self.sae.load_with_pieces()?;
        self.options.check(&sae)?;
        let reading = self.options.reading.as_ref().map(|plan| model::resolve(plan, None)).transpose()?;
        let (model, data) = reading.map(|plan| (plan.model, plan.data)).unzip();
        let ScoreOptions { calibrate, rejected, beside, sides, probes, feedback, .. } = self.options.clone();
        Ok(sae.plan("score", ScoreDetails { mode, calibrate, rejected, beside, sides, probes, feedback, model, data }))
    }

    /// Scores.
    ///
    /// # Errors
    /// Files that cannot be read or written, runs of other models or hooks; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<ScoreReport> {
        score(&self.sae.load_with_pieces()?, &self.options, control)
    }
}

/// Fits, by the column that they give.
type Fits = BTreeMap<&'static str, Folds>;

/// The results for the columns of [`FITTED`].
#[derive(Default)]
struct Fitted {
    /// Number of features of all autoencoders.
    d_sae: usize,
    fits: Fits,
    keep: BTreeMap<String, KeepEstimate>,
    without: BTreeMap<String, String>,
}

/// Scores the run of an autoencoder and writes the table.
pub(crate) fn score(sae: &LoadedSae, options: &ScoreOptions, control: &mut Control) -> Result<ScoreReport> {
    score_with(sae, options, &mut Passes::Here, control)
}

/// [`score`] with passes that may have been made elsewhere.
pub(crate) fn score_with(
    sae: &LoadedSae,
    options: &ScoreOptions,
    passes: &mut Passes,
    control: &mut Control,
) -> Result<ScoreReport> {
    let _lock = sae.run.lock()?;
    let participants = Participants::open(sae, options)?;
    let AllCollected { scored, calibration, rejected: passed_rejected } = participants.collect(passes, control)?;
    let (fits_itself, threshold) = (participants.fits_itself, participants.threshold());
    let Companions { calibration: others, rejected } = participants.companions;
    let folder = scratch(sae)?;
    let scored = scored.join(&folder)?;
    let calibration = calibration.into_iter().map(|other| other.join(&folder)).collect::<Result<Vec<_>>>()?;
    let passed_rejected = passed_rejected.map(|other| other.join(&folder)).transpose()?;
    let fitted_to: Vec<&Passed> = fits_itself.then_some(&scored).into_iter().chain(&calibration).collect();
    let staged = control.stage(Stage::Fit, None)?;
    // Weights are means over the strongest tokens of a single store: the first that was named.
    let stores = fits_itself.then_some(&sae.store).into_iter().chain(others.iter().map(|other| &other.store));
    let first = fitted_to.iter().zip(stores).find_map(|(passed, store)| Some((passed.tops.as_ref()?, store)));
    let (tops, store) = first.ok_or(Error::NothingToFit)?;
    let weights = Weights::from_top_tokens(tops, store)?;
    let definitions = &options.definitions;
    let (mut scores, usual) =
        scores::score(&scored.samples, &scored.pooled, &weights, definitions, None, options.seed)?;
    let mut fitted = fit(&fitted_to, &scored, 1 + options.beside.len(), &mut scores)?;
    if !options.sides.compare_with_images() && sae.run.root().join(BLANK_DIR).is_dir() {
        let why = "a pass with blank images says something only where the second side has the images";
        fitted.without.extend([PMI_BLANK, PMI_TOKEN_MIN].map(|column| (column.to_owned(), why.to_owned())));
    }
    drop(staged);
    if let Some((other, passed)) = rejected.zip(passed_rejected) {
        let pair = align_samples(&scored.samples, &passed.samples);
        if pair.iter().all(Option::is_none) {
            return Err(Error::OtherSamples { path: other.run.root().to_path_buf() });
        }
        let (mut others, _) =
            scores::score(&passed.samples, &passed.pooled, &weights, definitions, Some(&usual), options.seed)?;
        for (column, folds) in &fitted.fits {
            if let Some(pooled) = passed.pooled_for(column) {
                others.columns.insert((*column).into(), folds.score(&passed.samples, pooled)?);
                if let (PMI_BLANK, Some(sets)) = (*column, sets(&fitted_to, column)) {
                    let relative = References::draw(folds, &sets)?.score(&passed.samples, pooled)?;
                    others.columns.insert(PMI_RELATIVE.into(), relative);
                }
            }
        }
        scores.add_rejected(&others, &pair);
    }
    let table = sae.run.scores(&sae.name);
    let kept = kept_columns(&table, &scored.samples)?;
    let mut computed = probe::apply(sae, &options.probes, scored.samples.len(), control)?;
    let fits = match &options.feedback {
        Some(field) => Some(feedback::fits(sae, &scored.samples, field, options.seed, control)?),
        None => feedback::fits_of_pieces(sae, &scored.samples, options.seed, control)?,
    };
    computed.extend(fits.map(|fits| (FEEDBACK_FIT.to_owned(), fits)));
    if let Some(plan) = &options.reading {
        let plan = model::resolve(plan, Some(control))?;
        let found = likelihood::columns(&plan, &scored.samples, control)?;
        computed.extend(found.columns.into_iter().map(|(name, values)| (name.to_owned(), values)));
        fitted.without.extend(found.without);
    }
    let mut estimates = Vec::new();
    for (name, values) in kept {
        if computed.iter().all(|(new, _)| *new != name) {
            estimates.extend(keep::saved(&table, &name)?.map(|found| (name.clone(), found)));
            scores.columns.insert(name, values);
        }
    }
    scores.columns.extend(computed);
    for (name, [first, second]) in JOINED {
        if let (Some(a), Some(b)) = (scores.columns.get(first), scores.columns.get(second)) {
            let joined = rank::mean_ranks(&[a, b]);
            scores.columns.insert(name.into(), joined);
        }
    }
    let mut report = write(sae, options, threshold, scores, &weights, fitted)?;
    for (name, estimate) in estimates {
        keep::save(&report.file, &name, estimate)?;
        report.keep.insert(name, estimate);
    }
    Ok(report)
}

/// The columns of the table that only some calls compute. Scoring keeps them, if the table is about these samples.
fn kept_columns(path: &Path, samples: &[Sample]) -> Result<Vec<(String, Vec<Option<f64>>)>> {
    let Ok(table) = ScoreTable::open(path, samples) else { return Ok(Vec::new()) };
    let names = table.names().into_iter().filter(|name| KEPT.iter().any(|prefix| name.starts_with(prefix)));
    names.map(|name| Ok((name.clone(), table.column(&name)?))).collect()
}

/// What a column is fitted to, if every run has it.
fn sets<'a>(fitted_to: &[&'a Passed], column: &str) -> Option<Vec<Set<'a>>> {
    fitted_to.iter().map(|passed| passed.set(column)).collect()
}

/// Fits the columns of [`FITTED`] to the features of some autoencoders and puts them into the table.
fn fit(fitted_to: &[&Passed], scored: &Passed, saes: usize, scores: &mut Scores) -> Result<Fitted> {
    let usual = pmi::Options::default();
    let Fitted { mut fits, mut keep, mut without, .. } = Fitted::default();
    let d_sae = scored.together().active().len();
    for column in FITTED {
        let (Some(sets), Some(pooled)) = (sets(fitted_to, column), scored.pooled_for(column)) else {
            if column != PMI && fitted_to.iter().chain([&scored]).any(|passed| passed.blank.is_some()) {
                let why = format!("not every run that takes part has its {BLANK_DIR} beside it");
                without.insert(column.to_string(), why);
            }
            continue;
        };
        let unit = if column == PMI_TOKEN_MIN { Unit::Token } else { Unit::Sample };
        match Folds::fit(&sets, &scored.samples, &pmi::Options { unit, features: saes * usual.features, ..usual }) {
            Ok(folds) => {
                let values = folds.score(&scored.samples, pooled)?;
                // The estimate is about mismatched pairs, and a text with one wrong token is not such a pair.
                if unit == Unit::Sample {
                    let mismatches = folds.mismatches(&scored.samples, pooled)?;
                    let mut estimate = |column: &str, values: &[Option<f64>], mismatched: &[f64]| {
                        keep.extend(keep_auto_against(values, mismatched).map(|found| (column.to_string(), found)));
                    };
                    estimate(column, &values, &folds.mismatched(&mismatches));
                    if column == PMI_BLANK {
                        let references = References::draw(&folds, &sets)?;
                        let relative = references.score(&scored.samples, pooled)?;
                        estimate(PMI_RELATIVE, &relative, &references.mismatched(&mismatches));
                        scores.columns.insert(PMI_RELATIVE.into(), relative);
                    }
                }
                scores.columns.insert(column.into(), values);
                fits.insert(column, folds);
            }
            Err(filters::Error::Request(why)) => {
                scores.columns.insert(column.into(), vec![None; scored.samples.len()]);
                without.insert(column.into(), why.text);
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(Fitted { d_sae, fits, keep, without })
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

fn write(
    sae: &LoadedSae,
    options: &ScoreOptions,
    threshold: f32,
    scores: Scores,
    weights: &Weights,
    fitted: Fitted,
) -> Result<ScoreReport> {
    let Fitted { d_sae, fits, keep, without } = fitted;
    let path = sae.run.scores(&sae.name);
    for column in FITTED {
        let fit = fit_path(&path, column);
        match fits.get(column) {
            Some(folds) => pmi::write(&fit, folds, d_sae)?,
            None if fit.exists() => std::fs::remove_file(&fit).map_err(sae_core::Error::io("remove", &fit))?,
            None => (),
        }
    }
    let lengths = lengths(&scores);
    let weighted = json!({
        "paper": weights.paper.iter().flatten().count(), "release": weights.release.iter().flatten().count(),
        "corrected": weights.corrected.iter().flatten().count(),
    });
    let few = Definition::ALL.iter().zip(weights.too_few).map(|(mode, n)| (mode.name().to_string(), json!(n)));
    let model_score: BTreeMap<&'static str, ModelScore> = Definition::ALL
        .iter()
        .zip(weights.model_scores)
        .filter_map(|(definition, score)| Some((definition.name(), score?)))
        .collect();
    let mut more = serde_json::Map::from_iter([
        ("weighted_features".to_string(), weighted.clone()),
        ("too_few_tokens".to_string(), Value::Object(few.collect())),
        ("baseline".to_string(), json!(weights.baseline)),
        ("model_score".to_string(), json!(model_score)),
        (PMI.to_string(), Value::Null),
        ("sides".to_string(), json!(options.sides)),
        ("without".to_string(), json!(without)),
        ("rank_correlation_with_tokens".to_string(), json!(lengths)),
    ]);
    more.extend(fits.iter().map(|(column, folds)| {
        let options = &folds.whole.options;
        let fit = json!({ "calibration_samples": folds.samples, "folds": folds.without.len(), "options": options });
        (column.to_string(), fit)
    }));
    file::write_json(&keep::beside(&path), &ScoreMetadata { keep: keep.clone(), more })?;
    scores.write(&path, &sae.name)?;
    // The weights belong to the index of the run that they were computed from: not to this one after a calibration.
    let features = sae.run.features(&sae.name).join("features.parquet");
    // The index may compare other sides.
    let of_index = index::sides(&sae.run, &sae.name)?.unwrap_or_default();
    if options.calibrate.is_empty() && options.sides == of_index && features.exists() {
        let mut rows = read_features(&features)?;
        index::set_weights(&mut rows, weights);
        write_features(&features, &rows)?;
    }
    let step = json!({
        "mode": options.definitions, "threshold": threshold, "sides": options.sides, "seed": options.seed, "samples": scores.rows.len(),
        "weighted_features": weighted, "calibrate": options.calibrate, "rejected": options.rejected, "beside": options.beside,
        "model": options.reading.as_ref().map(|plan| path_text::encode(&plan.model)),
    });
    sae.run.write_step(&step_name(&sae.name), &step)?;
    Ok(ScoreReport {
        samples: scores.rows.len(),
        pieces: sae.store.paths().are_pieces(),
        without_score: scores.rows.iter().filter(|row| row.reason.is_some()).count(),
        columns: scores.names().into_iter().map(String::from).collect(),
        file: path,
        too_few_tokens: weights.too_few,
        model_score,
        without,
        keep,
        calibration_samples: fits.iter().map(|(column, folds)| (*column, folds.samples)).collect(),
        rank_correlation_with_tokens: lengths,
        scores,
    })
}

/// The step of an autoencoder's scores in `run.json`.
pub(crate) fn step_name(sae: &str) -> String {
    format!("score/{sae}")
}

/// The file with the fits of a column, next to the table.
pub(crate) fn fit_path(table: &Path, column: &str) -> PathBuf {
    table.with_extension(format!("{column}.safetensors"))
}
