//! `sae index`: one pass that writes what every feature does - `features/<name>/*.parquet`.

use super::{Opened, Outcome};
use crate::args::Index;
use crate::terminal::{count, table};
use anyhow::Result;
use filters::tops::TopTokens;
use filters::weights::Weights;
use sae_core::index::{self, FeatureRow, Indexer};
use serde_json::json;
use std::collections::BTreeMap;

/// Runs the command.
pub fn run(args: &Index, dry: bool) -> Result<Outcome> {
    let opened = Opened::new(&args.of)?;
    if dry {
        return opened.plan("index", json!({}));
    }
    let (rows, _) = build(&opened, args.threshold.value)?;
    let classes = classes(&rows);
    let weighted = rows.iter().filter(|r| r.weight_paper.is_some()).count();
    let mut lines: Vec<_> = classes.iter().map(|(class, n)| vec![class.clone(), count(*n)]).collect();
    lines.push(vec!["with a cross-modal weight".into(), count(weighted as u64)]);
    let place = opened.run.features(&opened.name);
    let text = format!("{} features\n{}  {}", count(rows.len() as u64), table(&lines), place.display());
    Outcome::new(json!({ "features": rows.len(), "classes": classes, "weighted": weighted }), text)
}

/// Builds and writes the index; returns its feature table and the tokens behind the weights.
pub(super) fn build(opened: &Opened, threshold: f32) -> Result<(Vec<FeatureRow>, TopTokens)> {
    let d_sae = opened.saved.weights.d_sae;
    let (mut indexer, mut tops) = (Indexer::new(d_sae), TopTokens::new(d_sae, threshold));
    opened.pass("index", &mut [&mut indexer, &mut tops])?;
    let weights = Weights::of(&tops, &opened.store)?;
    let mut rows: Vec<_> = (0..d_sae).map(|k| FeatureRow::counted(&indexer, k)).collect();
    weigh(&mut rows, &weights);
    let dir = opened.run.features(&opened.name);
    let _lock = opened.run.lock()?;
    index::write_examples(&dir.join("examples.parquet"), &indexer)?;
    index::write_neighbours(&dir.join("neighbours.parquet"), &index::neighbours(&opened.saved.weights))?;
    index::write_features(&dir.join("features.parquet"), &rows)?;
    opened.run.note(
        &format!("index/{}", opened.name),
        &json!({ "features": d_sae, "positions": indexer.positions, "threshold": threshold }),
    )?;
    Ok((rows, tops))
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
