//! Attention on a GPU: one launch for all samples of a batch, whatever their lengths, windows and images are. Every query row
//! has a range of visible keys, as on the CPU ([`crate::kernel::attention`]); grouped queries read the keys and values of their
//! group where they are. Written once in CubeCL, which compiles it for CUDA, Vulkan, Metal and ROCm.
//!
//! A cube computes a tile of query rows of one head, block by block of the keys that any of its rows sees, as
//! FlashAttention does (Dao et al. 2022, algorithm 1): sums are rescaled when a larger product is found, so that no matrix of
//! all products is in memory. Everything is `f32`, whatever the number format of the tensors is. Sums have a fixed order.
//!
//! Unlike on the CPU, a value that is not finite can spread to rows of the same tile that do not see it.

// CubeCL: kernels have loops over numbers, not iterators.
#![allow(clippy::needless_range_loop)]

use crate::kernel::attention::Heads;
use burn::backend::cubecl::dtype_to_elem_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use cubecl::client::Client;
use cubecl::prelude::*;
use std::ops::Range;

/// Query rows of a cube, keys of a block, and columns of the result that are summed together.
const TILE: usize = 64;
/// Numbers of each row of a product that are in shared memory at once.
const DEPTH: usize = 16;
/// A unit computes `SIDE` rows by `SIDE` columns of a product of tiles.
const SIDE: usize = 4;
/// Units along one side of a tile.
const ACROSS: usize = TILE / SIDE;
/// Units of a cube.
const UNITS: usize = ACROSS * ACROSS;
/// The length of a row of a tile in shared memory. It is odd, so that neighboring rows are in different banks.
const STRIDE: usize = TILE + 1;
/// Units that share the softmax of a row.
const TEAM: usize = UNITS / TILE;
/// Stands for the product with a key that is not visible.
const HIDDEN: f32 = -3.0e38;

