//! Sums over vectors of `f32`, in an order that is the same on every processor and for any number of threads.
//!
//! Everything is marked inline so that it is compiled for the instructions of the caller's `Arch::dispatch`. Products are rounded
//! before they are added, because a fused multiply-add, which not every processor has, gives another number.

/// Eight sums at once. The functions take and return values, which the compiler turns into vector instructions.
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
    dots(x, [y])[0]
}

/// The sum of the norms of `blocks` equal parts of a vector; with one part, its norm.
#[inline(always)]
pub fn sum_of_norms(x: &[f32], blocks: usize) -> f32 {
    x.chunks_exact(x.len() / blocks).map(|block| norm_sq(block).sqrt()).sum()
}

/// [`dot`] of `x` with several vectors of its length at once, so that their reads overlap.
#[inline(always)]
pub fn dots<const N: usize>(x: &[f32], ys: [&[f32]; N]) -> [f32; N] {
    let mut sums = [[[0f32; 8]; 4]; N];
    let ys = ys.map(|y| &y[..x.len()]);
    let (xs, x_tail) = x.as_chunks::<32>();
    let chunks = ys.map(|y| y.as_chunks::<32>().0);
    for (c, x) in xs.iter().enumerate() {
        let x: [Lanes; 4] = pulp::cast(*x);
        for n in 0..N {
            let y: [Lanes; 4] = pulp::cast(chunks[n][c]);
            for four in 0..4 {
                sums[n][four] = add(sums[n][four], multiply(x[four], y[four]));
            }
        }
    }
    let tails = ys.map(|y| &y[xs.len() * 32..]);
    let mut out = [0.0; N];
    for n in 0..N {
        for (i, (x, y)) in x_tail.iter().zip(tails[n]).enumerate() {
            sums[n][i / 8][i % 8] += x * y;
        }
        out[n] = total(sums[n]);
    }
    out
}

/// `sum_i x_i^2`
#[inline(always)]
pub fn norm_sq(x: &[f32]) -> f32 {
    dot(x, x)
}

/// `sum_i x_i`, as 32 sums that are added up at the end.
#[inline(always)]
pub fn sum(x: &[f32]) -> f32 {
    let mut sums = [[0f32; 8]; 4];
    let (chunks, tail) = x.as_chunks::<32>();
    for chunk in chunks {
        let chunk: [Lanes; 4] = pulp::cast(*chunk);
        for four in 0..4 {
            sums[four] = add(sums[four], chunk[four]);
        }
    }
    for (i, x) in tail.iter().enumerate() {
        sums[i / 8][i % 8] += x;
    }
    total(sums)
}

/// Thirty-two sums in one.
#[inline(always)]
fn total(sums: [Lanes; 4]) -> f32 {
    let s = add(add(sums[0], sums[1]), add(sums[2], sums[3]));
    ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))
}

/// `y += a x`
#[inline(always)]
pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    axpys([a], [x], y);
}

/// `y += a_1 x_1 + a_2 x_2 ...`, added in order as by repeated [`axpy`], but in one pass over `y`.
#[inline(always)]
fn axpys<const N: usize>(a: [f32; N], xs: [&[f32]; N], y: &mut [f32]) {
    let xs = xs.map(|x| &x[..y.len()]);
    for (i, y) in y.iter_mut().enumerate() {
        let mut sum = *y;
        for n in 0..N {
            sum += a[n] * xs[n][i];
        }
        *y = sum;
    }
}

/// Adds every vector times its number to `y`, in order.
#[inline(always)]
pub fn add_weighted<'a>(mut terms: impl Iterator<Item = (f32, &'a [f32])>, y: &mut [f32]) {
    while let Some((a, x)) = terms.next() {
        match (terms.next(), terms.next(), terms.next()) {
            (Some((b, v)), Some((c, w)), Some((d, z))) => axpys([a, b, c, d], [x, v, w, z], y),
            (Some((b, v)), Some((c, w)), None) => axpys([a, b, c], [x, v, w], y),
            (Some((b, v)), _, _) => axpys([a, b], [x, v], y),
            (None, _, _) => axpy(a, x, y),
        }
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
    use crate::autoencoder::kernel::wide;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_agree_with_f64_and_on_every_instruction_set(x in prop::collection::vec(-9f32..9.0, 0..150)) {
            let y: Vec<f32> = x.iter().rev().map(|v| v * 0.7 - 1.0).collect();
            let exact: f64 = x.iter().zip(&y).map(|(x, y)| *x as f64 * *y as f64).sum();
            let plain = dot(&x, &y);
            prop_assert!((plain as f64 - exact).abs() < 1e-3);
            let vectorized = wide(#[inline(always)] || dot(&x, &y));
            prop_assert_eq!(plain.to_bits(), vectorized.to_bits());
            prop_assert_eq!(dots(&x, [&y, &x, &y]), [plain, dot(&x, &x), plain]);
            prop_assert_eq!(sum(&x).to_bits(), dot(&x, &vec![1.0; x.len()]).to_bits());
            // Adding several at once gives the same as adding one after the other.
            let terms: Vec<(f32, &[f32])> = (0..x.len() % 7).map(|n| (n as f32 - 2.5, if n % 2 == 0 { &x[..] } else { &y[..] })).collect();
            let (mut together, mut one_by_one) = (y.clone(), y.clone());
            add_weighted(terms.iter().copied(), &mut together);
            terms.iter().for_each(|(a, x)| axpy(*a, x, &mut one_by_one));
            prop_assert_eq!(together, one_by_one);
        }
    }
}
