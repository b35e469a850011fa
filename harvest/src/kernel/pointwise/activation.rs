//! Activation functions, all of the form `x` times a factor between 0 and 1.

use super::CHUNK;
use crate::kernel::isa::{Isa, Level, Work};
use crate::kernel::vector::{gelu, sigmoid};
use rayon::prelude::*;
use serde::Deserialize;

/// An activation function, named as in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU with the error function.
    Gelu,
    /// GELU with the hyperbolic tangent.
    #[serde(alias = "gelu_new")]
    GeluPytorchTanh,
    /// `x * sigmoid(1.702 x)`, as in CLIP.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// Applies the function in place.
    pub fn apply(self, x: &mut [f32]) {
        self.on(Level::widest(), x, None);
    }

    /// `gate = f(gate) * up`.
    pub fn gate(self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "gate and up");
        self.on(Level::widest(), gate, Some(up));
    }

    pub(super) fn on(self, level: Level, x: &mut [f32], times: Option<&[f32]>) {
        // The function is matched once per chunk, so that the loop over the values contains only one function.
        let chunk = |x: &mut [f32], times: Option<&[f32]>| level.run(Chunk { function: self, x, times });
        match times {
            _ if x.len() <= CHUNK => chunk(x, times),
            None => x.par_chunks_mut(CHUNK).for_each(|x| chunk(x, None)),
            Some(times) => {
                x.par_chunks_mut(CHUNK).zip(times.par_chunks(CHUNK)).for_each(|(x, times)| chunk(x, Some(times)));
            }
        }
    }
}

/// A unit of work of a thread.
struct Chunk<'a> {
    function: Activation,
    x: &'a mut [f32],
    times: Option<&'a [f32]>,
}

impl Work for Chunk<'_> {
    type Output = ();

    fn on<const R: usize, S: Isa>(self, isa: S) {
        let Self { function, x, times } = self;
        isa.within(
            #[inline(always)]
            || match function {
                Activation::Silu => each(
                    isa,
                    x,
                    times,
                    #[inline(always)]
                    |x| isa.mul_f32s(x, sigmoid(isa, x)),
                ),
                Activation::Gelu => each(
                    isa,
                    x,
                    times,
                    #[inline(always)]
                    |x| gelu(isa, x),
                ),
                // (1 + tanh u) / 2 = sigmoid(2 u), which loses no precision where tanh is close to -1.
                Activation::GeluPytorchTanh => each(
                    isa,
                    x,
                    times,
                    #[inline(always)]
                    |x| {
                        let cubic = isa.mul_f32s(isa.splat_f32s(2.0 * 0.797_884_6 * 0.044_715), isa.mul_f32s(x, x));
                        let twice = isa.mul_f32s(x, isa.add_f32s(cubic, isa.splat_f32s(2.0 * 0.797_884_6)));
                        isa.mul_f32s(x, sigmoid(isa, twice))
                    },
                ),
                Activation::QuickGelu => each(
                    isa,
                    x,
                    times,
                    #[inline(always)]
                    |x| isa.mul_f32s(x, sigmoid(isa, isa.mul_f32s(x, isa.splat_f32s(1.702)))),
                ),
                // This order of the operands preserves NaN.
                Activation::Relu => each(
                    isa,
                    x,
                    times,
                    #[inline(always)]
                    |x| {
                        let zero = isa.splat_f32s(0.0);
                        isa.select_f32s(isa.less_than_f32s(x, zero), zero, x)
                    },
                ),
            },
        );
    }
}

/// `x = f(x)`, or `x = f(x) * times`.
#[inline(always)]
fn each<S: Isa>(isa: S, x: &mut [f32], times: Option<&[f32]>, f: impl Fn(S::f32s) -> S::f32s) {
    let lanes = S::F32_LANES;
    let (body, tail) = x.split_at_mut(x.len() / lanes * lanes);
    let whole = body.len();
    let body: &mut [S::f32s] = bytemuck::cast_slice_mut(body);
    match times {
        None => body.iter_mut().for_each(
            #[inline(always)]
            |x| *x = f(*x),
        ),
        Some(times) => {
            let times: &[S::f32s] = bytemuck::cast_slice(&times[..whole]);
            for (x, times) in body.iter_mut().zip(times) {
                *x = isa.mul_f32s(f(*x), *times);
            }
        }
    }
    if !tail.is_empty() {
        let mut x = f(isa.partial_load_f32s(tail));
        if let Some(times) = times {
            x = isa.mul_f32s(x, isa.partial_load_f32s(&times[whole..]));
        }
        isa.partial_store_f32s(tail, x);
    }
}
