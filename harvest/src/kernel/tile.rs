//! The innermost loop of every product: a few rows times a few panels, with all sums in registers.
//!
//! A panel holds two vectors per step: `[depth][width]`. Every sum is one chain of multiply-adds in the order of the
//! steps, whatever the size of the tile is. A row's sums therefore do not depend on the tile to which it belongs.

use super::isa::{Isa, width};

/// The sums of each row with each panel: two vectors.
pub(super) type Sums<S, const R: usize, const P: usize> = [[[<S as pulp::Simd>::f32s; 2]; P]; R];

/// Adds the product of row `r` with panel `p` to `sums[r][p]`.
///
/// # Shapes
/// Each row: `[depth]`. Each panel: `[depth * width]`.
#[inline(always)]
pub(super) fn tile<const R: usize, const P: usize, S: Isa>(
    isa: S,
    rows: [&[f32]; R],
    panels: [&[f32]; P],
    mut sums: Sums<S, R, P>,
) -> Sums<S, R, P> {
    let depth = rows[0].len();
    // The compiler sees that the lengths are equal and leaves the bounds checks out of the loop.
    let mut steps: [&[[S::f32s; 2]]; P] = [&[]; P];
    for (steps, panel) in steps.iter_mut().zip(panels) {
        *steps = &bytemuck::cast_slice(panel)[..depth];
    }
    let mut cut: [&[f32]; R] = [&[]; R];
    for (cut, row) in cut.iter_mut().zip(rows) {
        *cut = &row[..depth];
    }
    for k in 0..depth {
        for p in 0..P {
            let w = steps[p][k];
            for r in 0..R {
                let x = isa.splat_f32s(cut[r][k]);
                sums[r][p][0] = isa.fma(x, w[0], sums[r][p][0]);
                sums[r][p][1] = isa.fma(x, w[1], sums[r][p][1]);
            }
        }
    }
    sums
}

/// The products of `R` rows, which are stored step by step as `[depth][R]`, with a panel.
///
/// Because there is no pointer per row, the compiler keeps all sums in registers even if other loops surround this one.
#[inline(always)]
pub(super) fn tile_of_steps<const R: usize, S: Isa>(isa: S, x: &[f32], panel: &[f32]) -> [[S::f32s; 2]; R] {
    let mut sums = [[isa.splat_f32s(0.0); 2]; R];
    let steps: &[[S::f32s; 2]] = bytemuck::cast_slice(panel);
    for (x, w) in x.as_chunks::<R>().0.iter().zip(steps) {
        for (x, sums) in x.iter().zip(&mut sums) {
            let x = isa.splat_f32s(*x);
            *sums = [isa.fma(x, w[0], sums[0]), isa.fma(x, w[1], sums[1])];
        }
    }
    sums
}

/// Sums that are zero.
#[inline(always)]
pub(super) fn zeros<const R: usize, const P: usize, S: Isa>(isa: S) -> Sums<S, R, P> {
    [[[isa.splat_f32s(0.0); 2]; P]; R]
}

/// Loads two vectors. Values beyond the end of `from` are zero.
#[inline(always)]
pub(super) fn load<S: Isa>(isa: S, from: &[f32]) -> [S::f32s; 2] {
    if from.len() >= width::<S>() {
        return *bytemuck::from_bytes(bytemuck::cast_slice(&from[..width::<S>()]));
    }
    let (first, second) = from.split_at(from.len().min(S::F32_LANES));
    [isa.partial_load_f32s(first), isa.partial_load_f32s(second)]
}

/// Stores as many values of two vectors as fit into `to`.
#[inline(always)]
pub(super) fn store<S: Isa>(isa: S, to: &mut [f32], values: [S::f32s; 2]) {
    if to.len() >= width::<S>() {
        *bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(&mut to[..width::<S>()])) = values;
        return;
    }
    let (first, second) = to.split_at_mut(to.len().min(S::F32_LANES));
    isa.partial_store_f32s(first, values[0]);
    isa.partial_store_f32s(second, values[1]);
}
