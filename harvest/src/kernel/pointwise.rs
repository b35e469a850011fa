//! What is done to every row or number alone on the CPU: norms, activation functions, rotary positions.

use rayon::prelude::*;
use serde::Deserialize;

/// An activation function by its name in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// With the error function.
    Gelu,
    /// With the hyperbolic tangent.
    #[serde(alias = "gelu_new")]
    GeluPytorchTanh,
    /// `x * sigmoid(1.702 x)`, CLIP's.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
}

/// Numbers that one thread does at a time.
const CHUNK: usize = 1 << 14;

impl Activation {
    fn of(self, x: f32) -> f32 {
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        match self {
            Self::Silu => x * sigmoid(x),
            Self::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
            Self::GeluPytorchTanh => 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh()),
            Self::QuickGelu => x * sigmoid(1.702 * x),
            Self::Relu => x.max(0.0),
        }
    }

    /// In place.
    pub fn apply(self, x: &mut [f32]) {
        x.par_chunks_mut(CHUNK).for_each(|x| x.iter_mut().for_each(|x| *x = self.of(*x)));
    }

    /// `gate = f(gate) * up`.
    pub fn gate(self, gate: &mut [f32], up: &[f32]) {
        let chunks = gate.par_chunks_mut(CHUNK).zip(up.par_chunks(CHUNK));
        chunks.for_each(|(gate, up)| gate.iter_mut().zip(up).for_each(|(g, u)| *g = self.of(*g) * u));
    }
}

/// The error function to 1 ulp or so of `f32`, by its series and its continued fraction in `f64`.
fn erf(x: f32) -> f32 {
    let x = f64::from(x);
    if x.abs() > 4.0 {
        return x.signum() as f32;
    }
    if x.abs() < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..40 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return (sum * std::f64::consts::FRAC_2_SQRT_PI) as f32;
    }
    let z = x.abs();
    let tail = (1..60).rev().fold(z, |below, n| z + 0.5 * f64::from(n) / below);
    let erfc = (-z * z).exp() / (tail * std::f64::consts::PI.sqrt());
    (x.signum() * (1.0 - erfc)) as f32
}

/// Every row divided by its root mean square (`eps` added to the mean square), times `scale`; in place.
///
/// # Shapes
/// `x` `[rows, width]`, `scale` `[width]`.
pub fn rms_norm(x: &mut [f32], scale: &[f32], eps: f32) {
    x.par_chunks_exact_mut(scale.len()).for_each(|row| {
        let square = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / scale.len() as f64;
        let inverse = 1.0 / (square as f32 + eps).sqrt();
        row.iter_mut().zip(scale).for_each(|(x, s)| *x = *x * inverse * s);
    });
}

/// Every row without its mean, divided by its standard deviation (`eps` added to the variance), times `scale`, plus
/// `shift`; in place. `scale` and `shift` may hold several rows, which then take turns (one a head).
///
/// # Shapes
/// `x` `[rows, width]`, `scale` and `shift` `[turns * width]`.
pub fn layer_norm(x: &mut [f32], scale: &[f32], shift: &[f32], width: usize, eps: f32) {
    let turns = scale.chunks_exact(width).zip(shift.chunks_exact(width)).collect::<Vec<_>>();
    x.par_chunks_exact_mut(width).enumerate().for_each(|(n, row)| {
        let (scale, shift) = turns[n % turns.len()];
        let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
        let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / width as f64;
        let (mean, inverse) = (mean as f32, 1.0 / (variance as f32 + eps).sqrt());
        for ((x, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
            *x = (*x - mean) * inverse * scale + shift;
        }
    });
}

/// Rotary positions in the half-split form of Llama, in place: in every head, element `i` turns with element
/// `i + head_dim / 2`.
///
/// # Shapes
/// `x` `[rows, heads * head_dim]`, `cos` and `sin` `[rows, head_dim / 2]`.
pub fn rotate(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
    let half = head_dim / 2;
    let width = x.len() / (cos.len() / half).max(1);
    let tables = cos.par_chunks_exact(half).zip(sin.par_chunks_exact(half));
    x.par_chunks_exact_mut(width.max(1)).zip(tables).for_each(|(row, (cos, sin))| {
        for head in row.chunks_exact_mut(head_dim) {
            let (first, second) = head.split_at_mut(half);
            for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    });
}
