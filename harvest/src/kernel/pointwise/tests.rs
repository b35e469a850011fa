//! Compares norms, activations and rotary positions with plain loops in `f64`, and checks that threads, tails and
//! neighbors do not change a result.

use super::*;
use crate::kernel::isa::Level;
use proptest::prelude::*;

/// The share of the standard normal distribution below `x`, by a sum or a continued fraction.
fn below(x: f64) -> f64 {
    let density = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    if x.abs() < 3.0 {
        let terms = (1..200).scan(x, |term, n| {
            let now = *term;
            *term *= x * x / f64::from(2 * n + 1);
            Some(now)
        });
        return 0.5 + density * terms.sum::<f64>();
    }
    let beyond = density / (1..200).rev().fold(x.abs(), |under, n| x.abs() + f64::from(n) / under);
    if x < 0.0 { beyond } else { 1.0 - beyond }
}

fn exact(function: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match function {
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => x * below(x),
        Activation::GeluPytorchTanh => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            x * sigmoid(2.0 * root * (x + 0.044715 * x * x * x))
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Relu => x.max(0.0),
    }
}

const ALL: [Activation; 5] =
    [Activation::Silu, Activation::Gelu, Activation::GeluPytorchTanh, Activation::QuickGelu, Activation::Relu];

#[test]
fn activations_agree_with_f64() {
    let xs: Vec<f32> = (0..60_001).map(|i| (i - 30_000) as f32 / 1000.0).collect();
    for (level, function) in Level::all().into_iter().flat_map(|level| ALL.map(|function| (level, function))) {
        let mut ys = xs.clone();
        function.on(level, &mut ys, None);
        for (x, y) in xs.iter().zip(ys) {
            let exact = exact(function, f64::from(*x));
            // The argument of the exponential is rounded, so the relative error of the result grows with the argument.
            let argument = f64::from(x * x).min(90.0);
            let close = 1e-6 + argument * if matches!(level, Level::Plain) { 1e-6 } else { 2e-7 };
            assert!(
                (f64::from(y) - exact).abs() <= exact.abs() * close + 1e-36,
                "{level:?} {function:?}({x}): {y}, not {exact}"
            );
        }
    }
}

#[test]
fn activations_at_the_edges() {
    for (level, function) in Level::all().into_iter().flat_map(|level| ALL.map(|function| (level, function))) {
        let mut x = [f32::NAN, 3e38, -1e6, 0.0, -0.0, 1.0, f32::INFINITY, 2.0, f32::NAN, -3.0];
        function.on(level, &mut x, None);
        assert!(x[0].is_nan() && x[8].is_nan(), "{function:?}: {x:?}");
        assert_eq!((x[1], x[2], x[3], x[4], x[6]), (3e38, 0.0, 0.0, 0.0, f32::INFINITY), "{level:?} {function:?}");
    }
}

#[test]
fn a_value_does_not_depend_on_other_values_or_threads() {
    let x: Vec<f32> = (0..70_003).map(|i| (i * 7919 % 1009) as f32 / 50.0 - 10.0).collect();
    let up: Vec<f32> = x.iter().rev().copied().collect();
    for function in ALL {
        let mut all = x.clone();
        function.gate(&mut all, &up);
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut again = x.clone();
            pool.install(|| function.gate(&mut again, &up));
            assert!(again.iter().zip(&all).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
        for (first, last) in [(0, 1), (3, 8), (69_990, 70_003), (16_383, 16_386)] {
            let mut some = x[first..last].to_vec();
            function.apply(&mut some);
            some.iter_mut().zip(&up[first..last]).for_each(|(x, up)| *x *= up);
            assert_eq!(some, all[first..last]);
        }
    }
}

proptest! {
    #[test]
    fn norms_agree_with_f64(rows in 1usize..70, width in 1usize..300, turns in 1usize..4, away in -50f32..50.0) {
        let x: Vec<f32> = (0..rows * width).map(|i| (i * 7919 % 1009) as f32 / 300.0 - 1.5 + away).collect();
        let scale: Vec<f32> = (0..turns * width).map(|i| (i % 7) as f32 - 2.5).collect();
        let shift: Vec<f32> = (0..turns * width).map(|i| (i % 5) as f32 - 2.0).collect();
        let (mut by_square, mut by_deviation) = (x.clone(), x.clone());
        rms_norm(&mut by_square, &scale[..width], 1e-5);
        layer_norm(&mut by_deviation, &scale, &shift, width, 1e-5);
        for (n, row) in x.chunks(width).enumerate() {
            let wide: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            let mean = wide.iter().sum::<f64>() / width as f64;
            let square = wide.iter().map(|x| x * x).sum::<f64>() / width as f64 + 1e-5;
            let variance = wide.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64 + 1e-5;
            for i in 0..width {
                let at = n % turns * width + i;
                let expected = wide[i] / square.sqrt() * f64::from(scale[i]);
                prop_assert!((expected - f64::from(by_square[n * width + i])).abs() < 1e-5);
                let expected = (wide[i] - mean) / variance.sqrt() * f64::from(scale[at]) + f64::from(shift[at]);
                // The mean is rounded to the precision of the values.
                let rounded = 1e-5 + f64::from(away.abs() + 2.0) * 4e-7 / variance.sqrt();
                prop_assert!((expected - f64::from(by_deviation[n * width + i])).abs() < rounded);
            }
            let mut alone = row.to_vec();
            rms_norm(&mut alone, &scale[..width], 1e-5);
            prop_assert_eq!(&alone, &by_square[n * width..][..width]);
        }
    }

    #[test]
    fn rotary_positions_rotate_pairs(rows in 1usize..70, heads in 1usize..5, half in 1usize..40) {
        let width = heads * 2 * half;
        let x: Vec<f32> = (0..rows * width).map(|i| (i * 7919 % 1009) as f32 / 300.0 - 1.5).collect();
        let (sin, cos): (Vec<f32>, Vec<f32>) = (0..rows * half).map(|i| (i as f32 * 0.37).sin_cos()).unzip();
        let mut turned = x.clone();
        rotate(&mut turned, 2 * half, &cos, &sin);
        for (n, (before, after)) in x.chunks(2 * half).zip(turned.chunks(2 * half)).enumerate() {
            for i in 0..half {
                let (cos, sin) = (cos[n / heads * half + i], sin[n / heads * half + i]);
                prop_assert!((before[i] * cos - before[i + half] * sin - after[i]).abs() < 1e-6);
                prop_assert!((before[i + half] * cos + before[i] * sin - after[i + half]).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn threads_and_neighbors_do_not_change_a_norm() {
    let width = 576;
    let x: Vec<f32> = (0..100 * width).map(|i| (i * 7919 % 1009) as f32 / 300.0 - 1.5).collect();
    let ones = vec![1.0; width];
    let run = |x: &[f32]| {
        let mut out = x.to_vec();
        layer_norm(&mut out, &ones, &ones, width, 1e-6);
        rms_norm(&mut out, &ones, 1e-6);
        out
    };
    let all = run(&x);
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| run(&x)), all);
    }
    let mut spoilt = x.clone();
    (spoilt[5], spoilt[3 * width]) = (f32::NAN, f32::INFINITY);
    let spoilt = run(&spoilt);
    for row in (0..100).filter(|row| ![0, 3].contains(row)) {
        assert_eq!(spoilt[row * width..][..width], all[row * width..][..width]);
    }
    assert!(spoilt[..width].iter().all(|x| x.is_nan()));
}
