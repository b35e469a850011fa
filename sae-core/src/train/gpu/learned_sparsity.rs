//! Trains architectures that learn their sparsity (ReLU, JumpReLU, Gated): densely in Burn's autodiff while many features are
//! active, and by the sparse step afterwards. Both give the same numbers within rounding.

use super::state::{GpuEngine, PRODUCT_BYTES};
use crate::Result;
use crate::train::autodiff::AutodiffEngine;
use crate::train::engine::{Batch, Engine, StepStats, TrainState, is_sparse};
use crate::train::{Params, TrainConfig};
use burn::tensor::Device;
use cubecl::client::Client;
use cubecl::prelude::ElemType;
use std::borrow::Cow;

/// The dense or the sparse engine, whichever the next step needs.
pub struct LearnedSparsityEngine {
    config: TrainConfig,
    device: Device,
    client: Client,
    /// The type of the sparse step's product.
    narrow: ElemType,
    /// Present except while the state moves, so that a GPU never holds it twice.
    engine: Option<Box<dyn Engine>>,
    sparse: bool,
    d_sae: usize,
    l0: Option<f64>,
}

impl LearnedSparsityEngine {
    /// An engine that starts with these parameters.
    pub fn new(config: &TrainConfig, params: Params, device: &Device, client: Client, narrow: ElemType) -> Self {
        let d_sae = params.d_sae;
        let engine = Box::new(AutodiffEngine::new(config, params, &device.clone().autodiff()));
        let (config, device) = (config.clone(), device.clone());
        Self { config, device, client, narrow, engine: Some(engine), sparse: false, d_sae, l0: None }
    }

    /// Moves the state to the other engine, through host memory.
    fn switch(&mut self) -> Result<()> {
        let state = self.engine().state()?.into_owned();
        self.engine = None;
        self.sparse = !self.sparse;
        let params = state.params.clone();
        self.engine = Some(if self.sparse {
            Box::new(GpuEngine::new(&self.config, params, self.client.clone(), self.narrow, PRODUCT_BYTES))
        } else {
            Box::new(AutodiffEngine::new(&self.config, params, &self.device.clone().autodiff()))
        });
        self.engine_mut().restore(state)
    }

    fn engine(&self) -> &dyn Engine {
        self.engine.as_deref().expect("only `switch` removes the engine, and replaces it")
    }

    fn engine_mut(&mut self) -> &mut dyn Engine {
        self.engine.as_deref_mut().expect("only `switch` removes the engine, and replaces it")
    }
}

impl Engine for LearnedSparsityEngine {
    fn step(&mut self, batch: &Batch) -> Result<StepStats> {
        if self.sparse != is_sparse(self.l0, self.d_sae) {
            self.switch()?;
        }
        let stats = self.engine_mut().step(batch)?;
        self.l0 = Some(stats.l0);
        Ok(stats)
    }

    fn state(&self) -> Result<Cow<'_, TrainState>> {
        let state = self.engine().state()?.into_owned();
        Ok(Cow::Owned(TrainState { l0: self.l0, ..state }))
    }

    fn restore(&mut self, state: TrainState) -> Result<()> {
        self.l0 = state.l0;
        self.engine_mut().restore(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoencoder::Architecture;
    use crate::device::{DeviceChoice, Gpu};
    use crate::train::cpu::CpuEngine;

    #[test]
    fn switching_between_the_engines_on_a_gpu_changes_only_rounding() {
        let (d, f) = (8, 64);
        for device in DeviceChoice::found() {
            let gpu = Gpu::from_device(&device).unwrap();
            let config = TrainConfig {
                features: f,
                batch: 32,
                l1_coefficient: 0.1,
                ..TrainConfig::for_architecture(Architecture::Relu)
            };
            let params = Params::initial(d, &config);
            let mut switching =
                LearnedSparsityEngine::new(&config, params.clone(), &device, gpu.client(), gpu.narrow());
            let mut on_cpu = CpuEngine::new(&config, params);
            let mut was_sparse = Vec::new();
            // The number of active features of the last step decides which engine computes the next one; the test sets it.
            for (t, l0) in [(1, None), (2, Some(1.0)), (3, Some(30.0)), (4, Some(2.0))] {
                let x = crate::fixture::hidden(32, d, t);
                let batch = Batch { x: &x, y: &x, t, lr: 1e-3, sparsity: 0.1, ends: &[f], dead: &[] };
                switching.l0 = l0;
                let (found, expected) = (switching.step(&batch).unwrap(), on_cpu.step(&batch).unwrap());
                was_sparse.push(switching.sparse);
                assert!((found.mse - expected.mse).abs() < 1e-4 * expected.mse, "step {t}");
                assert_eq!(found.fired, expected.fired, "step {t}");
            }
            assert_eq!(was_sparse, [false, true, false, true]);
        }
    }
}
