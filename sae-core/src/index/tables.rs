//! `features.parquet`, `examples.parquet`, `neighbours.parquet`: their columns, written and read.

use super::{Example, Indexer, Neighbour};
use crate::sample::Modality;
use crate::{Error, Result, table};
use arrow::array::{Float32Array, Float64Array, StringArray, UInt8Array, UInt32Array, UInt64Array};
use std::path::Path;

/// A row of `features.parquet`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureRow {
    /// Number of the feature.
    pub feature: u32,
    /// Positions where it fires.
    pub fires: u64,
    /// Text positions where it fires.
    pub fires_text: u64,
    /// Image positions where it fires.
    pub fires_image: u64,
    /// Share of positions where it fires.
    pub density: f64,
    /// Largest activation.
    pub max: f32,
    /// Mean activation where it fires.
    pub mean: f32,
    /// `text`, `image`, `cross` or `dead`.
    pub class: String,
    /// Cross-modal weight as published.
    pub weight_paper: Option<f64>,
    /// Cross-modal weight as released.
    pub weight_release: Option<f64>,
    /// Cross-modal weight without the baseline of random pairs.
    pub weight_corrected: Option<f64>,
    /// Standard error of the corrected weight.
    pub weight_se: Option<f64>,
}

impl FeatureRow {
    /// The counted part of the row; the weights are left open.
    pub fn counted(index: &Indexer, feature: usize) -> Self {
        let counts = &index.counts[feature];
        Self {
            feature: feature as u32,
            fires: counts.fires,
            fires_text: counts.fires_text,
            fires_image: counts.fires_image,
            density: index.density(feature),
            max: counts.max,
            mean: (counts.sum / (counts.fires as f64).max(1.0)) as f32,
            class: index.class(feature).name().into(),
            ..Self::default()
        }
    }
}

