//! The configuration of a training, `train.toml`: its defaults, the published presets, and the checks for contradictions.

use crate::autoencoder::Architecture;
use crate::store::PositionRule;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Largest number of features. Numbers of features are `u32`, and memory is limited.
const MOST_FEATURES: usize = 1 << 24;

/// Largest number of models of a crosscoder.
const MOST_MODELS: usize = 9;

/// The configuration of a training, saved as `train.toml` next to the weights.
///
/// The defaults are SAE-V's (ICML 2025, appendix and release), so `TrainConfig::default()` is the preset `sae-v`; what
/// SAE-V does not have follows SAELens 6, unless its field says otherwise. An architecture ignores fields that it does not use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The architecture, which decides how activations are computed.
    pub arch: Architecture,
    /// Features for every dimension of the residual stream; `features` overrides it.
    pub expansion: usize,
    /// Number of features; 0 for `expansion` times the width.
    pub features: usize,
    /// TopK, BatchTopK, Matryoshka: active features per token.
    pub k: usize,
    /// Models that a crosscoder reads; 1 for every other autoencoder. A crosscoder is a BatchTopK autoencoder of the joined
    /// rows `[x^1; ...; x^M]`, where activations are selected by their product with `sum_m |d^m|`, the norms of the blocks of
    /// their decoder row (Minder et al. 2025).
    pub models: usize,
    /// Crosscoder: in the first step, `k` is multiplied by this factor.
    pub k_start: f64,
    /// Crosscoder: first steps over which that factor falls linearly to 1.
    pub k_decay_steps: u64,
    /// Width of the target that a transcoder reconstructs from another state of the same position; 0 for an autoencoder, which
    /// reconstructs what it reads. The trainer of a run (`TrainRequest`) takes it from the activations.
    pub d_out: usize,
    /// Transcoder: whether a linear map from input to target, `W_skip x`, is trained beside the features (Paulo et al. 2025).
    pub skip: bool,
    /// TopK, BatchTopK, Matryoshka: with a free decoder, choose by activation times the decoder row's norm.
    pub rescale_by_decoder_norm: bool,
    /// ReLU, Gated: weight of `sum_k z_k |f_k|`.
    pub l1_coefficient: f64,
    /// JumpReLU: weight of the penalty.
    pub l0_coefficient: f64,
    /// Learning rate.
    pub lr: f64,
    /// Tokens per step.
    pub batch: usize,
    /// Number of steps.
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
    /// Initial norm of the decoder rows, if they are free.
    pub init_norm: f64,
    /// Whether the encoder starts as the transpose of the decoder; otherwise, and for a transcoder always, with other random
    /// directions.
    pub tied_init: bool,
    /// The initial value of `b_dec`.
    pub b_dec_init: BDecInit,
    /// Whether `b_dec` is subtracted from the input of the encoder.
    pub subtract_b_dec: bool,
    /// How activations are scaled before anything else.
    pub normalize: TrainingScale,
    /// A feature is dead when it has not fired for this many steps.
    pub dead_window_steps: u64,
    /// Steps after which dead features are reset to badly reconstructed tokens (Bricken et al. 2023); 0 for never.
    pub resample_every_steps: u64,
    /// TopK, BatchTopK, Matryoshka: weight of the loss through which dead features learn from the error (AuxK); 0 for none.
    pub aux_loss_coefficient: f64,
    /// AuxK: dead features per token; 0 for half the width of what is reconstructed.
    pub aux_k: usize,
    /// AuxK as in Gao et al. 2024 and dictionary_learning: relative to the error's variance, positive activations only.
    /// Otherwise as in SAELens: the squared error itself, scaled down while fewer than `aux_k` are dead, activations of any sign.
    pub aux_relative: bool,
    /// JumpReLU: the kind of penalty.
    pub jumprelu_penalty: JumpReluPenalty,
    /// JumpReLU: initial threshold of every feature.
    pub threshold: f64,
    /// JumpReLU: width of the window around a threshold in which it gets a gradient.
    pub bandwidth: f64,
    /// JumpReLU, penalty `tanh`: its scale.
    pub tanh_scale: f64,
    /// JumpReLU, penalty `quadratic`: the target L0.
    pub target_l0: f64,
    /// Matryoshka: sizes of the prefixes, ascending; empty for a quarter and a half of the features. The whole dictionary is
    /// added.
    pub prefixes: Vec<usize>,
    /// Matryoshka: instead of `prefixes`, this many prefixes are drawn at random in each step (sizes from a truncated Pareto
    /// distribution, as published); 0 for none.
    pub random_prefixes: usize,
    /// BatchTopK, Matryoshka: weight of the newest batch in the running mean of the threshold.
    pub threshold_rate: f64,
    /// Positions that are left out.
    pub exclude: PositionRule,
    /// Rows of the mixing buffer.
    pub buffer: usize,
    /// Seed of the initial weights and of the order of the data.
    pub seed: u64,
}

