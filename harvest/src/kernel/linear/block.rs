//! How a product is divided: between threads, and so that what is read again is still in the cache.
//!
//! A thread takes a block of rows and a run of panels. It goes through `d_in` in stretches: the block's part of `x` is
//! copied together (into the second-level cache), and every panel's part goes by once, to be multiplied with the whole
//! block while it is in the first-level cache. That is also when `bf16` becomes `f32`.

use super::pack::Panels;
use crate::kernel::aligned::Aligned;
use crate::kernel::isa::{Isa, Work, width};
use crate::kernel::pool::Pool;
use crate::kernel::tile::{load, store, tile, zeros};
use rayon::prelude::*;

/// Rows of a block: a multiple of every tile's rows.
const ROWS: usize = 192;
/// Longest stretch of a sum: a panel's part is 24 KiB (V3) or 48 KiB (V4) of the first-level cache.
const STRETCH: usize = 384;
/// Rows that a panel of `f32` is not copied for.
const FEW: usize = 16;
/// Multiplications that are worth a thread.
const WORTH: usize = 1 << 18;

/// `out (+)= x W^T`.
pub(super) struct Product<'a> {
    pub(super) x: &'a [f32],
    pub(super) d_in: usize,
    pub(super) out: &'a mut [f32],
    pub(super) d_out: usize,
    pub(super) panels: &'a Panels,
    /// To be added to what `out` holds.
    pub(super) add: bool,
}

/// What a thread does at a time.
struct Block<'a> {
    x: &'a [f32],
    first_panel: usize,
    /// The block's rows, each as far as the panels go.
    out: Vec<&'a mut [f32]>,
}

/// Memory that a thread works in.
struct Scratch {
    x: Aligned<f32>,
    wide: Aligned<f32>,
}

impl Work for Product<'_> {
    type Output = ();

    fn on<const R: usize, S: Isa>(self, isa: S) {
        let Self { x, d_in, out, d_out, panels, add } = self;
        let stretch = d_in.div_ceil(d_in.div_ceil(STRETCH));
        let blocks = divide(x, d_in, out, d_out, width::<S>());
        let scratch = || Scratch { x: Aligned::new(ROWS * stretch), wide: Aligned::new(stretch * width::<S>()) };
        let work = |scratch: &mut Scratch, mut block: Block| {
            isa.within(
                #[inline(always)]
                || block.multiply::<R, S>(isa, [d_in, stretch], panels, add, scratch),
            );
        };
        match blocks.len() {
            1 => blocks.into_iter().for_each(|block| work(&mut scratch(), block)),
            _ => {
                let pool = Pool::new();
                let one = |block| pool.lend(scratch, |scratch| work(scratch, block));
                blocks.into_par_iter().with_max_len(1).for_each(one);
            }
        }
    }
}

/// Blocks of rows, and runs of panels where the rows alone are too few for the threads.
fn divide<'a>(x: &'a [f32], d_in: usize, out: &'a mut [f32], d_out: usize, width: usize) -> Vec<Block<'a>> {
    let (rows, panels) = (out.len() / d_out, d_out.div_ceil(width));
    let row_blocks = rows.div_ceil(ROWS);
    // Several a thread: not every thread is equally fast.
    let wanted = (4 * rayon::current_num_threads()).min((rows * d_in * d_out).div_ceil(WORTH));
    let runs = wanted.div_ceil(row_blocks).clamp(1, panels);
    let run = panels.div_ceil(runs);
    let mut blocks = Vec::with_capacity(row_blocks * runs);
    for (x, out) in x.chunks(ROWS * d_in).zip(out.chunks_mut(ROWS * d_out)) {
        let first = blocks.len();
        for first_panel in (0..panels).step_by(run) {
            blocks.push(Block { x, first_panel, out: Vec::with_capacity(x.len() / d_in) });
        }
        for row in out.chunks_exact_mut(d_out) {
            for (block, part) in blocks[first..].iter_mut().zip(row.chunks_mut(run * width)) {
                block.out.push(part);
            }
        }
    }
    blocks
}

impl Block<'_> {
    #[inline(always)]
    fn multiply<const R: usize, S: Isa>(
        &mut self,
        isa: S,
        [d_in, stretch]: [usize; 2],
        panels: &Panels,
        add: bool,
        scratch: &mut Scratch,
    ) {
        let width = width::<S>();
        let rows = self.out.len();
        let columns = self.out[0].len();
        for start in (0..d_in).step_by(stretch) {
            let depth = stretch.min(d_in - start);
            for (row, copy) in self.x.chunks_exact(d_in).zip(scratch.x.chunks_exact_mut(depth)) {
                copy.copy_from_slice(&row[start..start + depth]);
            }
            let x = &scratch.x[..rows * depth];
            let add = add || start > 0;
            let part = |p: usize| ((self.first_panel + p) * d_in + start) * width;
            let mut first = 0;
            // One row alone: the sums of four panels keep the multipliers busy, where those of one would wait.
            if rows == 1 {
                while (first + 4) * width <= columns
                    && let [Some(a), Some(b), Some(c), Some(d)] =
                        [0, 1, 2, 3].map(|p| panels.plain(part(first + p), depth * width))
                {
                    finish::<1, 4, S>(isa, x, [a, b, c, d], &mut self.out, first * width, add);
                    first += 4;
                }
            }
            for p in first..columns.div_ceil(width) {
                let len = depth * width;
                let panel = match panels.plain(part(p), len) {
                    Some(panel) if rows < FEW => panel,
                    _ => {
                        panels.bring(part(p), &mut scratch.wide[..len]);
                        &scratch.wide[..len]
                    }
                };
                let mut row = 0;
                while row < rows {
                    let (x, out) = (&x[row * depth..], &mut self.out[row..]);
                    row += match rows - row {
                        left if left >= R => finish::<R, 1, S>(isa, x, [panel], out, p * width, add),
                        4.. => finish::<4, 1, S>(isa, x, [panel], out, p * width, add),
                        2.. => finish::<2, 1, S>(isa, x, [panel], out, p * width, add),
                        _ => finish::<1, 1, S>(isa, x, [panel], out, p * width, add),
                    };
                }
            }
        }
    }
}

/// Multiplies the first `R` rows of `x` with the parts of `P` panels side by side and brings the sums home.
#[inline(always)]
fn finish<const R: usize, const P: usize, S: Isa>(
    isa: S,
    x: &[f32],
    panels: [&[f32]; P],
    out: &mut [&mut [f32]],
    column: usize,
    add: bool,
) -> usize {
    let width = width::<S>();
    let depth = panels[0].len() / width;
    let mut rows: [&[f32]; R] = [&[]; R];
    for (row, x) in rows.iter_mut().zip(x.chunks_exact(depth)) {
        *row = x;
    }
    let sums = tile::<R, P, S>(isa, rows, panels, zeros(isa));
    for (sums, out) in sums.iter().zip(&mut out[..R]) {
        for (sums, out) in sums.iter().zip(out[column..].chunks_mut(width)) {
            let mut sums = *sums;
            if add {
                let before = load(isa, out);
                sums = [isa.add_f32s(before[0], sums[0]), isa.add_f32s(before[1], sums[1])];
            }
            store(isa, out, sums);
        }
    }
    R
}
