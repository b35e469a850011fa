//! Indexing: one pass that writes what every feature responds to, as tables in `features/<name>/`.

use crate::control::{Control, Stage};
use crate::error::TranscoderError;
use crate::passes::Passes;
use crate::sae::{LoadedSae, SaeChoice, SaePlan};
use crate::{Error, Result, model};
use filters::Threshold;
use filters::definition::Sides;
use filters::top_tokens::TopTokens;
use filters::weights::Weights;
use harvest::model::Compute;
use harvest::{Checkpoint, ComputeDtype, LogitHistogram, LogitLens, TokenLogit};
use sae_core::analysis::index::{
    self, Bin, Coactive, FeatureRow, Indexer, LogitBin, Neighbor, Row, StrongestExample, TypicalWord, Word,
};
use sae_core::store::{STEP, StoreRecord};
use sae_core::{Run, path_text};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What to index.
///
/// ```
#[doc = include_str!("example_run.md")]
/// use sae_core::analysis::index::Index;
/// use sae_workbench::{Control, IndexRequest, SaeChoice};
///
/// # let run = example_run()?;
/// let report = IndexRequest::new(SaeChoice::new(run.path())).run(&mut Control::default())?;
///
/// let index = Index::open(&report.folder)?;
/// let busiest = index.features().iter().max_by_key(|row| row.fires).expect("there are features");
/// println!("feature {} ({}) fires on {} tokens", busiest.feature, busiest.class, busiest.fires);
/// let (group, strongest) = index.examples(busiest.feature)?[0];
/// assert_eq!((group, strongest.activation), (0, busiest.max));
/// # Ok::<(), sae_workbench::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct IndexRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// The model whose output head gives the tokens that a feature promotes and suppresses.
    pub lens: LensChoice,
    /// A feature counts as active on a token above this activation.
    pub threshold: Threshold,
    /// The modalities that classes, counts and cross-modal weights compare.
    pub sides: Sides,
}

/// The model of a logit lens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LensChoice {
    /// The model that the run was captured from, if it still is where the run says; none for the inputs of modules and the
    /// vision tower, whose directions promote no tokens.
    Recorded,
    /// This checkpoint.
    Model(PathBuf),
    /// None: promoted tokens are left out.
    None,
}

/// What indexing would do.
pub type IndexPlan = SaePlan<IndexDetails>;

/// What is particular to indexing.
#[derive(Clone, Debug, Serialize)]
pub struct IndexDetails {
    /// The model that promoted tokens are computed with.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub words_by: Option<PathBuf>,
}

/// What was indexed.
#[derive(Clone, Debug, Serialize)]
pub struct IndexReport {
    /// Features.
    pub features: usize,
    /// Number of features of each class.
    pub classes: BTreeMap<String, u64>,
    /// Features with a cross-modal weight by the definition of the paper.
    pub weighted: usize,
    /// The model that promoted tokens are computed with.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub words_by: Option<PathBuf>,
    /// Whether the features are of the residual stream or of what is added to it, and can promote tokens.
    #[serde(skip)]
    pub is_in_stream: bool,
    /// The folder of the tables.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl IndexRequest {
    /// Indexes with the published threshold, scaled to the width, and the model that the run was captured from.
    pub fn new(sae: SaeChoice) -> Self {
        Self { sae, lens: LensChoice::Recorded, threshold: Threshold::Auto, sides: Sides::default() }
    }

    /// What [`IndexRequest::run`] would do.
    ///
    /// # Errors
    /// No such run or autoencoder; a model that has not been downloaded.
    pub fn plan(&self) -> Result<IndexPlan> {
        let sae = self.sae.load_with_pieces()?;
        let words_by = self.model(&sae, None)?;
        Ok(sae.plan("index", IndexDetails { words_by }))
    }

