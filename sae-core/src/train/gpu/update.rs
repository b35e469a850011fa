//! The end of a step: gradients' norms, Adam, and the decoder's norms. One cube a row of a matrix.

// CubeCL: the outer condition is known when the kernel is compiled.
#![allow(clippy::collapsible_if)]

use super::select::UNITS;
use super::sparse::sum_of_units;
use cubecl::prelude::*;

/// Completes the gradient of a feature's decoder row, and adds up the squares of the feature's gradient. The row's norm has
/// a gradient of its own where the penalty depends on it (`penalized`); from a row of fixed norm (`unit`), the part along
/// the row is removed.
///
/// # Shapes
/// `enc`, `dec`, `w_dec`: `[d_sae, d]`; `first`, `second`, `third` (gradients of the feature's scalars, of which there are
/// `scalars`), `norms`, `to_norm`, `squares`: `[d_sae]`.
#[cube(launch)]
pub fn norms_of_gradients(
    enc: &[f32],
    dec: &mut [f32],
    first: &[f32],
    second: &[f32],
    third: &[f32],
    w_dec: &[f32],
    norms: &[f32],
    to_norm: &[f32],
    squares: &mut [f32],
    d: usize,
    #[comptime] scalars: usize,
    #[comptime] penalized: bool,
    #[comptime] unit: bool,
) {
    let row = CUBE_POS;
    if row >= squares.len() {
        terminate!();
    }
    let mut parts = Shared::<[f32]>::new_slice(UNITS);
    // How much of the decoder row is added to its gradient.
    let mut along = 0f32;
    if penalized {
        if norms[row] > f32::new(0.0) {
            along = to_norm[row] / norms[row];
        }
    }
    if unit {
        let mut dot = 0f32;
        let mut own = 0f32;
        let mut c = UNIT_POS as usize;
        while c < d {
            let w = w_dec[row * d + c];
            dot += (dec[row * d + c] + along * w) * w;
            own += w * w;
            c += UNITS;
        }
        let dot = sum_of_units(&mut parts, dot);
        let own = sum_of_units(&mut parts, own);
        along -= dot / max(own, f32::new(1.0e-37));
    }
    let mut sum = 0f32;
    let mut c = UNIT_POS as usize;
    while c < d {
        let at = row * d + c;
        if comptime!(unit || penalized) {
            dec[at] += along * w_dec[at];
        }
        sum += enc[at] * enc[at] + dec[at] * dec[at];
        c += UNITS;
    }
    let sum = sum_of_units(&mut parts, sum);
    if UNIT_POS == 0 {
        let mut all = sum + first[row] * first[row];
        if comptime!(scalars > 1) {
            all += second[row] * second[row];
        }
        if comptime!(scalars > 2) {
            all += third[row] * third[row];
        }
        squares[row] = all;
    }
}

/// Nothing more is done to a row.
pub const PLAIN: u32 = 0;
/// Values below 0 become 0.
pub const CLAMPED: u32 = 1;
/// The row's norm is stored.
pub const FREE: u32 = 2;
/// The row's norm is stored, and the row is copied in the product's type.
pub const NARROWED: u32 = 3;
/// The row's norm is made 1.
pub const UNIT: u32 = 4;

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
    let row = CUBE_POS;
    if row * d >= w.len() {
        terminate!();
    }
    let mut parts = Shared::<[f32]>::new_slice(UNITS);
    let mut sum = 0f32;
    let mut c = UNIT_POS as usize;
    while c < d {
        let at = row * d + c;
        let g = gradient[at] * shrink;
        let m = beta1 * first[at] + (1.0 - beta1) * g;
        let v = beta2 * second[at] + (1.0 - beta2) * g * g;
        let mut own = w[at] - rate * m / (v.sqrt() * spread + epsilon);
        if then == CLAMPED {
            own = max(own, f32::new(0.0));
        }
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

/// Norms of rows, with the same bits as [`adam`] stores.
///
/// # Shapes
/// `w`: `[rows, d]`; `norms`: `[rows]`.
#[cube(launch)]
pub fn row_norms(w: &[f32], norms: &mut [f32], d: usize) {
    let row = CUBE_POS;
    if row * d >= w.len() {
        terminate!();
    }
    let mut parts = Shared::<[f32]>::new_slice(UNITS);
    let mut sum = 0f32;
    let mut c = UNIT_POS as usize;
    while c < d {
        let own = w[row * d + c];
        sum += own * own;
        c += UNITS;
    }
    let norm = sum_of_units(&mut parts, sum).sqrt();
    if UNIT_POS == 0 {
        norms[row] = norm;
    }
}
