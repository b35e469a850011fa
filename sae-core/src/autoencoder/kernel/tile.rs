//! The product of quantized rows with a panel, for every instruction set: 16-bit integers in, exact 32-bit sums out.
//! All of them return the same integers (a test compares them), so what is selected does not depend on the processor.

use super::panels::{Pair, WIDTH};

/// An instruction set that multiplies `R` rows with a panel at once, all sums in registers.
pub(super) trait Isa<const R: usize>: Copy + Send + Sync {
    /// For every row and feature of the panel, `sum_i x_i w_i`.
    ///
    /// # Shapes
    /// `rows`: `[d_in / 2][R][2]`, interleaved so that one pointer reaches the next pair of every row; `panel`:
    /// `[d_in / 2][16][2]`.
    fn tile(self, rows: &[[Pair; R]], panel: &[[Pair; WIDTH]]) -> [[i32; WIDTH]; R];
    /// Runs a closure compiled for this instruction set.
    fn run<T>(self, work: impl FnOnce() -> T) -> T;
}

/// No vector instructions of a known name; the compiler uses what the target has.
#[derive(Clone, Copy)]
pub(super) struct PortableIsa;

impl Isa<2> for PortableIsa {
    #[inline(always)]
    fn tile(self, rows: &[[Pair; 2]], panel: &[[Pair; WIDTH]]) -> [[i32; WIDTH]; 2] {
        let mut sums = [[0i32; WIDTH]; 2];
        for (pairs, w) in rows.iter().zip(panel) {
            for (sums, x) in sums.iter_mut().zip(pairs) {
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum += x[0] as i32 * w[0] as i32 + x[1] as i32 * w[1] as i32;
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn run<T>(self, work: impl FnOnce() -> T) -> T {
        work()
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Isa, Pair, WIDTH};
    use core::arch::x86_64::{__m256i, __m512i};
    use pulp::x86::{V3, V4};

    /// AVX2: 12 of the 16 registers are sums, so that the multipliers are always busy.
    impl Isa<6> for V3 {
        #[inline(always)]
        fn tile(self, rows: &[[Pair; 6]], panel: &[[Pair; WIDTH]]) -> [[i32; WIDTH]; 6] {
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
            sums.map(pulp::cast)
        }

        #[inline(always)]
        fn run<T>(self, work: impl FnOnce() -> T) -> T {
            self.vectorize(work)
        }
    }

    /// AVX-512: 24 of the 32 registers are sums. The rows are interleaved because 24 pointers would not fit into the
    /// general registers, and each multiplication would load its pointer first.
    impl Isa<24> for V4 {
        #[inline(always)]
        fn tile(self, rows: &[[Pair; 24]], panel: &[[Pair; WIDTH]]) -> [[i32; WIDTH]; 24] {
            let mut sums = [self.avx512f._mm512_setzero_si512(); 24];
            for (pairs, w) in rows.iter().zip(panel) {
                let w: __m512i = pulp::cast(*w);
                for (sum, x) in sums.iter_mut().zip(pairs) {
                    let x = self.avx512f._mm512_set1_epi32(pulp::cast(*x));
                    *sum = self.avx512f._mm512_add_epi32(*sum, self.avx512bw._mm512_madd_epi16(x, w));
                }
            }
            sums.map(pulp::cast)
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
    fn tiles_of<const R: usize, I: Isa<R>>(isa: I, rows: &[Vec<Pair>], panel: &[[Pair; WIDTH]]) {
        let interleaved: Vec<[Pair; R]> =
            (0..panel.len()).map(|p| std::array::from_fn(|r| rows[r % rows.len()][p])).collect();
        let found = isa.run(|| isa.tile(&interleaved, panel));
        for (row, found) in rows.iter().cycle().zip(found) {
            let sum = |lane: usize| -> i32 {
                let products = row.iter().zip(panel).flat_map(|(x, w)| [0, 1].map(|i| x[i] as i32 * w[lane][i] as i32));
                products.sum()
            };
            assert_eq!(found, std::array::from_fn(sum));
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
            let panel: Vec<[Pair; WIDTH]> = (0..pairs).map(|_| std::array::from_fn(|_| [next(), next()])).collect();
            tiles_of(PortableIsa, &rows, &panel);
            #[cfg(target_arch = "x86_64")]
            {
                if let Some(isa) = pulp::x86::V3::try_new() {
                    tiles_of::<6, _>(isa, &rows, &panel);
                }
                if let Some(isa) = pulp::x86::V4::try_new() {
                    tiles_of::<24, _>(isa, &rows, &panel);
                }
            }
        }
    }
}
