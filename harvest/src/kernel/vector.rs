//! Functions of the numbers of a vector, lane by lane: the same bits wherever in a vector a number lies.

use super::isa::Isa;

/// `e^x` to 2 ulp between -87.3 and 88.3; zero below, infinity above. Not a number stays so.
#[inline(always)]
pub(super) fn exp<S: Isa>(isa: S, x: S::f32s) -> S::f32s {
    // Beyond 2^23 floats are integers: adding 1.5 * 2^23 rounds, and leaves the integer in the lowest bits.
    const INTEGERS: f32 = 12_582_912.0;
    // ln 2 as a number of few bits, whose products with the integers are exact, and the rest.
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

/// From the highest power down.
const EXP: [f32; 5] = [0.001_381_308_4, 0.008_369_425, 0.041_668_46, 0.166_665_15, 0.499_999_94];
