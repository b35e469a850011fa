//! Keys and values in panels of two vectors.

use super::Heads;
use crate::kernel::aligned::Aligned;
use rayon::prelude::*;

/// The keys' panels hold keys side by side, `[kv_heads][rows / width][head_dim][width]`; the values' panels columns,
/// `[kv_heads][head_dim / width][rows][width]`. Zeros where rows or columns end.
pub(super) struct Panels {
    pub(super) keys: Aligned<f32>,
    pub(super) values: Aligned<f32>,
}

impl Panels {
    pub(super) fn new(k: &[f32], v: &[f32], heads: Heads, rows: usize, width: usize) -> Self {
        let Heads { kv_heads, head_dim, .. } = heads;
        let kv_width = kv_heads * head_dim;
        let (key_panels, value_panels) = (rows.div_ceil(width), head_dim.div_ceil(width));
        let mut keys = Aligned::new(kv_heads * key_panels * head_dim * width);
        keys.par_chunks_exact_mut(head_dim * width).with_min_len(8).enumerate().for_each(|(n, panel)| {
            let (head, first) = (n / key_panels, n % key_panels * width);
            let rows = k.chunks_exact(kv_width).skip(first).take(width);
            for (lane, row) in rows.enumerate() {
                for (out, value) in panel.chunks_exact_mut(width).zip(&row[head * head_dim..][..head_dim]) {
                    out[lane] = *value;
                }
            }
        });
        let mut values = Aligned::new(kv_heads * value_panels * rows * width);
        values.par_chunks_exact_mut(rows * width).enumerate().for_each(|(n, panel)| {
            let (head, first) = (n / value_panels, n % value_panels * width);
            let columns = width.min(head_dim - first);
            for (out, row) in panel.chunks_exact_mut(width).zip(v.chunks_exact(kv_width)) {
                out[..columns].copy_from_slice(&row[head * head_dim + first..][..columns]);
            }
        });
        Self { keys, values }
    }
}