    /// Indexes.
    ///
    /// # Errors
    /// Files that cannot be read or written, a model of another width; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<IndexReport> {
        self.run_on(&self.sae.load_with_pieces()?, &mut Passes::Here, control)
    }

    /// [`IndexRequest::run`] with passes that may have been made elsewhere.
    pub(crate) fn run_on(&self, sae: &LoadedSae, passes: &mut Passes, control: &mut Control) -> Result<IndexReport> {
        let words_by = self.model(sae, Some(control))?;
        let lens = words_by.as_deref().map(|folder| open_lens(sae, folder)).transpose()?;
        let collected = self.collect(sae, passes, control)?;
        let rows = write(sae, self.threshold(sae), &self.sides, lens.as_ref(), collected, control)?;
        Ok(IndexReport {
            features: rows.len(),
            classes: classes(&rows),
            weighted: rows.iter().filter(|row| row.weight_paper.is_some()).count(),
            words_by,
            is_in_stream: sae.decoder_is_in_stream(),
            folder: sae.run.features(&sae.name),
        })
    }

    /// The pass of an index.
    pub(crate) fn collect(&self, sae: &LoadedSae, passes: &mut Passes, control: &mut Control) -> Result<Collected> {
        collect(sae, self.threshold(sae), &self.sides, passes, control)
    }

    fn threshold(&self, sae: &LoadedSae) -> f32 {
        self.threshold.for_width(sae.saved.weights.d_in)
    }

    fn model(&self, sae: &LoadedSae, control: Option<&mut Control>) -> Result<Option<PathBuf>> {
        match (&self.lens, control) {
            (LensChoice::None, _) => Ok(None),
            (LensChoice::Recorded, _) if !sae.decoder_is_in_stream() => Ok(None),
            (LensChoice::Recorded, _) => Ok(recorded_model(sae)?.filter(|folder| folder.is_dir())),
            (LensChoice::Model(model), Some(control)) => Ok(Some(model::download(model, control)?)),
            (LensChoice::Model(model), None) => Ok(Some(model::local(model)?)),
        }
    }
}

/// The folder of the model, as the run records it.
fn recorded_model(sae: &LoadedSae) -> Result<Option<PathBuf>> {
    let harvest: Option<StoreRecord> = sae.run.read_step(STEP)?;
    Ok(harvest.and_then(|harvest| harvest.spec.arguments["model_folder"].as_str().map(path_text::decode)))
}

/// Loads the output head for promoted tokens.
pub(crate) fn open_lens(sae: &LoadedSae, folder: &Path) -> Result<LogitLens> {
    let compute = Compute::on(&sae.device, ComputeDtype::F32.into());
    let hook = sae.decoder_hook().ok_or_else(|| TranscoderError::UnknownTarget { name: sae.name.clone() })?;
    let lens = Checkpoint::open(folder).and_then(|checkpoint| LogitLens::open(checkpoint, &compute));
    let lens = lens.and_then(|lens| lens.at(hook)).map_err(|source| Error::Lens { source })?;
    lens.check(sae.saved.weights.d_out())?;
    Ok(lens)
}

/// Builds and writes the index; returns its feature table.
pub(crate) fn build(
    sae: &LoadedSae,
    threshold: f32,
    sides: &Sides,
    lens: Option<&LogitLens>,
    control: &mut Control,
) -> Result<Vec<FeatureRow>> {
    let collected = collect(sae, threshold, sides, &mut Passes::Here, control)?;
    write(sae, threshold, sides, lens, collected, control)
}

/// What the pass of an index finds.
pub(crate) struct Collected {
    indexer: Indexer,
    tops: TopTokens,
}

fn collect(
    sae: &LoadedSae,
    threshold: f32,
    sides: &Sides,
    passes: &mut Passes,
    control: &mut Control,
) -> Result<Collected> {
    let d_sae = sae.saved.weights.d_sae;
    let mut indexer = Indexer::new(d_sae).comparing(sides);
    let mut tops = TopTokens::new(d_sae, threshold).along(sae.store.paths().clone()).comparing(sides);
    passes.collect(sae, "run", &sae.store, Stage::Index, &mut [&mut indexer, &mut tops], control)?;
    Ok(Collected { indexer, tops })
}

