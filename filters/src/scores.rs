//! Scores of samples, each a small pure function of an active set, and the table `scores/<name>.parquet`.

use crate::active::ActiveSet;
use crate::{Error, Result};
use arrow::array::{Array, Float64Array, StringArray, UInt32Array};
use sae_core::sample::Sample;
use sae_core::table;
use std::collections::BTreeMap;
use std::path::Path;

/// `sum over k in F_i of w_k` (SAE-V, Algorithm 1); features without a weight add nothing.
pub fn cosine_paper(set: &ActiveSet, weights: &[Option<f64>]) -> f64 {
    // An empty sum of floats is -0.
    0.0 + set.features.iter().filter_map(|(k, _)| weights[*k as usize]).sum::<f64>()
}

/// `|F_i|`, the number of distinct active features (SAE-V, Algorithm 2).
pub fn l0_paper(set: &ActiveSet) -> f64 {
    set.features.len() as f64
}

/// The number of features active on a text token and on an image token (SAE-V, Algorithm 3).
pub fn co_l0_paper(set: &ActiveSet) -> f64 {
    set.features.iter().filter(|(_, sides)| sides.text && sides.image).count() as f64
}

/// A number between 0 and 1 that depends on the sample's id and the seed alone.
pub fn random(id: &str, seed: u64) -> f64 {
    // FNV-1a, finished by SplitMix64: the same on every machine.
    let bytes = id.bytes().chain(seed.to_le_bytes());
    let mut x = bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ b as u64).wrapping_mul(0x0100_0000_01b3));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// A sample's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The sample's id.
    pub id: String,
    /// Text positions.
    pub n_text: u32,
    /// Image positions.
    pub n_image: u32,
    /// Why the sample has no scores, if so.
    pub reason: Option<&'static str>,
}

/// Scores of all samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// A row a sample, by its number.
    pub rows: Vec<Row>,
    /// Columns by name, one value or none a row.
    pub columns: BTreeMap<String, Vec<Option<f64>>>,
}

/// Scores every sample: the paper's three rankings and a random one. Samples without text or image have none.
///
/// # Panics
/// If there are not as many sets as samples.
pub fn score(samples: &[Sample], sets: &[ActiveSet], weights: &[Option<f64>], seed: u64) -> Scores {
    assert_eq!(samples.len(), sets.len(), "a set for every sample");
    let rows: Vec<Row> = samples
        .iter()
        .zip(sets)
        .map(|(sample, set)| {
            let reason = match (set.n_text, set.n_image) {
                (0, _) => Some("no text"),
                (_, 0) => Some("no image"),
                _ => None,
            };
            Row { id: sample.id.clone(), n_text: set.n_text, n_image: set.n_image, reason }
        })
        .collect();
    let column = |name: &str, value: &dyn Fn(usize) -> f64| {
        let values = rows.iter().enumerate().map(|(n, row)| row.reason.is_none().then(|| value(n)));
        (name.to_string(), values.collect())
    };
    let columns = BTreeMap::from([
        column("cosine_paper", &|n| cosine_paper(&sets[n], weights)),
        column("l0_paper", &|n| l0_paper(&sets[n])),
        column("co_l0_paper", &|n| co_l0_paper(&sets[n])),
        column("random", &|n| random(&rows[n].id, seed)),
    ]);
    Scores { rows, columns }
}

impl Scores {
    /// Writes the table.
    pub fn write(&self, path: &Path) -> Result<()> {
        let count = |field: fn(&Row) -> u32| UInt32Array::from_iter_values(self.rows.iter().map(field));
        let mut columns: Vec<table::Column> = vec![
            table::column("sample", UInt32Array::from_iter_values(0..self.rows.len() as u32)),
            table::column("id", StringArray::from_iter_values(self.rows.iter().map(|r| &r.id))),
            table::column("n_text", count(|r| r.n_text)),
            table::column("n_image", count(|r| r.n_image)),
        ];
        for name in COLUMNS.iter().filter(|name| self.columns.contains_key(**name)) {
            columns.push(table::nullable(name, Float64Array::from_iter(self.columns[*name].iter().copied())));
        }
        columns.push(table::nullable("reason", StringArray::from_iter(self.rows.iter().map(|r| r.reason))));
        Ok(table::write(path, &table::batch(columns))?)
    }
}

/// Columns in the order of the table.
const COLUMNS: [&str; 4] = ["cosine_paper", "l0_paper", "co_l0_paper", "random"];

/// One column of a score table, with the ids of its rows.
pub fn read_column(path: &Path, name: &str) -> Result<Vec<(String, Option<f64>)>> {
    if !path.exists() {
        let path = path.to_path_buf();
        return Err(
            sae_core::Error::Run { cause: "there are no scores\nhint: run `sae score` first".into(), path }.into()
        );
    }
    let all = table::read(path, &[])?;
    let ids = table::get::<StringArray>(path, &all, "id")?;
    let Some(values) = all.column_by_name(name).and_then(|c| c.as_any().downcast_ref::<Float64Array>()) else {
        let schema = all.schema();
        let there: Vec<_> =
            schema.fields().iter().filter(|f| f.data_type().is_floating()).map(|f| f.name().as_str()).collect();
        return Err(Error::Request(format!("there is no score {name}; there are {}", there.join(", "))));
    };
    Ok((0..all.num_rows()).map(|n| (ids.value(n).into(), values.is_valid(n).then(|| values.value(n)))).collect())
}
