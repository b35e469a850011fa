//! Scores of samples, each a small pure function of the sample's pooled activations, and the table `scores/<name>.parquet`.
//!
//! | | `paper` | `release` | `corrected` |
//! |---|---|---|---|
//! | `cosine` | sum of the weights of the active features | the same for co-occurring features | as in the paper, with corrected weights, adjusted for length |
//! | `l0` | number of active features | active features per position, without the first position | as in the paper, adjusted for length |
//! | `co_l0` | number of co-occurring features | the same | the same, adjusted for length |
//!
//! `cosine_mean` ([`cosine_mean`]) is a mean rather than a sum, with the weights of the paper.
//!
//! *Active* means above the threshold on at least one position, and *co-occurring* on a text position and on an image position.
//! Each definition has its own positions ([`Definition`]) and weights ([`crate::weights`]). *Adjusted for length*: see
//! [`crate::length`]; only if it helps.

use crate::definition::{Definition, IMAGE, TEXT};
use crate::length::LengthModel;
use crate::pooling::{PooledSample, PooledStore};
use crate::score_names::{self, CO_L0, COSINE, COSINE_MEAN, L0, METHODS, RANDOM, column};
use crate::weights::Weights;
use crate::{Error, Result};
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow::datatypes::DataType;
use sae_core::random;
use sae_core::store::sample::Sample;
use sae_core::table;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// `sum over k in F_i of w_k` (SAE-V, Algorithm 1). Features without a weight contribute nothing.
pub fn cosine_paper(sample: &PooledSample, weights: &[Option<f64>]) -> f64 {
    cosine(sample, Definition::Paper, false, weights)
}

/// `|F_i|`, the number of distinct active features (SAE-V, Algorithm 2).
pub fn l0_paper(sample: &PooledSample) -> f64 {
    sample.active(Definition::Paper).count() as f64
}

/// The number of features that are active on a text token and on an image token (SAE-V, Algorithm 3).
pub fn co_l0_paper(sample: &PooledSample) -> f64 {
    co_l0(sample, Definition::Paper)
}

/// The sum of the weights of the co-occurring features, as in the released code.
pub fn cosine_release(sample: &PooledSample, weights: &[Option<f64>]) -> f64 {
    cosine(sample, Definition::Release, true, weights)
}

/// The mean number of features with `z > 0` per position, without the first position of the sample, as in the released code.
/// Nothing if there is no other position.
pub fn l0_release(sample: &PooledSample) -> Option<f64> {
    let positions = f64::from(sample.release_positions);
    (positions > 0.0).then(|| sample.release_fires as f64 / positions)
}

/// The number of co-occurring features, without the answer.
pub fn co_l0_release(sample: &PooledSample) -> f64 {
    co_l0(sample, Definition::Release)
}

/// The paper's sum over positions with content, with corrected weights. Not adjusted for length yet.
pub fn cosine_corrected(sample: &PooledSample, weights: &[Option<f64>]) -> f64 {
    cosine(sample, Definition::Corrected, false, weights)
}

/// `sum_k w_k x_k / sum_k x_k` over the features with a weight, where `x_k` is the sum of the feature's activations over all
/// positions with content (SAE-V, Fig. 2): the mean weight of what is active, which does not grow with the number of features.
/// Nothing if none is active.
pub fn cosine_mean(sample: &PooledSample, weights: &[Option<f64>]) -> Option<f64> {
    let (mut sum, mut total) = (0.0, 0.0);
    for feature in &sample.features {
        if let Some(weight) = weights[feature.feature as usize] {
            let x: f64 = feature.sum.iter().copied().map(f64::from).sum();
            (sum, total) = (sum + weight * x, total + x);
        }
    }
    (total > 0.0).then(|| sum / total)
}

/// The number of features that are active on positions with content. Not adjusted for length yet.
pub fn l0_corrected(sample: &PooledSample) -> f64 {
    sample.active(Definition::Corrected).count() as f64
}

/// The number of features that are active on text and on image positions with content. Not adjusted for length yet.
pub fn co_l0_corrected(sample: &PooledSample) -> f64 {
    co_l0(sample, Definition::Corrected)
}

fn cosine(sample: &PooledSample, mode: Definition, co_occurring: bool, weights: &[Option<f64>]) -> f64 {
    let counted = sample.active(mode).filter(|(_, sides)| !co_occurring || sides.both());
    // An empty sum of floats is -0.
    0.0 + counted.filter_map(|(k, _)| weights[k as usize]).sum::<f64>()
}

