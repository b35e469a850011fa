//! What a training run is told: `train.toml`, its defaults, published presets, and its contradictions.

use crate::autoencoder::Architecture;
use crate::store::PositionRule;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// More features than anybody has trained; `u32` numbers, and memory, end somewhere.
const MOST_FEATURES: usize = 1 << 24;

/// The configuration of a training run, saved as `train.toml` beside the weights.
///
/// The defaults are SAE-V's (ICML 2025, appendix and release), so `TrainConfig::default()` is the preset `sae-v`; what
/// SAE-V does not have follows SAELens 6 unless its field says otherwise. Fields that an architecture does not use are
/// ignored by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// How activations are made.
    pub arch: Architecture,
    /// Features for every dimension of the residual stream; overruled by `features`.
    pub expansion: usize,
    /// Number of features; 0 for `expansion` times the width.
    pub features: usize,
    /// TopK, BatchTopK, Matryoshka: active features per token.
    pub k: usize,
    /// TopK, BatchTopK, Matryoshka: with a free decoder, choose by activation times the decoder row's norm.
    pub rescale_by_decoder_norm: bool,
    /// ReLU, Gated: weight of `sum_k z_k |f_k|`.
    pub l1_coefficient: f64,
    /// JumpReLU: weight of its penalty.
    pub l0_coefficient: f64,
    /// Learning rate.
    pub lr: f64,
    /// Tokens a step.
    pub batch: usize,
    /// Steps.
    pub steps: u64,
    /// First steps over which `lr` rises from 0.
    pub lr_warmup_steps: u64,
    /// Last steps over which `lr` falls to 0.
    pub lr_decay_steps: u64,
    /// Steps over which `l1_coefficient` or `l0_coefficient` rises from 0.
    #[serde(alias = "l1_warmup_steps")]
    pub sparsity_warmup_steps: u64,
    /// Adam: decay of the first moment.
    pub beta1: f64,
    /// Adam: decay of the second moment.
    pub beta2: f64,
    /// Adam: added to the root of the second moment (PyTorch's 1e-8, not Burn's 1e-5).
    pub epsilon: f64,
    /// Largest global norm of the gradient; 0 for any.
    pub clip: f64,
    /// Whether decoder rows are free or kept at norm 1.
    pub decoder: Decoder,
    /// Norm of the decoder's rows at the start, where they are free.
    pub init_norm: f64,
    /// The encoder starts as the decoder's transpose; otherwise with directions of its own.
    pub tied_init: bool,
    /// Where `b_dec` starts.
    pub b_dec_init: BDecInit,
    /// `b_dec` is subtracted from what the encoder reads.
    pub subtract_b_dec: bool,
    /// What is done to activations before anything else.
    pub normalize: TrainingScale,
    /// A feature is dead when it has not fired for this many steps.
    pub dead_window_steps: u64,
    /// Every so many steps dead features start anew from badly reconstructed tokens (Bricken et al. 2023); 0 for never.
    pub resample_every_steps: u64,
    /// TopK, BatchTopK, Matryoshka: weight of the loss by which dead features learn from the error (AuxK); 0 for none.
    pub aux_loss_coefficient: f64,
    /// Dead features a token that take part in it; 0 for half the width.
    pub aux_k: usize,
    /// AuxK as in Gao et al. 2024 and dictionary_learning: relative to the error's variance, positive activations only.
    /// Otherwise as in SAELens: the squared error itself, less while fewer than `aux_k` are dead, of any sign.
    pub aux_relative: bool,
    /// JumpReLU: what is penalized.
    pub jumprelu_penalty: JumpReluPenalty,
    /// JumpReLU: threshold of every feature at the start.
    pub threshold: f64,
    /// JumpReLU: width of the window in which a threshold gets a gradient.
    pub bandwidth: f64,
    /// JumpReLU, `tanh`: its scale.
    pub tanh_scale: f64,
    /// JumpReLU, `quadratic`: the L0 that is aimed at.
    pub target_l0: f64,
    /// Matryoshka: sizes of the prefixes, ascending; none for a quarter and a half of the features. All are added.
    pub prefixes: Vec<usize>,
    /// Matryoshka: this many prefixes drawn anew each step (sizes by a truncated Pareto law, as published) instead.
    pub random_prefixes: usize,
    /// BatchTopK, Matryoshka: share of the newest batch in the learned threshold.
    pub threshold_rate: f64,
    /// Positions that are left out.
    pub exclude: PositionRule,
    /// Rows of the mixing buffer.
    pub buffer: usize,
    /// Decides initial weights and the order of the data.
    pub seed: u64,
}

