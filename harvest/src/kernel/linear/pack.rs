//! A weight, arranged in panels in which the outputs are neighbors: `[d_out / width][d_in][width]`. The last panel is padded
//! with zeros.

use crate::kernel::aligned::Aligned;
use half::bf16;
use rayon::prelude::*;

/// The panels in memory.
pub(super) enum Panels {
    F32(Aligned<f32>),
    Bf16(Aligned<bf16>),
}

/// Arranges rows `[d_out, d_in]` in panels.
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
    /// Copies values of a panel to the scratch buffer of a thread, as `f32`. The panel is then read once from memory, in
    /// order, so that the processor can prefetch it, and many times from the copy in the cache.
    #[inline(always)]
    pub(super) fn copy_to(&self, at: usize, to: &mut [f32]) {
        match self {
            Self::F32(values) => to.copy_from_slice(&values[at..at + to.len()]),
            Self::Bf16(values) => {
                for (to, value) in to.iter_mut().zip(&values[at..]) {
                    *to = f32::from_bits(u32::from(value.to_bits()) << 16);
                }
            }
        }
    }

    /// Values of a panel without a copy, if they are `f32`.
    #[inline(always)]
    pub(super) fn in_place(&self, at: usize, len: usize) -> Option<&[f32]> {
        match self {
            Self::F32(values) => Some(&values[at..at + len]),
            Self::Bf16(_) => None,
        }
    }
}
