//! Rotary positions as `config.json` describes them: base, scaling, and which frequencies belong to which axis of a
//! position. The formulas are those of `transformers` 5.23 (`modeling_rope_utils.py`). Where the parameters are found
//! is decided in `precedence.rs`.

use crate::fields::{Fields, SIZE_LIMIT, short};
use std::f64::consts::PI;

/// Number of axes of a position: time, row, column. Positions of text have the same number on all axes.
pub const AXES: usize = 3;

/// The type of Gemma 4, of whose heads only the pairs with the highest frequencies may be rotated.
const PROPORTIONAL: &str = "proportional";

/// The parameters that a set of rotary positions may have. Any other parameter might change the result.
const KNOWN: [&str; 20] = [
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "max_position_embeddings",
    "partial_rotary_factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "short_factor",
    "long_factor",
    "low_freq_factor",
    "high_freq_factor",
    "mrope_section",
    "mrope_interleaved",
    // Says that a model was trained with its scaling. No implementation reads it.
    "finetuned",
];

/// The rotary positions of a decoder's layers.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// How the frequencies are scaled.
    pub scaling: Scaling,
    /// Which frequencies belong to which axis.
    pub axes: Axes,
    /// Width of the heads that are rotated.
    pub head_dim: usize,
    /// How many pairs of a head's elements are rotated; the others stay as they are.
    pub rotated: usize,
}

/// How frequencies are scaled so that longer samples fit.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All frequencies are divided by a factor.
    Linear(f64),
    /// Dynamic NTK: the base grows with the length of a sample that exceeds `context`.
    Dynamic {
        /// The factor by which the context is extended.
        factor: f64,
        /// Number of positions that the model was trained on.
        context: f64,
    },
    /// YaRN (arXiv:2309.00071): slow frequencies are divided, fast ones are unchanged, with a ramp between them; sines
    /// and cosines are multiplied.
    Yarn {
        /// The divisor of slow frequencies.
        factor: f64,
        /// Index of the last fast frequency, and of the first slow one.
        ramp: [f64; 2],
        /// The factor of sines and cosines.
        magnitude: f64,
        /// Number of positions that the model was originally trained on.
        original: f64,
    },
    /// LongRoPE (arXiv:2402.13753): every frequency has its own divisor, or rather two: one for samples of at most
    /// `original` positions, and one for longer samples.
    Long {
        /// The divisors for short samples, one for each frequency.
        short: Vec<f64>,
        /// The divisors for long samples, one for each frequency.
        long: Vec<f64>,
        /// Number of positions that the model was originally trained on.
        original: f64,
        /// The factor of sines and cosines.
        magnitude: f64,
    },
    /// Llama 3.1: long wavelengths are divided, short ones are unchanged, and those between them are interpolated.
    Llama3 {
        /// The divisor of the frequencies of long wavelengths.
        factor: f64,
        /// Wavelengths above `original / low` are long.
        low: f64,
        /// Wavelengths below `original / high` are short.
        high: f64,
        /// Number of positions that the model was originally trained on.
        original: f64,
    },
}

/// Which frequencies belong to which axis of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axes {
    /// All frequencies belong to the first axis: positions are one-dimensional.
    One,
    /// The first ones belong to time, the next ones to rows, the rest to columns (Qwen2.5-VL).
    Sections([usize; AXES]),
    /// They belong to time, row and column in turn, as long as rows and columns have any left; the rest belong to time
    /// (Qwen3-VL).
    Interleaved([usize; AXES]),
}

impl Axes {
    /// Rejects sections that do not add up to half of a head.
    fn check(self, head_dim: usize) -> Result<(), String> {
        let (Self::Sections(sections) | Self::Interleaved(sections)) = self else { return Ok(()) };
        let half = head_dim / 2;
        if sections.iter().any(|n| *n > half) || sections.iter().sum::<usize>() != half {
            return Err(format!("invalid mrope_section {sections:?}: expected a sum of {half}, half of a head"));
        }
        Ok(())
    }

    /// The axis of the `n`-th frequency.
    fn axis(self, n: usize) -> usize {
        match self {
            Self::One => 0,
            Self::Sections([time, rows, _]) => usize::from(n >= time) + usize::from(n >= time + rows),
            Self::Interleaved(sections) => {
                let axis = n % AXES;
                if n < AXES * sections[axis] { axis } else { 0 }
            }
        }
    }
}

