//! Attention of a block of query rows, for the query heads that share a key head, over the keys that the rows see.

use super::Heads;
use super::pack::Panels;
use super::plan::{self, Block, index_range};
use crate::kernel::aligned::Aligned;
use crate::kernel::isa::{Isa, Work, width};
use crate::kernel::pool::Pool;
use crate::kernel::tile::{load, store, tile, tile_of_steps, zeros};
use crate::kernel::vector::{exp, tanh};
use rayon::prelude::*;
use std::ops::Range;

/// Number of keys whose values all tiles of a block use before the next ones: 16 KiB (V3) or 32 KiB (V4) in the L1 cache.
const KEYS: usize = 256;
/// Minimum number of pieces per thread at which no two threads work on the keys of the same head of a sample.
const PIECES: usize = 8;

/// `out = softmax(scale q k^T) v`.
pub(super) struct Attention<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) heads: Heads,
    pub(super) visible: &'a [Range<u32>],
    pub(super) out: &'a mut [f32],
}

/// A unit of work of a thread: some blocks for one key head.
struct Piece<'a> {
    blocks: &'a [Block],
    kv_head: usize,
    /// For every row, the outputs of the heads that share the key head.
    out: Vec<&'a mut [f32]>,
}

/// The inputs of every piece.
struct Given<'a> {
    q: &'a [f32],
    heads: Heads,
    visible: &'a [Range<u32>],
}

/// A block for one key head, and the location of its keys.
struct Round<'a, 'b> {
    block: &'a Block,
    kv_head: usize,
    out: &'a mut [&'b mut [f32]],
    panels: &'a Panels,
    /// The index of the key head among the packed ones.
    packed: usize,
}

/// The scratch buffers of a thread.
#[derive(Default)]
struct Scratch {
    /// The scaled queries of one head: `[head_dim][rows]` for every part of a tile.
    q: Vec<f32>,
    /// Products of queries and keys, later the weights: `[rows][stride]`.
    weights: Aligned<f32>,
    /// The inverse of the sum of weights of every row.
    inverse: Vec<f32>,
    /// The weighted sums of one panel of values: `[rows][width]`.
    sums: Vec<f32>,
}

impl Work for Attention<'_> {
    type Output = ();

    fn on<const R: usize, S: Isa>(self, isa: S) {
        let Self { q, k, v, heads, visible, out } = self;
        let width = width::<S>();
        let blocks = plan::blocks(visible, R);
        let spans = plan::spans(&blocks);
        // If there are enough windows or samples, each thread takes complete ones and packs their keys itself.
        let is_divided = spans.len() * heads.kv_heads >= PIECES * rayon::current_num_threads();
        let runs = if is_divided { spans } else { (0..blocks.len()).map(|n| n..n + 1).collect() };
        let mut shared = Panels::default();
        if !is_divided {
            shared.pack([k, v], heads, 0..heads.kv_heads, plan::seen(&blocks), width);
        }
        let given = Given { q, heads, visible };
        let work = |(scratch, own): &mut (Scratch, Panels), piece: Piece| {
            let Piece { blocks, kv_head, mut out } = piece;
            if is_divided {
                own.pack([k, v], heads, kv_head..kv_head + 1, plan::seen(blocks), width);
            }
            let (panels, packed) = if is_divided { (&*own, 0) } else { (&shared, kv_head) };
            let mut out = &mut out[..];
            for block in blocks {
                let (now, rest) = std::mem::take(&mut out).split_at_mut(block.rows.len());
                out = rest;
                Round { block, kv_head, out: now, panels, packed }.attend::<R, S>(isa, &given, scratch);
            }
        };
        let (pieces, pool) = (divide(&blocks, &runs, heads, out), Pool::new());
        match pieces.len() {
            1 => pieces.into_iter().for_each(|piece| work(&mut Default::default(), piece)),
            _ => pieces.into_par_iter().with_max_len(1).for_each(|piece| {
                pool.lend(Default::default, |scratch| work(scratch, piece));
            }),
        }
    }
}

