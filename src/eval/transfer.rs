//! How well autoencoders work on models that they were not trained on: a table with a row for each autoencoder and model. Writes
//! nothing.

use super::{losses, trained_without};
use crate::control::{Control, Stage};
use crate::sae::{LoadedSae, SaeChoice};
use crate::{Error, Result, model};
use harvest::{CapturedSample, Plan, Preview, for_each_sample};
use sae_core::analysis::eval::{Estimate, Evaluator, Report, Variant};
use sae_core::analysis::pass::{Block, Observer};
use sae_core::autoencoder::Encoder;
use sae_core::path_text;
use sae_core::store::{PositionFilter, TokenColumns};
use serde::Serialize;
use std::path::PathBuf;

/// Which autoencoders to try on which models.
#[derive(Clone, Debug)]
pub struct TransferRequest {
    /// The autoencoders.
    pub saes: Vec<SaeChoice>,
    /// The models, each with the data that it reads. The hooks of a plan are replaced by those of the autoencoder.
    pub models: Vec<Plan>,
}

/// What a table of transfers would hold.
#[derive(Clone, Debug, Serialize)]
pub struct TransferPlan {
    /// `eval`.
    pub command: &'static str,
    /// Names of the autoencoders.
    pub saes: Vec<String>,
    /// The checkpoint folders.
    #[serde(serialize_with = "path_text::serialize")]
    pub models: Vec<PathBuf>,
}

/// A table of transfers.
#[derive(Clone, Debug, Serialize)]
pub struct TransferReport {
    /// Its rows: all models of the first autoencoder, then those of the next.
    pub transfers: Vec<Transfer>,
}

/// How well an autoencoder works on a model.
#[derive(Clone, Debug, Serialize)]
pub struct Transfer {
    /// The autoencoder.
    pub sae: String,
    /// The model.
    pub model: String,
    /// Whether the autoencoder's run was captured from the same weights; `None` if it was not captured by this program.
    pub same_checkpoint: Option<bool>,
    /// Positions whose states are reconstructed, those that training would use.
    pub positions: u64,
    /// Mean number of active features at a position.
    pub l0: f64,
    /// Share of the variance of the model's states that is unexplained.
    pub fvu: f64,
    /// The model's cross-entropy, in nats per text token that follows a text token.
    pub cross_entropy: Estimate,
    /// How much it rises with the reconstruction in place of the states.
    pub increase: Estimate,
    /// The share of what zeros would cost that the reconstruction saves. Nothing where zeros cost nothing.
    pub loss_recovered: Option<Estimate>,
}

impl TransferRequest {
    /// What [`TransferRequest::run`] would do.
    ///
    /// # Errors
    /// Whatever would prevent it; a model that has not been downloaded.
    pub fn plan(&self) -> Result<TransferPlan> {
        let (mut saes, mut models) = (Vec::new(), Vec::new());
        for choice in &self.saes {
            let sae = choice.load()?;
            models.clear();
            for plan in &self.models {
                models.push(model::resolve_spliced(plan, &sae, None)?.0.model);
            }
            saes.push(sae.name);
        }
        Ok(TransferPlan { command: "eval", saes, models })
    }

    /// Measures.
    ///
    /// # Errors
    /// Files that cannot be read, a model of another width, no position or token that is left; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<TransferReport> {
        let mut transfers = Vec::with_capacity(self.saes.len() * self.models.len());
        for choice in &self.saes {
            let sae = choice.load()?;
            let filter = PositionFilter::new(&sae.store, trained_without(&sae)?)?;
            for plan in &self.models {
                let (plan, preview) = model::resolve_spliced(plan, &sae, Some(control))?;
                let (Report { all, .. }, mean) = reconstructed(&plan, &preview, &sae, filter.clone(), control)?;
                let effect = losses::measure(&plan, &preview, &sae, (&filter, &mean), control)?;
                let estimate =
                    |of: &dyn Fn(Variant) -> Option<Estimate>, variant| of(variant).ok_or(Error::NothingToPredict);
                let text = &effect.text;
                transfers.push(Transfer {
                    sae: sae.name.clone(),
                    model: effect.name,
                    same_checkpoint: effect.same_checkpoint,
                    positions: all.tokens,
                    l0: all.l0,
                    fvu: all.fvu,
                    cross_entropy: estimate(&|v| text.cross_entropy.get(&v).copied(), Variant::Original)?,
                    increase: estimate(&|v| text.increase.get(&v).copied(), Variant::Replaced)?,
                    loss_recovered: text.loss_recovered.get(&Variant::Replaced).copied(),
                });
            }
        }
        Ok(TransferReport { transfers })
    }
}

/// How well an autoencoder reconstructs the states of a model as it reads the data, on the positions that training would use, and the
/// mean of these states.
fn reconstructed(
    plan: &Plan,
    preview: &Preview,
    sae: &LoadedSae,
    filter: PositionFilter,
    control: &mut Control,
) -> Result<(Report, Vec<f32>)> {
    let encoder = Encoder::new(&sae.saved.weights, &sae.device);
    let mut evaluator = Evaluator::without(&sae.saved.weights, filter);
    let mut staged = control.stage(Stage::Evaluate, preview.rows)?;
    let mut number = 0;
    for_each_sample::<Error>(plan, &mut |captured, done| {
        staged.advance(done)?;
        let tokens = columns(captured, number);
        number += 1;
        let (read, target) = (captured.hidden[0], captured.hidden[captured.hidden.len() - 1]);
        let active = encoder.encode(read)?;
        Ok(evaluator.observe(&Block::new(&tokens, 0..tokens.rows(), 0, read, &active).with_target(target))?)
    })?;
    let report = evaluator.report();
    if report.all.tokens == 0 { Err(Error::NoPositions) } else { Ok((report, evaluator.mean())) }
}

/// The tokens of a sample of this number, as a store has them.
fn columns(captured: &CapturedSample, number: u32) -> TokenColumns {
    let tokens = &captured.sample.tokens;
    TokenColumns {
        sample: vec![number; tokens.len()],
        position: tokens.iter().map(|token| token.position).collect(),
        modality: tokens.iter().map(|token| token.modality).collect(),
        role: tokens.iter().map(|token| token.role).collect(),
        special: tokens.iter().map(|token| token.special).collect(),
    }
}