/// Computes what follows from a pass, and writes the tables.
fn write(
    sae: &LoadedSae,
    threshold: f32,
    sides: &Sides,
    lens: Option<&LogitLens>,
    Collected { indexer, tops }: Collected,
    control: &mut Control,
) -> Result<Vec<FeatureRow>> {
    let weights = &sae.saved.weights;
    let d_sae = weights.d_sae;
    let staged = control.stage(Stage::Weights, None)?;
    let cross_modal = Weights::from_top_tokens(&tops, &sae.store)?;
    drop(staged);
    let mut rows: Vec<_> = (0..d_sae).map(|k| FeatureRow::counted(&indexer, k)).collect();
    set_weights(&mut rows, &cross_modal);
    let logits = match lens {
        Some(lens) => {
            let mut staged = control.stage(Stage::PromotedTokens, d_sae as u64)?;
            Some(lens.logits(&weights.w_dec, weights.d_out(), index::WORDS, &mut |features| staged.show(features))?)
        }
        None => None,
    };
    let staged = control.stage(Stage::TypicalWords, None)?;
    let typical = index::typical_words(&sae.run, &indexer)?;
    drop(staged);
    let staged = control.stage(Stage::Neighbors, None)?;
    let coactive = indexer.together.most();
    let neighbors = index::neighbors(weights);
    drop(staged);
    let dir = sae.run.features(&sae.name);
    let _lock = sae.run.lock()?;
    index::write_examples(&dir.join("examples.parquet"), &indexer)?;
    index::write_neighbors(&dir.join(Neighbor::FILE), &neighbors)?;
    index::write_lists(&dir.join(StrongestExample::FILE), d_sae, |k| indexer.strongest[k].rows())?;
    index::write_lists(&dir.join(TypicalWord::FILE), d_sae, |k| typical[k].clone())?;
    index::write_lists(&dir.join(Bin::FILE), d_sae, |k| indexer.histograms[k].bins().collect())?;
    index::write_lists(&dir.join(Coactive::FILE), d_sae, |k| coactive[k].clone())?;
    let (words, bins) = (dir.join(Word::FILE), dir.join(LogitBin::FILE));
    match logits {
        Some(logits) => {
            index::write_lists(&words, d_sae, |k| logits[k].tokens.iter().map(word).collect())?;
            index::write_lists(&bins, d_sae, |k| logit_bins(&logits[k].histogram))?;
        }
        None => [words, bins].iter().try_for_each(|path| remove(path))?,
    }
    index::write_features(&dir.join("features.parquet"), &rows)?;
    sae.run.write_step(
        &format!("index/{}", sae.name),
        &json!({
            "features": d_sae, "positions": indexer.positions, "threshold": threshold, "sides": sides,
            "coactive": { "positions": indexer.together.counted(), "one_in": indexer.together.one_in() },
            "words_by": lens.map(LogitLens::folder),
        }),
    )?;
    Ok(rows)
}

/// The sides that the index of an autoencoder compares, if there is an index.
pub(crate) fn sides(run: &Run, sae: &str) -> Result<Option<Sides>> {
    let step: Option<Value> = run.read_step(&format!("index/{sae}"))?;
    let named = |step: Value| step.get("sides").and_then(Value::as_str).and_then(|sides| sides.parse().ok());
    Ok(step.map(|step| named(step).unwrap_or_default()))
}

/// Removes a table of an earlier index, which would otherwise be taken for a part of this one.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(sae_core::Error::io("remove", path)(error).into()),
        _ => Ok(()),
    }
}

/// Puts the weights into a feature table.
pub(crate) fn set_weights(rows: &mut [FeatureRow], weights: &Weights) {
    for row in rows {
        let k = row.feature as usize;
        let weight = |weights: &[Option<f64>]| weights.get(k).copied().flatten();
        let corrected = weights.corrected.get(k).copied().flatten();
        (row.weight_paper, row.weight_release) = (weight(&weights.paper), weight(&weights.release));
        (row.weight_corrected, row.weight_se) = (corrected.map(|e| e.weight), corrected.map(|e| e.se));
    }
}

/// Number of features of each class.
pub fn classes(rows: &[FeatureRow]) -> BTreeMap<String, u64> {
    let mut classes = BTreeMap::new();
    rows.iter().for_each(|row| *classes.entry(row.class.clone()).or_default() += 1);
    classes
}

/// The bins of a histogram of the logit lens as rows of the index.
fn logit_bins(histogram: &LogitHistogram) -> Vec<LogitBin> {
    histogram.bins().map(|([low, high], tokens)| LogitBin { low, high, tokens }).collect()
}

/// A token of the logit lens as a row of the index.
fn word(token: &TokenLogit) -> Word {
    Word { promoted: token.promoted, token_id: token.token_id, piece: token.text.clone(), logit: token.logit }
}
