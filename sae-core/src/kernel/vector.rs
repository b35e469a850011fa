//! Sums over vectors of `f32`, in an order that is the same on every processor and for any number of threads.
//!
//! Everything is marked inline so that it is compiled for the instructions of the caller's `Arch::dispatch`. Products
//! are rounded before they are added: a fused multiply-add would be another number where the processor has none.

/// Partial sums that are kept apart; four registers of AVX2.
const LANES: usize = 32;

/// `sum_i x_i y_i`
#[inline(always)]
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (xs, x_tail) = x.as_chunks::<LANES>();
    let (ys, y_tail) = y.as_chunks::<LANES>();
    for (x, y) in xs.iter().zip(ys) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    for (sum, (x, y)) in sums.iter_mut().zip(x_tail.iter().zip(y_tail)) {
        *sum += x * y;
    }
    fold(sums)
}

/// `sum_i x_i^2`
#[inline(always)]
pub fn squares(x: &[f32]) -> f32 {
    dot(x, x)
}

/// `y += a x`
#[inline(always)]
pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// `y *= a`
#[inline(always)]
pub fn scale(a: f32, y: &mut [f32]) {
    y.iter_mut().for_each(|y| *y *= a);
}

/// The lanes' sum, halves onto halves.
#[inline(always)]
fn fold(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_agree_with_f64_and_on_every_instruction_set(x in prop::collection::vec(-9f32..9.0, 0..150)) {
            let y: Vec<f32> = x.iter().rev().map(|v| v * 0.7 - 1.0).collect();
            let exact: f64 = x.iter().zip(&y).map(|(x, y)| *x as f64 * *y as f64).sum();
            let plain = dot(&x, &y);
            prop_assert!((plain as f64 - exact).abs() < 1e-3);
            prop_assert_eq!(plain.to_bits(), crate::kernel::arch().dispatch(|| dot(&x, &y)).to_bits());
        }
    }
}
