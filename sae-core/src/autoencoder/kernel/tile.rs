//! The product of quantized rows with a panel, for every instruction set: 16-bit integers in, exact 32-bit sums out.
//! All of them return the same integers (a test compares them), so what is selected does not depend on the processor.

use super::panels::{Pair, WIDTH};

/// An instruction set that multiplies `R` rows with `P` panels at once, all sums in registers.
pub(super) trait Isa<const R: usize, const P: usize>: Copy + Send + Sync {
    /// For every panel, row and feature, `sum_i x_i w_i`.
    ///
    /// # Shapes
    /// `rows`: `[d_in / 2][R][2]`, interleaved so that one pointer reaches the next pair of every row; each of `panels`:
    /// `[d_in / 2][16][2]`.
    fn tile(self, rows: &[[Pair; R]], panels: [&[[Pair; WIDTH]]; P]) -> [[[i32; WIDTH]; R]; P];
    /// Runs a closure compiled for this instruction set.
    fn run<T>(self, work: impl FnOnce() -> T) -> T;
}

/// No vector instructions of a known name; the compiler uses what the target has.
#[derive(Clone, Copy)]
pub(super) struct PortableIsa;

impl Isa<2, 1> for PortableIsa {
    #[inline(always)]
    fn tile(self, rows: &[[Pair; 2]], [panel]: [&[[Pair; WIDTH]]; 1]) -> [[[i32; WIDTH]; 2]; 1] {
        let mut sums = [[0i32; WIDTH]; 2];
        for (pairs, w) in rows.iter().zip(panel) {
            for (sums, x) in sums.iter_mut().zip(pairs) {
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum += x[0] as i32 * w[0] as i32 + x[1] as i32 * w[1] as i32;
                }
            }
        }
        [sums]
    }

    #[inline(always)]
    fn run<T>(self, work: impl FnOnce() -> T) -> T {
        work()
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::Vnni;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Isa, Pair, WIDTH};
    use core::arch::x86_64::{__m256i, __m512i, _mm512_dpwssd_epi32};
    use pulp::x86::{V3, V4};

    /// AVX2: 12 of the 16 registers are sums, so that the multipliers are always busy.
    impl Isa<6, 1> for V3 {
        #[inline(always)]
        fn tile(self, rows: &[[Pair; 6]], [panel]: [&[[Pair; WIDTH]]; 1]) -> [[[i32; WIDTH]; 6]; 1] {
            let mut sums = [[self.avx._mm256_setzero_si256(); 2]; 6];
            for (pairs, w) in rows.iter().zip(panel) {
                let w: [__m256i; 2] = pulp::cast(*w);
                for (sums, x) in sums.iter_mut().zip(pairs) {
                    let x = self.avx._mm256_set1_epi32(pulp::cast(*x));
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = self.avx2._mm256_add_epi32(*sum, self.avx2._mm256_madd_epi16(x, w));
                    }
                }
            }
            [sums.map(pulp::cast)]
        }

        #[inline(always)]
        fn run<T>(self, work: impl FnOnce() -> T) -> T {
            self.vectorize(work)
        }
    }

    /// A tile of AVX-512: 24 of the 32 registers are sums. Two panels at once, because a row's pair is loaded for each
    /// multiplication otherwise, and the processor loads no faster than it multiplies.
    #[inline(always)]
    fn tile512(
        zero: __m512i,
        rows: &[[Pair; 12]],
        panels: [&[[Pair; WIDTH]]; 2],
        broadcast: impl Fn(i32) -> __m512i,
        add_products: impl Fn(__m512i, __m512i, __m512i) -> __m512i,
    ) -> [[[i32; WIDTH]; 12]; 2] {
        let mut sums = [[zero; 12]; 2];
        for (pairs, (v, w)) in rows.iter().zip(panels[0].iter().zip(panels[1])) {
            let w: [__m512i; 2] = [pulp::cast(*v), pulp::cast(*w)];
            for (r, x) in pairs.iter().enumerate() {
                let x = broadcast(pulp::cast(*x));
                sums[0][r] = add_products(sums[0][r], x, w[0]);
                sums[1][r] = add_products(sums[1][r], x, w[1]);
            }
        }
        sums.map(|sums| sums.map(pulp::cast))
    }

    /// AVX-512 without VNNI.
    impl Isa<12, 2> for V4 {
        #[inline(always)]
        fn tile(self, rows: &[[Pair; 12]], panels: [&[[Pair; WIDTH]]; 2]) -> [[[i32; WIDTH]; 12]; 2] {
            let (f, bw) = (self.avx512f, self.avx512bw);
            tile512(
                f._mm512_setzero_si512(),
                rows,
                panels,
                #[inline(always)]
                |x| f._mm512_set1_epi32(x),
                #[inline(always)]
                |sum, x, w| f._mm512_add_epi32(sum, bw._mm512_madd_epi16(x, w)),
            )
        }

        #[inline(always)]
        fn run<T>(self, work: impl FnOnce() -> T) -> T {
            self.vectorize(work)
        }
    }

    pulp::simd_type! {
        /// AVX-512 with VNNI, which multiplies and adds in one instruction.
        #[allow(missing_docs)]
        pub struct Vnni {
            pub sse: "sse",
            pub sse2: "sse2",
            pub fxsr: "fxsr",
            pub sse3: "sse3",
            pub ssse3: "ssse3",
            pub sse4_1: "sse4.1",
            pub sse4_2: "sse4.2",
            pub popcnt: "popcnt",
            pub avx: "avx",
            pub avx2: "avx2",
            pub bmi1: "bmi1",
            pub bmi2: "bmi2",
            pub fma: "fma",
            pub lzcnt: "lzcnt",
            pub avx512f: "avx512f",
            pub avx512bw: "avx512bw",
            pub avx512cd: "avx512cd",
            pub avx512dq: "avx512dq",
            pub avx512vl: "avx512vl",
            pub avx512vnni: "avx512vnni",
        }
    }

    impl Isa<12, 2> for Vnni {
        #[inline(always)]
        fn tile(self, rows: &[[Pair; 12]], panels: [&[[Pair; WIDTH]]; 2]) -> [[[i32; WIDTH]; 12]; 2] {
            tile512(
                self.avx512f._mm512_setzero_si512(),
                rows,
                panels,
                #[inline(always)]
                |x| self.avx512f._mm512_set1_epi32(x),
                #[inline(always)]
                |sum, x, w| {
                    // SAFETY: the instruction needs AVX512VNNI and AVX512F. `self` has a token of each, and `try_new`,
                    // the only way to get one here, returns them only if the processor has the features.
                    unsafe { _mm512_dpwssd_epi32(sum, x, w) }
                },
            )
        }

        #[inline(always)]
        fn run<T>(self, work: impl FnOnce() -> T) -> T {
            self.vectorize(work)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The instruction sets of this processor against the plain loops.
    fn tiles_of<const R: usize, const P: usize, I: Isa<R, P>>(
        isa: I,
        rows: &[Vec<Pair>],
        panels: [&[[Pair; WIDTH]]; 2],
    ) {
        let interleaved: Vec<[Pair; R]> =
            (0..panels[0].len()).map(|p| std::array::from_fn(|r| rows[r % rows.len()][p])).collect();
        let found = isa.run(|| isa.tile(&interleaved, std::array::from_fn(|n| panels[n])));
        for (found, panel) in found.into_iter().zip(panels) {
            for (row, found) in rows.iter().cycle().zip(found) {
                let sum = |lane: usize| -> i32 {
                    let pairs = row.iter().zip(panel);
                    pairs.flat_map(|(x, w)| [0, 1].map(|i| x[i] as i32 * w[lane][i] as i32)).sum()
                };
                assert_eq!(found, std::array::from_fn(sum));
            }
        }
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_same_integers(seed in any::<u32>(), pairs in 1usize..70) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 20) as i16 - 2048
            };
            let rows: Vec<Vec<Pair>> = (0..5).map(|_| (0..pairs).map(|_| [next(), next()]).collect()).collect();
            let mut panel = || (0..pairs).map(|_| std::array::from_fn(|_| [next(), next()])).collect::<Vec<_>>();
            let panels = [panel(), panel()];
            let panels = [&panels[0][..], &panels[1][..]];
            tiles_of(PortableIsa, &rows, panels);
            #[cfg(target_arch = "x86_64")]
            {
                if let Some(isa) = pulp::x86::V3::try_new() {
                    tiles_of(isa, &rows, panels);
                }
                if let Some(isa) = pulp::x86::V4::try_new() {
                    tiles_of(isa, &rows, panels);
                }
                if let Some(isa) = Vnni::try_new() {
                    tiles_of(isa, &rows, panels);
                }
            }
        }
    }
}
