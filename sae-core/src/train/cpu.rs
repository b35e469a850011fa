//! The training step on a CPU: select features, compute their gradients, sum them by feature and apply them. Sparse if
//! activations are. The product that finds the features is in `autoencoder::kernel`.

use super::architecture::ArchitectureRule;
use super::config::TrainConfig;
use super::dense_step::{Dense, DensePass};
use super::engine::{Batch, Engine, StepStats, TrainState, aux_weight, clipped, finite, is_sparse};
use super::feature_share::FeatureShare;
use super::params::Params;
use super::selection::{ThresholdHint, select};
use super::sparse_step::{SparseGradients, TokenLoss, traces};
use super::update::{OptimizerState, StepGradient};
use crate::Result;
use crate::autoencoder::Architecture;
use crate::autoencoder::kernel::product::product;
use std::borrow::Cow;
use std::time::Instant;

/// Names of the stages of a step.
pub const STAGES: [&str; 5] = ["choose", "reconstruct", "auxk", "group and norm", "update"];

/// The step on a CPU.
pub struct CpuEngine {
    config: TrainConfig,
    /// Of this rank's features.
    optimizer: OptimizerState,
    share: FeatureShare,
    threshold_hint: ThresholdHint,
    /// Whether steps are dense, if that is fixed rather than decided by the last step.
    forced: Option<bool>,
    seconds: [f64; STAGES.len()],
}

impl CpuEngine {
    /// An engine that starts with these parameters.
    pub fn new(config: &TrainConfig, params: Params) -> Self {
        let share = FeatureShare::whole(params.d_sae);
        Self::with_share(config, params, share)
    }

    /// An engine for the features of a share, that starts with these parameters of all features.
    pub(super) fn with_share(config: &TrainConfig, params: Params, share: FeatureShare) -> Self {
        let optimizer = OptimizerState::new(config, share.initial_state(params));
        Self {
            config: config.clone(),
            optimizer,
            share,
            threshold_hint: ThresholdHint::default(),
            forced: None,
            seconds: [0.0; STAGES.len()],
        }
    }

    /// Makes every step dense or sparse, for comparisons; ignored by architectures that do not have both.
    pub fn force(&mut self, dense: bool) {
        self.forced = Some(dense);
    }

    /// Seconds of each of the [`STAGES`] in the last step.
    pub fn seconds(&self) -> [f64; STAGES.len()] {
        self.seconds
    }

    /// Whether the next step is dense: if the architecture learns its sparsity, and is not sparse yet.
    fn is_dense(&self) -> bool {
        let learns = matches!(self.config.arch, Architecture::Relu | Architecture::JumpRelu | Architecture::Gated);
        learns && self.forced.unwrap_or(!is_sparse(self.optimizer.state.l0, self.share.d_sae()))
    }
}

