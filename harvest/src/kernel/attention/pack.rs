//! Keys and values, arranged in panels that are two vectors wide.

use super::Heads;
use crate::kernel::aligned::Aligned;
use rayon::prelude::*;
use std::ops::Range;

/// Maximum number of keys in a panel.
const MOST: usize = 32;

/// The keys' panels hold keys side by side, `[heads][keys / width][head_dim][width]`; the values' panels columns,
/// `[heads][head_dim / width][keys][width]`. Zeros where keys or columns end.
#[derive(Default)]
pub(super) struct Panels {
    keys: Aligned<f32>,
    values: Aligned<f32>,
    /// The packed rows.
    rows: Range<usize>,
    head_dim: usize,
    width: usize,
}

impl Panels {
    /// Packs the rows `rows` of the key heads `of`, on all threads if there are several heads.
    pub(super) fn pack(
        &mut self,
        [k, v]: [&[f32]; 2],
        heads: Heads,
        of: Range<usize>,
        rows: Range<usize>,
        width: usize,
    ) {
        let Heads { kv_heads, head_dim, .. } = heads;
        let kv_width = kv_heads * head_dim;
        let (key_panels, value_panels) = (rows.len().div_ceil(width), head_dim.div_ceil(width));
        let (k, v) = (&k[rows.start * kv_width..rows.end * kv_width], &v[rows.start * kv_width..rows.end * kv_width]);
        let keys = |(n, panel): (usize, &mut [f32])| {
            let (head, first) = (of.start + n / key_panels, n % key_panels * width);
            let mut lanes: [&[f32]; MOST] = [&[]; MOST];
            let rows = k.chunks_exact(kv_width).skip(first).take(width);
            let held = rows.len();
            for (lane, row) in lanes.iter_mut().zip(rows) {
                *lane = &row[head * head_dim..][..head_dim];
            }
            for (i, out) in panel.chunks_exact_mut(width).enumerate() {
                for (out, lane) in out.iter_mut().zip(&lanes[..held]) {
                    *out = lane[i];
                }
                out[held..].fill(0.0);
            }
        };
        let values = |(n, panel): (usize, &mut [f32])| {
            let (head, first) = (of.start + n / value_panels, n % value_panels * width);
            let columns = width.min(head_dim - first);
            for (out, row) in panel.chunks_exact_mut(width).zip(v.chunks_exact(kv_width)) {
                out[..columns].copy_from_slice(&row[head * head_dim + first..][..columns]);
                out[columns..].fill(0.0);
            }
        };
        let (key_panel, value_panel) = (head_dim * width, rows.len() * width);
        let lens = [key_panels * key_panel, value_panels * value_panel].map(|len| len * of.len());
        self.keys.at_least(lens[0]);
        self.values.at_least(lens[1]);
        let (key_numbers, value_numbers) = (&mut self.keys[..lens[0]], &mut self.values[..lens[1]]);
        if of.len() == 1 {
            key_numbers.chunks_exact_mut(key_panel).enumerate().for_each(keys);
            value_numbers.chunks_exact_mut(value_panel).enumerate().for_each(values);
        } else {
            key_numbers.par_chunks_exact_mut(key_panel).with_min_len(8).enumerate().for_each(keys);
            value_numbers.par_chunks_exact_mut(value_panel).enumerate().for_each(values);
        }
        (self.rows, self.head_dim, self.width) = (rows, head_dim, width);
    }

    /// The row of the first packed key.
    #[inline(always)]
    pub(super) fn first(&self) -> usize {
        self.rows.start
    }

    /// Panel number `panel` of the keys of the packed head number `head`.
    #[inline(always)]
    pub(super) fn keys(&self, head: usize, panel: usize) -> &[f32] {
        let len = self.head_dim * self.width;
        &self.keys[(head * self.rows.len().div_ceil(self.width) + panel) * len..][..len]
    }

    /// Panel number `panel` of the values of the packed head number `head`.
    #[inline(always)]
    pub(super) fn values(&self, head: usize, panel: usize) -> &[f32] {
        let len = self.rows.len() * self.width;
        &self.values[(head * self.head_dim.div_ceil(self.width) + panel) * len..][..len]
    }
}
