//! The kernels of architectures whose features are active above a threshold: ReLU, JumpReLU and Gated. They are
//! [`crate::train::architecture`] on the device, with the same formulas and sources.

// CubeCL: the outer condition is known when the kernel is compiled.
#![allow(clippy::collapsible_if)]

use super::select::{CANDIDATES, UNITS, column, value};
use super::sparse::sum_of_units;
use cubecl::prelude::*;

/// ReLU with a penalty on activations times decoder norms.
pub const RELU: u32 = 0;
/// JumpReLU with a penalty on the number of active features.
pub const JUMP_STEP: u32 = 1;
/// JumpReLU with a penalty on the hyperbolic tangent of activations times decoder norms.
pub const JUMP_TANH: u32 = 2;
/// Gated, whose second activation is that of the gate.
pub const GATED: u32 = 3;

/// The argument from which the hyperbolic tangent is 1 in `f32`; drivers may compute it through exponentials that overflow.
const TANH_LIMIT: f32 = 15.0;

#[cube]
fn bounded_tanh(x: f32) -> f32 {
    min(x, f32::new(TANH_LIMIT)).tanh()
}

/// The entries of every row above their feature's floor, by ascending feature; one cube a row. The floor is 0, or
/// (`learned`) the feature's threshold less `below`. Of all columns (not of candidates) those are kept as well that the
/// rounding of the product may have put below the floor: by the inequality of Cauchy and Schwarz at most `slack` times the
/// norms of the token's input and of the encoder's row.
///
/// # Shapes
/// `p`: `[rows, width]`; `candidates`: `[rows, width]`, of which a row has `lens[row]`, read only from [`CANDIDATES`];
/// `bias`, `thresholds`, `row_norms`: `[d_sae]`; `input`: `[rows, d]`; `features`, `values`: `[rows, keep]`; `kept`:
/// `[rows]`, how many are written; `count`: `[rows]`, how many there are, even if they are more than `keep`.
#[cube(launch)]
pub fn above(
    p: &[f32],
    candidates: &[u32],
    lens: &[u32],
    bias: &[f32],
    thresholds: &[f32],
    row_norms: &[f32],
    input: &[f32],
    features: &mut [u32],
    values: &mut [f32],
    kept: &mut [u32],
    count: &mut [u32],
    width: usize,
    keep: usize,
    d: usize,
    below: f32,
    slack: f32,
    #[comptime] from: u32,
    #[comptime] learned: bool,
) {
    let row = CUBE_POS_X as usize;
    let unit = UNIT_POS as usize;
    let mut parts = Shared::<[f32]>::new_slice(UNITS);
    let mut sums = Shared::<[u32]>::new_slice(UNITS);
    let len = if from == CANDIDATES { lens[row] as usize } else { width };
    let mut margin = 0f32;
    if from != CANDIDATES {
        let mut squares = 0f32;
        let mut c = unit;
        while c < d {
            squares += input[row * d + c] * input[row * d + c];
            c += UNITS;
        }
        margin = slack * sum_of_units(&mut parts, squares).sqrt();
    }
    // Consecutive entries for each unit, so that what is kept is in order.
    let piece = (len + UNITS - 1) / UNITS;
    let first = min(unit * piece, len);
    let end = min(first + piece, len);
    let mut own = 0u32;
    for j in first..end {
        let k = column(candidates, row, width, j, from);
        let floor = floor(thresholds, row_norms, k, below, margin, from, learned);
        own += u32::cast_from(value(p, bias, row, width, j, k, from) > floor);
    }
    sums[unit] = own;
    sync_cube();
    let mut at = 0u32;
    let mut total = 0u32;
    for n in 0..UNITS {
        if n < unit {
            at += sums[n];
        }
        total += sums[n];
    }
    for j in first..end {
        let k = column(candidates, row, width, j, from);
        let own = value(p, bias, row, width, j, k, from);
        let floor = floor(thresholds, row_norms, k, below, margin, from, learned);
        if own > floor {
            if (at as usize) < keep {
                features[row * keep + at as usize] = k as u32;
                values[row * keep + at as usize] = own;
            }
            at += 1;
        }
    }
    if unit == 0 {
        kept[row] = min(total, keep as u32);
        count[row] = total;
    }
}

/// What a pre-activation of a feature has to exceed.
#[cube]
fn floor(
    thresholds: &[f32],
    row_norms: &[f32],
    k: usize,
    below: f32,
    margin: f32,
    #[comptime] from: u32,
    #[comptime] learned: bool,
) -> f32 {
    let mut floor = 0f32;
    if learned {
        floor = thresholds[k] - below;
    }
    if from != CANDIDATES {
        floor -= margin * row_norms[k];
    }
    floor
}