fn co_l0(sample: &PooledSample, mode: Definition) -> f64 {
    sample.active(mode).filter(|(_, sides)| sides.both()).count() as f64
}

/// A number between 0 and 1 that depends only on the sample's id and the seed.
pub fn random(id: &str, seed: u64) -> f64 {
    let hash = random::fnv1a(id.bytes().chain(seed.to_le_bytes()));
    random::unit(random::mix(hash))
}

/// Why a piece of a path that goes on in other pieces has no scores: the last one has those of the whole path.
pub const CONTINUED: &str = "continued by other pieces";
/// Why a piece that people say about an answer has no scores.
pub const CRITIQUE: &str = "critique of an answer";

/// The row of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The sample's id.
    pub id: String,
    /// Number of text positions.
    pub n_text: u32,
    /// Number of image positions.
    pub n_image: u32,
    /// Why the sample has no scores, if it has none.
    pub reason: Option<&'static str>,
}

/// The scores of all samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// One row per sample, in the order of their numbers.
    pub rows: Vec<Row>,
    /// The columns by name. A row may have no value.
    pub columns: BTreeMap<String, Vec<Option<f64>>>,
}

/// Models of scores as functions of the length, by column. They are fitted to the scored data or to other data.
pub type Usuals = BTreeMap<String, LengthModel>;

/// Scores every sample by the three methods of each definition, and at random. Samples without text or without an image have
/// no score, nor do pieces that others continue. Samples without *content* in one of them have no corrected score.
///
/// Corrected scores are adjusted by the models `usual`, if they are given. Returns the models that were used.
///
/// # Errors
/// The pooled samples cannot be read.
///
/// # Panics
/// If there are not as many pooled samples as samples.
pub fn score(
    samples: &[Sample],
    pooled: &PooledStore,
    weights: &Weights,
    modes: &[Definition],
    usual: Option<&Usuals>,
    seed: u64,
) -> Result<(Scores, Usuals)> {
    assert_eq!(samples.len(), pooled.samples(), "every sample was seen");
    let mut scores = Scores::default();
    let mut content = Vec::with_capacity(samples.len());
    let corrected = weights.corrected_weights();
    let mut continued = vec![false; samples.len()];
    let pieces = samples.iter().filter_map(|sample| sample.piece.as_ref());
    for parent in pieces.filter(|piece| !piece.is_critique).filter_map(|piece| piece.parent) {
        continued.get_mut(parent as usize).into_iter().for_each(|continued| *continued = true);
    }
    pooled.each(|n, sample| {
        let missing = |counts: [u32; 2], text, image| match () {
            () if counts[TEXT] == 0 => Some(text),
            () if counts[IMAGE] == 0 => Some(image),
            () => None,
        };
        let instead = match &samples[n].piece {
            Some(piece) if piece.is_critique => Some(CRITIQUE),
            _ => continued[n].then_some(CONTINUED),
        };
        let none = missing(sample.positions, "no text", "no image").map(|none| instead.unwrap_or(none));
        let empty = missing(sample.content, "no text with content", "no image with content");
        if modes.contains(&Definition::Paper) {
            let mean = cosine_mean(sample, &weights.paper).filter(|_| none.is_none());
            scores.columns.entry(COSINE_MEAN.into()).or_default().push(mean);
        }
        let mut put = |mode: Definition, values: [(&str, Option<f64>); 3]| {
            let scored = none.is_none() && (mode != Definition::Corrected || empty.is_none());
            for (method, value) in values {
                let column = scores.columns.entry(column(method, mode)).or_default();
                column.push(value.filter(|_| scored));
            }
        };
        for mode in modes {
            let [cosine, l0, co_l0] = match mode {
                Definition::Paper => {
                    [cosine_paper(sample, &weights.paper).into(), l0_paper(sample).into(), co_l0_paper(sample).into()]
                }
                Definition::Release => {
                    [cosine_release(sample, &weights.release).into(), l0_release(sample), co_l0_release(sample).into()]
                }
                Definition::Corrected => [
                    cosine_corrected(sample, &corrected).into(),
                    l0_corrected(sample).into(),
                    co_l0_corrected(sample).into(),
                ],
            };
            put(*mode, [(COSINE, cosine), (L0, l0), (CO_L0, co_l0)]);
        }
        let id = &samples[n].id;
        scores.columns.entry(RANDOM.into()).or_default().push(none.is_none().then(|| random(id, seed)));
        let [n_text, n_image] = sample.positions;
        scores.rows.push(Row { id: id.clone(), n_text, n_image, reason: none.or(empty) });
        content.push(sample.content);
        Ok::<_, Error>(())
    })?;
    let usuals = adjust(&mut scores, &content, usual);
    Ok((scores, usuals))
}

