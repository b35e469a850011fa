//! Rows of `f32` as 16-bit integers, with the error of the rounding.
//!
//! A row `v` becomes integers `q` and a unit `s` with `v = s q + s delta`: the unit is chosen so that `|q|` is close to
//! `REACH`, whatever outliers the row has. By Cauchy and Schwarz, a sum of products of two such rows fits `i32`, and
//! `|delta|` bounds the error of their dot product (`Quantized::margin`).

use crate::vector::norm_sq;
use rayon::prelude::*;

/// Features of a panel.
pub const WIDTH: usize = 16;

/// Largest norm of a quantized row before rounding: `45,000^2` and what the rounding adds stay below `2^31`.
const REACH: f32 = 45_000.0;
/// Largest norm of a quantized row after rounding, for rows of up to 2^18 values (`REACH + sqrt(2^18) / 2`).
pub(super) const REACHED: f32 = 45_256.0;

/// Two neighboring values of a row: what the processor multiplies and adds in one lane.
pub(super) type Pair = [i16; 2];

/// Rounds a row; returns its unit and the norm of the rounding error, in units.
#[inline(always)]
fn quantize(row: &[f32], out: &mut [i16]) -> (f32, f32) {
    let mut by_norm = REACH / norm_sq(row).sqrt();
    if by_norm == 0.0 {
        // The sum of squares has overflowed; the norm itself may.
        by_norm = (f64::from(REACH) / row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()) as f32;
    }
    // Non-negative floats have the order of their bits, and integers have a maximum instruction.
    let largest = f32::from_bits(row.iter().fold(0, |most, v| most.max(v.to_bits() & 0x7fff_ffff)));
    let by_value = 32_767.0 / largest;
    let per_unit = if by_norm < by_value { by_norm } else { by_value };
    if !per_unit.is_finite() {
        // Zeros, or values whose inverse overflows: below 1e-33 a row counts as zero.
        out.fill(0);
        return (0.0, 0.0);
    }
    let mut lost = [0f32; 16];
    let (rows, tail) = row.as_chunks::<16>();
    let (outs, out_tail) = out.split_at_mut(rows.len() * 16);
    for (row, out) in rows.iter().zip(outs.as_chunks_mut::<16>().0) {
        for lane in 0..16 {
            let (rounded, off) = round(row[lane] * per_unit);
            out[lane] = rounded;
            lost[lane] += off * off;
        }
    }
    out_tail.fill(0);
    for ((value, out), lost) in tail.iter().zip(out_tail).zip(&mut lost) {
        let (rounded, off) = round(value * per_unit);
        *out = rounded;
        *lost += off * off;
    }
    // The rounding of the scaled value itself is part of the error: at most 2^-24 of the value, REACH 2^-24 of the row.
    let lost = lost.iter().sum::<f32>().sqrt() * 1.001 + REACH * f32::EPSILON;
    (1.0 / per_unit, lost)
}

/// The nearest integer to a value of at most 32,767, and the difference.
#[inline(always)]
fn round(value: f32) -> (i16, f32) {
    // Beyond 2^23 floats are integers: adding 1.5 * 2^23 rounds, and leaves the integer in the lowest bits.
    const INTEGERS: f32 = 12_582_912.0;
    let shifted = value + INTEGERS;
    (shifted.to_bits() as i16, value - (shifted - INTEGERS))
}

/// Width of a quantized row: an even number.
fn padded(d_in: usize) -> usize {
    d_in.next_multiple_of(2)
}

/// Rows as they are multiplied with the panels: `[rows, d_in]`, each with its unit and its margin.
pub(super) struct Quantized {
    values: Vec<i16>,
    d: usize,
    pub(super) units: Vec<f32>,
    /// For every row, [`Self::margin`] in its own units.
    pub(super) margins: Vec<f32>,
}

impl Quantized {
    /// Quantizes rows for products with `panels`.
    #[inline(always)]
    pub(super) fn new(x: &[f32], d_in: usize, panels: &Panels) -> Self {
        let (rows, d) = (x.len() / d_in, padded(d_in));
        let mut quantized =
            Self { values: vec![0; rows * d], d, units: Vec::with_capacity(rows), margins: Vec::with_capacity(rows) };
        for (row, out) in x.chunks_exact(d_in).zip(quantized.values.chunks_exact_mut(d)) {
            let (unit, lost) = quantize(row, out);
            quantized.units.push(unit);
            quantized.margins.push(unit * Self::margin(lost, panels.lost, d_in));
        }
        quantized
    }

    /// How far `unit_x unit_w sum q_x q_w` may be from the dot product that `vector::dot` computes, in units of both.
    ///
    /// With `x = q_x + e_x` and `w = q_w + e_w` in units, `x w - q_x q_w = e_x w + q_x e_w`, so Cauchy and Schwarz bound it
    /// by `|e_x| |w| + |q_x| |e_w|`. The `f32` sum adds its own rounding: at most `d/32 + 8` additions in a row, each
    /// `2^-24` of a partial sum that is at most `|x| |w|`; twice that is allowed for.
    fn margin(lost_x: f32, lost_w: f32, d_in: usize) -> f32 {
        let summed = (d_in as f32 / 32.0 + 8.0) * f32::EPSILON * REACHED;
        REACHED * (lost_x + lost_w + summed)
    }

    /// The rows in blocks of `R`, interleaved: `[rows / R][d_in / 2][R][2]`. Zeros fill up the last block.
    #[inline(always)]
    pub(super) fn blocks<const R: usize>(&self) -> Vec<[Pair; R]> {
        let pairs = self.d / 2;
        let mut blocks = vec![[[0; 2]; R]; self.units.len().div_ceil(R) * pairs];
        for (r, row) in self.values.chunks_exact(self.d).enumerate() {
            let block = &mut blocks[r / R * pairs..][..pairs];
            for (out, pair) in block.iter_mut().zip(row.as_chunks().0) {
                out[r % R] = *pair;
            }
        }
        blocks
    }
}

