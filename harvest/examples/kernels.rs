//! How fast the CPU kernels are on this machine: the linear map beside the `gemm` crate, attention beside plain loops, and
//! what is done to numbers alone beside the memory's rate, all in turns. `cargo run --release -p harvest --example kernels`
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use half::bf16;
use harvest::kernel::linear::Packed;
use sae_core::kernel::product::product;
use std::hint::black_box;
use std::time::Instant;

#[global_allocator]
static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Numbers between -1 and 1.
fn numbers(n: usize) -> Vec<f32> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1u32 << 23) as f32 - 1.0).collect()
}

/// Fewest seconds of every candidate, taken in turns for about two seconds: others use the machine too.
fn turns(candidates: &mut [&mut dyn FnMut()]) -> Vec<f64> {
    let mut times = vec![Vec::new(); candidates.len()];
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < 2.0 || times[0].len() < 5 {
        for (candidate, times) in candidates.iter_mut().zip(&mut times) {
            let start = Instant::now();
            candidate();
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    times.iter().map(|times| times[0]).collect()
}

/// Multiply-adds in registers alone, on every thread; returns the operations done.
fn fma_peak() -> f64 {
    const STEPS: usize = 400_000;
    let count = rayon::broadcast(|_| pulp::Arch::new().dispatch(Fma { steps: black_box(STEPS) }));
    black_box(&count).iter().sum::<usize>() as f64 * STEPS as f64 * 2.0
}

struct Fma {
    steps: usize,
}

impl pulp::WithSimd for Fma {
    type Output = usize;

    /// Returns the numbers that a step goes over.
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> usize {
        let mut sums = [simd.splat_f32s(black_box(0.5)); 12];
        let (a, b) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(0.001)));
        for _ in 0..self.steps {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, a, b);
            }
        }
        black_box(sums);
        12 * S::F32_LANES
    }
}

fn linear([rows, d_in, d_out]: [usize; 3]) {
    let (x, w) = (numbers(rows * d_in), numbers(d_out * d_in));
    let halves: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
    let (wide, narrow) = (Packed::of_f32(&w, [d_out, d_in]), Packed::of_bf16(&halves, [d_out, d_in]));
    let [mut a, mut b, mut c] = std::array::from_fn(|_| vec![0.0; rows * d_out]);
    let mut peak = 0.0;
    let seconds = turns(&mut [
        &mut || wide.apply(&x, None, &mut a),
        &mut || narrow.apply(&x, None, &mut b),
        &mut || product([rows, d_out, d_in], (&x, [d_in, 1]), (&w, [d_in, 1]), (&mut c, [d_out, 1]), false),
        &mut || peak = fma_peak(),
    ]);
    let rate = |s: f64| (2 * rows * d_in * d_out) as f64 / s * 1e-9;
    let peak = peak / seconds[3] * 1e-9;
    println!(
        "linear [{rows} x {d_in} -> {d_out}]  f32 {:.0}  bf16 {:.0}  gemm {:.0}  FMA peak {peak:.0} GFLOP/s  f32/peak {:.2}  f32/gemm {:.2}",
        rate(seconds[0]),
        rate(seconds[1]),
        rate(seconds[2]),
        rate(seconds[0]) / peak,
        seconds[2] / seconds[0]
    );
}

fn main() {
    let only = std::env::args().nth(1).unwrap_or_default();
    if only.is_empty() || only == "linear" {
        for shape in [
            [4096, 576, 1536],
            [4096, 1536, 576],
            [577 * 4, 1024, 4096],
            [256, 4096, 4096],
            [64, 576, 1536],
            [64, 4096, 4096],
            [1, 576, 1536],
            [1, 4096, 4096],
        ] {
            linear(shape);
        }
    }
}
