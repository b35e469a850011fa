//! `features.parquet`, a row for each feature: written and read. Tables with several rows for each feature are [`super::Lists`].

use super::Indexer;
use crate::{Result, table};
use arrow::array::{Float32Array, Float64Array, StringArray, UInt32Array, UInt64Array};
use std::path::Path;

/// A row of `features.parquet`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureRow {
    /// Number of the feature.
    pub feature: u32,
    /// Positions where it fires.
    pub fires: u64,
    /// Text positions where it fires, or those of the first side.
    pub fires_text: u64,
    /// Image positions where it fires, or those of the second side.
    pub fires_image: u64,
    /// Share of positions where it fires.
    pub density: f64,
    /// Largest activation.
    pub max: f32,
    /// Largest activation on text; 0 if there is none.
    pub max_text: f32,
    /// Largest activation on images; 0 if there is none.
    pub max_image: f32,
    /// Mean activation where it fires.
    pub mean: f32,
    /// `text`, `image`, `cross`, `action` or `dead`; the names of other sides in place of text and image, and `other`.
    pub class: String,
    /// Cross-modal weight as in the SAE-V paper.
    pub weight_paper: Option<f64>,
    /// Cross-modal weight as in the released code of SAE-V.
    pub weight_release: Option<f64>,
    /// Cross-modal weight without the baseline of random pairs.
    pub weight_corrected: Option<f64>,
    /// Standard error of the corrected weight.
    pub weight_se: Option<f64>,
}

impl FeatureRow {
    /// The counts of a feature; the weights stay empty.
    pub fn counted(index: &Indexer, feature: usize) -> Self {
        let counts = &index.counts[feature];
        Self {
            feature: feature as u32,
            fires: counts.fires,
            fires_text: counts.fires_text,
            fires_image: counts.fires_image,
            density: index.density(feature),
            max: counts.max,
            max_text: counts.max_text,
            max_image: counts.max_image,
            mean: (counts.sum / (counts.fires as f64).max(1.0)) as f32,
            class: index.class(feature).name(&index.sides),
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
///
/// # Errors
/// The file cannot be written.
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
        table::column("max_text", real(|r| r.max_text)),
        table::column("max_image", real(|r| r.max_image)),
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
///
/// # Errors
/// The file is missing or is not such a table.
pub fn read_features(path: &Path) -> Result<Vec<FeatureRow>> {
    let batch = table::read(path, &[])?;
    let count = |name| table::get::<UInt64Array>(path, &batch, name);
    let real = |name| table::get::<Float32Array>(path, &batch, name);
    let feature = table::get::<UInt32Array>(path, &batch, "feature")?;
    let (fires, fires_text, fires_image) = (count("fires")?, count("fires_text")?, count("fires_image")?);
    let density = table::get::<Float64Array>(path, &batch, "density")?;
    let (max, mean) = (real("max")?, real("mean")?);
    let (max_text, max_image) = (real("max_text")?, real("max_image")?);
    let class = table::get::<StringArray>(path, &batch, "class")?;
    let mut rows: Vec<_> = (0..batch.num_rows())
        .map(|row| FeatureRow {
            feature: feature.value(row),
            fires: fires.value(row),
            fires_text: fires_text.value(row),
            fires_image: fires_image.value(row),
            density: density.value(row),
            max: max.value(row),
            max_text: max_text.value(row),
            max_image: max_image.value(row),
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