/// `out = softmax(scale q k^T) v` over the visible keys; a cube for each tile of rows and each head. If products are `capped`, they
/// become `cap * tanh(product / cap)`.
///
/// # Shapes
/// `q`, `out`: `[rows, heads * head_dim]`; `k`, `v`: `[rows, kv_heads * head_dim]`; `visible`: for each row its first visible
/// key and the end of its visible keys, then the same for each tile, see [`packed`].
#[cube(launch)]
fn ranged_attention<F: Float>(
    q: &[F],
    k: &[F],
    v: &[F],
    visible: &[u32],
    out: &mut [F],
    rows: usize,
    scale: f32,
    cap: f32,
    #[comptime] heads: usize,
    #[comptime] kv_heads: usize,
    #[comptime] head_dim: usize,
    #[comptime] capped: bool,
    #[define(F)] _format: ElemType,
) {
    let unit = UNIT_POS as usize;
    let (down, across) = (unit / ACROSS, unit % ACROSS);
    let first = CUBE_POS_X as usize * TILE;
    let head = CUBE_POS_Y as usize;
    let width = comptime!(heads * head_dim);
    let kv_width = comptime!(kv_heads * head_dim);
    let of_q = head * head_dim;
    let of_kv = head / comptime!(heads / kv_heads) * head_dim;
    let column_blocks = comptime!(head_dim.div_ceil(TILE));

    // Rows of the left and of the right factor of a product, step by step: `[DEPTH][STRIDE]`.
    let mut left = Shared::<[f32]>::new_slice(comptime!(DEPTH * STRIDE));
    let mut right = Shared::<[f32]>::new_slice(comptime!(DEPTH * STRIDE));
    // Products of the rows with the keys of a block, then their weights: `[TILE][STRIDE]`.
    let mut weights = Shared::<[f32]>::new_slice(comptime!(TILE * STRIDE));
    let mut parts = Shared::<[f32]>::new_slice(UNITS);
    // Of each row: the largest product so far, the sum of the weights, and the factor of what was summed before.
    let mut largest = Shared::<[f32]>::new_slice(TILE);
    let mut total = Shared::<[f32]>::new_slice(TILE);
    let mut shrink = Shared::<[f32]>::new_slice(TILE);
    if unit < TILE {
        largest[unit] = f32::new(HIDDEN);
        total[unit] = 0f32;
    }
    let mut starts = Array::<u32>::new(SIDE);
    let mut ends = Array::<u32>::new(SIDE);
    #[unroll]
    for i in 0..SIDE {
        let row = first + down * SIDE + i;
        starts[i] = 0u32;
        ends[i] = 0u32;
        if row < rows {
            starts[i] = visible[2 * row];
            ends[i] = visible[2 * row + 1];
        }
    }
    let mut sums = Array::<f32>::new(comptime!(column_blocks * SIDE * SIDE));
    #[unroll]
    for n in 0..comptime!(column_blocks * SIDE * SIDE) {
        sums[n] = 0f32;
    }

    let span = 2 * rows + 2 * CUBE_POS_X as usize;
    let mut key = visible[span] as usize;
    let end = visible[span + 1] as usize;
    while key < end {
        let mut products = Array::<f32>::new(comptime!(SIDE * SIDE));
        #[unroll]
        for n in 0..comptime!(SIDE * SIDE) {
            products[n] = 0f32;
        }
        for step in 0..comptime!(head_dim.div_ceil(DEPTH)) {
            let mut n = unit;
            while n < comptime!(TILE * DEPTH) {
                let (row, c) = (n / DEPTH, n % DEPTH);
                let column = step * DEPTH + c;
                let mut of_left = 0f32;
                let mut of_right = 0f32;
                if column < head_dim {
                    if first + row < rows {
                        of_left = f32::cast_from(q[(first + row) * width + of_q + column]);
                    }
                    if key + row < end {
                        of_right = f32::cast_from(k[(key + row) * kv_width + of_kv + column]);
                    }
                }
                left[c * STRIDE + row] = of_left;
                right[c * STRIDE + row] = of_right;
                n += UNITS;
            }
            sync_cube();
            for c in 0..DEPTH {
                #[unroll]
                for i in 0..SIDE {
                    let x = left[c * STRIDE + down * SIDE + i];
                    #[unroll]
                    for j in 0..SIDE {
                        products[i * SIDE + j] += x * right[c * STRIDE + across + j * ACROSS];
                    }
                }
            }
            sync_cube();
        }
        #[unroll]
        for i in 0..SIDE {
            #[unroll]
            for j in 0..SIDE {
                let column = across + j * ACROSS;
                let at = (key + column) as u32;
                let is_visible = at >= starts[i] && at < ends[i];
                let mut product = products[i * SIDE + j] * scale;
                if comptime!(capped) {
                    product = hyperbolic_tangent(product / cap) * cap;
                }
                weights[(down * SIDE + i) * STRIDE + column] = select(is_visible, product, f32::new(HIDDEN));
            }
        }
        sync_cube();

        // The softmax of a row: the largest product, the weights, and their sum.
        let (row, member) = (unit / TEAM, unit % TEAM);
        let mut most = f32::new(HIDDEN);
        for n in 0..comptime!(TILE / TEAM) {
            most = max(most, weights[row * STRIDE + n * TEAM + member]);
        }
        parts[unit] = most;
        sync_cube();
        let before = largest[row];
        let mut most = before;
        for n in 0..TEAM {
            most = max(most, parts[row * TEAM + n]);
        }
        let mut sum = 0f32;
        for n in 0..comptime!(TILE / TEAM) {
            let at = row * STRIDE + n * TEAM + member;
            let product = weights[at];
            // A product that is not a number is no hidden one, and remains.
            let weight = select(product == f32::new(HIDDEN), f32::new(0.0), (product - most).exp());
            weights[at] = weight;
            sum += weight;
        }
        sync_cube();
        parts[unit] = sum;
        if member == 0 {
            largest[row] = most;
            shrink[row] = (before - most).exp();
        }
        sync_cube();
        if member == 0 {
            let mut sum = total[row] * shrink[row];
            for n in 0..TEAM {
                sum += parts[row * TEAM + n];
            }
            total[row] = sum;
        }

        #[unroll]
        for block in 0..column_blocks {
            #[unroll]
            for i in 0..SIDE {
                let factor = shrink[down * SIDE + i];
                #[unroll]
                for j in 0..SIDE {
                    sums[(block * SIDE + i) * SIDE + j] *= factor;
                }
            }
            for step in 0..comptime!(TILE / DEPTH) {
                let mut n = unit;
                while n < comptime!(TILE * DEPTH) {
                    let (c, column) = (n / TILE, n % TILE);
                    let (at, of_head) = (key + step * DEPTH + c, block * TILE + column);
                    let mut of_right = 0f32;
                    if at < end && of_head < head_dim {
                        of_right = f32::cast_from(v[at * kv_width + of_kv + of_head]);
                    }
                    right[c * STRIDE + column] = of_right;
                    n += UNITS;
                }
                sync_cube();
                for c in 0..DEPTH {
                    #[unroll]
                    for i in 0..SIDE {
                        let x = weights[(down * SIDE + i) * STRIDE + step * DEPTH + c];
                        #[unroll]
                        for j in 0..SIDE {
                            sums[(block * SIDE + i) * SIDE + j] += x * right[c * STRIDE + across + j * ACROSS];
                        }
                    }
                }
                sync_cube();
            }
        }
        key += TILE;
    }

    #[unroll]
    for i in 0..SIDE {
        let row = first + down * SIDE + i;
        if row < rows {
            let sum = total[down * SIDE + i];
            #[unroll]
            for block in 0..column_blocks {
                #[unroll]
                for j in 0..SIDE {
                    let of_head = block * TILE + across + j * ACROSS;
                    if of_head < head_dim {
                        let value = sums[(block * SIDE + i) * SIDE + j] / sum;
                        out[row * width + of_q + of_head] = F::cast_from(value);
                    }
                }
            }
        }
    }
}