/// One piece for every run of blocks and every key head. The pieces of a key head are consecutive.
fn divide<'a>(blocks: &'a [Block], runs: &[Range<usize>], heads: Heads, out: &'a mut [f32]) -> Vec<Piece<'a>> {
    let (width, shared) = (heads.heads * heads.head_dim, heads.heads / heads.kv_heads * heads.head_dim);
    let rows_of = |run: &Range<usize>| blocks[run.clone()].iter().map(|block| block.rows.len()).sum::<usize>();
    let mut pieces = Vec::with_capacity(heads.kv_heads * runs.len());
    for kv_head in 0..heads.kv_heads {
        pieces.extend(runs.iter().map(|run| Piece {
            blocks: &blocks[run.clone()],
            kv_head,
            out: Vec::with_capacity(rows_of(run)),
        }));
    }
    let mut rows = out.chunks_exact_mut(width);
    for (n, run) in runs.iter().enumerate() {
        for row in rows.by_ref().take(rows_of(run)) {
            for (kv_head, part) in row.chunks_exact_mut(shared).enumerate() {
                pieces[kv_head * runs.len() + n].out.push(part);
            }
        }
    }
    pieces
}

impl Round<'_, '_> {
    /// Computes the block. The three steps are compiled as separate functions, because in one function their loops spill
    /// registers.
    fn attend<const R: usize, S: Isa>(&mut self, isa: S, given: &Given, scratch: &mut Scratch) {
        let Heads { heads, kv_heads, head_dim, scale, cap } = given.heads;
        let (block, shared) = (self.block, heads / kv_heads);
        let width = width::<S>();
        let first = self.panels.first();
        // Complete panels of keys. Rows have an odd number of cache lines, so that they do not compete for cache sets.
        let panels = (block.seen.start - first) / width..(block.seen.end - first).div_ceil(width);
        let first_key = first + panels.start * width;
        let stride = (panels.len() * width).next_multiple_of(32) + 16;
        scratch.weights.at_least(block.rows.len() * stride);
        scratch.q.resize(block.rows.len() * head_dim, 0.0);
        scratch.inverse.resize(block.rows.len(), 0.0);
        for head in 0..shared {
            let from = (self.kv_head * shared + head) * head_dim;
            for tile in &block.tiles {
                let mut row = tile.rows.start;
                while row < tile.rows.end {
                    let rows = part::<R>(tile.rows.end - row);
                    let to = &mut scratch.q[(row - block.rows.start) * head_dim..][..rows * head_dim];
                    for r in 0..rows {
                        let q = &given.q[(row + r) * heads * head_dim + from..][..head_dim];
                        for (to, q) in to.chunks_exact_mut(rows).zip(q) {
                            to[r] = q * scale;
                        }
                    }
                    row += rows;
                }
            }
            isa.within(
                #[inline(always)]
                || self.products::<R, S>(isa, head_dim, panels.clone(), stride, scratch),
            );
            isa.within(
                #[inline(always)]
                || {
                    for (n, row) in block.rows.clone().enumerate() {
                        let seen = index_range(&given.visible[row]);
                        let at = n * stride + seen.start - first_key;
                        let products = &mut scratch.weights[at..at + seen.len()];
                        scratch.inverse[n] = match cap {
                            None => softmax(
                                isa,
                                products,
                                #[inline(always)]
                                |x| x,
                            ),
                            Some(cap) => softmax(
                                isa,
                                products,
                                #[inline(always)]
                                |x| {
                                    let x = isa.div_f32s(x, isa.splat_f32s(cap));
                                    isa.mul_f32s(tanh(isa, x), isa.splat_f32s(cap))
                                },
                            ),
                        };
                    }
                },
            );
            isa.within(
                #[inline(always)]
                || self.values::<R, S>(isa, given, first_key, stride, head * head_dim, scratch),
            );
        }
    }

