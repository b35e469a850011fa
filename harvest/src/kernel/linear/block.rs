//! How a product is divided between threads, and into parts that fit into the caches.
//!
//! A thread takes a block of rows and a run of panels. It divides `d_in` into stretches. For each stretch, the block's part
//! of `x` is copied to a contiguous buffer (in the L2 cache), and each panel's part is loaded once and multiplied with the
//! whole block while it is in the L1 cache. This is also when `bf16` is converted to `f32`.

use super::pack::Panels;
use crate::kernel::aligned::Aligned;
use crate::kernel::isa::{Isa, Work, width};
use crate::kernel::pool::Pool;
use crate::kernel::tile::{load, store, tile, zeros};
use rayon::prelude::*;

/// Number of rows of a block, which is a multiple of the number of rows of every tile.
const ROWS: usize = 192;
/// Maximum length of a stretch, with which a panel's part takes 24 KiB (V3) or 48 KiB (V4) of the L1 cache.
const STRETCH: usize = 384;
/// Number of rows below which a panel of `f32` is not copied.
const FEW: usize = 16;
/// Minimum number of multiplications for another thread.
const WORTH: usize = 1 << 18;

/// `out (+)= x W^T`.
pub(super) struct Product<'a> {
    pub(super) x: &'a [f32],
    pub(super) d_in: usize,
    pub(super) out: &'a mut [f32],
    pub(super) d_out: usize,
    pub(super) panels: &'a Panels,
    /// Whether the product is added to `out`.
    pub(super) add: bool,
}

/// A unit of work of a thread.
struct Block<'a> {
    x: &'a [f32],
    first_panel: usize,
    /// The rows of the block in `out`, limited to the columns of the panels.
    out: Vec<&'a mut [f32]>,
}

/// The scratch buffers of a thread.
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

/// Divides the rows into blocks, and also the panels into runs if there are too few blocks for the threads.
fn divide<'a>(x: &'a [f32], d_in: usize, out: &'a mut [f32], d_out: usize, width: usize) -> Vec<Block<'a>> {
    let (rows, panels) = (out.len() / d_out, d_out.div_ceil(width));
    let row_blocks = rows.div_ceil(ROWS);
    // Several units of work per thread, because threads are not equally fast.
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
            // For a single row, four panels at a time keep the multipliers busy, which one panel does not.
            if rows == 1 {
                while (first + 4) * width <= columns
                    && let [Some(a), Some(b), Some(c), Some(d)] =
                        [0, 1, 2, 3].map(|p| panels.in_place(part(first + p), depth * width))
                {
                    finish::<1, 4, S>(isa, x, [a, b, c, d], &mut self.out, first * width, add);
                    first += 4;
                }
            }
            for p in first..columns.div_ceil(width) {
                let len = depth * width;
                let panel = match panels.in_place(part(p), len) {
                    Some(panel) if rows < FEW => panel,
                    _ => {
                        panels.copy_to(part(p), &mut scratch.wide[..len]);
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

/// Multiplies the first `R` rows of `x` with the parts of `P` neighboring panels and stores the sums. Returns `R`.
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
