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
    /// The steps `first..` of a panel as `f32`, as many as `wide` has room for where they have to be widened.
    ///
    /// # Shapes
    /// The result `[steps * width]`, `at` counted in numbers.
    #[inline(always)]
    pub(super) fn stretch<'a>(&'a self, at: usize, len: usize, wide: &'a mut [f32]) -> &'a [f32] {
        match self {
            Self::F32(values) => &values[at..at + len],
            Self::Bf16(values) => {
                let wide = &mut wide[..len];
                for (wide, value) in wide.iter_mut().zip(&values[at..at + len]) {
                    *wide = f32::from_bits(u32::from(value.to_bits()) << 16);
                }
                wide
            }
        }
    }
}
