//! Scaled dot-product attention on the CPU. Each query row sees one range of key rows, which says causal order, sliding
//! windows, images that see themselves whole, and where one sample ends and the next begins.
//!
//! `pack` lays keys and values out in panels once, `plan` puts neighboring rows with nearly the same range into tiles,
//! `block` multiplies. No row's result depends on its neighbors or on where its keys lie: a product with a key is one
//! chain over the head, the maximum is exact (all of a row's products are held, so nothing is ever rescaled), and
//! the sums over the keys are chains from the row's own first key to its last. What a tile multiplies beyond a row's
//! range is never looked at, so not even what is no number gets across.

mod block;
mod pack;
mod plan;
#[cfg(test)]
mod tests;

use super::isa::Level;
use block::Attention;
use std::ops::Range;

/// How rows are divided into heads, and how their products become weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`. Query heads share them in order.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// What products are multiplied with.
    pub scale: f32,
}

/// `out = softmax(scale q k^T) v` over the visible keys.
///
/// # Shapes
/// `q` and `out` `[rows, heads * head_dim]`, `k` and `v` `[rows, kv_heads * head_dim]`, `visible` `[rows]`; no range is empty.
pub fn attention(q: &[f32], k: &[f32], v: &[f32], heads: Heads, visible: &[Range<u32>], out: &mut [f32]) {
    on(Level::widest(), q, k, v, heads, visible, out);
}

fn on(level: Level, q: &[f32], k: &[f32], v: &[f32], heads: Heads, visible: &[Range<u32>], out: &mut [f32]) {
    let rows = visible.len();
    let (width, kv_width) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
    assert!(heads.kv_heads > 0 && heads.heads.is_multiple_of(heads.kv_heads), "{heads:?}");
    assert_eq!([q.len(), out.len(), k.len(), v.len()], [rows * width, rows * width, rows * kv_width, rows * kv_width]);
    assert!(visible.iter().all(|seen| seen.start < seen.end && seen.end as usize <= rows), "a range of {rows} rows");
    if rows > 0 && width > 0 {
        level.run(Attention { q, k, v, heads, visible, out });
    }
}
