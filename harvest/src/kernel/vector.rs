//! Functions of vectors, lane by lane. The result for a value has the same bits in every lane.

use super::isa::Isa;

/// `e^x` to 2 ulp between -87.3 and 88.3, zero below, and infinity above. NaN remains NaN.
#[inline(always)]
pub(super) fn exp<S: Isa>(isa: S, x: S::f32s) -> S::f32s {
    // Floats above 2^23 are integers. Adding 1.5 * 2^23 therefore rounds, and leaves the integer in the lowest bits.
    const INTEGERS: f32 = 12_582_912.0;
    // ln 2 in two parts. The first one has few bits, so that its products with the integers are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let set = |value: f32| isa.splat_f32s(value);
    let shifted = isa.fma(x, set(std::f32::consts::LOG2_E), set(INTEGERS));
    let whole = isa.sub_f32s(shifted, set(INTEGERS));
    let rest = isa.fma(whole, set(-LN_2[0]), x);
    let rest = isa.fma(whole, set(-LN_2[1]), rest);
    // (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2.
    let mut sum = set(EXP[0]);
    for term in &EXP[1..] {
        sum = isa.fma(sum, rest, set(*term));
    }
    let sum = isa.fma(isa.mul_f32s(sum, rest), rest, rest);
    let sum = isa.add_f32s(sum, set(1.0));
    let bits = isa.wrapping_dyn_shl_u32s(isa.transmute_u32s_f32s(shifted), isa.splat_u32s(23));
    let power = isa.transmute_f32s_u32s(isa.add_u32s(bits, isa.splat_u32s(1f32.to_bits())));
    let value = isa.mul_f32s(sum, power);
    let value = isa.select_f32s(isa.less_than_f32s(x, set(-87.33)), set(0.0), value);
    isa.select_f32s(isa.less_than_f32s(set(88.37), x), set(f32::INFINITY), value)
}

/// Coefficients of the polynomial of [`exp`], from the highest power to the lowest.
const EXP: [f32; 5] = [0.001_381_308_4, 0.008_369_425, 0.041_668_46, 0.166_665_15, 0.499_999_94];

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid<S: Isa>(isa: S, x: S::f32s) -> S::f32s {
    let one = isa.splat_f32s(1.0);
    isa.div_f32s(one, isa.add_f32s(one, exp(isa, isa.neg_f32s(x))))
}

/// The hyperbolic tangent, to 4 ulp. NaN remains NaN.
#[inline(always)]
pub(super) fn tanh<S: Isa>(isa: S, x: S::f32s) -> S::f32s {
    let set = |value: f32| isa.splat_f32s(value);
    let (size, square) = (isa.abs_f32s(x), isa.mul_f32s(x, x));
    let mut sum = set(TANH[0]);
    for term in &TANH[1..] {
        sum = isa.fma(sum, square, set(*term));
    }
    let small = isa.fma(isa.mul_f32s(sum, square), x, x);
    let power = exp(isa, isa.mul_f32s(size, set(-2.0)));
    let large = isa.div_f32s(isa.sub_f32s(set(1.0), power), isa.add_f32s(set(1.0), power));
    let large = isa.select_f32s(isa.less_than_f32s(x, set(0.0)), isa.neg_f32s(large), large);
    isa.select_f32s(isa.less_than_f32s(size, set(0.625)), small, large)
}

/// Coefficients of `(tanh(x) / x - 1) / x^2` as a polynomial in `x^2` below 0.625, from the highest power to the lowest (`tanhf`
/// of Moshier's Cephes library).
const TANH: [f32; 5] = [-0.005_704_988_7, 0.020_639_09, -0.053_739_715, 0.133_314_42, -0.333_332_8];