/// The encoder's rows in panels of 16 features: `[d_sae / 16][d_in / 2][16][2]`.
#[derive(Clone, Debug)]
pub struct Panels {
    d_in: usize,
    d_sae: usize,
    pairs: Vec<[Pair; WIDTH]>,
    /// The unit of each feature; zero for the features that fill up the last panel.
    units: Vec<[f32; WIDTH]>,
    /// Largest norm of the rounding error of a row, in units.
    lost: f32,
}

impl Panels {
    /// Packs an encoder.
    ///
    /// # Shapes
    /// `w_enc`: `[d_sae, d_in]`, `d_in` up to 2^18.
    ///
    /// # Panics
    /// If `w_enc` does not consist of rows of that width.
    pub fn new(w_enc: &[f32], d_in: usize) -> Self {
        assert!(d_in > 0 && d_in <= 1 << 18 && w_enc.len().is_multiple_of(d_in), "{} of {d_in}", w_enc.len());
        let d_sae = w_enc.len() / d_in;
        let (panels, pairs) = (d_sae.div_ceil(WIDTH), padded(d_in) / 2);
        let mut packed = Self {
            d_in,
            d_sae,
            pairs: vec![[[0; 2]; WIDTH]; panels * pairs],
            units: vec![[0.0; WIDTH]; panels],
            lost: 0.0,
        };
        let lost = packed
            .rest()
            .into_par_iter()
            .zip(w_enc.par_chunks(WIDTH * d_in))
            .map(|(mut panel, rows)| {
                super::wide(
                    #[inline(always)]
                    || panel.pack(rows),
                )
            })
            .max_by(f32::total_cmp);
        packed.lost = lost.unwrap_or(0.0);
        packed
    }

    /// The panels, to be packed again. The largest value that [`Panel::pack`] returns must go to [`Self::set_lost`].
    pub fn rest(&mut self) -> Vec<Panel<'_>> {
        let pairs = padded(self.d_in) / 2;
        let panels = self.pairs.chunks_exact_mut(pairs).zip(&mut self.units);
        panels.map(|(pairs, units)| Panel { pairs, units, d_in: self.d_in }).collect()
    }

    /// The largest value that [`Panel::pack`] returned.
    pub fn set_lost(&mut self, lost: f32) {
        self.lost = lost;
    }

    /// Width of a row.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Number of features.
    pub fn d_sae(&self) -> usize {
        self.d_sae
    }

    /// The unit of a feature.
    #[inline(always)]
    pub(super) fn unit(&self, feature: usize) -> f32 {
        self.units[feature / WIDTH][feature % WIDTH]
    }

    /// The panels, `[d_in / 2][16][2]` each.
    #[inline(always)]
    pub(super) fn panels(&self) -> impl Iterator<Item = &[[Pair; WIDTH]]> {
        self.pairs.chunks_exact(padded(self.d_in) / 2)
    }
}

/// One panel, to be packed.
pub struct Panel<'a> {
    pairs: &'a mut [[Pair; WIDTH]],
    units: &'a mut [f32; WIDTH],
    d_in: usize,
}

impl Panel<'_> {
    /// Packs up to 16 rows `[features, d_in]`; returns the largest norm of the rounding error, in units.
    #[inline(always)]
    pub fn pack(&mut self, rows: &[f32]) -> f32 {
        let mut row_pairs = vec![0; self.pairs.len() * 2];
        let mut most = 0f32;
        for (lane, row) in rows.chunks_exact(self.d_in).enumerate() {
            let (unit, lost) = quantize(row, &mut row_pairs);
            self.units[lane] = unit;
            most = if lost > most { lost } else { most };
            for (pair, out) in row_pairs.as_chunks().0.iter().zip(self.pairs.iter_mut()) {
                out[lane] = *pair;
            }
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::dot;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_margin_covers_the_error(
            x in prop::collection::vec(-1f32..1.0, 1..90), power in -20i32..20, outlier in 0f32..1e4, place in 0usize..90
        ) {
            let d = x.len();
            let mut x: Vec<f32> = x.iter().map(|v| v * 2f32.powi(power)).collect();
            x[place % d] *= outlier;
            let w: Vec<f32> = (0..d).map(|i| ((i * 37 % 19) as f32 - 9.0) * 2f32.powi(-power / 2)).collect();
            let panels = Panels::new(&w, d);
            let quantized = Quantized::new(&x, d, &panels);
            let (pairs, units) = (panels.panels().next().unwrap(), panels.units[0]);
            let sum: i32 = quantized.blocks::<1>().iter().zip(pairs).flat_map(|([x], w)| (0..2).map(|h| x[h] as i32 * w[0][h] as i32)).sum();
            let found = sum as f32 * quantized.units[0] * units[0];
            let error = (found - dot(&x, &w)).abs();
            prop_assert!(error <= quantized.margins[0] * units[0] * 1.000_01, "{error} over {}", quantized.margins[0] * units[0]);
        }
    }

    #[test]
    fn rows_of_zeros_and_tiny_rows_are_harmless() {
        for value in [0.0f32, 1e-42, 1e-30, 1e30] {
            let panels = Panels::new(&[value; 5], 5);
            let quantized = Quantized::new(&[1.0; 5], 5, &panels);
            let sure = quantized.margins[0] * panels.units[0][0];
            assert!(sure.is_finite() && sure <= value * 1e-3, "{value}: {sure}");
        }
    }
}
