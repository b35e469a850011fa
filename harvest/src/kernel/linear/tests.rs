//! Compares the product with plain loops in `f64`, and checks that the bits of a row depend only on the row.

use super::*;
use proptest::prelude::*;

/// Numbers between -1 and 1.
fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

fn at(level: Level, w: &[f32], shape: [usize; 2], narrow: bool) -> Packed {
    let halves: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
    Packed::new(shape, level, |width| {
        if narrow { Panels::Bf16(pack::pack(&halves, shape, width)) } else { Panels::F32(pack::pack(w, shape, width)) }
    })
}

fn apply(packed: &Packed, x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let mut out = vec![7.0; x.len() / packed.d_in() * packed.d_out()];
    packed.apply(x, bias, &mut out);
    out
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]
    #[test]
    fn the_product_agrees_with_plain_loops(
        rows in 1usize..70, d_in in 1usize..600, d_out in 1usize..80, narrow: bool, biased: bool, seed: u32
    ) {
        let (x, bias) = (numbers(rows * d_in, seed), numbers(d_out, seed ^ 1));
        let mut w = numbers(d_out * d_in, seed ^ 2);
        if narrow {
            w.iter_mut().for_each(|w| *w = bf16::from_f32(*w).to_f32());
        }
        let bias = biased.then_some(&bias[..]);
        for level in Level::all() {
            let out = apply(&at(level, &w, [d_out, d_in], narrow), &x, bias);
            for (x, out) in x.chunks(d_in).zip(out.chunks(d_out)) {
                for (o, (w, out)) in w.chunks(d_in).zip(out).enumerate() {
                    let terms = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                    let (sum, size) = terms.fold((0.0, 1.0), |(sum, size), t| (sum + t, size + t.abs()));
                    let sum = sum + bias.map_or(0.0, |bias| f64::from(bias[o]));
                    prop_assert!((sum - f64::from(*out)).abs() < 1e-6 * size, "{level:?}: {out} for {sum}");
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_other_rows_or_threads() {
    for (rows, d_in, d_out) in [(70, 130, 50), (200, 300, 33), (7, 1000, 600)] {
        let (mut x, w) = (numbers(rows * d_in, 3), numbers(d_out * d_in, 4));
        let bias = numbers(d_out, 5);
        for (narrow, level) in [false, true].into_iter().flat_map(|n| Level::all().into_iter().map(move |l| (n, l))) {
            let packed = at(level, &w, [d_out, d_in], narrow);
            let all = apply(&packed, &x, Some(&bias));
            for threads in [1, 2, 5] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(bits(&pool.install(|| apply(&packed, &x, Some(&bias)))), bits(&all));
            }
            for (first, last) in [(0, 1), (1, 2), (0, 5), (rows - 3, rows), (rows / 2, rows)] {
                let some = apply(&packed, &x[first * d_in..last * d_in], Some(&bias));
                assert_eq!(bits(&some), bits(&all[first * d_out..last * d_out]), "{first}..{last} of {rows}");
            }
            // NaN in a row does not affect the other rows.
            x[d_in + 1] = f32::NAN;
            x[3 * d_in] = f32::INFINITY;
            let spoilt = apply(&packed, &x, Some(&bias));
            for row in (0..rows).filter(|row| ![1, 3].contains(row)) {
                assert_eq!(bits(&spoilt[row * d_out..][..d_out]), bits(&all[row * d_out..][..d_out]));
            }
            assert!(spoilt[d_out..2 * d_out].iter().all(|v| v.is_nan()));
            (x[d_in + 1], x[3 * d_in]) = (0.5, 0.5);
            x = numbers(rows * d_in, 3);
        }
    }
}

#[test]
fn empty_inputs_and_outputs_are_accepted() {
    assert!(apply(&Packed::from_f32(&[1.0; 6], [3, 2]), &[], None).is_empty());
    let mut out = [1.0; 3];
    Packed::from_f32(&[], [3, 0]).apply(&[], None, &mut out);
    assert_eq!(out, [0.0; 3]);
    Packed::from_f32(&[], [0, 2]).apply(&[1.0, 2.0], None, &mut []);
}
