//! The paths of trees as rows: each is one conversation, with the images that it shows and the columns of its last message.

use super::candidates::Candidates;
use crate::dataset::Dataset;
use crate::{Error, Result};
use filters::write::Row;
use harvest::data::{Turn, TurnPart};
use harvest::{TreePath, tree_paths};
use sae_core::store::sample::Sample;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// Calls `take` with the row of every candidate, tree by tree.
///
/// # Errors
/// A file cannot be read; a message no longer exists or differs from the one that was harvested; whatever `take` returns.
pub(super) fn each(
    data: &Dataset,
    candidates: &Candidates,
    mut take: impl FnMut(usize, Row) -> Result<()>,
) -> Result<()> {
    let samples = candidates.all();
    // A message is named by its place and, where several are nested in a row, by its id.
    let name = |n: u32| {
        let sample = &samples[n as usize];
        sample.piece.as_ref().map(|piece| (sample.source.clone(), piece.branch.clone()))
    };
    let numbers = candidates.numbers();
    let mut places: HashMap<(String, String), usize> =
        numbers.iter().enumerate().filter_map(|(candidate, n)| Some((name(*n)?, candidate))).collect();
    let mut files = BTreeSet::new();
    for sample in samples {
        let no_place = || Error::NoPlace { sample: sample.id.clone(), source_row: sample.source.clone() };
        files.insert(sample.place().ok_or_else(no_place)?.0);
    }
    for row in data.trees(&files)? {
        let row = row?;
        // What belongs to no tree became no sample.
        let Ok(record) = row.record else { continue };
        for path in tree_paths(&record, &row.key, &row.source) {
            let named = (path.source.clone(), path.branch.clone());
            let Some(candidate) = places.remove(&named) else { continue };
            let sample = &samples[numbers[candidate] as usize];
            take(candidate, row_of(data, path, &record.images, sample, numbers[candidate])?)?;
        }
    }
    match places.len() {
        0 => Ok(()),
        missing => Err(Error::RowsMissing { missing, root: data.root.clone() }),
    }
}

/// The row of a path. `images` are those of its tree.
fn row_of(
    data: &Dataset,
    path: TreePath,
    images: &[harvest::data::ImageFile],
    sample: &Sample,
    number: u32,
) -> Result<Row> {
    let TreePath { mut turns, meta, .. } = path;
    let other = || Error::OtherRow { key: sample.key.clone(), source_row: sample.source.clone() };
    let shows_video = turns.iter().flat_map(|turn: &Turn| &turn.parts).any(|part| *part == TurnPart::Video);
    let mut shown = Vec::new();
    if shows_video {
        shown.extend(images.iter().cloned());
    }
    // In the row of a path, images are counted along the path.
    for part in turns.iter_mut().flat_map(|turn| &mut turn.parts) {
        if let TurnPart::Image(image) = part {
            let file = images.get(*image).ok_or_else(other)?;
            *image = shown.len();
            shown.push(file.clone());
        }
    }
    if shown.len() != sample.images.len() {
        return Err(other());
    }
    Ok(Row {
        number,
        id: sample.id.clone(),
        key: sample.key.clone(),
        source: data.place(sample),
        score: None,
        turns,
        pair: None,
        images: shown.into_iter().zip(&sample.images).map(|(image, known)| data.image(image, known)).collect(),
        columns: match meta {
            Value::Object(columns) => columns,
            _ => Default::default(),
        },
    })
}