/// `tanh(x)`, written with an exponential that cannot overflow. NaN remains NaN.
#[cube]
fn hyperbolic_tangent(x: f32) -> f32 {
    let size = max(x, f32::new(0.0) - x);
    let square = x * x;
    let power = (size * f32::new(-2.0)).exp();
    let large = (f32::new(1.0) - power) / (f32::new(1.0) + power);
    // x - x^3/3 + 2 x^5/15 - 17 x^7/315 is exact to 4e-8 below 0.25, where the difference would cancel.
    let sum = square * f32::new(-0.053_968_254) + f32::new(0.133_333_34);
    let sum = square * sum - f32::new(0.333_333_34);
    let small = x + x * square * sum;
    let signed = select(x < f32::new(0.0), f32::new(0.0) - large, large);
    select(size < f32::new(0.25), small, signed)
}

/// Launches the kernel for so many rows; the arrays are `q`, `k`, `v`, `visible` and `out`.
pub fn launch(client: &Client, arrays: [BufferArg; 5], rows: usize, heads: Heads, format: ElemType) {
    let count = CubeCount::Static(rows.div_ceil(TILE) as u32, heads.heads as u32, 1);
    let units = CubeDim::new_1d(UNITS as u32);
    let [q, k, v, visible, out] = arrays;
    let Heads { heads, kv_heads, head_dim, scale, cap } = heads;
    ranged_attention::launch(
        client,
        count,
        units,
        q,
        k,
        v,
        visible,
        out,
        rows,
        scale,
        cap.unwrap_or(1.0),
        heads,
        kv_heads,
        head_dim,
        cap.is_some(),
        format,
    );
}

/// The first visible key and the end of the visible keys, of each row, then of each tile of rows.
pub fn packed(visible: &[Range<u32>]) -> Vec<u32> {
    let tiles = visible.chunks(TILE).map(|rows| {
        let start = rows.iter().map(|row| row.start).min();
        let end = rows.iter().map(|row| row.end).max();
        start.unwrap_or(0)..end.unwrap_or(0)
    });
    visible.iter().cloned().chain(tiles).flat_map(|keys| [keys.start, keys.end]).collect()
}

/// The operation, which Burn queues among its own.
#[backend_extension(Cube, Fusion)]
pub trait RangedAttention: Backend {
    /// `softmax(scale q k^T) v` over the visible keys, with capped products if the heads have a cap, on tensors
    /// `[rows, heads * head_dim]` and `[rows, kv_heads * head_dim]`.
    #[fusion(dtype = q, shape = q)]
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        visible: IntTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self>;
}

impl RangedAttention for CubeBackend {
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        visible: IntTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self> {
        let (client, shape, dtype) = (q.client.clone(), q.meta.shape().clone(), q.dtype);
        let (rows, format) = (shape[0], dtype_to_elem_type(dtype));
        let out = empty_device_contiguous_dtype(client.clone(), q.device.clone(), shape, dtype);
        let inputs = [q, k, v, visible].map(|tensor| into_contiguous(tensor).into_buffer_arg());
        let [q, k, v, visible] = inputs;
        launch(&client, [q, k, v, visible, out.clone().into_buffer_arg()], rows, heads, format);
        out
    }
}

/// [`packed`] ranges on a device.
pub(super) fn upload(visible: &[Range<u32>], device: &Device) -> Tensor<1, Int> {
    let packed = packed(visible);
    let len = packed.len();
    Tensor::from_data(TensorData::new(packed, [len]), (device, DType::U32))
}

/// Attention of tensors of a model.
pub(super) fn attention([q, k, v]: [&Tensor<2>; 3], heads: Heads, visible: &Tensor<1, Int>) -> Tensor<2> {
    let [q, k, v] = [q, k, v].map(|x| x.clone().into_dispatch());
    Tensor::from_dispatch(Dispatch::attend(q, k, v, visible.clone().into_dispatch(), heads))
}