    /// The products of the queries with every panel that contains a key that their tile sees.
    #[inline(always)]
    fn products<const R: usize, S: Isa>(
        &self,
        isa: S,
        head_dim: usize,
        panels: Range<usize>,
        stride: usize,
        scratch: &mut Scratch,
    ) {
        let (width, origin) = (width::<S>(), self.panels.first());
        for panel in panels.clone() {
            let keys = self.panels.keys(self.packed, panel);
            let span = origin + panel * width..origin + (panel + 1) * width;
            for tile in &self.block.tiles {
                if tile.seen.start >= span.end || tile.seen.end <= span.start {
                    continue;
                }
                let first = tile.rows.start - self.block.rows.start;
                let mut row = first;
                let mut left = tile.rows.len();
                let at = (panel - panels.start) * width;
                while left > 0 {
                    let q = &scratch.q[row * head_dim..];
                    let out = &mut scratch.weights[row * stride + at..];
                    let done = part::<R>(left);
                    match done {
                        4 if R != 4 => score::<4, S>(isa, q, keys, out, stride),
                        2 => score::<2, S>(isa, q, keys, out, stride),
                        1 => score::<1, S>(isa, q, keys, out, stride),
                        _ => score::<R, S>(isa, q, keys, out, stride),
                    }
                    (row, left) = (row + done, left - done);
                }
            }
        }
    }

    /// The weighted sums of the values.
    #[inline(always)]
    fn values<const R: usize, S: Isa>(
        &mut self,
        isa: S,
        given: &Given,
        first_key: usize,
        stride: usize,
        column: usize,
        scratch: &mut Scratch,
    ) {
        let (head_dim, width, origin) = (given.heads.head_dim, width::<S>(), self.panels.first());
        let panels = head_dim.div_ceil(width);
        scratch.sums.resize(self.block.rows.len() * width, 0.0);
        let Scratch { weights, inverse, sums, .. } = scratch;
        let weights = Weights { held: weights, stride, first_key };
        for panel in 0..panels {
            let values = self.panels.values(self.packed, panel);
            let columns = column + panel * width..column + head_dim.min((panel + 1) * width);
            sums.fill(0.0);
            let block = self.block;
            // Each row sums its keys in order: those before the common keys of its tile, the common ones, those after them.
            for tile in &block.tiles {
                for row in tile.rows.clone() {
                    let before = given.visible[row].start as usize..tile.common.start;
                    edge(isa, weights, row - block.rows.start, before, (values, origin), sums);
                }
            }
            for start in block.seen.clone().step_by(KEYS) {
                for tile in &block.tiles {
                    let keys = tile.common.start.max(start)..tile.common.end.min(start + KEYS);
                    if keys.is_empty() {
                        continue;
                    }
                    let values = &values[(keys.start - origin) * width..(keys.end - origin) * width];
                    let mut row = tile.rows.start - block.rows.start;
                    let end = tile.rows.end - block.rows.start;
                    while row < end {
                        let sums = &mut sums[row * width..];
                        row += match end - row {
                            left if left >= R => gather::<R, S>(isa, weights.rows(row, &keys), values, sums),
                            4.. => gather::<4, S>(isa, weights.rows(row, &keys), values, sums),
                            2.. => gather::<2, S>(isa, weights.rows(row, &keys), values, sums),
                            _ => gather::<1, S>(isa, weights.rows(row, &keys), values, sums),
                        };
                    }
                }
            }
            for tile in &block.tiles {
                for row in tile.rows.clone() {
                    let after = tile.common.end..given.visible[row].end as usize;
                    edge(isa, weights, row - block.rows.start, after, (values, origin), sums);
                }
            }
            for ((out, sums), inverse) in self.out.iter_mut().zip(sums.chunks_exact(width)).zip(inverse.iter()) {
                let (inverse, sums) = (isa.splat_f32s(*inverse), load(isa, sums));
                let sums = [isa.mul_f32s(sums[0], inverse), isa.mul_f32s(sums[1], inverse)];
                store(isa, &mut out[columns.clone()], sums);
            }
        }
    }
}

/// The weights of a block, beginning with its first key.
#[derive(Clone, Copy)]
struct Weights<'a> {
    held: &'a [f32],
    stride: usize,
    first_key: usize,
}

impl<'a> Weights<'a> {
    /// The weights of `R` rows for a range of keys.
    #[inline(always)]
    fn rows<const R: usize>(self, first: usize, keys: &Range<usize>) -> [&'a [f32]; R] {
        let mut rows: [&[f32]; R] = [&[]; R];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = &self.held[(first + r) * self.stride + keys.start - self.first_key..][..keys.len()];
        }
        rows
    }
}

