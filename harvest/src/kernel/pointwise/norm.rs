//! Norms of rows. Sums have sixteen lanes of `f64`, and the same bits on every processor.

use super::rows_of;
use rayon::prelude::*;

/// Number of partial sums.
const LANES: usize = 16;

/// RMSNorm in place: divides every row by its root mean square, where `eps` is added to the mean square, and multiplies it
/// by `scale` (Zhang and Sennrich 2019).
///
/// # Shapes
/// `x`: `[rows, width]`. `scale`: `[width]`.
pub fn rms_norm(x: &mut [f32], scale: &[f32], eps: f32) {
    let width = scale.len();
    in_chunks(x, width, |_, x| {
        for row in x.chunks_exact_mut(width) {
            rms(row, scale, eps);
        }
    });
}

/// LayerNorm in place: subtracts the mean of every row, divides by the standard deviation, where `eps` is added to the
/// variance, multiplies by `scale` and adds `shift` (Ba et al. 2016). `scale` and `shift` may have several rows, which then
/// take turns (one per head).
///
/// # Shapes
/// `x`: `[rows, width]`. `scale` and `shift`: `[turns * width]`.
pub fn layer_norm(x: &mut [f32], scale: &[f32], shift: &[f32], width: usize, eps: f32) {
    assert_eq!(scale.len(), shift.len(), "scale and shift");
    let turns = scale.len() / width.max(1);
    in_chunks(x, width, |first, x| {
        for (n, row) in x.chunks_exact_mut(width).enumerate() {
            let at = (first + n) % turns * width;
            layer(row, &scale[at..at + width], &shift[at..at + width], eps);
        }
    });
}

/// Distributes rows to the threads in chunks. `work` receives the number of the first row and the rows.
fn in_chunks(x: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if x.is_empty() {
        return;
    }
    let rows = rows_of(width);
    let work = |n: usize, x: &mut [f32]| pulp::Arch::new().dispatch(In { first: n * rows, x, work: &work });
    if x.len() <= rows * width {
        work(0, x);
    } else {
        x.par_chunks_mut(rows * width).enumerate().for_each(|(n, x)| work(n, x));
    }
}

/// A chunk of rows, to be computed with the vector instructions of the processor.
struct In<'a, F> {
    first: usize,
    x: &'a mut [f32],
    work: &'a F,
}

impl<F: Fn(usize, &mut [f32])> pulp::NullaryFnOnce for In<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        (self.work)(self.first, self.x);
    }
}

#[inline(always)]
fn rms(row: &mut [f32], scale: &[f32], eps: f32) {
    let square = sum(row, 0.0, true) / row.len() as f64;
    let inverse = 1.0 / (square as f32 + eps).sqrt();
    for (x, s) in row.iter_mut().zip(scale) {
        *x = *x * inverse * s;
    }
}

#[inline(always)]
fn layer(row: &mut [f32], scale: &[f32], shift: &[f32], eps: f32) {
    let width = row.len() as f64;
    let mean = sum(row, 0.0, false) / width;
    let variance = sum(row, mean, true) / width;
    let (mean, inverse) = (mean as f32, 1.0 / (variance as f32 + eps).sqrt());
    for ((x, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
        *x = (*x - mean) * inverse * scale + shift;
    }
}

/// The sum of the differences from `mean`, or of their squares.
#[inline(always)]
fn sum(row: &[f32], mean: f64, squared: bool) -> f64 {
    let mut sums = [0f64; LANES];
    let (body, tail) = row.as_chunks::<LANES>();
    for x in body {
        for lane in 0..LANES {
            let x = f64::from(x[lane]) - mean;
            sums[lane] += if squared { x * x } else { x };
        }
    }
    for (sum, x) in sums.iter_mut().zip(tail) {
        let x = f64::from(*x) - mean;
        *sum += if squared { x * x } else { x };
    }
    sums.iter().sum()
}
