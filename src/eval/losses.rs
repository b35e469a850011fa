//! The part of an evaluation that needs a model: its predictions with reconstructions, with their mean and with zeros at the hook that
//! an autoencoder reconstructs: the one that it reads, or the target of a transcoder.

use crate::control::{Control, Stage};
use crate::sae::LoadedSae;
use crate::{Error, Result, model};
use harvest::{Plan, Preview, SpliceRunner};
use sae_core::analysis::eval::{LossReport, Losses};
use sae_core::autoencoder::Encoder;
use sae_core::store::PositionFilter;
use sae_core::store::sample::{Modality, Role, Token};
use serde::Serialize;
use std::path::Path;

/// How the predictions of a model change when the reconstruction is spliced in.
#[derive(Clone, Debug, Serialize)]
pub struct ModelEffect {
    /// Folder name of the checkpoint.
    pub name: String,
    /// Name of the data set.
    pub data: String,
    /// Whether the run was captured from the same weights; `None` if it was not captured by this program.
    pub same_checkpoint: Option<bool>,
    /// Largest number of rows that were read.
    pub limit: Option<u64>,
    /// Rows that became no sample.
    pub skipped: u64,
    /// Losses over all text tokens that follow text tokens.
    pub text: LossReport,
    /// Losses over the tokens of answers among them.
    pub answers: Option<LossReport>,
}

/// Runs the model over the data. `mean` is that of the states at the hook.
pub(super) fn measure(
    plan: &Plan,
    preview: &Preview,
    sae: &LoadedSae,
    (filter, mean): (&PositionFilter, &[f32]),
    control: &mut Control,
) -> Result<ModelEffect> {
    let runner = SpliceRunner::open(plan)?;
    let (weights, d, d_out) = (&sae.saved.weights, sae.saved.weights.d_in, sae.saved.weights.d_out());
    let encoder = Encoder::new(weights, &sae.device);
    let mut staged = control.stage(Stage::Model, preview.rows)?;
    let cancel = staged.cancel();
    let replace = |tokens: &[&Token], hidden: &[&[f32]]| {
        cancel.check()?;
        // An autoencoder reconstructs what it reads: both are then the same.
        let (read, target) = (hidden[0], hidden[hidden.len() - 1]);
        let reconstructed = encoder.reconstruct(read)?;
        let spliced = |wanted: &dyn Fn(Modality) -> bool| {
            let mut out = target.to_vec();
            let rows = out.chunks_exact_mut(d_out).zip(reconstructed.chunks_exact(d_out));
            for (((row, reconstruction), x), token) in rows.zip(read.chunks_exact(d)).zip(tokens) {
                let reasons = filter.reasons_with_target(token.special, token.position, x, row);
                if wanted(token.modality) && reasons == [false; 3] {
                    row.copy_from_slice(reconstruction);
                }
            }
            out
        };
        // In the order of `Variant::ALL`, whose first is the original.
        let text = spliced(&|modality| modality == Modality::Text);
        let image = spliced(&|modality| modality == Modality::Image);
        Ok(vec![spliced(&|_| true), text, image, mean.repeat(tokens.len()), vec![0.0; target.len()]])
    };
    let (mut text, mut answers) = (Losses::default(), Losses::default());
    let skipped = runner.run(&replace, &mut |predicted, rows| {
        staged.show(rows);
        let Some(predicted) = predicted else { return };
        let tokens = predicted.targets.iter().enumerate().map(|(n, position)| {
            let figures = std::array::from_fn(|variant| {
                let prediction = predicted.predictions[variant][n];
                (f64::from(prediction.nll), f64::from(prediction.kl))
            });
            (predicted.sample.tokens[*position].role, figures)
        });
        let tokens: Vec<_> = tokens.collect();
        text.add(tokens.iter().map(|(_, figures)| *figures));
        answers.add(tokens.iter().filter(|(role, _)| *role == Role::Assistant).map(|(_, figures)| *figures));
    })?;
    let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(ModelEffect {
        name: harvest::hub::model_name(&plan.model),
        data: name(&plan.data),
        same_checkpoint: model::is_checkpoint_of(&sae.run, runner.checkpoint())?,
        limit: plan.limit,
        skipped: skipped.rows(),
        text: text.report().ok_or(Error::NothingToPredict)?,
        answers: answers.report(),
    })
}
