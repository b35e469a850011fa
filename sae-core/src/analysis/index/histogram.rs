//! The distribution of a feature's activations: counts in bins of a quarter of an octave, by modality. The edges are the same for
//! all features, so that a pass need not know the largest activation in advance. Memory: the bins between the weakest and the
//! strongest activation seen.

use super::lists::Row;
use crate::table::{self, Column};
use crate::{Error, Result};
use arrow::array::{Float32Array, Int16Array, RecordBatch, UInt64Array};
use std::path::Path;

/// Bins per octave: bin `n` holds activations from `2^(n / 4)` up to `2^((n + 1) / 4)`.
pub const PER_OCTAVE: i16 = 4;
/// The lowest and the highest bin that a positive `f32` can be in.
const BINS: (i16, i16) = (-149 * PER_OCTAVE, 128 * PER_OCTAVE);

/// One bin of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bin {
    /// Its number.
    pub number: i16,
    /// Positions whose activation is in it.
    pub fires: u64,
    /// How many of them are text positions.
    pub fires_text: u64,
    /// How many of them are image positions.
    pub fires_image: u64,
}

impl Bin {
    /// The lower edge, which is inside, and the upper edge, which is not.
    pub fn edges(&self) -> (f32, f32) {
        let edge = |n: f32| (n / f32::from(PER_OCTAVE)).exp2();
        (edge(f32::from(self.number)), edge(f32::from(self.number) + 1.0))
    }
}

/// The bins of one feature.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    first: i16,
    /// Positions: all, text, image.
    bins: Vec<[u64; 3]>,
}

impl Histogram {
    /// Counts an activation above 0 on one of two sides, or elsewhere.
    pub fn add(&mut self, activation: f32, side: Option<usize>) {
        // Clamped, because the logarithm of infinity would otherwise allocate bins without bound.
        let number = (activation.log2() * f32::from(PER_OCTAVE)).floor() as i16;
        let counted = [true, side == Some(0), side == Some(1)].map(u64::from);
        self.count(number.clamp(BINS.0, BINS.1), counted);
    }

    /// Adds the counts of a bin of the same feature.
    pub(super) fn merge(&mut self, bin: Bin) {
        self.count(bin.number.clamp(BINS.0, BINS.1), [bin.fires, bin.fires_text, bin.fires_image]);
    }

    fn count(&mut self, number: i16, counted: [u64; 3]) {
        if self.bins.is_empty() {
            self.first = number;
        }
        if number < self.first {
            let missing = usize::from(self.first.abs_diff(number));
            self.bins.splice(0..0, std::iter::repeat_n([0; 3], missing));
            self.first = number;
        }
        let at = usize::from(number.abs_diff(self.first));
        if at >= self.bins.len() {
            self.bins.reserve_exact(at + 1 - self.bins.len());
            self.bins.resize(at + 1, [0; 3]);
        }
        self.bins[at].iter_mut().zip(counted).for_each(|(count, more)| *count += more);
    }

    /// The bins that are not empty, weakest first.
    pub fn bins(&self) -> impl Iterator<Item = Bin> {
        let bins = (self.first..).zip(&self.bins).filter(|(_, [fires, ..])| *fires > 0);
        bins.map(|(number, [fires, fires_text, fires_image])| Bin {
            number,
            fires: *fires,
            fires_text: *fires_text,
            fires_image: *fires_image,
        })
    }
}

impl Row for Bin {
    const FILE: &'static str = "histogram.parquet";

    fn columns(rows: &[(u32, Self)]) -> Vec<Column> {
        let edge =
            |field: fn((f32, f32)) -> f32| Float32Array::from_iter_values(rows.iter().map(|(_, b)| field(b.edges())));
        let count = |field: fn(&Bin) -> u64| UInt64Array::from_iter_values(rows.iter().map(|(_, b)| field(b)));
        vec![
            table::column("bin", Int16Array::from_iter_values(rows.iter().map(|(_, b)| b.number))),
            table::column("low", edge(|edges| edges.0)),
            table::column("high", edge(|edges| edges.1)),
            table::column("fires", count(|b| b.fires)),
            table::column("fires_text", count(|b| b.fires_text)),
            table::column("fires_image", count(|b| b.fires_image)),
        ]
    }

    fn read(path: &Path, batch: &RecordBatch, _: usize) -> Result<Vec<Self>> {
        let number = table::get::<Int16Array>(path, batch, "bin")?.values();
        let count = |name| Ok::<_, Error>(table::get::<UInt64Array>(path, batch, name)?.values());
        let (fires, fires_text, fires_image) = (count("fires")?, count("fires_text")?, count("fires_image")?);
        let bin = |n: usize| Bin {
            number: number[n],
            fires: fires[n],
            fires_text: fires_text[n],
            fires_image: fires_image[n],
        };
        Ok((0..batch.num_rows()).map(bin).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_activation_is_between_the_edges_of_its_bin(list in prop::collection::vec((-20f32..20.0, 0usize..3), 0..60)) {
            let scaled = |z: f32| f64::from(z).log2() * f64::from(PER_OCTAVE);
            // An edge itself may fall on either side, by the rounding of the logarithm.
            let clear = |z: &f32| (scaled(*z) - scaled(*z).round()).abs() > 1e-3;
            let list = list.into_iter().map(|(log, side)| (log.exp2(), Some(side).filter(|side| *side < 2)));
            let list: Vec<(f32, Option<usize>)> = list.filter(|(z, _)| clear(z)).collect();
            let mut histogram = Histogram::default();
            list.iter().for_each(|(z, side)| histogram.add(*z, *side));
            let bins: Vec<Bin> = histogram.bins().collect();
            prop_assert!(bins.is_sorted_by_key(|bin| bin.number));
            for bin in &bins {
                let (low, high) = bin.edges();
                let inside = |z: f32| scaled(z).floor() == f64::from(bin.number);
                prop_assert!(list.iter().filter(|(z, _)| inside(*z)).all(|(z, _)| low <= *z && *z < high));
                let count = |side| list.iter().filter(|(z, s)| inside(*z) && side == *s).count() as u64;
                prop_assert_eq!(bin.fires_text, count(Some(0)));
                prop_assert_eq!(bin.fires_image, count(Some(1)));
                prop_assert_eq!(bin.fires, bin.fires_text + bin.fires_image + count(None));
            }
            prop_assert_eq!(bins.iter().map(|bin| bin.fires).sum::<u64>(), list.len() as u64);
        }
    }

    #[test]
    fn no_activation_needs_more_bins_than_exist() {
        let mut histogram = Histogram::default();
        let extremes = [f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1)];
        extremes.iter().for_each(|z| histogram.add(*z, Some(0)));
        assert!(histogram.bins.len() <= usize::from(BINS.0.abs_diff(BINS.1)) + 1);
        assert_eq!(histogram.bins().map(|bin| bin.fires).sum::<u64>(), 4);
    }
}
