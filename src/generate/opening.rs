//! What a generation opens before the model: the data, the autoencoder, the guard, and everything that decides what is written.

use super::guard::{self, Guard};
use super::{Correction, GenerateRequest, Guarding, journal};
use crate::control::Control;
use crate::error::GenerateError;
use crate::sae::{LoadedSae, SaeChoice, check_features};
use crate::steering::Steering;
use crate::{Error, Result, model};
use harvest::generation::Prompts;
use harvest::{Checkpoint, Plan};
use sae_core::analysis::index::read_features;
use sae_core::file;
use sae_core::store::Hook;
use serde_json::{Value, json};
use std::path::PathBuf;

/// What is open while a model writes.
pub(super) struct Opening {
    pub plan: Plan,
    pub rows: u64,
    pub sae: Option<LoadedSae>,
    pub judging: Judging,
    /// The folder of the model that corrects flagged sentences, if it is another one.
    pub corrector: Option<PathBuf>,
    pub settings: Value,
    pub prompts: Prompts,
}

/// What looks at hidden states, and what changes them.
#[derive(Default)]
pub(super) struct Judging {
    pub guard: Option<Guard>,
    /// Above which severity an answer is refused at once.
    pub refuse_at: Option<f64>,
    pub steering: Option<Steering>,
    /// The activations that features are moved towards in flagged sentences, by feature; empty for 0.
    pub targets: Vec<f32>,
}

impl Judging {
    /// Opens what a request names.
    pub fn open(request: &GenerateRequest, sae: Option<&LoadedSae>, checkpoint: &Checkpoint) -> Result<Self> {
        let Some(sae) = sae else { return Ok(Self::default()) };
        let (run, name) = (&sae.run, &sae.name);
        if model::is_checkpoint_of(run, checkpoint)? == Some(false) {
            return Err(GenerateError::OtherModel { model: checkpoint.folder().into() }.into());
        }
        let (guard, correction) = (request.guard.as_deref(), request.guarding.correction());
        if let (Some(Correction::Difference(_)), Some(guard)) = (correction, guard) {
            guard::check_labels(run, name, guard)?;
        }
        let guard = guard.map(|guard| Guard::open(run, name, guard, request.at)).transpose()?;
        let refuse_at = match (&request.guarding, &guard) {
            (Guarding::Rounds { refuse_at: Some(at), .. }, Some(guard)) => Some(guard.severity_of(*at)?),
            _ => None,
        };
        if let (Some(refuse_at), Some(guard)) = (refuse_at, &guard)
            && refuse_at < guard.threshold
        {
            return Err(GenerateError::Levels { flagged: guard.threshold, refused: refuse_at }.into());
        }
        let targets = match correction {
            Some(Correction::Steer { toward, .. }) if *toward != 0.0 => {
                largest(sae)?.into_iter().map(|largest| toward * largest).collect()
            }
            _ => Vec::new(),
        };
        let steering = (!request.steer.is_empty()).then(|| request.steering(sae)).transpose()?;
        Ok(Self { guard, refuse_at, steering, targets })
    }
}

