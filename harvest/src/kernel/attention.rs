//! Scaled dot-product attention on the CPU. Each query row sees one range of key rows, which says causal order, sliding
//! windows, images that see themselves whole, and where one sample ends and the next begins.

use rayon::prelude::*;
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
    let Heads { heads, kv_heads, head_dim, scale } = heads;
    let (width, kv_width) = (heads * head_dim, kv_heads * head_dim);
    out.par_chunks_exact_mut(width).zip(q.par_chunks_exact(width)).zip(visible).for_each(|((out, q), visible)| {
        for head in 0..heads {
            let at = head / (heads / kv_heads) * head_dim;
            let q = &q[head * head_dim..][..head_dim];
            let keys = visible.start as usize..visible.end as usize;
            let mut weights: Vec<f32> = keys
                .clone()
                .map(|key| {
                    let k = &k[key * kv_width + at..][..head_dim];
                    scale * q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>()
                })
                .collect();
            let most = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            weights.iter_mut().for_each(|w| *w = (*w - most).exp());
            let sum: f32 = weights.iter().sum();
            let out = &mut out[head * head_dim..][..head_dim];
            out.fill(0.0);
            for (key, weight) in keys.zip(&weights) {
                let v = &v[key * kv_width + at..][..head_dim];
                out.iter_mut().zip(v).for_each(|(out, v)| *out += weight / sum * v);
            }
        }
    });
}
