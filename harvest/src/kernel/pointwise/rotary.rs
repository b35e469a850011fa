//! Rotary positions.

use super::rows_of;
use rayon::prelude::*;

/// Applies rotary positions in place, in the half-split form of Llama: in every head, elements `i` and `i + head_dim / 2`
/// are rotated together.
///
/// # Shapes
/// `x`: `[rows, heads * head_dim]`. `cos` and `sin`: `[rows, head_dim / 2]`.
pub fn rotate(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
    let half = head_dim / 2;
    if x.is_empty() || half == 0 {
        return;
    }
    let width = x.len() / (cos.len() / half);
    let rows = rows_of(width);
    let work = |x: &mut [f32], cos: &[f32], sin: &[f32]| {
        pulp::Arch::new().dispatch(Rows { x, width, head_dim, cos, sin });
    };
    if x.len() <= rows * width {
        return work(x, cos, sin);
    }
    let tables = cos.par_chunks(rows * half).zip(sin.par_chunks(rows * half));
    x.par_chunks_mut(rows * width).zip(tables).for_each(|(x, (cos, sin))| work(x, cos, sin));
}

/// A unit of work of a thread.
struct Rows<'a> {
    x: &'a mut [f32],
    width: usize,
    head_dim: usize,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl pulp::NullaryFnOnce for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let half = self.head_dim / 2;
        let tables = self.cos.chunks_exact(half).zip(self.sin.chunks_exact(half));
        for (row, (cos, sin)) in self.x.chunks_exact_mut(self.width).zip(tables) {
            for head in row.chunks_exact_mut(self.head_dim) {
                let (first, second) = head.split_at_mut(half);
                for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }
}