/// Activations of every entry, and (Gated) those of the gate; the sum of a token's penalties, its active features, and the
/// weight of its penalty, `weight + slope * sum`; one cube a token.
///
/// # Shapes
/// `p`, `features`, `z`, `gate`: `[rows, width]`, of which a row has `lens[row]`; `norms` (of the decoder's rows), `bias`,
/// `second` (JumpReLU's thresholds, or the bias of Gated's magnitude), `third` (the logarithm of its scale): `[d_sae]`;
/// `sums`: `[rows, 2]`; `weights`: `[rows]`.
#[cube(launch)]
pub fn activate(
    p: &[f32],
    features: &[u32],
    lens: &[u32],
    norms: &[f32],
    bias: &[f32],
    second: &[f32],
    third: &[f32],
    z: &mut [f32],
    gate: &mut [f32],
    sums: &mut [f32],
    weights: &mut [f32],
    width: usize,
    tanh_scale: f32,
    weight: f32,
    slope: f32,
    #[comptime] rule: u32,
) {
    let row = CUBE_POS_X as usize;
    let mut parts = Shared::<[f32]>::new_slice(UNITS);
    let mut penalty = 0f32;
    let mut active = 0f32;
    let mut n = UNIT_POS as usize;
    while n < lens[row] as usize {
        let at = row * width + n;
        let k = features[at] as usize;
        let own = p[at];
        let mut activation = max(own, f32::new(0.0));
        if comptime!(rule == JUMP_STEP || rule == JUMP_TANH) {
            activation = select(own > second[k], own, f32::new(0.0));
        }
        if rule == GATED {
            gate[at] = activation;
            penalty += activation * norms[k];
            let magnitude = (own - bias[k]) * third[k].exp() + second[k];
            activation = select(own > f32::new(0.0), max(magnitude, f32::new(0.0)), f32::new(0.0));
        }
        z[at] = activation;
        let is_active = select(activation > f32::new(0.0), f32::new(1.0), f32::new(0.0));
        active += is_active;
        if rule == RELU {
            penalty += activation * norms[k];
        }
        if rule == JUMP_STEP {
            penalty += is_active;
        }
        if rule == JUMP_TANH {
            penalty += bounded_tanh(tanh_scale * activation * norms[k]);
        }
        n += UNITS;
    }
    let penalty = sum_of_units(&mut parts, penalty);
    let active = sum_of_units(&mut parts, active);
    if UNIT_POS == 0 {
        sums[row * 2] = penalty;
        sums[row * 2 + 1] = active;
        weights[row] = weight + slope * penalty;
    }
}

/// Gradients of the pre-activations, in the place of those of the activations, and of each feature's scalars and decoder
/// norm, summed over its entries in their order, and whether it was active (`fired`); one unit a feature.
///
/// # Shapes
/// `start`: `[d_sae + 1]`; `order`: places in `p`, `z`, `dz` and `dgate`, `[rows, width]`; `weights`: of each token's
/// penalty, `[rows]`; the others `[d_sae]`, see [`activate`].
#[cube(launch)]
pub fn backward(
    start: &[u32],
    order: &[u32],
    p: &[f32],
    z: &[f32],
    weights: &[f32],
    norms: &[f32],
    bias: &[f32],
    second: &[f32],
    third: &[f32],
    dz: &mut [f32],
    dgate: &[f32],
    to_bias: &mut [f32],
    to_second: &mut [f32],
    to_third: &mut [f32],
    to_norm: &mut [f32],
    fired: &mut [u32],
    width: usize,
    bandwidth: f32,
    tanh_scale: f32,
    #[comptime] rule: u32,
) {
    let k = ABSOLUTE_POS;
    if k < norms.len() {
        let norm = norms[k];
        let mut of_bias = 0f32;
        let mut of_second = 0f32;
        let mut of_third = 0f32;
        let mut of_norm = 0f32;
        let mut active = 0u32;
        for n in start[k] as usize..start[k + 1] as usize {
            let entry = order[n] as usize;
            let weight = weights[entry / width];
            let own = p[entry];
            let mut back = dz[entry];
            active = max(active, u32::cast_from(z[entry] > f32::new(0.0)));
            if rule == RELU {
                back += weight * norm;
                of_bias += back;
                of_norm += weight * z[entry];
            }
            if comptime!(rule == JUMP_STEP || rule == JUMP_TANH) {
                let threshold = second[k];
                let mut step = weight;
                if rule == JUMP_TANH {
                    let tanh = bounded_tanh(tanh_scale * z[entry] * norm);
                    let slope = weight * tanh_scale * (1.0 - tanh * tanh);
                    back += slope * norm;
                    of_norm += slope * z[entry];
                    step = 0f32;
                }
                if (own - threshold).abs() < 0.5 * bandwidth {
                    of_second -= (threshold * back + step) / bandwidth;
                }
                back = select(own > threshold, back, f32::new(0.0));
                of_bias += back;
            }
            if rule == GATED {
                let scale = third[k].exp();
                let magnitude = select(z[entry] > f32::new(0.0), back, f32::new(0.0));
                let gate = dgate[entry] + weight * norm;
                back = magnitude * scale + gate;
                of_bias += gate;
                of_second += magnitude;
                of_third += magnitude * (own - bias[k]) * scale;
                // The gate's activation is the pre-activation where it is positive, and all entries are.
                of_norm += weight * own;
            }
            dz[entry] = back;
        }
        to_bias[k] = of_bias;
        to_norm[k] = of_norm;
        fired[k] = active;
        if rule != RELU {
            to_second[k] = of_second;
        }
        if rule == GATED {
            to_third[k] = of_third;
        }
    }
}
