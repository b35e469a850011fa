//! `sae index`: one pass that writes what every feature does - `features/<name>/*.parquet`.

use super::arguments::{SaeArgs, ThresholdArg};
use super::{Outcome, SaeReader, model};
use crate::cli::terminal::{self, count, table};
use anyhow::{Context, Result};
use clap::Args;
use filters::top_tokens::TopTokens;
use filters::weights::Weights;
use harvest::model::Compute;
use harvest::{Checkpoint, ComputeDtype, LogitLens};
use sae_core::analysis::index::{
    self, Bin, Coactive, FeatureRow, Indexer, Neighbor, Row, StrongestExample, TypicalWord, Word,
};
use sae_core::store::{STEP, StoreRecord};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// `sae index`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sae index --run run                                     words by the model that the run was captured from, if it is there
  sae index --run run --model llava-1.5-7b-hf             by this one
  sae index --run run --no-words                          no model is looked for")]
pub struct IndexArgs {
    #[command(flatten)]
    pub of: SaeArgs,
    /// Checkpoint, as for `sae harvest`, through whose output head each feature's words are told; where the run says it lies if this is left out
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Leave the words out
    #[arg(long, conflicts_with = "model")]
    pub no_words: bool,
    #[command(flatten)]
    pub threshold: ThresholdArg,
}

/// Runs the command.
pub fn run(args: &IndexArgs, dry: bool) -> Result<Outcome> {
    let opened = SaeReader::new(&args.of)?;
    let model = match &args.model {
        Some(model) => Some(model::folder(model, dry)?),
        None => recorded(&opened)?.filter(|folder| !args.no_words && folder.is_dir()),
    };
    if dry {
        return opened.plan("index", json!({ "words_by": model }));
    }
    let lens = lens(&opened, model.as_deref())?;
    let threshold = args.threshold.value.for_width(opened.saved.weights.d_in);
    let (rows, _) = build(&opened, threshold, lens.as_ref())?;
    let classes = classes(&rows);
    let weighted = rows.iter().filter(|r| r.weight_paper.is_some()).count();
    let mut lines: Vec<_> = classes.iter().map(|(class, n)| vec![class.clone(), count(*n)]).collect();
    lines.push(vec!["with a cross-modal weight".into(), count(weighted as u64)]);
    let place = opened.run.features(&opened.name);
    let words = match &model {
        Some(folder) => format!("promoted and suppressed tokens by {}", folder.display()),
        None if args.no_words => "no words, as asked".into(),
        None => "no words: the model is not where the run says\nhint: say where with --model".into(),
    };
    let text = format!("{} features\n{}  {}\n{words}", count(rows.len() as u64), table(&lines), place.display());
    let json = json!({ "features": rows.len(), "classes": classes, "weighted": weighted, "words_by": model });
    Outcome::new(json, text)
}

/// Where the run says that its model lies.
fn recorded(opened: &SaeReader) -> Result<Option<PathBuf>> {
    let harvest: Option<StoreRecord> = opened.run.read_step(STEP)?;
    Ok(harvest.and_then(|harvest| harvest.spec.arguments["model_folder"].as_str().map(PathBuf::from)))
}

/// Through what the features' words are told.
pub(super) fn lens(opened: &SaeReader, model: Option<&Path>) -> Result<Option<LogitLens>> {
    let Some(folder) = model else { return Ok(None) };
    let compute = Compute::on(&opened.device, ComputeDtype::F32.into());
    let lens = Checkpoint::open(folder).and_then(|checkpoint| LogitLens::open(checkpoint, &compute));
    let lens = lens.context("the words that features raise need the model\nhint: --no-words leaves them out")?;
    lens.check(opened.saved.weights.d_in)?;
    Ok(Some(lens))
}

/// Builds and writes the index; returns its feature table and the tokens behind the weights.
pub(super) fn build(
    opened: &SaeReader,
    threshold: f32,
    lens: Option<&LogitLens>,
) -> Result<(Vec<FeatureRow>, TopTokens)> {
    let saved = &opened.saved.weights;
    let d_sae = saved.d_sae;
    let (mut indexer, mut tops) = (Indexer::new(d_sae), TopTokens::new(d_sae, threshold));
    opened.pass("index", &mut [&mut indexer, &mut tops])?;
    let stage = terminal::stage("weights");
    let weights = Weights::from_top_tokens(&tops, &opened.store)?;
    drop(stage);
    let mut rows: Vec<_> = (0..d_sae).map(|k| FeatureRow::counted(&indexer, k)).collect();
    weigh(&mut rows, &weights);
    let words = lens.map(|lens| {
        let bar = terminal::bar("words", d_sae as u64);
        let words = lens.words(&saved.w_dec, saved.d_in, &mut |features| bar.set_position(features));
        bar.finish_and_clear();
        words
    });
    let words = words.transpose()?;
    let stage = terminal::stage("typical words");
    let typical = index::typical_words(&opened.run, &indexer)?;
    drop(stage);
    let stage = terminal::stage("neighbors");
    let coactive = indexer.together.most();
    let neighbors = index::neighbors(saved);
    drop(stage);
    let dir = opened.run.features(&opened.name);
    let _lock = opened.run.lock()?;
    index::write_examples(&dir.join("examples.parquet"), &indexer)?;
    index::write_neighbors(&dir.join(Neighbor::FILE), &neighbors)?;
    index::write_lists(&dir.join(StrongestExample::FILE), d_sae, |k| indexer.strongest[k].rows())?;
    index::write_lists(&dir.join(TypicalWord::FILE), d_sae, |k| typical[k].clone())?;
    index::write_lists(&dir.join(Bin::FILE), d_sae, |k| indexer.histograms[k].bins().collect())?;
    index::write_lists(&dir.join(Coactive::FILE), d_sae, |k| coactive[k].clone())?;
    match words {
        Some(words) => index::write_lists(&dir.join(Word::FILE), d_sae, |k| words[k].clone())?,
        None => remove(&dir.join(Word::FILE))?,
    }
    index::write_features(&dir.join("features.parquet"), &rows)?;
    opened.run.write_step(
        &format!("index/{}", opened.name),
        &json!({
            "features": d_sae, "positions": indexer.positions, "threshold": threshold,
            "coactive": { "positions": indexer.together.counted(), "one_in": indexer.together.one_in() },
            "words_by": lens.map(LogitLens::folder),
        }),
    )?;
    Ok((rows, tops))
}

/// Words that an earlier index told by a model would be taken for words of this one.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Puts the weights into a feature table.
pub(super) fn weigh(rows: &mut [FeatureRow], weights: &Weights) {
    for row in rows {
        let k = row.feature as usize;
        let of = |weights: &[Option<f64>]| weights.get(k).copied().flatten();
        let corrected = weights.corrected.get(k).copied().flatten();
        (row.weight_paper, row.weight_release) = (of(&weights.paper), of(&weights.release));
        (row.weight_corrected, row.weight_se) = (corrected.map(|e| e.weight), corrected.map(|e| e.se));
    }
}

/// Number of features of each class.
pub fn classes(rows: &[FeatureRow]) -> BTreeMap<String, u64> {
    let mut classes = BTreeMap::new();
    rows.iter().for_each(|row| *classes.entry(row.class.clone()).or_default() += 1);
    classes
}
