//! Nearest features by the cosine of their decoder directions. Tile by tile: never a `[d_sae, d_sae]` matrix.

use super::lists::{Row, place, ranks, write_lists};
use crate::autoencoder::Weights;
use crate::table::{self, Column};
use crate::{Error, Result};
use arrow::array::{Float32Array, RecordBatch, UInt32Array};
use ndarray::{ArrayView1, ArrayView2, s};
use rayon::prelude::*;
use std::path::Path;

/// Neighbors kept for each feature.
pub const NEIGHBORS: usize = 10;

/// A feature whose decoder direction is similar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbor {
    /// The other feature.
    pub feature: u32,
    /// Cosine of the two directions.
    pub cosine: f32,
}

/// For every feature, its [`NEIGHBORS`] nearest other features, nearest first.
pub fn neighbors(weights: &Weights) -> Vec<Vec<Neighbor>> {
    let order = |a: &Neighbor, b: &Neighbor| b.cosine.total_cmp(&a.cosine).then(a.feature.cmp(&b.feature));
    with_cosines(&weights.w_dec, weights.d_out(), |feature, cosines| {
        let mut list = Vec::with_capacity(NEIGHBORS + 1);
        for (other, cosine) in cosines.iter().enumerate().filter(|(other, _)| *other != feature) {
            place(&mut list, Neighbor { feature: other as u32, cosine: *cosine }, NEIGHBORS, order);
        }
        list
    })
}

/// For every row of `[rows, width]`, its cosine with the nearest other one.
pub fn nearest_cosines(rows: &[f32], width: usize) -> Vec<f32> {
    with_cosines(rows, width, |row, cosines| {
        let others = cosines.iter().enumerate().filter(|(n, _)| *n != row);
        others.map(|(_, cosine)| *cosine).fold(f32::NEG_INFINITY, f32::max)
    })
}

/// Calls `see` with every row's number and its cosines with all rows; returns the results in the order of the rows.
fn with_cosines<T: Send>(rows: &[f32], width: usize, see: impl Fn(usize, ArrayView1<f32>) -> T + Sync) -> Vec<T> {
    let count = rows.len() / width;
    let mut unit = rows.to_vec();
    unit.par_chunks_mut(width).for_each(|row| {
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        row.iter_mut().for_each(|v| *v /= norm);
    });
    let unit = ArrayView2::from_shape((count, width), &unit).expect("rows of one width");
    const TILE: usize = 64;
    let tiles: Vec<_> = (0..count).step_by(TILE).collect();
    tiles
        .par_iter()
        .flat_map_iter(|start| {
            let tile = *start..(start + TILE).min(count);
            let cosines = unit.slice(s![tile.clone(), ..]).dot(&unit.t());
            tile.zip(cosines.outer_iter()).map(|(row, cosines)| see(row, cosines)).collect::<Vec<_>>()
        })
        .collect()
}

/// Writes `neighbours.parquet`.
///
/// # Errors
/// The file cannot be written.
pub fn write_neighbors(path: &Path, lists: &[Vec<Neighbor>]) -> Result<()> {
    write_lists(path, lists.len(), |k| lists[k].clone())
}

impl Row for Neighbor {
    // The British spelling is the one that other programs read (FORMATS.md).
    const FILE: &'static str = "neighbours.parquet";

    fn columns(rows: &[(u32, Self)]) -> Vec<Column> {
        vec![
            table::column("rank", ranks(rows, |_, _| true)),
            table::column("neighbor", UInt32Array::from_iter_values(rows.iter().map(|(_, n)| n.feature))),
            table::column("cosine", Float32Array::from_iter_values(rows.iter().map(|(_, n)| n.cosine))),
        ]
    }

    fn read(path: &Path, batch: &RecordBatch, d_sae: usize) -> Result<Vec<Self>> {
        let neighbor = table::get::<UInt32Array>(path, batch, "neighbor")?.values();
        let cosine = table::get::<Float32Array>(path, batch, "cosine")?.values();
        if let Some(wrong) = neighbor.iter().find(|neighbor| **neighbor as usize >= d_sae) {
            return Err(Error::format(path)(format!("neighbor is {wrong} of {d_sae} features")));
        }
        Ok(neighbor
            .iter()
            .zip(cosine)
            .map(|(feature, cosine)| Neighbor { feature: *feature, cosine: *cosine })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbors_agree_with_all_pairs() {
        let (d, f) = (5, 150);
        let w_dec: Vec<f32> = (0..d * f).map(|i| ((i * 7919 % 1013) as f32 / 1013.0) - 0.5).collect();
        let weights = Weights { d_in: d, d_sae: f, w_dec, ..Weights::default() };
        let cosine = |a: usize, b: usize| {
            let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
            let (x, y) = (weights.direction(a), weights.direction(b));
            dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
        };
        for (feature, list) in neighbors(&weights).iter().enumerate() {
            let mut others: Vec<f32> = (0..f).filter(|k| *k != feature).map(|k| cosine(feature, k)).collect();
            others.sort_by(|a, b| b.total_cmp(a));
            assert_eq!(list.len(), NEIGHBORS);
            for (found, expected) in list.iter().zip(others) {
                assert!((found.cosine - expected).abs() < 1e-5 && found.feature as usize != feature);
            }
        }
        let nearest = nearest_cosines(&weights.w_dec, d);
        assert!(nearest.iter().zip(neighbors(&weights)).all(|(cosine, list)| *cosine == list[0].cosine));
    }
}
