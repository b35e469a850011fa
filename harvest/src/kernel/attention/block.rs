//! A block of query rows of the heads that share a key head, against the keys it sees.

use super::Heads;
use super::pack::Panels;
use super::plan::{self, Block, Tile, usual};
use crate::kernel::aligned::Aligned;
use crate::kernel::isa::{Isa, Work, width};
use crate::kernel::tile::{load, store, tile, zeros};
use crate::kernel::vector::exp;
use rayon::prelude::*;
use std::ops::Range;

/// `out = softmax(scale q k^T) v`.
pub(super) struct Attention<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) heads: Heads,
    pub(super) visible: &'a [Range<u32>],
    pub(super) out: &'a mut [f32],
}

/// What a thread does at a time: a block for one key head.
struct Piece<'a> {
    block: &'a Block,
    kv_head: usize,
    /// Of every row what the heads that share the key head make.
    out: Vec<&'a mut [f32]>,
}

/// What every piece reads.
struct Given<'a> {
    q: &'a [f32],
    heads: Heads,
    visible: &'a [Range<u32>],
    panels: Panels,
}

/// Memory that a thread works in.
#[derive(Default)]
struct Scratch {
    /// A head's part of the block's queries, scaled: `[rows][head_dim]`.
    q: Vec<f32>,
    /// Products, then weights: `[rows][stride]`.
    weights: Aligned<f32>,
    /// One over every row's sum of weights.
    inverse: Vec<f32>,
    /// A tile's sums over the keys of one panel of values: `[rows][width]`.
    sums: Vec<f32>,
}

impl Work for Attention<'_> {
    type Output = ();

    fn on<const R: usize, S: Isa>(self, isa: S) {
        let Self { q, k, v, heads, visible, out } = self;
        let blocks = plan::blocks(visible, R);
        let given = Given { q, heads, visible, panels: Panels::new(k, v, heads, visible.len(), width::<S>()) };
        let work = |scratch: &mut Scratch, mut piece: Piece| {
            isa.within(
                #[inline(always)]
                || piece.attend::<R, S>(isa, &given, scratch),
            );
        };
        let pieces = divide(&blocks, heads, out);
        match pieces.len() {
            1 => pieces.into_iter().for_each(|piece| work(&mut Scratch::default(), piece)),
            _ => pieces.into_par_iter().with_max_len(1).for_each_init(Scratch::default, work),
        }
    }
}

/// Every block once a key head, those of a key head one after the other.
fn divide<'a>(blocks: &'a [Block], heads: Heads, out: &'a mut [f32]) -> Vec<Piece<'a>> {
    let (width, shared) = (heads.heads * heads.head_dim, heads.heads / heads.kv_heads * heads.head_dim);
    let piece = |kv_head| move |block: &'a Block| Piece { block, kv_head, out: Vec::with_capacity(block.rows.len()) };
    let mut pieces: Vec<Piece> = (0..heads.kv_heads).flat_map(|kv_head| blocks.iter().map(piece(kv_head))).collect();
    let mut rows = out.chunks_exact_mut(width);
    for (n, block) in blocks.iter().enumerate() {
        for row in rows.by_ref().take(block.rows.len()) {
            for (kv_head, part) in row.chunks_exact_mut(shared).enumerate() {
                pieces[kv_head * blocks.len() + n].out.push(part);
            }
        }
    }
    pieces
}