/// Whether decoder rows are free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decoder {
    /// Any norm; penalties and TopK's choice weigh activations by it, so that scaling a row gains nothing.
    #[default]
    Free,
    /// Norm 1: the gradient along a row is removed before the step, the norm restored behind it.
    Unit,
}

/// Where the decoder's bias starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BDecInit {
    /// At zero.
    #[default]
    Zero,
    /// At the mean of the buffer's rows.
    Mean,
    /// At their geometric median.
    GeometricMedian,
}

/// How activations are scaled before training; the scale is folded into what is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingScale {
    /// Not at all.
    None,
    /// All by one number, so that the mean norm is `sqrt(d_in)`.
    #[default]
    ExpectedNorm,
    /// All by one number, so that the mean squared norm is `d_in`.
    MeanSquare,
    /// Each to mean 0 and deviation 1; this cannot be folded, so the file says `layer_norm`.
    LayerNorm,
}

/// JumpReLU's penalty on a token's activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JumpReluPenalty {
    /// `sum_k H(p_k - threshold_k)`, L0 itself.
    #[default]
    Step,
    /// `sum_k tanh(scale z_k |f_k|)`
    Tanh,
    /// `2 / target (L0 - target)^2`
    Quadratic,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            arch: Architecture::Relu,
            expansion: 16,
            features: 0,
            k: 32,
            rescale_by_decoder_norm: true,
            l1_coefficient: 5.0,
            l0_coefficient: 1.0,
            lr: 5e-5,
            batch: 4096,
            steps: 30_000,
            lr_warmup_steps: 0,
            lr_decay_steps: 6_000,
            sparsity_warmup_steps: 1_500,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            clip: 1.0,
            decoder: Decoder::Free,
            init_norm: 0.1,
            tied_init: true,
            b_dec_init: BDecInit::Zero,
            subtract_b_dec: false,
            normalize: TrainingScale::ExpectedNorm,
            dead_window_steps: 1_000,
            resample_every_steps: 0,
            aux_loss_coefficient: 1.0,
            aux_k: 0,
            aux_relative: false,
            jumprelu_penalty: JumpReluPenalty::Step,
            threshold: 0.01,
            bandwidth: 0.05,
            tanh_scale: 4.0,
            target_l0: 32.0,
            prefixes: Vec::new(),
            random_prefixes: 0,
            threshold_rate: 0.01,
            exclude: PositionRule::default(),
            buffer: 131_072,
            seed: 42,
        }
    }
}

impl TrainConfig {
    /// The defaults of an architecture: SAE-V's for ReLU, SAELens's recipe (lr 3e-4, centered inputs) for all others.
    pub fn for_architecture(arch: Architecture) -> Self {
        match arch {
            Architecture::Relu => Self::default(),
            _ => Self { arch, lr: 3e-4, subtract_b_dec: true, l1_coefficient: 1.0, ..Self::default() },
        }
    }

    /// The same schedule stretched to `steps`: warm-up, decay and dead window keep their shares.
    pub fn with_steps(self, steps: u64) -> Self {
        let share = |part: u64| (part as u128 * steps as u128 / self.steps.max(1) as u128) as u64;
        Self {
            sparsity_warmup_steps: share(self.sparsity_warmup_steps),
            lr_warmup_steps: share(self.lr_warmup_steps),
            lr_decay_steps: share(self.lr_decay_steps),
            dead_window_steps: self.dead_window_steps.min(steps.div_ceil(4)),
            steps,
            ..self
        }
    }

    /// Number of features for activations of width `d_in`.
    pub fn d_sae(&self, d_in: usize) -> usize {
        if self.features > 0 { self.features } else { self.expansion.saturating_mul(d_in) }
    }

    /// AuxK's `k` for activations of width `d_in`.
    pub fn aux_k(&self, d_in: usize) -> usize {
        if self.aux_k > 0 { self.aux_k } else { (d_in / 2).max(1) }
    }

    /// Matryoshka's fixed prefixes, the whole dictionary last.
    pub fn prefixes(&self, d_sae: usize) -> Vec<usize> {
        let mut prefixes = match self.prefixes.is_empty() {
            true => vec![d_sae / 4, d_sae / 2],
            false => self.prefixes.clone(),
        };
        prefixes.retain(|p| *p > 0 && *p < d_sae);
        prefixes.push(d_sae);
        prefixes
    }