/// One of the four weights of a row.
type Weight = (&'static str, fn(&mut FeatureRow) -> &mut Option<f64>);

const WEIGHTS: [Weight; 4] = [
    ("weight_paper", |r| &mut r.weight_paper),
    ("weight_release", |r| &mut r.weight_release),
    ("weight_corrected", |r| &mut r.weight_corrected),
    ("weight_se", |r| &mut r.weight_se),
];

/// Writes `features.parquet`.
pub fn write_features(path: &Path, rows: &[FeatureRow]) -> Result<()> {
    let count = |field: fn(&FeatureRow) -> u64| UInt64Array::from_iter_values(rows.iter().map(field));
    let real = |field: fn(&FeatureRow) -> f32| Float32Array::from_iter_values(rows.iter().map(field));
    let mut columns = vec![
        table::column("feature", UInt32Array::from_iter_values(rows.iter().map(|r| r.feature))),
        table::column("fires", count(|r| r.fires)),
        table::column("fires_text", count(|r| r.fires_text)),
        table::column("fires_image", count(|r| r.fires_image)),
        table::column("density", Float64Array::from_iter_values(rows.iter().map(|r| r.density))),
        table::column("max", real(|r| r.max)),
        table::column("mean", real(|r| r.mean)),
        table::column("class", StringArray::from_iter_values(rows.iter().map(|r| &r.class))),
    ];
    for (name, field) in WEIGHTS {
        let values = rows.iter().map(|r| *field(&mut r.clone()));
        columns.push(table::nullable(name, Float64Array::from_iter(values)));
    }
    table::write(path, &table::batch(columns))
}

/// Reads `features.parquet`.
pub fn read_features(path: &Path) -> Result<Vec<FeatureRow>> {
    let batch = table::read(path, &[])?;
    let count = |name| table::get::<UInt64Array>(path, &batch, name);
    let real = |name| table::get::<Float32Array>(path, &batch, name);
    let feature = table::get::<UInt32Array>(path, &batch, "feature")?;
    let (fires, fires_text, fires_image) = (count("fires")?, count("fires_text")?, count("fires_image")?);
    let density = table::get::<Float64Array>(path, &batch, "density")?;
    let (max, mean) = (real("max")?, real("mean")?);
    let class = table::get::<StringArray>(path, &batch, "class")?;
    let mut rows: Vec<_> = (0..batch.num_rows())
        .map(|row| FeatureRow {
            feature: feature.value(row),
            fires: fires.value(row),
            fires_text: fires_text.value(row),
            fires_image: fires_image.value(row),
            density: density.value(row),
            max: max.value(row),
            mean: mean.value(row),
            class: class.value(row).into(),
            ..FeatureRow::default()
        })
        .collect();
    for (name, field) in WEIGHTS {
        let values = table::get::<Float64Array>(path, &batch, name)?;
        rows.iter_mut().zip(values).for_each(|(row, value)| *field(row) = value);
    }
    Ok(rows)
}

/// Writes `examples.parquet`: every feature's examples, group by group, best first.
pub fn write_examples(path: &Path, index: &Indexer) -> Result<()> {
    let mut rows: Vec<(u32, u8, u32, Example)> = Vec::new();
    for feature in 0..index.counts.len() {
        let (mut group, mut rank) = (0, 0);
        for (own, example) in index.examples.of(feature) {
            rank = if own == group { rank } else { 0 };
            group = own;
            rows.push((feature as u32, group, rank, *example));
            rank += 1;
        }
    }
    table::write(
        path,
        &table::batch(vec![
            table::column("feature", UInt32Array::from_iter_values(rows.iter().map(|r| r.0))),
            table::column("group", UInt8Array::from_iter_values(rows.iter().map(|r| r.1))),
            table::column("rank", UInt32Array::from_iter_values(rows.iter().map(|r| r.2))),
            table::column("sample", UInt32Array::from_iter_values(rows.iter().map(|r| r.3.sample))),
            table::column("position", UInt32Array::from_iter_values(rows.iter().map(|r| r.3.position))),
            table::column("modality", UInt8Array::from_iter_values(rows.iter().map(|r| r.3.modality as u8))),
            table::column("activation", Float32Array::from_iter_values(rows.iter().map(|r| r.3.activation))),
        ]),
    )
}

/// Reads `examples.parquet`: for every feature its examples with their group, in the order written.
pub fn read_examples(path: &Path, d_sae: usize) -> Result<Vec<Vec<(u8, Example)>>> {
    let batch = table::read(path, &[])?;
    let number = |name| Ok::<_, Error>(table::get::<UInt32Array>(path, &batch, name)?.values());
    let small = |name| Ok::<_, Error>(table::get::<UInt8Array>(path, &batch, name)?.values());
    let (feature, sample, position) = (number("feature")?, number("sample")?, number("position")?);
    let (group, modality) = (small("group")?, small("modality")?);
    let activation = table::get::<Float32Array>(path, &batch, "activation")?.values();
    let mut lists = vec![Vec::new(); d_sae];
    for row in 0..batch.num_rows() {
        let list = lists
            .get_mut(feature[row] as usize)
            .ok_or_else(|| Error::format(path)(format!("feature {} of {d_sae}", feature[row])))?;
        let modality = Modality::try_from(modality[row]).map_err(Error::format(path))?;
        let example = Example { activation: activation[row], sample: sample[row], position: position[row], modality };
        list.push((group[row], example));
    }
    Ok(lists)
}

/// Writes `neighbours.parquet`.
pub fn write_neighbours(path: &Path, lists: &[Vec<Neighbour>]) -> Result<()> {
    let rows = || lists.iter().enumerate().flat_map(|(k, list)| list.iter().enumerate().map(move |(r, n)| (k, r, n)));
    table::write(
        path,
        &table::batch(vec![
            table::column("feature", UInt32Array::from_iter_values(rows().map(|(k, ..)| k as u32))),
            table::column("rank", UInt32Array::from_iter_values(rows().map(|(_, r, _)| r as u32))),
            table::column("neighbour", UInt32Array::from_iter_values(rows().map(|(.., n)| n.feature))),
            table::column("cosine", Float32Array::from_iter_values(rows().map(|(.., n)| n.cosine))),
        ]),
    )
}

/// Reads `neighbours.parquet`: for every feature its neighbours, nearest first.
pub fn read_neighbours(path: &Path, d_sae: usize) -> Result<Vec<Vec<Neighbour>>> {
    let batch = table::read(path, &[])?;
    let number = |name| Ok::<_, Error>(table::get::<UInt32Array>(path, &batch, name)?.values());
    let (feature, neighbour) = (number("feature")?, number("neighbour")?);
    let cosine = table::get::<Float32Array>(path, &batch, "cosine")?.values();
    let mut lists = vec![Vec::new(); d_sae];
    for row in 0..batch.num_rows() {
        let (own, other) = (feature[row] as usize, neighbour[row]);
        if own >= d_sae || other as usize >= d_sae {
            return Err(Error::format(path)(format!("features {own} and {other} of {d_sae}")));
        }
        lists[own].push(Neighbour { feature: other, cosine: cosine[row] });
    }
    Ok(lists)
}
