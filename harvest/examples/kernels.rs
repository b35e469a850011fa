//! Measures the CPU kernels on this machine, taking turns: the linear map compared with the `gemm` crate, attention compared
//! with plain loops, and pointwise operations compared with the memory bandwidth.
//! `cargo run --release -p sae-harvest --example kernels`
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use half::bf16;
use harvest::kernel::attention::{Heads, attention};
use harvest::kernel::linear::Packed;
use harvest::kernel::pointwise::{Activation, layer_norm, rms_norm, rotate};
use rayon::prelude::*;
use sae_core::autoencoder::kernel::product::product;
use std::hint::black_box;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Instant;

#[global_allocator]
static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Numbers between -1 and 1.
fn numbers(n: usize) -> Vec<f32> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1u32 << 23) as f32 - 1.0).collect()
}

/// The processor time of this program in seconds, averaged over its threads, because the elapsed time on a shared machine also
/// depends on other programs. On systems other than Linux, the elapsed time.
fn clock() -> f64 {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let of_task = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    };
    let all = std::fs::read_dir("/proc/self/task").ok();
    let nanoseconds: Option<f64> = all.and_then(|tasks| tasks.flatten().map(of_task).sum());
    match nanoseconds {
        Some(n) => n * 1e-9 / rayon::current_num_threads() as f64,
        None => BEGIN.elapsed().as_secs_f64(),
    }
}

/// The mean seconds of every candidate. The candidates take turns of a twentieth of a second.
fn turns(candidates: &mut [&mut dyn FnMut()]) -> Vec<f64> {
    let mut times = vec![(0.0, 0); candidates.len()];
    let begin = Instant::now();
    for turn in 0..13 {
        if turn > 1 && begin.elapsed().as_secs_f64() > 4.0 {
            break;
        }
        for (candidate, (seconds, runs)) in candidates.iter_mut().zip(&mut times) {
            let (start, begin) = (clock(), Instant::now());
            let mut count = 0;
            while count == 0 || begin.elapsed().as_secs_f64() < 0.05 {
                candidate();
                count += 1;
            }
            // The first turn warms up the memory.
            if turn > 0 {
                (*seconds, *runs) = (*seconds + clock() - start, *runs + count);
            }
        }
    }
    times.iter().map(|(seconds, runs)| seconds / f64::from(*runs)).collect()
}

/// Multiply-adds in registers only, on every thread. Returns the number of operations.
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

    /// Returns the number of values of a step.
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
    let (wide, narrow) = (Packed::from_f32(&w, [d_out, d_in]), Packed::from_bf16(&halves, [d_out, d_in]));
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

/// Attention as in its definition, row by row on every thread.
fn plain(q: &[f32], k: &[f32], v: &[f32], heads: Heads, visible: &[Range<u32>], out: &mut [f32]) {
    let Heads { heads, kv_heads, head_dim, scale, .. } = heads;
    let (width, kv_width) = (heads * head_dim, kv_heads * head_dim);
    out.par_chunks_exact_mut(width).zip(q.par_chunks_exact(width)).zip(visible).for_each(|((out, q), visible)| {
        for head in 0..heads {
            let at = head / (heads / kv_heads) * head_dim;
            let q = &q[head * head_dim..][..head_dim];
            let keys = visible.start as usize..visible.end as usize;
            let product = |key: usize| {
                let k = &k[key * kv_width + at..][..head_dim];
                scale * q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>()
            };
            let mut weights: Vec<f32> = keys.clone().map(product).collect();
            let most = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            weights.iter_mut().for_each(|w| *w = (*w - most).exp());
            let sum: f32 = weights.iter().sum();
            let out = &mut out[head * head_dim..][..head_dim];
            out.fill(0.0);
            for (key, weight) in keys.zip(&weights) {
                let v = &v[key * kv_width + at..][..head_dim];
                out.iter_mut().zip(v).for_each(|(out, v)| *out += weight / sum * v);
            }
        }
    });
}