/// Adjusts the corrected scores for length.
fn adjust(scores: &mut Scores, content: &[[u32; 2]], usual: Option<&Usuals>) -> Usuals {
    let mut used = Usuals::new();
    for name in METHODS.map(|method| column(method, Definition::Corrected)) {
        let Some(values) = scores.columns.get_mut(&name) else { continue };
        let fitted = || {
            let scored = values.iter().zip(content).filter_map(|(value, length)| Some(((*value)?, *length)));
            let scored: Vec<_> = scored.collect();
            LengthModel::fit(&scored).filter(|usual| usual.helps(&scored))
        };
        let Some(usual) = usual.map_or_else(fitted, |usual| usual.get(&name).cloned()) else { continue };
        for (value, length) in values.iter_mut().zip(content) {
            *value = value.map(|x| usual.adjust(x, *length));
        }
        used.insert(name, usual);
    }
    used
}

impl Scores {
    /// Adds the scores of rejected answers to the same rows as `<score>_rejected`, and the difference of the score from it as
    /// `<score>_margin`. `pair` has the row of `rejected` that corresponds to each row.
    pub fn add_rejected(&mut self, rejected: &Self, pair: &[Option<usize>]) {
        for (name, chosen) in self.columns.clone() {
            let Some(other) = rejected.columns.get(&name).filter(|_| name != RANDOM) else { continue };
            let of: Vec<_> = pair.iter().map(|row| row.and_then(|row| other[row])).collect();
            let margin = chosen.iter().zip(&of).map(|(chosen, other)| Some((*chosen)? - (*other)?)).collect();
            self.columns.insert(format!("{name}_rejected"), of);
            self.columns.insert(format!("{name}_margin"), margin);
        }
    }

    /// The names of the columns in the order of the table.
    pub fn names(&self) -> Vec<&str> {
        let order = score_names::columns();
        let base = |name: &str| -> (usize, usize) {
            let (stem, kind) = ["_rejected", "_margin"]
                .iter()
                .zip(1..)
                .find_map(|(end, kind)| Some((name.strip_suffix(end)?, kind)))
                .unwrap_or((name, 0));
            (kind, order.iter().position(|c| c == stem).unwrap_or(order.len()))
        };
        let mut names: Vec<&str> = self.columns.keys().map(String::as_str).collect();
        names.sort_by_key(|name| base(name));
        names
    }

    /// Writes the table of the autoencoder `sae`. It always has the same columns; those that were not computed are null. (Only
    /// the columns of rejected answers may be absent.)
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path, sae: &str) -> Result<()> {
        let rows = self.rows.len();
        let count = |field: fn(&Row) -> u32| UInt32Array::from_iter_values(self.rows.iter().map(field));
        let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("sample", Arc::new(UInt32Array::from_iter_values(0..rows as u32)), false),
            ("id", Arc::new(StringArray::from_iter_values(self.rows.iter().map(|r| &r.id))), false),
            ("sae", Arc::new(StringArray::from_iter_values(std::iter::repeat_n(sae, rows))), false),
            ("n_text", Arc::new(count(|r| r.n_text)), false),
            ("n_image", Arc::new(count(|r| r.n_image)), false),
        ];
        let order = score_names::columns();
        let more = self.names().into_iter().filter(|name| !order.iter().any(|known| known == name));
        for name in order.iter().map(String::as_str).chain(more) {
            let values: ArrayRef = match self.columns.get(name) {
                Some(values) => Arc::new(Float64Array::from_iter(values.iter().copied())),
                None => new_null_array(&DataType::Float64, rows),
            };
            columns.push((name, values, true));
        }
        columns.push(("reason", Arc::new(StringArray::from_iter(self.rows.iter().map(|r| r.reason))), true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).map_err(sae_core::Error::format(path))?;
        Ok(table::write(path, &batch)?)
    }
}