impl GenerateRequest {
    /// Opens what decides the answers, but for the model.
    pub(super) fn open(&self, mut control: Option<&mut Control>) -> Result<Opening> {
        self.check()?;
        let sae = self.sae.as_ref().map(SaeChoice::load_with_pieces).transpose()?;
        let (plan, rows) = self.resolve(sae.as_ref(), control.as_deref_mut())?;
        let checkpoint = Checkpoint::open(&plan.model)?;
        if let Some(sae) = sae.as_ref().filter(|_| self.prompt.is_some()) {
            model::check_fits(&checkpoint, sae)?;
        }
        let judging = Judging::open(self, sae.as_ref(), &checkpoint)?;
        let corrector = self.corrector(control)?;
        let prompts = match &self.prompt {
            Some(prompt) => Prompts::single(prompt, &plan),
            None => Prompts::open(&plan)?,
        };
        let mut settings = json!({
            "model": checkpoint.fingerprint()?,
            "data": prompts.fingerprint()?,
            "limit": plan.limit,
            "map": plan.mapping,
            "melt": plan.melt,
            "fetch_images": plan.fetch_images,
            "template": plan.template,
            "dtype": plan.dtype,
            "device": plan.device.to_string().split(':').next(),
            "sampling": format!("{:?}", self.sampling),
            "tokens": self.tokens,
            "stop": self.stop,
            "seed": self.seed,
        });
        if let Some(sae) = &sae {
            let weights = sae.run.sae_dir(&sae.name).join("sae_weights.safetensors");
            let hash = if weights.exists() { file::hash(&weights)? } else { String::new() };
            settings["sae"] = json!({ "name": sae.name, "blake3": hash });
        }
        if !self.beginning.is_empty() {
            settings["beginning"] = json!(self.beginning);
        }
        if let Some(guard) = &judging.guard {
            settings["guard"] =
                json!({ "name": self.guard, "blake3": guard.hash, "threshold": guard.threshold.to_string() });
        }
        if let Some(steering) = &judging.steering {
            let texts = steering.targets.iter().map(|(feature, target)| format!("{feature}={target}"));
            settings["steer"] = json!(texts.collect::<Vec<_>>());
        }
        match &self.guarding {
            Guarding::Off => {}
            Guarding::Rounds { rounds, refusal, .. } => {
                let refuse_at = judging.refuse_at.map(|severity| severity.to_string());
                settings["rounds"] = json!({ "rounds": rounds, "refusal": refusal, "refuse_at": refuse_at });
            }
            Guarding::Stream { boundary, longest, correction, tries } => {
                let correction = match &corrector {
                    Some(folder) => json!({ "model": Checkpoint::open(folder)?.fingerprint()? }),
                    None => json!(format!("{correction:?}")),
                };
                let boundary = boundary.to_string();
                settings["stream"] =
                    json!({ "boundary": boundary, "longest": longest, "correction": correction, "tries": tries });
            }
        }
        if let Some(shape) = self.tree {
            settings["tree"] = json!(shape.to_string());
        }
        journal::check(&self.out, &settings)?;
        Ok(Opening { plan, rows, sae, judging, corrector, settings, prompts })
    }

    /// The plan with its model on this machine, and the number of prompts.
    fn resolve(&self, sae: Option<&LoadedSae>, control: Option<&mut Control>) -> Result<(Plan, u64)> {
        if self.prompt.is_some() {
            return Ok((model::resolve(&self.model, control)?, 1));
        }
        if let Some(sae) = sae {
            let (plan, preview) = model::resolve_for(&self.model, sae, control)?;
            return Ok((plan, preview.rows));
        }
        let plan = Plan { hooks: vec![Hook::block(0)], ..model::resolve(&self.model, control)? };
        let rows = plan.preview()?.rows;
        Ok((plan, rows))
    }

    /// The folder of the model that corrects flagged sentences, if it is another one.
    pub(super) fn corrector(&self, control: Option<&mut Control>) -> Result<Option<PathBuf>> {
        let Some(Correction::Model(folder)) = self.guarding.correction() else { return Ok(None) };
        Ok(Some(match control {
            Some(control) => model::download(folder, control)?,
            None => model::local(folder)?,
        }))
    }

    /// The activations that features are set to.
    fn steering(&self, sae: &LoadedSae) -> Result<Steering> {
        let features: Vec<u32> = self.steer.iter().map(|(feature, _)| *feature).collect();
        check_features(&features, sae.saved.weights.d_sae, "autoencoder")?;
        let known = largest(sae)?;
        let largest = |feature: u32| known.get(feature as usize).copied().unwrap_or(0.0);
        let targets: Vec<(u32, f32)> =
            self.steer.iter().map(|(feature, multiple)| (*feature, multiple * largest(*feature))).collect();
        if let Some((feature, _)) = targets.iter().find(|(_, target)| !target.is_finite()) {
            let expected = format!("a smaller multiple for feature {feature}");
            return Err(GenerateError::OutOfRange(format!("expected {expected}")).into());
        }
        Ok(Steering { targets, strength: 1.0, ..Steering::default() })
    }
}

/// The largest activation of each feature in the run.
fn largest(sae: &LoadedSae) -> Result<Vec<f32>> {
    let path = sae.run.features(&sae.name).join("features.parquet");
    let rows = read_features(&path).map_err(|source| Error::NoIndex { source })?;
    Ok(rows.into_iter().map(|row| row.max).collect())
}