impl Piece<'_> {
    #[inline(always)]
    fn attend<const R: usize, S: Isa>(&mut self, isa: S, given: &Given, scratch: &mut Scratch) {
        let Heads { heads, kv_heads, head_dim, scale } = given.heads;
        let (block, shared) = (self.block, heads / kv_heads);
        let width = width::<S>();
        // Whole panels of keys; an odd number of lines a row, so that rows do not contend for places in the cache.
        let panels = block.seen.start / width..block.seen.end.div_ceil(width);
        let stride = (panels.len() * width).next_multiple_of(32) + 16;
        scratch.weights.at_least(block.rows.len() * stride);
        scratch.q.resize(block.rows.len() * head_dim, 0.0);
        scratch.inverse.resize(block.rows.len(), 0.0);
        for head in 0..shared {
            let from = (self.kv_head * shared + head) * head_dim;
            let rows = given.q.chunks_exact(heads * head_dim).skip(block.rows.start);
            for (out, row) in scratch.q.chunks_exact_mut(head_dim).zip(rows) {
                for (out, q) in out.iter_mut().zip(&row[from..from + head_dim]) {
                    *out = q * scale;
                }
            }
            self.products::<R, S>(isa, given, panels.clone(), stride, scratch);
            for (n, row) in block.rows.clone().enumerate() {
                let seen = usual(&given.visible[row]);
                let at = n * stride + seen.start - panels.start * width;
                scratch.inverse[n] = soften(isa, &mut scratch.weights[at..at + seen.len()]);
            }
            self.values::<R, S>(isa, given, panels.start * width, stride, head * head_dim, scratch);
        }
    }

    /// The queries times every panel of keys that their tile sees something of.
    #[inline(always)]
    fn products<const R: usize, S: Isa>(
        &self,
        isa: S,
        given: &Given,
        panels: Range<usize>,
        stride: usize,
        scratch: &mut Scratch,
    ) {
        let (head_dim, width) = (given.heads.head_dim, width::<S>());
        let of_head = self.kv_head * given.visible.len().div_ceil(width);
        for panel in panels.clone() {
            let keys = &given.panels.keys[(of_head + panel) * head_dim * width..][..head_dim * width];
            for tile in &self.block.tiles {
                if tile.seen.start >= (panel + 1) * width || tile.seen.end <= panel * width {
                    continue;
                }
                let first = tile.rows.start - self.block.rows.start;
                let mut row = first;
                let mut left = tile.rows.len();
                let at = (panel - panels.start) * width;
                while left > 0 {
                    let q = &scratch.q[row * head_dim..];
                    let out = &mut scratch.weights[row * stride + at..];
                    let done = match left {
                        _ if left >= R => score::<R, S>(isa, q, keys, out, stride),
                        4.. => score::<4, S>(isa, q, keys, out, stride),
                        2.. => score::<2, S>(isa, q, keys, out, stride),
                        _ => score::<1, S>(isa, q, keys, out, stride),
                    };
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
        let (head_dim, width, rows) = (given.heads.head_dim, width::<S>(), given.visible.len());
        let panels = head_dim.div_ceil(width);
        scratch.sums.resize(R * width, 0.0);
        for panel in 0..panels {
            let values = &given.panels.values[(self.kv_head * panels + panel) * rows * width..][..rows * width];
            let columns = column + panel * width..column + head_dim.min((panel + 1) * width);
            for tile in &self.block.tiles {
                let Tile { rows, common, .. } = tile;
                let first = rows.start - self.block.rows.start;
                let weights = |row: usize, keys: &Range<usize>| {
                    let at = row * stride + keys.start - first_key;
                    &scratch.weights[at..at + keys.len()]
                };
                let panel_of = |keys: &Range<usize>| &values[keys.start * width..keys.end * width];
                let sums = &mut scratch.sums;
                sums.fill(0.0);
                for (n, sums) in sums.chunks_exact_mut(width).take(rows.len()).enumerate() {
                    let before = given.visible[rows.start + n].start as usize..common.start;
                    if !before.is_empty() {
                        gather::<1, S>(isa, [weights(first + n, &before)], panel_of(&before), sums);
                    }
                }
                let mut n = 0;
                while n < rows.len() {
                    let left = rows.len() - n;
                    let sums = &mut sums[n * width..];
                    let row = first + n;
                    n += match left {
                        _ if left >= R => gather::<R, S>(
                            isa,
                            std::array::from_fn(
                                #[inline(always)]
                                |r| weights(row + r, common),
                            ),
                            panel_of(common),
                            sums,
                        ),
                        4.. => gather::<4, S>(
                            isa,
                            std::array::from_fn(
                                #[inline(always)]
                                |r| weights(row + r, common),
                            ),
                            panel_of(common),
                            sums,
                        ),
                        2.. => gather::<2, S>(
                            isa,
                            std::array::from_fn(
                                #[inline(always)]
                                |r| weights(row + r, common),
                            ),
                            panel_of(common),
                            sums,
                        ),
                        _ => gather::<1, S>(isa, [weights(row, common)], panel_of(common), sums),
                    };
                }
                for (n, sums) in sums.chunks_exact_mut(width).take(rows.len()).enumerate() {
                    let after = common.end..given.visible[rows.start + n].end as usize;
                    if !after.is_empty() {
                        gather::<1, S>(isa, [weights(first + n, &after)], panel_of(&after), sums);
                    }
                    let inverse = isa.splat_f32s(scratch.inverse[first + n]);
                    let sums = load(isa, sums);
                    let sums = [isa.mul_f32s(sums[0], inverse), isa.mul_f32s(sums[1], inverse)];
                    store(isa, &mut self.out[first + n][columns.clone()], sums);
                }
            }
        }
    }
}

/// Products of the first `R` rows of `q` with a panel of keys.
#[inline(always)]
fn score<const R: usize, S: Isa>(isa: S, q: &[f32], keys: &[f32], out: &mut [f32], stride: usize) -> usize {
    let head_dim = keys.len() / width::<S>();
    let mut rows: [&[f32]; R] = [&[]; R];
    for (row, q) in rows.iter_mut().zip(q.chunks_exact(head_dim)) {
        *row = q;
    }
    let sums = tile::<R, 1, S>(isa, rows, [keys], zeros(isa));
    for (r, sums) in sums.iter().enumerate() {
        store(isa, &mut out[r * stride..][..width::<S>()], sums[0]);
    }
    R
}

/// Adds the values of some keys, weighted, to `sums`.
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

/// Makes a row's products weights, the largest of them 1; returns one over their sum. The sum goes by lanes from the row's
/// first key on, wherever that lies.
#[inline(always)]
fn soften<S: Isa>(isa: S, row: &mut [f32]) -> f32 {
    let lanes = S::F32_LANES;
    let whole = row.len() / lanes * lanes;
    let (body, tail) = row.split_at_mut(whole);
    let body: &mut [S::f32s] = bytemuck::cast_slice_mut(body);
    let mut most = [isa.splat_f32s(f32::NEG_INFINITY); 2];
    for pair in body.chunks(2) {
        for (most, x) in most.iter_mut().zip(pair) {
            *most = isa.max_f32s(*x, *most);
        }
    }
    let most = isa.reduce_max_f32s(isa.max_f32s(most[0], most[1]));
    let most = isa.splat_f32s(tail.iter().fold(most, |most, x| most.max(*x)));
    let mut sums = [isa.splat_f32s(0.0); 2];
    for pair in body.chunks_mut(2) {
        for (sum, x) in sums.iter_mut().zip(pair) {
            *x = exp(isa, isa.sub_f32s(*x, most));
            *sum = isa.add_f32s(*sum, *x);
        }
    }
    if !tail.is_empty() {
        let x = exp(isa, isa.sub_f32s(isa.partial_load_f32s(tail), most));
        isa.partial_store_f32s(tail, x);
        sums[0] = isa.add_f32s(sums[0], isa.partial_load_f32s(tail));
    }
    1.0 / isa.reduce_sum_f32s(isa.add_f32s(sums[0], sums[1]))
}