    /// Whether the strongest are chosen, and of how many tokens together.
    pub fn is_topk(&self) -> bool {
        matches!(self.arch, Architecture::TopK | Architecture::BatchTopK | Architecture::Matryoshka)
    }

    /// Whether activations are weighed by the norms of the decoder's rows when the strongest are chosen.
    pub fn weighs_by_norm(&self) -> bool {
        self.is_topk() && self.rescale_by_decoder_norm && self.decoder == Decoder::Free
    }

    /// Fields with other values than in `other`, as `lr = 0.1, not 0.2`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let fields = |config: &Self| match serde_json::to_value(config) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let theirs = fields(other);
        let differ = fields(self).into_iter().filter(|(name, value)| theirs.get(name) != Some(value));
        differ.map(|(name, value)| format!("{name} = {value}, not {}", theirs[&name])).collect()
    }

    /// Refuses values that make no sense, all of them at once.
    pub fn check(&self, d_in: usize) -> Result<()> {
        let d_sae = self.d_sae(d_in);
        let mut wrong = Vec::new();
        let mut refuse = |is: bool, what: String, expected: &str| {
            if is {
                wrong.push(format!("{what} (expected {expected})"));
            }
        };
        let positive = [("lr", self.lr), ("init_norm", self.init_norm), ("epsilon", self.epsilon)];
        let jump = [("bandwidth", self.bandwidth), ("tanh_scale", self.tanh_scale), ("target_l0", self.target_l0)];
        let jump = jump.iter().filter(|_| self.arch == Architecture::JumpRelu);
        for (name, value) in positive.iter().chain(jump) {
            refuse(!(*value > 0.0 && value.is_finite()), format!("{name} = {value}"), "a number above 0");
        }
        let natural = [
            ("l1_coefficient", self.l1_coefficient),
            ("l0_coefficient", self.l0_coefficient),
            ("clip", self.clip),
            ("aux_loss_coefficient", self.aux_loss_coefficient),
            ("threshold", self.threshold),
            ("exclude.norm", self.exclude.norm),
        ];
        for (name, value) in natural {
            refuse(!(value >= 0.0 && value.is_finite()), format!("{name} = {value}"), "0 or a number above it");
        }
        for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            refuse(!(0.0..1.0).contains(&value), format!("{name} = {value}"), "0 to below 1");
        }
        let rate = self.threshold_rate;
        refuse(!(0.0..=1.0).contains(&rate), format!("threshold_rate = {rate}"), "0 to 1");
        refuse(self.batch == 0, "batch = 0".into(), "at least one token a step");
        refuse(self.steps == 0, "steps = 0".into(), "at least one step");
        refuse(
            self.buffer < self.batch.max(1),
            format!("buffer = {} rows for a batch of {}", self.buffer, self.batch),
            "at least a batch",
        );
        for (name, value) in [
            ("sparsity_warmup_steps", self.sparsity_warmup_steps),
            ("lr_warmup_steps", self.lr_warmup_steps),
            ("lr_decay_steps", self.lr_decay_steps),
        ] {
            refuse(value > self.steps, format!("{name} = {value} of {}", self.steps), "no more than all steps");
        }
        let none = self.features == 0 && self.expansion == 0;
        refuse(none, "expansion = 0".into(), "at least one feature a dimension");
        refuse(d_sae > MOST_FEATURES, format!("features = {d_sae}"), "at most 16777216");
        refuse(d_in > 1 << 18, format!("d_in = {d_in}"), "at most 262144");
        if self.is_topk() && d_sae > 0 {
            let active = format!("k = {} of {d_sae} features", self.k);
            refuse(self.k == 0 || self.k > d_sae, active, "at least one and no more than all features");
            let chosen = self.batch as u64 * self.k as u64;
            refuse(chosen > u32::MAX as u64, format!("k = {} x batch", self.k), "at most 4294967295 together");
        }
        if self.arch == Architecture::Matryoshka {
            let ascending = self.prefixes.is_sorted_by(|a, b| a < b);
            let inside = self.prefixes.iter().all(|p| (1..=d_sae).contains(p));
            let prefixes = format!("prefixes = {:?} of {d_sae} features", self.prefixes);
            refuse(!ascending || !inside, prefixes, "ascending numbers from 1 to all features");
            let both = self.random_prefixes > 0 && !self.prefixes.is_empty();
            refuse(both, "prefixes and random_prefixes together".into(), "one of them");
            refuse(self.random_prefixes > 64, format!("random_prefixes = {}", self.random_prefixes), "at most 64");
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Error::config(format!("the training configuration makes no sense: {}", wrong.join("; ")))),
        }
    }

    /// Learning rate of a step, counted from 0: rising over the first `lr_warmup_steps`, constant, then linearly to 0
    /// over the last `lr_decay_steps`.
    pub fn lr_at(&self, step: u64) -> f64 {
        let left = self.steps.saturating_sub(step);
        let risen = match self.lr_warmup_steps {
            0 => 1.0,
            warmup => ((step + 1) as f64 / warmup as f64).min(1.0),
        };
        self.lr * risen * (left as f64 / self.lr_decay_steps.max(1) as f64).min(1.0)
    }

    /// Weight of the sparsity penalty at a step, counted from 0: linearly from 0 over the first
    /// `sparsity_warmup_steps`. 0 for architectures without one.
    pub fn sparsity_at(&self, step: u64) -> f64 {
        let weight = match self.arch {
            Architecture::Relu | Architecture::Gated => self.l1_coefficient,
            Architecture::JumpRelu => self.l0_coefficient,
            _ => 0.0,
        };
        let risen = match self.sparsity_warmup_steps {
            0 => 1.0,
            warmup => (step as f64 / warmup as f64).min(1.0),
        };
        weight * risen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_published_recipe() {
        let c = TrainConfig::default();
        assert_eq!(
            (c.d_sae(4096), c.steps, c.batch, c.l1_coefficient, c.lr, c.seed),
            (65_536, 30_000, 4096, 5.0, 5e-5, 42)
        );
        let l1 = [0, 750, 1_500, 29_999].map(|step| c.sparsity_at(step));
        assert_eq!(l1, [0.0, 2.5, 5.0, 5.0]);
        assert_eq!((c.lr_at(0), c.lr_at(24_000), c.lr_at(27_000)), (5e-5, 5e-5, 2.5e-5));
    }

    #[test]
    fn a_shorter_run_keeps_the_shares_of_its_phases() {
        let c = TrainConfig::default().with_steps(300);
        assert_eq!((c.sparsity_warmup_steps, c.lr_decay_steps, c.dead_window_steps), (15, 60, 75));
    }

    #[test]
    fn contradictions_are_named_all_at_once() {
        let c = TrainConfig { batch: 0, lr: f64::NAN, lr_decay_steps: 40_000, ..TrainConfig::default() };
        let error = c.check(8).unwrap_err().to_string();
        assert!(["batch = 0", "lr = NaN", "lr_decay_steps = 40000"].iter().all(|w| error.contains(w)), "{error}");
        assert!(toml::from_str::<TrainConfig>("lrr = 1.0").is_err());
        let few = TrainConfig { k: 200, features: 64, ..TrainConfig::for_architecture(Architecture::TopK) };
        assert!(few.check(8).unwrap_err().to_string().contains("k = 200 of 64 features"));
        let tight = TrainConfig { buffer: 100, batch: 101, expansion: 0, ..TrainConfig::default() };
        let error = tight.check(8).unwrap_err().to_string();
        assert!(error.contains("buffer = 100 rows for a batch of 101 (expected at least a batch)"), "{error}");
        assert!(error.contains("expansion = 0 (expected at least one feature a dimension)"), "{error}");
        let odd = TrainConfig {
            prefixes: vec![32, 16],
            features: 64,
            ..TrainConfig::for_architecture(Architecture::Matryoshka)
        };
        assert!(odd.check(8).unwrap_err().to_string().contains("prefixes = [32, 16]"));
    }

    #[test]
    fn the_fields_that_differ_are_named_with_both_values() {
        let c = TrainConfig::default();
        assert!(c.differences(&c.clone()).is_empty());
        let other =
            TrainConfig { lr: 0.5, exclude: PositionRule { first: true, ..PositionRule::default() }, ..c.clone() };
        let differ = c.differences(&other);
        assert!(
            differ.len() == 2 && differ.iter().any(|d| d.starts_with("lr = ") && d.ends_with(", not 0.5")),
            "{differ:?}"
        );
    }

    #[test]
    fn every_architecture_s_defaults_make_sense_and_go_through_a_file() {
        for arch in Architecture::ALL {
            let config = TrainConfig::for_architecture(arch);
            config.check(64).unwrap();
            let text = toml::to_string_pretty(&config).unwrap();
            assert_eq!(toml::from_str::<TrainConfig>(&text).unwrap(), config);
        }
    }
}
