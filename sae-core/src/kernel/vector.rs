//! Sums over vectors of `f32`, in an order that is the same on every processor and for any number of threads.
//!
//! Everything is marked inline so that it is compiled for the instructions of the caller's `Arch::dispatch`. Products
//! are rounded before they are added: a fused multiply-add would be another number where the processor has none.

/// Eight sums at once. Written out as functions of values, which is what the compiler makes vector instructions of.
type Lanes = [f32; 8];

#[inline(always)]
fn add(x: Lanes, y: Lanes) -> Lanes {
    let mut sum = [0.0; 8];
    for lane in 0..8 {
        sum[lane] = x[lane] + y[lane];
    }
    sum
}

#[inline(always)]
fn multiply(x: Lanes, y: Lanes) -> Lanes {
    let mut product = [0.0; 8];
    for lane in 0..8 {
        product[lane] = x[lane] * y[lane];
    }
    product
}

/// `sum_i x_i y_i`, as 32 sums that are added up at the end.
#[inline(always)]
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [[0f32; 8]; 4];
    let (xs, x_tail) = x.as_chunks::<32>();
    let (ys, y_tail) = y.as_chunks::<32>();
    for (x, y) in xs.iter().zip(ys) {
        let (x, y): ([Lanes; 4], [Lanes; 4]) = (pulp::cast(*x), pulp::cast(*y));
        for four in 0..4 {
            sums[four] = add(sums[four], multiply(x[four], y[four]));
        }
    }
    for (n, (x, y)) in x_tail.iter().zip(y_tail).enumerate() {
        sums[n / 8][n % 8] += x * y;
    }
    let s = add(add(sums[0], sums[1]), add(sums[2], sums[3]));
    ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))
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