/// How the norms of decoder rows are constrained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decoder {
    /// Any norm. Penalties and the selection of TopK weight activations by it, so that scaling a row has no effect.
    #[default]
    Free,
    /// Norm 1: the gradient along a row is removed before the step, and the norm is restored after it.
    Unit,
}

/// The initial value of the decoder's bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BDecInit {
    /// Zero.
    #[default]
    Zero,
    /// The mean of the rows in the buffer.
    Mean,
    /// Their geometric median.
    GeometricMedian,
}

/// How activations are scaled before training. The scale is folded into the saved weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingScale {
    /// Not at all.
    None,
    /// By one factor for all, so that the mean norm is `sqrt(d_in)`.
    #[default]
    ExpectedNorm,
    /// By one factor for all, so that the mean squared norm is `d_in`.
    MeanSquare,
    /// Each to mean 0 and deviation 1. This cannot be folded into the weights, so the file says `layer_norm`.
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
            models: 1,
            k_start: 1.0,
            k_decay_steps: 0,
            d_out: 0,
            skip: false,
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

    /// The defaults of a crosscoder of this many models: BatchTopK's, with each block scaled to mean square 1, without first
    /// positions and rows above twice the median norm, and with `k` falling from four times its value over the first 30 % of
    /// the steps.
    pub fn crosscoder(models: usize) -> Self {
        let batch_topk = Self::for_architecture(Architecture::BatchTopK);
        Self {
            models,
            k_start: 4.0,
            k_decay_steps: batch_topk.steps * 3 / 10,
            normalize: TrainingScale::MeanSquare,
            exclude: PositionRule { special: false, first: true, norm: 2.0 },
            ..batch_topk
        }
    }

    /// The same recipe for a transcoder: its input is not centered, its encoder and decoder start with directions of their own, and
    /// `b_dec` starts as the mean of the target, as sparsify trains transcoders.
    pub fn transcoder(self) -> Self {
        Self { subtract_b_dec: false, tied_init: false, b_dec_init: BDecInit::Mean, ..self }
    }

    /// Whether another state is reconstructed than the one that is read.
    pub fn is_transcoder(&self) -> bool {
        self.d_out > 0
    }

    /// Width of what is reconstructed, for inputs of width `d_in`.
    pub fn width_out(&self, d_in: usize) -> usize {
        if self.is_transcoder() { self.d_out } else { d_in }
    }

    /// The factors of inputs and those of reconstructions, among the factors of a training: one for each model, and for a transcoder one
    /// more for its target.
    pub(super) fn split_scales<'a>(&self, scales: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        if self.is_transcoder() { scales.split_at(self.models) } else { (scales, scales) }
    }

    /// The same schedule stretched to `steps`: warm-up, decay and dead window keep their shares.
    pub fn with_steps(self, steps: u64) -> Self {
        let share = |part: u64| (part as u128 * steps as u128 / self.steps.max(1) as u128) as u64;
        Self {
            sparsity_warmup_steps: share(self.sparsity_warmup_steps),
            k_decay_steps: share(self.k_decay_steps),
            lr_warmup_steps: share(self.lr_warmup_steps),
            lr_decay_steps: share(self.lr_decay_steps),
            dead_window_steps: self.dead_window_steps.min(steps.div_ceil(4)),
            steps,
            ..self
        }
    }

    /// Number of features for activations of width `d_in`; a crosscoder's are counted by the width of one model.
    pub fn d_sae(&self, d_in: usize) -> usize {
        if self.features > 0 { self.features } else { self.expansion.saturating_mul(d_in / self.models.max(1)) }
    }

    /// AuxK's `k` for reconstructions of width `d_out`.
    pub fn aux_k(&self, d_out: usize) -> usize {
        if self.aux_k > 0 { self.aux_k } else { (d_out / self.models / 2).max(1) }
    }

    /// Matryoshka's fixed prefixes, the whole dictionary last.
    pub fn prefixes(&self, d_sae: usize) -> Vec<usize> {
        let mut prefixes = if self.prefixes.is_empty() { vec![d_sae / 4, d_sae / 2] } else { self.prefixes.clone() };
        prefixes.retain(|p| *p > 0 && *p < d_sae);
        prefixes.push(d_sae);
        prefixes
    }

    /// Whether the strongest activations are selected, of a token or of a batch.
    pub fn is_topk(&self) -> bool {
        matches!(self.arch, Architecture::TopK | Architecture::BatchTopK | Architecture::Matryoshka)
    }

    /// Whether activations are weighted by the norms of the decoder rows when the strongest are selected.
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

    /// Checks the configuration, and reports everything that is wrong at once.
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
            ("k_decay_steps", self.k_decay_steps),
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
            let chosen = self.batch as u64 * self.k_at(0, d_sae) as u64;
            refuse(chosen > u32::MAX as u64, format!("k = {} x batch", self.k), "at most 4294967295 together");
        }
        if self.is_transcoder() {
            let models = self.models;
            refuse(models != 1, format!("d_out = {} with models = {models}", self.d_out), "a transcoder of one model");
            refuse(self.subtract_b_dec, "subtract_b_dec with d_out".into(), "inputs of a transcoder as they are");
            let layer_norm = self.normalize == TrainingScale::LayerNorm;
            refuse(
                layer_norm,
                "normalize = layer-norm".into(),
                "one scale for a transcoder's input and one for its target",
            );
            refuse(self.d_out > 1 << 18, format!("d_out = {}", self.d_out), "at most 262144");
        }
        refuse(self.skip && !self.is_transcoder(), "skip with d_out = 0".into(), "a transcoder, which has a target");
        let models = format!("models = {} with arch = {}", self.models, self.arch.name());
        if self.models == 1 {
            let annealed = self.k_start != 1.0;
            refuse(annealed, format!("k_start = {} with models = 1", self.k_start), "1 unless several models are read");
        } else {
            refuse(!(2..=MOST_MODELS).contains(&self.models), models.clone(), "a crosscoder of 2 to 9 models");
            refuse(self.arch != Architecture::BatchTopK, models, "a crosscoder with arch = batch-topk");
            let divides = self.models > 0 && d_in.is_multiple_of(self.models);
            refuse(!divides, format!("d_in = {d_in} for {} models", self.models), "the same width for every model");
            refuse(self.decoder != Decoder::Free, "decoder = unit".into(), "a free decoder for a crosscoder");
            let layer_norm = self.normalize == TrainingScale::LayerNorm;
            refuse(layer_norm, "normalize = layer-norm".into(), "a scale for each model of a crosscoder");
            let start = self.k_start;
            refuse(!(1.0..=1e6).contains(&start), format!("k_start = {start}"), "a factor of k from 1 to 1000000");
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
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::config(format!("the training configuration makes no sense: {}", wrong.join("; "))))
    }

    /// Active features per token at a step, counted from 0: `k`, and for a crosscoder more in the first `k_decay_steps`, but
    /// never more than there are.
    pub fn k_at(&self, step: u64, d_sae: usize) -> usize {
        if step >= self.k_decay_steps {
            return self.k;
        }
        let left = 1.0 - step as f64 / self.k_decay_steps as f64;
        let k = self.k as f64 * (1.0 + (self.k_start - 1.0) * left);
        (k.round() as usize).clamp(self.k, d_sae.max(self.k))
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
    fn all_contradictions_are_reported_at_once() {
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
    fn the_defaults_of_every_architecture_are_valid_and_survive_a_file() {
        for arch in Architecture::ALL {
            let config = TrainConfig::for_architecture(arch);
            config.check(64).unwrap();
            let text = toml::to_string_pretty(&config).unwrap();
            assert_eq!(toml::from_str::<TrainConfig>(&text).unwrap(), config);
        }
    }
}
