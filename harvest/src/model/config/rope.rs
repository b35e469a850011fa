//! Rotary positions as `config.json` describes them: base, scaling, and which frequencies turn with which axis of a
//! position. The formulas are those of `transformers` 5.23 (`modeling_rope_utils.py`). Where the parameters stand is
//! `precedence.rs`'s business.

use crate::fields::{Fields, SIZE_LIMIT, short};
use std::f64::consts::PI;

/// Axes of a position: time, row, column. Words have the same number on all of them.
pub const AXES: usize = 3;

/// What a set of rotary parameters may hold; anything else might change what is computed.
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
    // Says that a model was trained with its scaling, and is read by nobody.
    "finetuned",
];

/// Rotary positions of a decoder's layers.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// What is done to the frequencies.
    pub scaling: Scaling,
    /// Which frequencies turn with which axis.
    pub axes: Axes,
}

/// What is done to the frequencies so that more positions fit.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Nothing.
    None,
    /// All divided.
    Linear(f64),
    /// The base grows with a sample that is longer than `context` (dynamic NTK).
    Dynamic {
        /// How many times the context is to fit.
        factor: f64,
        /// Positions that the model was trained on.
        context: f64,
    },
    /// Slow frequencies divided, fast ones left, a ramp between them; sines and cosines multiplied (arXiv:2309.00071).
    Yarn {
        /// What slow frequencies are divided by.
        factor: f64,
        /// Number of the last fast frequency, and of the first slow one.
        ramp: [f64; 2],
        /// What sines and cosines are multiplied with.
        magnitude: f64,
        /// Positions that the model was trained on first.
        original: f64,
    },
    /// Every frequency divided by a number of its own, of which there are two: for samples of at most `original` positions,
    /// and for longer ones (LongRoPE, arXiv:2402.13753).
    Long {
        /// One for each frequency.
        short: Vec<f64>,
        /// One for each frequency.
        long: Vec<f64>,
        /// Positions that the model was trained on first.
        original: f64,
        /// What sines and cosines are multiplied with.
        magnitude: f64,
    },
    /// Llama 3.1's: long waves divided, short ones left, between them something between.
    Llama3 {
        /// What long waves are divided by.
        factor: f64,
        /// Waves longer than `original / low` are long.
        low: f64,
        /// Waves shorter than `original / high` are short.
        high: f64,
        /// Positions that the model was trained on first.
        original: f64,
    },
}

/// Which frequencies turn with which axis of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axes {
    /// All with the first: positions are numbers.
    One,
    /// So many with time, then so many with rows, then the rest with columns (Qwen2.5-VL).
    Sections([usize; AXES]),
    /// Time, row, column in turns as long as rows and columns have any left; the rest with time (Qwen3-VL).
    Interleaved([usize; AXES]),
}

impl Axes {
    /// Refuses sections that are not all of a head.
    fn check(self, head_dim: usize) -> Result<(), String> {
        let (Self::Sections(sections) | Self::Interleaved(sections)) = self else { return Ok(()) };
        let half = head_dim / 2;
        if sections.iter().any(|n| *n > half) || sections.iter().sum::<usize>() != half {
            return Err(format!("mrope_section is {sections:?}: expected a sum of {half}, half of a head"));
        }
        Ok(())
    }

