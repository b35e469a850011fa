//! `x W^T + b` on the CPU, the weight packed once and held in `f32` or `bf16`; sums are `f32`.

use half::bf16;
use sae_core::kernel::product::product;

/// A weight matrix as the product reads it.
pub struct Packed {
    d_in: usize,
    d_out: usize,
    values: Values,
}

enum Values {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Packed {
    /// # Shapes
    /// `[d_out, d_in]`, as checkpoints store it.
    pub fn of_f32(values: &[f32], [d_out, d_in]: [usize; 2]) -> Self {
        assert_eq!(values.len(), d_out * d_in);
        Self { d_in, d_out, values: Values::F32(values.to_vec()) }
    }

    /// Holds 2 bytes a weight.
    ///
    /// # Shapes
    /// `[d_out, d_in]`, as checkpoints store it.
    pub fn of_bf16(values: &[bf16], [d_out, d_in]: [usize; 2]) -> Self {
        assert_eq!(values.len(), d_out * d_in);
        Self { d_in, d_out, values: Values::Bf16(values.to_vec()) }
    }

    /// Width of what goes in.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Width of what comes out.
    pub fn d_out(&self) -> usize {
        self.d_out
    }

    /// `out = x W^T + bias`.
    ///
    /// # Shapes
    /// `x` `[rows, d_in]`, `bias` `[d_out]`, `out` `[rows, d_out]`.
    pub fn apply(&self, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let rows = x.len() / self.d_in;
        let wide;
        let weight = match &self.values {
            Values::F32(values) => values,
            Values::Bf16(values) => {
                wide = values.iter().map(|v| v.to_f32()).collect::<Vec<_>>();
                &wide
            }
        };
        if let Some(bias) = bias {
            out.chunks_exact_mut(self.d_out).for_each(|row| row.copy_from_slice(bias));
        }
        product(
            [rows, self.d_out, self.d_in],
            (x, [self.d_in, 1]),
            (weight, [self.d_in, 1]),
            (out, [self.d_out, 1]),
            bias.is_some(),
        );
    }
}
