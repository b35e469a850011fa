//! Scaled dot-product attention on the CPU. Each query row sees one range of key rows. The ranges express causal order,
//! sliding windows, bidirectional attention inside of images, and the boundaries between samples.
//!
//! `pack` arranges keys and values in panels once, `plan` combines neighboring rows with similar ranges into tiles, and
//! `block` multiplies. A row's result depends neither on its neighbors nor on the location of its keys: a product with a key
//! is one chain over the head, the maximum is exact (all products of a row are in memory, so nothing is rescaled), and
//! the sums over the keys are chains from the row's first key to its last. Products outside of a row's range are never
//! read, so not even NaN can spread from one row to another.

mod block;
mod pack;
mod plan;
#[cfg(test)]
mod tests;

use super::isa::Level;
use block::Attention;
use std::ops::Range;

/// How rows are divided into heads, and what becomes of their products.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads. It divides `heads`; consecutive query heads share one.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The factor of the products.
    pub scale: f32,
    /// If present, scaled products become `cap * tanh(product / cap)`.
    pub cap: Option<f32>,
}

/// `out = softmax(scale q k^T) v` over the visible keys, whose products may be capped. There may be more keys than rows, such as those of earlier rows.
///
/// # Shapes
/// `q` and `out`: `[rows, heads * head_dim]`. `k` and `v`: `[keys, kv_heads * head_dim]`. `visible`: `[rows]`, ranges of
/// keys; no range is empty.
pub fn attention(q: &[f32], k: &[f32], v: &[f32], heads: Heads, visible: &[Range<u32>], out: &mut [f32]) {
    on(Level::widest(), q, k, v, heads, visible, out);
}

fn on(level: Level, q: &[f32], k: &[f32], v: &[f32], heads: Heads, visible: &[Range<u32>], out: &mut [f32]) {
    let rows = visible.len();
    let (width, kv_width) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
    assert!(heads.kv_heads > 0 && heads.heads.is_multiple_of(heads.kv_heads), "{heads:?}");
    let keys = k.len() / kv_width.max(1);
    assert_eq!([q.len(), out.len(), k.len(), v.len()], [rows * width, rows * width, keys * kv_width, keys * kv_width]);
    assert!(visible.iter().all(|seen| seen.start < seen.end && seen.end as usize <= keys), "a range of {keys} keys");
    if rows > 0 && width > 0 {
        level.run(Attention { q, k, v, heads, visible, out });
    }
}
