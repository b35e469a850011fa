//! The sparse step's kernels: reconstructions, gathered dot products, sums over tokens and over entries of a feature.
//! Every sum has a fixed order: equal inputs give equal bits.

// CubeCL: kernels have loops over numbers, not iterators.
#![allow(clippy::needless_range_loop)]

use super::select::UNITS;
use cubecl::prelude::*;

/// Units that share one dot product.
const TEAM: usize = 32;

/// The sum of the values of a cube's units, always in the same order. All units call it; only unit 0 uses the result.
#[cube]
pub fn sum_of_units(shared: &mut Shared<[f32]>, own: f32) -> f32 {
    let unit = UNIT_POS as usize;
    sync_cube();
    shared[unit] = own;
    let mut half = CUBE_DIM as usize / 2;
    while half > 0 {
        sync_cube();
        if unit < half {
            let other = shared[unit + half];
            shared[unit] += other;
        }
        half /= 2;
    }
    sync_cube();
    shared[0]
}

/// What the encoder reads, exact and in the product's type; one unit an element.
///
/// # Shapes
/// `x`, `input`, `narrow`: `[rows, d]`; `b_dec`: `[d]`.
#[cube(launch)]
pub fn inputs<N: Float>(
    x: &[f32],
    b_dec: &[f32],
    input: &mut [f32],
    narrow: &mut [N],
    d: usize,
    #[comptime] center: bool,
    #[define(N)] _product: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < input.len() {
        let mut value = x[at];
        if center {
            value -= b_dec[at % d];
        }
        input[at] = value;
        narrow[at] = N::cast_from(value);
    }
}

/// A matrix in the product's type; one unit an element.
#[cube(launch)]
pub fn narrowed<N: Float>(wide: &[f32], narrow: &mut [N], #[define(N)] _product: ElemType) {
    if ABSOLUTE_POS < wide.len() {
        narrow[ABSOLUTE_POS] = N::cast_from(wide[ABSOLUTE_POS]);
    }
}

/// The index of the residual of a token that gives the gradient of a feature.
#[cube]
fn slot_of(ends: &[u32], slots: usize, feature: u32) -> usize {
    let mut slot = 0usize;
    for n in 0..slots {
        if feature >= ends[n] {
            slot += 1;
        }
    }
    slot
}

/// The dot product of a token's vector with the row of each of its features, plus the feature's bias; one cube a token.
///
/// # Shapes
/// `a`: `[rows, slots, d]`; `b`: `[d_sae, d]`; `bias`: `[d_sae]`; `ends`: `[slots]`; `features`, `out`: `[rows, width]`,
/// of which a row has `lens[row]`.
#[cube(launch)]
pub fn dots(
    a: &[f32],
    b: &[f32],
    bias: &[f32],
    ends: &[u32],
    features: &[u32],
    lens: &[u32],
    out: &mut [f32],
    d: usize,
    slots: usize,
    width: usize,
    #[comptime] biased: bool,
) {
    let row = CUBE_POS_X as usize;
    let unit = UNIT_POS as usize;
    let (team, lane) = (unit / TEAM, unit % TEAM);
    let mut parts = Shared::<[f32]>::new_slice(UNITS);
    let len = lens[row] as usize;
    let mut first = 0usize;
    while first < len {
        let n = first + team;
        let mut sum = 0f32;
        if n < len {
            let feature = features[row * width + n];
            let mut slot = 0usize;
            if slots > 1 {
                slot = slot_of(ends, slots, feature);
            }
            let (of_a, of_b) = ((row * slots + slot) * d, feature as usize * d);
            let mut c = lane;
            while c < d {
                sum += a[of_a + c] * b[of_b + c];
                c += TEAM;
            }
        }
        parts[unit] = sum;
        sync_cube();
        if lane == 0 && n < len {
            let mut sum = 0f32;
            for n in 0..TEAM {
                sum += parts[unit + n];
            }
            if biased {
                sum += bias[features[row * width + n] as usize];
            }
            out[row * width + n] = sum;
        }
        sync_cube();
        first += UNITS / TEAM;
    }
}

/// Residuals `scale (x_hat - x)` and their squares; one cube a token. With several prefixes, slot `g` is the sum over all
/// prefixes from `g` on. For AuxK (`aux`) the reconstruction is added to `lift` times the last slot of `x`, and `scale` is
/// multiplied by `weight[0]`.
///
/// # Shapes
/// `x`: `[rows, d]`, for AuxK `[rows, x_slots, d]`; `b_dec`: `[d]`; `w_dec`: `[d_sae, d]`; `features`, `values`:
/// `[rows, width]`, of which a row has `lens[row]`, by ascending feature; `ends`: `[slots]`; `out`: `[rows, slots, d]`;
/// `costs`: `[rows, 2]`, of the whole reconstruction and of all.
#[cube(launch)]
pub fn residuals(
    x: &[f32],
    b_dec: &[f32],
    w_dec: &[f32],
    features: &[u32],
    values: &[f32],
    lens: &[u32],
    ends: &[u32],
    weight: &[f32],
    out: &mut [f32],
    costs: &mut [f32],
    d: usize,
    slots: usize,
    width: usize,
    x_slots: usize,
    lift: f32,
    scale: f32,
    #[comptime] aux: bool,
) {
    let row = CUBE_POS_X as usize;
    let mut parts = Shared::<[f32]>::new_slice(UNITS);
    let end = row * width + lens[row] as usize;
    let mut last = 0f32;
    let mut all = 0f32;
    let factor = if aux { scale * weight[0] } else { scale };
    let mut c = UNIT_POS as usize;
    while c < d {
        let mut error = if aux { lift * x[(row * x_slots + x_slots - 1) * d + c] } else { b_dec[c] - x[row * d + c] };
        // Entries are in the order of their features, so that each prefix continues where the one before it ended.
        let mut at = row * width;
        for slot in 0..slots {
            let mut more = at < end;
            while more {
                let feature = features[at];
                more = feature < ends[slot];
                if more {
                    error += values[at] * w_dec[feature as usize * d + c];
                    at += 1;
                    more = at < end;
                }
            }
            out[(row * slots + slot) * d + c] = error;
            all += error * error;
        }
        last += error * error;
        let mut sum = 0f32;
        for n in 0..slots {
            let at = (row * slots + slots - 1 - n) * d + c;
            sum += out[at];
            out[at] = sum * factor;
        }
        c += UNITS;
    }
    let last = sum_of_units(&mut parts, last);
    let all = sum_of_units(&mut parts, all);
    if UNIT_POS == 0 {
        costs[row * 2] = last;
        costs[row * 2 + 1] = all;
    }
}

