//! The checkpoints of compared models, which some comparisons run: whether they are those of the runs, and how they read data.

use crate::control::Control;
use crate::error::ModelsError;
use crate::{Result, model};
use harvest::{Checkpoint, Plan};
use sae_core::Run;
use sae_core::store::Hook;
use std::path::PathBuf;

/// The checkpoints of the models, and data that they read.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// The checkpoint of each run, in the same order: folders, or names on the Hugging Face hub.
    pub models: Vec<PathBuf>,
    /// The data set, and how it is read. Model and hooks of this plan are replaced.
    pub reading: Plan,
}

impl Checkpoints {
    /// How each model reads the data, at the hook of the activations. Downloads models only with a `control`.
    ///
    /// # Errors
    /// Another number of checkpoints than of runs; a checkpoint that a run was not captured from.
    pub(super) fn plans(&self, runs: &[PathBuf], hook: Hook, mut control: Option<&mut Control>) -> Result<Vec<Plan>> {
        if self.models.len() != runs.len() {
            return Err(ModelsError::OtherCheckpoints { models: self.models.len(), runs: runs.len() }.into());
        }
        let mut plans = Vec::new();
        for (folder, run) in self.models.iter().zip(runs) {
            let plan = Plan { model: folder.clone(), hooks: vec![hook], ..self.reading.clone() };
            let plan = model::resolve(&plan, control.as_deref_mut())?;
            if model::is_checkpoint_of(&Run::open(run)?, &Checkpoint::open(&plan.model)?)? == Some(false) {
                return Err(ModelsError::NotOfRun { model: plan.model, run: run.clone() }.into());
            }
            plans.push(plan);
        }
        Ok(plans)
    }
}
