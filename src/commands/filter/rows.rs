//! The rows that samples came from, read again from the data set, as the writers of `filters` take them.

use anyhow::{Result, bail};
use filters::write::{Image, Part, Row, Turn};
use harvest::data::{self, ImageFile, Mapping, Record, Source};
use sae_core::sample::Sample;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Hands over the row of every wanted sample, by its number, in the order of the data.
///
/// # Errors
/// A file that cannot be read; a row that is not there any more, or another than the one that was harvested.
pub(in crate::commands) fn each(
    root: &Path,
    mapping: &Mapping,
    samples: &[Sample],
    wanted: impl Fn(usize) -> bool,
    mut take: impl FnMut(usize, Row) -> Result<()>,
) -> Result<()> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let (mut files, mut seen) = (Vec::new(), HashSet::new());
    for (n, sample) in samples.iter().enumerate().filter(|(n, _)| wanted(*n)) {
        let Some((file, _)) = sample.source.rsplit_once(':') else {
            bail!("the sample {} does not say where it came from: {}", sample.id, sample.source);
        };
        if seen.insert(file) {
            files.push(file);
        }
        places.insert(&sample.source, n);
    }
    let pictures = files.first().is_some_and(|file| is_picture(Path::new(file)));
    for file in if pictures { vec![""] } else { files } {
        let (source, folder) = match pictures {
            true => (Source::open(root)?, Path::new("")),
            false => (Source::open(&root.join(file))?, Path::new(file).parent().unwrap_or(Path::new(""))),
        };
        for row in source.rows(mapping)? {
            let row = row?;
            let place = match row.source.rsplit_once(':') {
                Some((_, number)) if !pictures => format!("{file}:{number}"),
                _ => row.source.clone(),
            };
            let Some(n) = places.remove(place.as_str()) else { continue };
            let record = match row.record {
                Ok(record) => record,
                Err(reason) => bail!("the row has changed since it was harvested ({reason}): {place}"),
            };
            // Names of pictures are relative to their own folders.
            let folder = if pictures { Path::new(&place).parent().unwrap_or(folder) } else { folder };
            let own_key = row.key != row.number.to_string();
            take(n, understood(record, own_key.then_some(&row.key), &samples[n], n, folder)?)?;
        }
    }
    match places.len() {
        0 => Ok(()),
        missing => bail!("{missing} rows are not there any more: the data set has changed: {}", root.display()),
    }
}

fn is_picture(path: &Path) -> bool {
    let known = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];
    path.extension().is_some_and(|extension| known.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

fn understood(record: Record, key: Option<&String>, sample: &Sample, n: usize, folder: &Path) -> Result<Row> {
    let same_key = key.is_none_or(|key| *key == sample.key);
    if !same_key || record.images.len() != sample.images.len() {
        bail!("the row is another than the one that was harvested as {}: {}", sample.key, sample.source);
    }
    let part = |part: data::Part| match part {
        data::Part::Text(text) => Part::Text(text),
        data::Part::Image(_) => Part::Image,
    };
    let turn = |turn: data::Turn| Turn { role: turn.role, parts: turn.parts.into_iter().map(part).collect() };
    let image = |(image, known): (ImageFile, &sae_core::sample::ImageRef)| {
        let own = image.bytes.is_none() && !image.path.contains("://");
        let name = if own { folder.join(&image.path) } else { PathBuf::from(&image.path) };
        Image { name, file: image.file, bytes: image.bytes, sha256: known.sha256.clone() }
    };
    Ok(Row {
        number: n as u32,
        key: sample.key.clone(),
        turns: record.turns.into_iter().map(turn).collect(),
        pair: record.pair.map(|pair| [pair.chosen, pair.rejected]),
        images: record.images.into_iter().zip(&sample.images).map(image).collect(),
        meta: match record.meta {
            Value::Object(meta) => meta,
            _ => Default::default(),
        },
    })
}