impl RopeConfig {
    /// Reads one complete set of parameters for a decoder with heads of `head_dim`. `axes` are those of its family. If
    /// there are several, `mrope_section` says how many frequencies each axis has.
    pub(super) fn new(rope: Fields, head_dim: usize, axes: Axes) -> Result<Self, String> {
        if let Some((name, value)) =
            rope.0.as_object().into_iter().flatten().find(|(name, _)| !KNOWN.contains(&name.as_str()))
        {
            return Err(format!("the rotary parameter {name} ({}) is not supported", short(value)));
        }
        let share: f64 = rope.or("partial_rotary_factor", 1.0)?;
        let rotated = if rope.or("rope_type", String::new())? == PROPORTIONAL && (0.0..=1.0).contains(&share) {
            ((share * head_dim as f64 / 2.0) as usize).min(head_dim / 2)
        } else if share == 1.0 {
            head_dim / 2
        } else {
            return Err("partial_rotary_factor is not 1: heads that are rotated only in part are not supported".into());
        };
        let theta: f64 = rope.or("rope_theta", 1e4)?;
        if !(theta.is_finite() && theta > 0.0) {
            return Err(format!("invalid rope_theta {theta}: expected a positive number"));
        }
        let axes = match (axes, rope.get::<[usize; AXES]>("mrope_section")?) {
            (Axes::Sections(_), Some(sections)) => Axes::Sections(sections),
            (Axes::Interleaved(_), Some(sections)) => Axes::Interleaved(sections),
            (axes, _) => axes,
        };
        axes.check(head_dim)?;
        let several = axes != Axes::One;
        Ok(Self { theta, scaling: Scaling::read(rope, theta, head_dim, several)?, axes, head_dim, rotated })
    }

    /// The frequency of each pair of a head's elements, and the axis to which it belongs, in a sample whose largest
    /// position is `length - 1`.
    pub fn frequencies(&self, length: usize) -> Vec<(f32, usize)> {
        let head_dim = self.head_dim;
        let theta = self.scaling.base(self.theta, head_dim, length as f64);
        (0..head_dim / 2)
            .map(|n| {
                // The reference implementation divides in f32.
                let base = 1.0 / (theta.powf(2.0 * n as f64 / head_dim as f64) as f32);
                let frequency = self.scaling.scaled(base, n, length as f64);
                (if n < self.rotated { frequency } else { 0.0 }, self.axes.axis(n))
            })
            .collect()
    }
}

