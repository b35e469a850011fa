//! The end of a step: gradients' norms, Adam, and the decoder's norms. One cube a row of a matrix.

// CubeCL: the outer condition is known when the kernel is compiled.
#![allow(clippy::collapsible_if)]

use super::select::UNITS;
use super::sparse::sum_of_units;
use cubecl::prelude::*;

/// Squares of a feature's gradient, after (`unit`) the part along a decoder row of fixed norm has been taken out.
///
/// # Shapes
/// `enc`, `dec`, `w_dec`: `[d_sae, d]`; `bias`, `squares`: `[d_sae]`.
#[cube(launch)]
pub fn norms_of_gradients(
    enc: &[f32],
    dec: &mut [f32],
    bias: &[f32],
    w_dec: &[f32],
    squares: &mut [f32],
    d: usize,
    #[comptime] unit: bool,
) {
    let row = CUBE_POS_X as usize;
    let mut parts = Shared::<[f32]>::new_slice(UNITS);
    let mut along = 0f32;
    if unit {
        let mut dot = 0f32;
        let mut own = 0f32;
        let mut c = UNIT_POS as usize;
        while c < d {
            let w = w_dec[row * d + c];
            dot += dec[row * d + c] * w;
            own += w * w;
            c += UNITS;
        }
        let dot = sum_of_units(&mut parts, dot);
        let own = sum_of_units(&mut parts, own);
        along = dot / max(own, f32::new(1.0e-37));
    }
    let mut sum = 0f32;
    let mut c = UNIT_POS as usize;
    while c < d {
        let at = row * d + c;
        if unit {
            dec[at] -= along * w_dec[at];
        }
        sum += enc[at] * enc[at] + dec[at] * dec[at];
        c += UNITS;
    }
    let sum = sum_of_units(&mut parts, sum);
    if UNIT_POS == 0 {
        squares[row] = sum + bias[row] * bias[row];
    }
}

/// Nothing more is done to a row.
pub const PLAIN: u32 = 0;
/// The row is copied in the product's type.
pub const NARROWED: u32 = 1;
/// The row's norm is noted.
pub const FREE: u32 = 2;
/// The row's norm is made 1.
pub const UNIT: u32 = 3;

/// Adam (Kingma and Ba 2015) as PyTorch computes it, on gradients times `shrink`, and what `then` says.
///
/// # Shapes
/// `w`, `first`, `second`, `gradient`: `[rows, d]`; `norms`: `[rows]`; `narrow`: `[rows, d]`.
#[cube(launch)]
pub fn adam<N: Float>(
    w: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    norms: &mut [f32],
    narrow: &mut [N],
    d: usize,
    shrink: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    rate: f32,
    spread: f32,
    #[comptime] then: u32,
    #[define(N)] _product: ElemType,
) {
    let row = CUBE_POS_X as usize;
    let mut parts = Shared::<[f32]>::new_slice(UNITS);
    let mut sum = 0f32;
    let mut c = UNIT_POS as usize;
    while c < d {
        let at = row * d + c;
        let g = gradient[at] * shrink;
        let m = beta1 * first[at] + (1.0 - beta1) * g;
        let v = beta2 * second[at] + (1.0 - beta2) * g * g;
        let own = w[at] - rate * m / (v.sqrt() * spread + epsilon);
        first[at] = m;
        second[at] = v;
        w[at] = own;
        sum += own * own;
        if then == NARROWED {
            narrow[at] = N::cast_from(own);
        }
        c += UNITS;
    }
    if then >= FREE {
        let mut norm = sum_of_units(&mut parts, sum).sqrt();
        if then == UNIT {
            if norm > f32::new(0.0) {
                let mut sum = 0f32;
                let mut c = UNIT_POS as usize;
                while c < d {
                    let at = row * d + c;
                    let own = w[at] / norm;
                    w[at] = own;
                    sum += own * own;
                    c += UNITS;
                }
                norm = sum_of_units(&mut parts, sum).sqrt();
            }
        }
        if UNIT_POS == 0 {
            norms[row] = norm;
        }
    }
}