/// `x` times the share of the standard normal distribution below `x`: `x (1 + erf(x / sqrt 2)) / 2`, without the
/// cancellation in `1 + erf`.
///
/// With `t = 1 / (1 + 0.3 |x|)`, the share beyond `|x|` is `e^(-x^2 / 2) t` times a polynomial in `t`.
#[inline(always)]
pub(super) fn gelu<S: Isa>(isa: S, x: S::f32s) -> S::f32s {
    let set = |value: f32| isa.splat_f32s(value);
    let size = isa.abs_f32s(x);
    let t = isa.div_f32s(set(1.0), isa.fma(size, set(0.3), set(1.0)));
    let mut sum = set(TAIL[0]);
    for term in &TAIL[1..] {
        sum = isa.fma(sum, t, set(*term));
    }
    // The rounding error of the square is the relative error of the exponential, so it is corrected.
    let half = isa.mul_f32s(size, set(-0.5));
    let square = isa.mul_f32s(half, size);
    let lost = isa.fma(half, size, isa.neg_f32s(square));
    let density = exp(isa, square);
    let density = isa.fma(density, lost, density);
    let tail = isa.mul_f32s(isa.mul_f32s(density, t), sum);
    // NaN is not below zero, and the difference preserves it. An infinite square would result in NaN.
    let tail = isa.select_f32s(isa.less_than_f32s(set(18.0), size), set(0.0), tail);
    let share = isa.select_f32s(isa.less_than_f32s(x, set(0.0)), tail, isa.sub_f32s(set(1.0), tail));
    isa.mul_f32s(x, share)
}

/// Coefficients of the polynomial of [`gelu`], from the highest power to the lowest.
const TAIL: [f32; 10] = [
    -0.020_613_331,
    0.112_378_46,
    -0.228_073_72,
    0.191_589_8,
    -0.079_253_92,
    0.096_061_26,
    0.078_424_43,
    0.110_227_56,
    0.119_572_81,
    0.119_686_63,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::isa::{Level, Work};

    struct Exp(Vec<f32>);

    impl Work for Exp {
        type Output = Vec<f32>;

        fn on<const R: usize, S: Isa>(mut self, isa: S) -> Vec<f32> {
            for x in self.0.chunks_mut(S::F32_LANES) {
                let y = exp(isa, isa.partial_load_f32s(x));
                isa.partial_store_f32s(x, y);
            }
            self.0
        }
    }

    struct Tanh(Vec<f32>);

    impl Work for Tanh {
        type Output = Vec<f32>;

        fn on<const R: usize, S: Isa>(mut self, isa: S) -> Vec<f32> {
            for x in self.0.chunks_mut(S::F32_LANES) {
                let y = tanh(isa, isa.partial_load_f32s(x));
                isa.partial_store_f32s(x, y);
            }
            self.0
        }
    }

    #[test]
    fn the_hyperbolic_tangent_is_exact_to_4_ulp() {
        let xs: Vec<f32> = (0..400_000).map(|i| (i - 200_000) as f32 * 5e-5).chain([1e-30, -3e-7]).collect();
        for level in Level::all() {
            for (x, y) in xs.iter().zip(level.run(Tanh(xs.clone()))) {
                let exact = f64::from(*x).tanh();
                let size = (exact as f32).abs();
                let ulp = f64::from(f32::from_bits(size.to_bits() + 1) - size);
                assert!((f64::from(y) - exact).abs() <= 4.0 * ulp, "{level:?}: tanh {x} is {y}, not {exact}");
            }
            let edges = level.run(Tanh(vec![f32::NEG_INFINITY, -1e9, 0.0, 1e9, f32::INFINITY, f32::NAN]));
            assert_eq!(edges[..5], [-1.0, -1.0, 0.0, 1.0, 1.0]);
            assert!(edges[5].is_nan());
        }
    }

    #[test]
    fn the_exponential_is_exact_to_2_ulp() {
        let xs: Vec<f32> = (0..400_000).map(|i| -87.3 + i as f32 * (175.6 / 400_000.0)).collect();
        for level in Level::all() {
            for (x, y) in xs.iter().zip(level.run(Exp(xs.clone()))) {
                let exact = f64::from(*x).exp();
                let ulp = f64::from(f32::from_bits((exact as f32).to_bits() + 1) - exact as f32);
                assert!((f64::from(y) - exact).abs() <= 2.0 * ulp, "{level:?}: e^{x} is {y}, not {exact}");
            }
            let edges = level.run(Exp(vec![-1e9, f32::NEG_INFINITY, -88.0, 0.0, 89.0, f32::INFINITY, f32::NAN]));
            assert_eq!(edges[..6], [0.0, 0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY]);
            assert!(edges[6].is_nan());
        }
    }
}