/// AuxK's weight if it is relative to the error's total variance: `rows / sum |e - mean|^2` over the errors `e` of the whole
/// reconstruction; one cube.
///
/// # Shapes
/// `costs`: `[rows, 2]`, see [`residuals`]; `sums`: of the columns of the errors, each `1 / scale` times too large, `[d]`;
/// `weight`: `[1]`.
#[cube(launch)]
pub fn relative_aux_weight(costs: &[f32], sums: &[f32], weight: &mut [f32], rows: usize, d: usize, scale: f32) {
    let mut parts = Shared::<[f32]>::new_slice(UNITS);
    let mut squares = 0f32;
    let mut row = UNIT_POS as usize;
    while row < rows {
        squares += costs[row * 2];
        row += UNITS;
    }
    let mut of_mean = 0f32;
    let mut c = UNIT_POS as usize;
    while c < d {
        let sum = sums[c] * scale;
        of_mean += sum * sum;
        c += UNITS;
    }
    let squares = sum_of_units(&mut parts, squares);
    let of_mean = sum_of_units(&mut parts, of_mean);
    if UNIT_POS == 0 {
        let count = f32::cast_from(rows);
        weight[0] = count / max(squares - of_mean / count, f32::new(1.0e-37));
    }
}

/// Sums of rows, each times its weight, by pieces of `piece` rows; a unit a column, cubes over pieces and columns.
///
/// # Shapes
/// `a`: `[rows, stride]`, of which `[.., first..first + d]` is read; `weights`: `[rows]`; `out`: `[pieces, d]`.
#[cube(launch)]
pub fn column_sums(
    a: &[f32],
    weights: &[f32],
    out: &mut [f32],
    rows: usize,
    stride: usize,
    first: usize,
    d: usize,
    piece: usize,
    #[comptime] weighed: bool,
) {
    let blocks = (d + UNITS - 1) / UNITS;
    let (at, c) = (CUBE_POS / blocks, CUBE_POS % blocks * UNITS + UNIT_POS as usize);
    let from = at * piece;
    if from < rows && c < d {
        let to = min(from + piece, rows);
        let mut sum = 0f32;
        for row in from..to {
            if weighed {
                sum += weights[row] * a[row * stride + first + c];
            } else {
                sum += a[row * stride + first + c];
            }
        }
        out[at * d + c] = sum;
    }
}

/// Gradients of the rows of all features from their entries, which are summed in their order, and the sums of the gradients
/// of their pre-activations; cubes over features and columns. `more` adds to what is there; without `encoder` the entries
/// have no gradient of their pre-activations.
///
/// # Shapes
/// `start`: `[d_sae + 1]`; `order`: places in `z` and `dz` `[rows, width]`; `input`: `[rows, d]`; `residuals`:
/// `[rows, slots, d]`; `ends`: `[slots]`; `enc`, `dec`: `[d_sae, d]`; `sums`: `[d_sae]`.
#[cube(launch)]
pub fn gradients(
    start: &[u32],
    order: &[u32],
    z: &[f32],
    dz: &[f32],
    input: &[f32],
    residuals: &[f32],
    ends: &[u32],
    enc: &mut [f32],
    dec: &mut [f32],
    sums: &mut [f32],
    d: usize,
    slots: usize,
    width: usize,
    #[comptime] more: bool,
    #[comptime] encoder: bool,
) {
    let blocks = (d + UNITS - 1) / UNITS;
    let (feature, c) = (CUBE_POS / blocks, CUBE_POS % blocks * UNITS + UNIT_POS as usize);
    if feature < sums.len() && c < d {
        let (from, to) = (start[feature] as usize, start[feature + 1] as usize);
        let slot = slot_of(ends, slots, feature as u32);
        let at = feature * d + c;
        let mut of_enc = 0f32;
        let mut of_dec = 0f32;
        let mut sum = 0f32;
        if more {
            of_enc = enc[at];
            of_dec = dec[at];
            sum = sums[feature];
        }
        for n in from..to {
            let entry = order[n] as usize;
            let row = entry / width;
            if encoder {
                let back = dz[entry];
                of_enc += back * input[row * d + c];
                sum += back;
            }
            of_dec += z[entry] * residuals[(row * slots + slot) * d + c];
        }
        enc[at] = of_enc;
        dec[at] = of_dec;
        if c == 0 {
            sums[feature] = sum;
        }
    }
}