impl Engine for CpuEngine {
    fn step(&mut self, batch: &Batch) -> Result<StepStats> {
        let (params, share) = (&self.optimizer.state.params, &self.share);
        let (d, d_out, rows) = (params.d_in, params.d_out, batch.x.len() / params.d_in);
        let method = ArchitectureRule::new(&self.config, batch.sparsity, rows);
        let mut clock = Clock::new();
        let centered: Vec<f32>;
        let x = if self.config.subtract_b_dec {
            let rows = batch.x.chunks_exact(d);
            centered = rows.flat_map(|x| x.iter().zip(&params.b_dec).map(|(x, b)| x - b)).collect();
            &centered[..]
        } else {
            batch.x
        };
        // What the features and the bias have to reconstruct: the target without what the skip connection makes of the input.
        let without_skip: Vec<f32>;
        let y = if params.w_skip.is_empty() {
            batch.y
        } else {
            let mut skipped = vec![0.0; rows * d_out];
            product([rows, d_out, d], (x, [d, 1]), (&params.w_skip, [d, 1]), (&mut skipped, [d_out, 1]), false);
            without_skip = batch.y.iter().zip(&skipped).map(|(y, skipped)| y - skipped).collect();
            &without_skip[..]
        };
        let norms = &self.optimizer.norms;
        let mean = 2.0 / rows as f32;
        let mut outcome = StepStats { fired: vec![false; params.d_sae], ..StepStats::default() };
        let mut blocks = Vec::new();
        let (mut sparse, mut residuals) = (SparseGradients::default(), Vec::new());
        let costs = if self.is_dense() {
            let dense = Dense {
                params,
                norms,
                kind: DensePass::Method(&method),
                features: (0..params.d_sae as u32).collect(),
                largest_share: share.largest_share(),
                scale: mean,
                share,
            };
            let base: Vec<f32> =
                y.chunks_exact(d_out).flat_map(|y| y.iter().zip(&params.b_dec).map(|(y, b)| b - y)).collect();
            let (block, block_residuals, costs) = dense.run(x, &base)?;
            outcome.fired.clone_from(&block.fired);
            blocks.push(block);
            residuals = block_residuals;
            self.seconds[1] = clock.lap();
            costs
        } else {
            let (panels, hint) = (&self.optimizer.panels, &mut self.threshold_hint);
            let k = self.config.k_at(batch.t - 1, share.d_sae());
            let (chosen, least) = select(&self.config, k, &method, params, panels, norms, x, hint, share)?;
            outcome.least = least;
            self.seconds[0] = clock.lap();
            sparse = traces(params, &method, &share.local_ends(batch.ends), norms, y, &chosen, share)?;
            for (feature, entry) in sparse.features.iter().zip(&sparse.entries) {
                outcome.fired[*feature as usize] |= entry.z[0] > 0.0;
            }
            self.seconds[1] = clock.lap();
            std::mem::take(&mut sparse.costs)
        };
        if self.config.is_topk() && self.config.aux_loss_coefficient > 0.0 && !batch.dead.is_empty() {
            let k = self.config.aux_k(d_out);
            // The last slot has the error of the whole reconstruction, scaled.
            let last = sparse.residuals.chunks_exact(d_out).skip(sparse.slots - 1).step_by(sparse.slots);
            let mut base = Vec::with_capacity(rows * d_out);
            last.for_each(|e| base.extend(e.iter().map(|e| e / mean)));
            let (features, largest_share) = share.local(batch.dead);
            let weight = self.config.aux_loss_coefficient * aux_weight(&self.config, k, batch.dead.len(), &base, d_out);
            let dense = Dense {
                params,
                norms,
                kind: DensePass::Strongest {
                    k: k.min(batch.dead.len()),
                    by_norm: self.config.weighs_by_norm(),
                    positive: self.config.aux_relative,
                },
                features,
                largest_share,
                scale: weight as f32 * mean,
                share,
            };
            let (block, _, costs) = dense.run(x, &base)?;
            outcome.aux = weight * costs.iter().map(|c| f64::from(c.error)).sum::<f64>() / rows as f64;
            blocks.push(block);
        }
        self.seconds[2] = clock.lap();
        let mean_of = |field: fn(&TokenLoss) -> f64| costs.iter().map(field).sum::<f64>() / rows as f64;
        outcome.mse = mean_of(|c| f64::from(c.error));
        outcome.errors = mean_of(|c| f64::from(c.errors));
        outcome.penalty = mean_of(|c| f64::from(c.penalty));
        outcome.l0 = mean_of(|c| f64::from(c.active));
        outcome.token_errors = costs.iter().map(|c| c.error).collect();
        outcome.fired = share.all_flags(std::mem::take(&mut outcome.fired))?;
        finite(&outcome, batch)?;

        let gradient = StepGradient::new(&self.config, params, &sparse, &blocks, &residuals, x, share)?;
        outcome.grad_norm = gradient.norm(&self.optimizer)?;
        let shrink = clipped(&self.config, outcome.grad_norm, batch)?;
        self.seconds[3] = clock.lap();
        gradient.apply(&mut self.optimizer, shrink as f32, batch.lr, batch.t);
        self.seconds[4] = clock.lap();
        self.optimizer.state.l0 = Some(outcome.l0);
        Ok(outcome)
    }

    fn state(&self) -> Result<Cow<'_, TrainState>> {
        self.share.whole_state(Cow::Borrowed(&self.optimizer.state))
    }

    fn restore(&mut self, state: TrainState) -> Result<()> {
        self.optimizer = OptimizerState::new(&self.config, self.share.local_state(state));
        self.threshold_hint = ThresholdHint::default();
        Ok(())
    }
}

/// Measures the time since the last lap.
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let since = now - std::mem::replace(&mut self.0, now);
        since.as_secs_f64()
    }
}
