//! What a training run is told: `train.toml`, its defaults, the published preset, and its contradictions.

use crate::sae::Architecture;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The configuration of a training run, saved as `train.toml` beside the weights.
///
/// The defaults are SAE-V's (ICML 2025, appendix and release), so `TrainConfig::default()` is the preset `sae-v`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// How activations are made.
    pub arch: Architecture,
    /// Features for every dimension of the residual stream; overruled by `features`.
    pub expansion: usize,
    /// Number of features; 0 for `expansion` times the width.
    pub features: usize,
    /// Weight of the sparsity penalty.
    pub l1: f64,
    /// Learning rate.
    pub lr: f64,
    /// Tokens a step.
    pub batch: usize,
    /// Steps.
    pub steps: u64,
    /// Steps over which `l1` rises from 0.
    pub l1_warmup_steps: u64,
    /// Last steps over which `lr` falls to 0.
    pub lr_decay_steps: u64,
    /// Largest global norm of the gradient.
    pub clip: f64,
    /// Norm of the decoder's rows at the start.
    pub init_norm: f64,
    /// A feature is dead when it has not fired for this many steps.
    pub dead_window: u64,
    /// Rows of the mixing buffer.
    pub buffer: usize,
    /// Decides initial weights and the order of the data.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            arch: Architecture::Relu,
            expansion: 16,
            features: 0,
            l1: 5.0,
            lr: 5e-5,
            batch: 4096,
            steps: 30_000,
            l1_warmup_steps: 1_500,
            lr_decay_steps: 6_000,
            clip: 1.0,
            init_norm: 0.1,
            dead_window: 1_000,
            buffer: 131_072,
            seed: 42,
        }
    }
}

impl TrainConfig {
    /// The same schedule stretched to `steps`: warm-up, decay and dead window keep their shares.
    pub fn with_steps(self, steps: u64) -> Self {
        let share = |part: u64| (part as u128 * steps as u128 / self.steps.max(1) as u128) as u64;
        Self {
            l1_warmup_steps: share(self.l1_warmup_steps),
            lr_decay_steps: share(self.lr_decay_steps),
            dead_window: self.dead_window.min(steps.div_ceil(4)),
            steps,
            ..self
        }
    }

    /// Number of features for activations of width `d_in`.
    pub fn d_sae(&self, d_in: usize) -> usize {
        if self.features > 0 { self.features } else { self.expansion.saturating_mul(d_in) }
    }

    /// Refuses values that make no sense, all of them at once.
    pub fn check(&self, d_in: usize) -> Result<()> {
        let d_sae = self.d_sae(d_in);
        let positive =
            |name: &str, value: f64| (!(value > 0.0 && value.is_finite())).then(|| format!("{name} = {value}"));
        let wrong: Vec<_> = [
            positive("lr", self.lr),
            positive("clip", self.clip),
            positive("init_norm", self.init_norm),
            (!(self.l1 >= 0.0 && self.l1.is_finite())).then(|| format!("l1 = {}", self.l1)),
            (self.batch == 0).then(|| "batch = 0".into()),
            (self.steps == 0).then(|| "steps = 0".into()),
            (self.buffer == 0).then(|| "buffer = 0".into()),
            (self.l1_warmup_steps > self.steps)
                .then(|| format!("l1_warmup_steps = {} of {}", self.l1_warmup_steps, self.steps)),
            (self.lr_decay_steps > self.steps)
                .then(|| format!("lr_decay_steps = {} of {}", self.lr_decay_steps, self.steps)),
            (d_sae == 0 || d_sae > 1 << 24).then(|| format!("features = {d_sae}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Error::Config(format!("the training configuration makes no sense: {}", wrong.join(", ")))),
        }
    }

    /// Learning rate of a step, counted from 0: constant, then linearly to 0 over the last `lr_decay_steps`.
    pub fn lr_at(&self, step: u64) -> f64 {
        let left = self.steps.saturating_sub(step);
        self.lr * (left as f64 / self.lr_decay_steps.max(1) as f64).min(1.0)
    }

    /// Sparsity weight of a step, counted from 0: linearly from 0 over the first `l1_warmup_steps`.
    pub fn l1_at(&self, step: u64) -> f64 {
        self.l1 * (step as f64 / self.l1_warmup_steps.max(1) as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_published_recipe() {
        let c = TrainConfig::default();
        assert_eq!((c.d_sae(4096), c.steps, c.batch, c.l1, c.lr, c.seed), (65_536, 30_000, 4096, 5.0, 5e-5, 42));
        assert_eq!((c.l1_at(0), c.l1_at(750), c.l1_at(1_500), c.l1_at(29_999)), (0.0, 2.5, 5.0, 5.0));
        assert_eq!((c.lr_at(0), c.lr_at(24_000), c.lr_at(27_000)), (5e-5, 5e-5, 2.5e-5));
    }

    #[test]
    fn a_shorter_run_keeps_the_shares_of_its_phases() {
        let c = TrainConfig::default().with_steps(300);
        assert_eq!((c.l1_warmup_steps, c.lr_decay_steps, c.dead_window), (15, 60, 75));
    }

    #[test]
    fn contradictions_are_named_all_at_once() {
        let c = TrainConfig { batch: 0, lr: f64::NAN, lr_decay_steps: 40_000, ..TrainConfig::default() };
        let error = c.check(8).unwrap_err().to_string();
        assert!(["batch = 0", "lr = NaN", "lr_decay_steps = 40000"].iter().all(|w| error.contains(w)), "{error}");
        assert!(toml::from_str::<TrainConfig>("lrr = 1.0").is_err());
    }
}