/// Adds the values of keys that not all rows of a tile see, for one row.
#[inline(always)]
fn edge<S: Isa>(
    isa: S,
    weights: Weights,
    row: usize,
    keys: Range<usize>,
    (values, origin): (&[f32], usize),
    sums: &mut [f32],
) {
    let width = width::<S>();
    if !keys.is_empty() {
        let values = &values[(keys.start - origin) * width..(keys.end - origin) * width];
        gather::<1, S>(isa, weights.rows(row, &keys), values, &mut sums[row * width..]);
    }
}

/// The number of rows in the next part of a tile with `left` rows left: one of the sizes for which kernels are compiled.
#[inline(always)]
fn part<const R: usize>(left: usize) -> usize {
    match left {
        _ if left >= R => R,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// The products of `R` rows of `q` with a panel of keys.
#[inline(always)]
fn score<const R: usize, S: Isa>(isa: S, q: &[f32], keys: &[f32], out: &mut [f32], stride: usize) {
    let sums = tile_of_steps::<R, S>(isa, &q[..keys.len() / width::<S>() * R], keys);
    for (r, sums) in sums.iter().enumerate() {
        store(isa, &mut out[r * stride..][..width::<S>()], *sums);
    }
}

/// Adds the weighted values of some keys to `sums`. Returns the number of rows.
#[inline(always)]
fn gather<const R: usize, S: Isa>(isa: S, weights: [&[f32]; R], values: &[f32], sums: &mut [f32]) -> usize {
    let width = width::<S>();
    let mut before = zeros::<R, 1, S>(isa);
    for (before, sums) in before.iter_mut().zip(sums.chunks_exact(width)) {
        before[0] = load(isa, sums);
    }
    let after = tile::<R, 1, S>(isa, weights, [values], before);
    for (after, sums) in after.iter().zip(sums.chunks_exact_mut(width)) {
        store(isa, sums, after[0]);
    }
    R
}

/// Turns the products of a row into weights, of which the largest is 1, and returns the inverse of their sum. `capped` is applied
/// to every product; it keeps their order. The lanes of the sum are counted from the row's first key, wherever it is in memory.
#[inline(always)]
fn softmax<S: Isa>(isa: S, row: &mut [f32], capped: impl Fn(S::f32s) -> S::f32s) -> f32 {
    let lanes = S::F32_LANES;
    let whole = row.len() / lanes * lanes;
    let (body, tail) = row.split_at_mut(whole);
    let body: &mut [S::f32s] = bytemuck::cast_slice_mut(body);
    // Two vectors at a time, so that the processor can overlap their computation.
    let (pairs, last) = body.as_chunks_mut::<2>();
    let mut most = [isa.splat_f32s(f32::NEG_INFINITY); 2];
    for pair in pairs.iter() {
        most = [isa.max_f32s(pair[0], most[0]), isa.max_f32s(pair[1], most[1])];
    }
    for x in last.iter() {
        most[0] = isa.max_f32s(*x, most[0]);
    }
    let most = isa.reduce_max_f32s(isa.max_f32s(most[0], most[1]));
    let most = capped(isa.splat_f32s(tail.iter().fold(most, |most, x| most.max(*x))));
    let mut sums = [isa.splat_f32s(0.0); 2];
    for pair in pairs {
        *pair = [exp(isa, isa.sub_f32s(capped(pair[0]), most)), exp(isa, isa.sub_f32s(capped(pair[1]), most))];
        sums = [isa.add_f32s(sums[0], pair[0]), isa.add_f32s(sums[1], pair[1])];
    }
    for x in last {
        *x = exp(isa, isa.sub_f32s(capped(*x), most));
        sums[0] = isa.add_f32s(sums[0], *x);
    }
    if !tail.is_empty() {
        let x = exp(isa, isa.sub_f32s(capped(isa.partial_load_f32s(tail)), most));
        isa.partial_store_f32s(tail, x);
        sums[0] = isa.add_f32s(sums[0], isa.partial_load_f32s(tail));
    }
    1.0 / isa.reduce_sum_f32s(isa.add_f32s(sums[0], sums[1]))
}
