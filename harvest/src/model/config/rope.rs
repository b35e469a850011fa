//! Rotary positions as `config.json` describes them, older and newer layout: base, scaling, and which frequencies turn
//! with which axis of a position.

use super::fields::Fields;

/// Axes of a position: time, row, column. Words have the same number on all of them.
pub const AXES: usize = 3;

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
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// Nothing.
    None,
    /// All divided.
    Linear(f64),
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

impl RopeConfig {
    /// Frequencies that turn alike on all axes.
    pub fn plain(theta: f64) -> Self {
        Self { theta, scaling: Scaling::None, axes: Axes::One }
    }

    /// Reads `rope_parameters`, or `rope_theta` and `rope_scaling`, of a decoder with heads of `head_dim`.
    pub(super) fn read(text: Fields, theta: f64, head_dim: usize) -> Result<Self, String> {
        // Where there are both, the older name wins.
        let named = ["rope_scaling", "rope_parameters"].map(|name| text.under(name));
        let rope = named.into_iter().find(|fields| fields.is_object()).unwrap_or(named[0]);
        let theta = match rope.get("rope_theta")? {
            Some(theta) => theta,
            None => text.or("rope_theta", theta)?,
        };
        Self::new(rope, theta, head_dim, text.get("max_position_embeddings")?)
    }

    /// Reads one set of parameters, of a model that takes so many positions.
    pub(super) fn new(rope: Fields, theta: f64, head_dim: usize, context: Option<f64>) -> Result<Self, String> {
        let kind = match rope.get::<String>("rope_type")? {
            Some(kind) => kind,
            None => rope.or("type", "default".to_owned())?,
        };
        let need = |name: &str| rope.get::<f64>(name)?.ok_or_else(|| format!("rotary embeddings without {name}"));
        let scaling = match kind.as_str() {
            "default" | "mrope" => Scaling::None,
            "linear" => Scaling::Linear(need("factor")?),
            "llama3" => Scaling::Llama3 {
                factor: need("factor")?,
                low: need("low_freq_factor")?,
                high: need("high_freq_factor")?,
                original: match rope.get("original_max_position_embeddings")?.or(context) {
                    Some(original) => original,
                    None => need("original_max_position_embeddings")?,
                },
            },
            _ => {
                return Err(format!(
                    "rotary embeddings of type {kind} are not supported; these are: default, linear, llama3, mrope"
                ));
            }
        };
        let axes = match rope.get::<[usize; AXES]>("mrope_section")? {
            None => Axes::One,
            Some(sections) if sections.iter().sum::<usize>() != head_dim / 2 => {
                return Err(format!("mrope_section {sections:?} for heads of {head_dim}"));
            }
            Some(sections) if rope.or("mrope_interleaved", false)? => Axes::Interleaved(sections),
            Some(sections) => Axes::Sections(sections),
        };
        match theta.is_finite() && theta > 0.0 {
            true => Ok(Self { theta, scaling, axes }),
            false => Err(format!("rope_theta is {theta}")),
        }
    }

    /// The frequency of each pair of a head's elements, and the axis that it turns with.
    pub fn frequencies(&self, head_dim: usize) -> Vec<(f32, usize)> {
        let half = head_dim / 2;
        (0..half)
            .map(|n| {
                // The reference divides in f32.
                let base = 1.0 / (self.theta.powf(2.0 * n as f64 / head_dim as f64) as f32);
                (self.scaling.of(base), self.axes.of(n))
            })
            .collect()
    }
}

impl Scaling {
    fn of(self, frequency: f32) -> f32 {
        match self {
            Self::None => frequency,
            Self::Linear(factor) => frequency / factor as f32,
            Self::Llama3 { factor, low, high, original } => {
                let wave = 2.0 * std::f64::consts::PI / f64::from(frequency);
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

impl Axes {
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