fn attend(name: &str, [heads, kv_heads, head_dim]: [usize; 3], visible: &[Range<u32>]) {
    let rows = visible.len();
    let heads = Heads { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt(), cap: None };
    let (q, k) = (numbers(rows * heads.heads * head_dim), numbers(rows * kv_heads * head_dim));
    let v: Vec<f32> = k.iter().rev().copied().collect();
    let [mut a, mut b] = std::array::from_fn(|_| vec![0.0; q.len()]);
    let mut peak = 0.0;
    let seconds = turns(&mut [
        &mut || attention(&q, &k, &v, heads, visible, &mut a),
        &mut || plain(&q, &k, &v, heads, visible, &mut b),
        &mut || peak = fma_peak(),
    ]);
    let pairs: usize = visible.iter().map(|seen| seen.len()).sum();
    let rate = |s: f64| (4 * pairs * heads.heads * head_dim) as f64 / s * 1e-9;
    let peak = peak / seconds[2] * 1e-9;
    println!(
        "attention {name}  {:.0}  plain {:.1}  FMA peak {peak:.0} GFLOP/s  of the peak {:.2}  times plain {:.1}",
        rate(seconds[0]),
        rate(seconds[1]),
        rate(seconds[0]) / peak,
        seconds[1] / seconds[0]
    );
}

fn pointwise() {
    let (rows, width) = (2048, 1536);
    let mut x = numbers(rows * width);
    let (up, scale) = (numbers(rows * width), vec![1.0; width]);
    let (sin, cos): (Vec<f32>, Vec<f32>) = (0..rows * 32).map(|i| (i as f32).sin_cos()).unzip();
    let mut copy = vec![0.0; x.len()];
    type Work<'a> = (&'a str, usize, &'a mut dyn FnMut(&mut [f32]));
    let work: [Work; 8] = [
        ("copy, one thread", 8, &mut |x| copy.copy_from_slice(x)),
        ("silu", 8, &mut |x| Activation::Silu.apply(x)),
        ("silu gate", 12, &mut |x| Activation::Silu.gate(x, &up)),
        ("gelu", 8, &mut |x| Activation::Gelu.apply(x)),
        ("gelu tanh", 8, &mut |x| Activation::GeluPytorchTanh.apply(x)),
        ("rms_norm", 8, &mut |x| rms_norm(x, &scale, 1e-6)),
        ("layer_norm", 8, &mut |x| layer_norm(x, &scale, &scale, width, 1e-6)),
        ("rotate", 8, &mut |x| rotate(x, 64, &cos, &sin)),
    ];
    let fresh = x.clone();
    for (name, bytes, work) in work {
        x.copy_from_slice(&fresh);
        let seconds = turns(&mut [&mut || work(&mut x)])[0];
        let rate = x.len() as f64 / seconds * 1e-9;
        println!("pointwise {name}  {rate:.2} G numbers/s  {:.1} GB/s read and written", rate * bytes as f64);
    }
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
    if only.is_empty() || only == "attention" {
        let causal = |rows: u32| (0..rows).map(|row| 0..row + 1).collect::<Vec<_>>();
        let within = |rows: u32, window: u32| {
            (0..rows).map(|row| row / window * window..(row / window + 1) * window).collect::<Vec<_>>()
        };
        attend("1024 causal, 9/3 heads of 64", [9, 3, 64], &causal(1024));
        attend("3000 causal, 9/3 heads of 64", [9, 3, 64], &causal(3000));
        attend("1024 causal, 28/4 heads of 128", [28, 4, 128], &causal(1024));
        attend("4 images of 577, 16 heads of 64", [16, 16, 64], &within(577 * 4, 577));
        attend("729, 16 heads of 72", [16, 16, 72], &within(729, 729));
        attend("1024 in windows of 64, 16 heads of 80", [16, 16, 80], &within(1024, 64));
    }
    if only.is_empty() || only == "pointwise" {
        pointwise();
    }
}