    fn of(self, n: usize) -> usize {
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
    /// Reads one set of parameters, completed, of a decoder with heads of `head_dim`. `axes` are those of its family: of
    /// one with several, `mrope_section` says how many frequencies each has.
    pub(super) fn new(rope: Fields, head_dim: usize, axes: Axes) -> Result<Self, String> {
        if let Some((name, value)) =
            rope.0.as_object().into_iter().flatten().find(|(name, _)| !KNOWN.contains(&name.as_str()))
        {
            return Err(format!("the rotary parameters have {name} ({}), which is not supported", short(value)));
        }
        if rope.or("partial_rotary_factor", 1.0)? != 1.0 {
            return Err("partial_rotary_factor is not 1: heads that turn in part are not supported".into());
        }
        let theta: f64 = rope.or("rope_theta", 1e4)?;
        if !(theta.is_finite() && theta > 0.0) {
            return Err(format!("rope_theta is {theta}"));
        }
        let axes = match (axes, rope.get::<[usize; AXES]>("mrope_section")?) {
            (Axes::Sections(_), Some(sections)) => Axes::Sections(sections),
            (Axes::Interleaved(_), Some(sections)) => Axes::Interleaved(sections),
            (axes, _) => axes,
        };
        axes.check(head_dim)?;
        let several = axes != Axes::One;
        Ok(Self { theta, scaling: Scaling::read(rope, theta, head_dim, several)?, axes })
    }

    /// The frequency of each pair of a head's elements in a sample whose largest position is `length - 1`, and the axis
    /// that it turns with.
    pub fn frequencies(&self, head_dim: usize, length: usize) -> Vec<(f32, usize)> {
        let theta = self.scaling.base(self.theta, head_dim, length as f64);
        (0..head_dim / 2)
            .map(|n| {
                // The reference divides in f32.
                let base = 1.0 / (theta.powf(2.0 * n as f64 / head_dim as f64) as f32);
                (self.scaling.of(base, n, length as f64), self.axes.of(n))
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
            Some(value) => Err(format!("{name} is {value}: expected a positive number")),
            None => Ok(None),
        };
        let need =
            |name: &str| positive(name)?.ok_or_else(|| format!("rotary positions of type {kind} without {name}"));
        let original = || need("original_max_position_embeddings");
        match kind.as_str() {
            "default" => Ok(Self::None),
            "mrope" if several => Ok(Self::None),
            "linear" => Ok(Self::Linear(need("factor")?)),
            "dynamic" => Ok(Self::Dynamic { factor: need("factor")?, context: need("max_position_embeddings")? }),
            "yarn" => {
                let (factor, original) = (need("factor")?, original()?);
                let mscale = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
                let magnitude =
                    match (positive("attention_factor")?, rope.or("mscale", 0.0)?, rope.or("mscale_all_dim", 0.0)?) {
                        (Some(magnitude), _, _) => magnitude,
                        (None, own, all) if own != 0.0 && all != 0.0 => mscale(own) / mscale(all),
                        _ => mscale(1.0),
                    };
                // The number of the frequency that turns so often over the first context.
                let turning = |times: f64| head_dim as f64 * (original / (times * 2.0 * PI)).ln() / (2.0 * theta.ln());
                let beta = |name: &str, default: f64| {
                    Ok::<_, String>(match rope.or(name, default)? {
                        0.0 => default,
                        beta => beta,
                    })
                };
                let ramp = [turning(beta("beta_fast", 32.0)?), turning(beta("beta_slow", 1.0)?)];
                let [low, high] = if rope.or("truncate", true)? { [ramp[0].floor(), ramp[1].ceil()] } else { ramp };
                let (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
                let high = if low == high { high + 0.001 } else { high };
                Ok(Self::Yarn { factor, ramp: [low, high], magnitude, original })
            }
            "longrope" => {
                let original = original()?;
                // What Phi leaves out is the ratio of the two contexts.
                let factor = positive("factor")?.unwrap_or(need("max_position_embeddings")? / original);
                let factors = |name: &str| match rope.get::<Vec<f64>>(name)? {
                    Some(factors)
                        if factors.len() == head_dim / 2 && factors.iter().all(|f| f.is_finite() && *f > 0.0) =>
                    {
                        Ok(factors)
                    }
                    Some(factors) => {
                        Err(format!("{name} has {} numbers: expected {}, all positive", factors.len(), head_dim / 2))
                    }
                    None => Err(format!("rotary positions of type longrope without {name}")),
                };
                let magnitude = match positive("attention_factor")? {
                    Some(magnitude) => magnitude,
                    None if factor <= 1.0 => 1.0,
                    None => (1.0 + factor.ln() / original.ln()).sqrt(),
                };
                Ok(Self::Long { short: factors("short_factor")?, long: factors("long_factor")?, original, magnitude })
            }
            "llama3" => Ok(Self::Llama3 {
                factor: need("factor")?,
                low: need("low_freq_factor")?,
                high: need("high_freq_factor")?,
                original: original()?,
            }),
            _ => Err(format!(
                "rotary positions of type {kind} are not supported; these are: default, linear, dynamic, yarn, longrope, \
                 llama3, and mrope in Qwen2.5-VL and Qwen3-VL"
            )),
        }
    }

    /// Positions that fit, where `context` fit before.
    pub(super) fn reach(&self, context: usize) -> usize {
        let reach = match self {
            Self::Linear(factor) | Self::Dynamic { factor, .. } => context as f64 * factor,
            Self::Yarn { factor, original, .. } => original * factor,
            Self::None | Self::Long { .. } | Self::Llama3 { .. } => 0.0,
        };
        context.max((reach as usize).min(SIZE_LIMIT))
    }

    /// What sines and cosines are multiplied with.
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

    /// What becomes of the `n`-th frequency in a sample of `length` positions.
    fn of(&self, frequency: f32, n: usize, length: f64) -> f32 {
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