impl Scaling {
    fn read(rope: Fields, theta: f64, head_dim: usize, several: bool) -> Result<Self, String> {
        let kind = match rope.get::<String>("rope_type")? {
            Some(kind) => kind,
            None => rope.or("type", "default".to_owned())?,
        };
        let positive = |name: &str| match rope.get::<f64>(name)? {
            Some(value) if value.is_finite() && value > 0.0 => Ok(Some(value)),
            Some(value) => Err(format!("invalid {name} {value}: expected a positive number")),
            None => Ok(None),
        };
        let required =
            |name: &str| positive(name)?.ok_or_else(|| format!("rotary positions of type {kind} require {name}"));
        let original = || required("original_max_position_embeddings");
        match kind.as_str() {
            "default" => Ok(Self::None),
            "mrope" if several => Ok(Self::None),
            "linear" => Ok(Self::Linear(required("factor")?)),
            PROPORTIONAL => Ok(Self::Linear(positive("factor")?.unwrap_or(1.0))),
            "dynamic" => {
                Ok(Self::Dynamic { factor: required("factor")?, context: required("max_position_embeddings")? })
            }
            "yarn" => {
                let (factor, original) = (required("factor")?, original()?);
                let mscale = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
                let magnitude =
                    match (positive("attention_factor")?, rope.or("mscale", 0.0)?, rope.or("mscale_all_dim", 0.0)?) {
                        (Some(magnitude), _, _) => magnitude,
                        (None, scale, all) if scale != 0.0 && all != 0.0 => mscale(scale) / mscale(all),
                        _ => mscale(1.0),
                    };
                // The index of the frequency that makes a number of turns over the original context.
                let index = |turns: f64| head_dim as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
                let beta = |name: &str, default: f64| {
                    Ok::<_, String>(match rope.or(name, default)? {
                        0.0 => default,
                        beta => beta,
                    })
                };
                let ramp = [index(beta("beta_fast", 32.0)?), index(beta("beta_slow", 1.0)?)];
                let [low, high] = if rope.or("truncate", true)? { [ramp[0].floor(), ramp[1].ceil()] } else { ramp };
                let (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
                let high = if low == high { high + 0.001 } else { high };
                Ok(Self::Yarn { factor, ramp: [low, high], magnitude, original })
            }
            "longrope" => {
                let original = original()?;
                // Phi omits the factor, which is the ratio of the two contexts.
                let factor = positive("factor")?.unwrap_or(required("max_position_embeddings")? / original);
                let factors = |name: &str| match rope.get::<Vec<f64>>(name)? {
                    Some(factors)
                        if factors.len() == head_dim / 2 && factors.iter().all(|f| f.is_finite() && *f > 0.0) =>
                    {
                        Ok(factors)
                    }
                    Some(factors) => {
                        Err(format!("{name} has {} numbers: expected {}, all positive", factors.len(), head_dim / 2))
                    }
                    None => Err(format!("rotary positions of type longrope require {name}")),
                };
                let magnitude = match positive("attention_factor")? {
                    Some(magnitude) => magnitude,
                    None if factor <= 1.0 => 1.0,
                    None => (1.0 + factor.ln() / original.ln()).sqrt(),
                };
                Ok(Self::Long { short: factors("short_factor")?, long: factors("long_factor")?, original, magnitude })
            }
            "llama3" => Ok(Self::Llama3 {
                factor: required("factor")?,
                low: required("low_freq_factor")?,
                high: required("high_freq_factor")?,
                original: original()?,
            }),
            _ => Err(format!(
                "unsupported type {kind:?} of rotary positions: expected default, linear, dynamic, yarn, longrope, \
                 llama3, proportional, or mrope in Qwen2.5-VL and Qwen3-VL"
            )),
        }
    }

    /// The number of positions that fit, if `context` positions fit without scaling.
    pub(super) fn scaled_context(&self, context: usize) -> usize {
        let scaled = match self {
            Self::Linear(factor) | Self::Dynamic { factor, .. } => context as f64 * factor,
            Self::Yarn { factor, original, .. } => original * factor,
            Self::None | Self::Long { .. } | Self::Llama3 { .. } => 0.0,
        };
        context.max((scaled as usize).min(SIZE_LIMIT))
    }

    /// The factor of sines and cosines.
    pub fn magnitude(&self) -> f32 {
        match self {
            Self::Yarn { magnitude, .. } | Self::Long { magnitude, .. } => *magnitude as f32,
            _ => 1.0,
        }
    }

    /// The base of the frequencies in a sample of `length` positions.
    fn base(&self, theta: f64, head_dim: usize, length: f64) -> f64 {
        match self {
            Self::Dynamic { factor, context } => {
                let stretched = factor * length.max(*context) / context - (factor - 1.0);
                theta * stretched.powf(head_dim as f64 / (head_dim as f64 - 2.0))
            }
            _ => theta,
        }
    }

    /// The `n`-th frequency after scaling, in a sample of `length` positions.
    fn scaled(&self, frequency: f32, n: usize, length: f64) -> f32 {
        match self {
            Self::None | Self::Dynamic { .. } => frequency,
            Self::Linear(factor) => frequency / *factor as f32,
            Self::Yarn { factor, ramp: [low, high], .. } => {
                let slow = ((n as f64 - low) / (high - low)).clamp(0.0, 1.0);
                (f64::from(frequency) * (slow / factor + (1.0 - slow))) as f32
            }
            Self::Long { short, long, original, .. } => {
                let factors = if length > *original { long } else { short };
                (f64::from(frequency) / factors[n]) as f32
            }
            Self::Llama3 { factor, low, high, original } => {
                let wave = 2.0 * PI / f64::from(frequency);
                if wave > original / low {
                    (f64::from(frequency) / factor) as f32
                } else if wave < original / high {
                    frequency
                } else {
                    let smooth = (original / wave - low) / (high - low);
                    ((1.0 - smooth) * f64::from(frequency) / factor + smooth * f64::from(frequency)) as f32
                }
            }
        }
    }
}
