//! A weight in panels: a panel's outputs side by side, `[d_out / width][d_in][width]`, zeros in the last one's rest.

use crate::kernel::aligned::Aligned;
use half::bf16;
use rayon::prelude::*;

/// The panels as they lie in memory.
pub(super) enum Panels {
    F32(Aligned<f32>),
    Bf16(Aligned<bf16>),
}

/// Lays rows `[d_out, d_in]` out in panels.
pub(super) fn pack<T: Copy + Default + Send + Sync>(
    values: &[T],
    [d_out, d_in]: [usize; 2],
    width: usize,
) -> Aligned<T> {
    assert_eq!(values.len(), d_out * d_in, "a weight of [{d_out}, {d_in}]");
    let mut panels = Aligned::new(d_out.div_ceil(width) * d_in * width);
    if d_in > 0 {
        let chunks = panels.par_chunks_exact_mut(d_in * width).zip(values.par_chunks(width * d_in));
        chunks.for_each(|(panel, rows)| {
            for (lane, row) in rows.chunks_exact(d_in).enumerate() {
                for (out, value) in panel.chunks_exact_mut(width).zip(row) {
                    out[lane] = *value;
                }
            }
        });
    }
    panels
}

impl Panels {
    /// Numbers of a panel as `f32` beside the other things a thread works on: read once from afar and in order, for
    /// which the processor fetches ahead, and many times from there.
    #[inline(always)]
    pub(super) fn bring(&self, at: usize, to: &mut [f32]) {
        match self {
            Self::F32(values) => to.copy_from_slice(&values[at..at + to.len()]),
            Self::Bf16(values) => {
                for (to, value) in to.iter_mut().zip(&values[at..]) {
                    *to = f32::from_bits(u32::from(value.to_bits()) << 16);
                }
            }
        }
    }

    /// Numbers of a panel where they lie, if they are `f32`.
    #[inline(always)]
    pub(super) fn plain(&self, at: usize, len: usize) -> Option<&[f32]> {
        match self {
            Self::F32(values) => Some(&values[at..at + len]),
            Self::Bf16(_) => None,
        }
    }
}
