//! The instruction sets for which the kernels are compiled, and which of them this processor supports.

use pulp::Simd;

/// Vector instructions, with additions to those of `pulp`.
pub(super) trait Isa: Simd {
    /// `a b + c`, rounded once if the processor can do this.
    #[inline(always)]
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_f32s(a, b, c)
    }

    /// Runs a closure compiled for this instruction set. The closure has to be written at the call, with
    /// `#[inline(always)]`. The bound on this method makes it an `FnOnce` there. If it were passed to `vectorize` directly,
    /// a function in between would lack the instructions.
    #[inline(always)]
    fn within<T>(self, work: impl FnOnce() -> T) -> T {
        self.vectorize(work)
    }
}

#[cfg(target_arch = "x86_64")]
impl Isa for pulp::x86::V3 {}
#[cfg(target_arch = "x86_64")]
impl Isa for pulp::x86::V4 {}

/// Portable code. The compiler uses the vector instructions of the target.
pub(super) type Plain = pulp::Scalar256b;

impl Isa for Plain {
    /// Rounded twice, because without the instruction rounding once requires a call of the C library.
    #[inline(always)]
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.add_f32s(self.mul_f32s(a, b), c)
    }
}

/// The number of values in two vectors, which is the width of a panel.
pub(super) const fn width<S: Isa>() -> usize {
    2 * S::F32_LANES
}

/// A computation that is written once and compiled for every instruction set.
pub(super) trait Work {
    type Output;
    /// Runs the computation. `R` is the number of rows whose sums, two vectors each, fill the registers.
    fn on<const R: usize, S: Isa>(self, isa: S) -> Self::Output;
}

/// An instruction set that this processor supports.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    Plain,
    #[cfg(target_arch = "x86_64")]
    V3(pulp::x86::V3),
    #[cfg(target_arch = "x86_64")]
    V4(pulp::x86::V4),
}

impl Level {
    /// The widest instruction set of this processor.
    pub(super) fn widest() -> Self {
        match pulp::Arch::new() {
            #[cfg(target_arch = "x86_64")]
            pulp::Arch::V4(isa) => Self::V4(isa),
            #[cfg(target_arch = "x86_64")]
            pulp::Arch::V3(isa) => Self::V3(isa),
            _ => Self::Plain,
        }
    }

    /// All instruction sets of this processor.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Plain];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(pulp::x86::V3::try_new().map(Self::V3));
            all.extend(pulp::x86::V4::try_new().map(Self::V4));
        }
        all
    }

    /// The number of values in two vectors.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Plain => const { width::<Plain>() },
            #[cfg(target_arch = "x86_64")]
            Self::V3(_) => const { width::<pulp::x86::V3>() },
            #[cfg(target_arch = "x86_64")]
            Self::V4(_) => const { width::<pulp::x86::V4>() },
        }
    }

    pub(super) fn run<W: Work>(self, work: W) -> W::Output {
        match self {
            Self::Plain => work.on::<4, _>(pulp::Scalar256b),
            // 12 of the 16 registers are sums.
            #[cfg(target_arch = "x86_64")]
            Self::V3(isa) => work.on::<6, _>(isa),
            // 24 of the 32 registers are sums.
            #[cfg(target_arch = "x86_64")]
            Self::V4(isa) => work.on::<12, _>(isa),
        }
    }
}
