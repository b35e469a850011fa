//! The part of `sae eval` that needs a model: its predictions with reconstructions, and with zeros, at the hook.

use super::super::SaeReader;
use super::super::harvest::reading;
use super::super::model;
use super::EvalArgs;
use crate::cli::terminal::{self, count, table};
use anyhow::{Context, Result, bail};
use harvest::{Plan, SpliceRunner};
use sae_core::analysis::eval::{Estimate, LossReport, Losses, Variant};
use sae_core::autoencoder::Encoder;
use sae_core::store::PositionFilter;
use sae_core::store::sample::{Modality, Role, Token};
use sae_core::store::{self, StoreRecord};
use sae_core::vector::norm_sq;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What the reconstruction costs the model.
#[derive(Serialize)]
pub(super) struct Effect {
    /// Folder name of the checkpoint.
    pub name: String,
    /// Name of the data set.
    pub data: String,
    /// Whether the run was captured from these very weights; nothing if the run was not captured by this program.
    same_checkpoint: Option<bool>,
    /// Rows that were read at most.
    limit: Option<u64>,
    /// Rows that became no sample.
    skipped: u64,
    /// Over all words behind words.
    pub text: LossReport,
    /// Over those of them that answers consist of.
    answers: Option<LossReport>,
}

/// What is to be run, if a model was named.
pub(super) fn plan(args: &EvalArgs, opened: &SaeReader, dry: bool) -> Result<Option<Plan>> {
    let (Some(model), Some(data)) = (&args.model, &args.data) else { return Ok(None) };
    let model = &model::folder(model, dry)?;
    let layers = vec![opened.store.manifest().layer];
    let plan = reading(&args.reading, Plan::new(model, data, layers));
    let plan = Plan { limit: args.limit, device: args.of.device.device, ..plan };
    let (width, d_in) = (plan.preview()?.d_in, opened.saved.weights.d_in);
    if width != d_in {
        bail!("the autoencoder reads width {d_in}, the model has {width}: {}", model.display());
    }
    Ok(Some(plan))
}

/// Runs the model over the data.
pub(super) fn measure(plan: &Plan, opened: &SaeReader, exclusion: PositionFilter) -> Result<Effect> {
    let predictor = SpliceRunner::open(plan)?;
    let (weights, d) = (&opened.saved.weights, opened.saved.weights.d_in);
    let encoder = Encoder::new(weights, &opened.device);
    let replace = |tokens: &[&Token], hidden: &[f32]| {
        let reconstructed = encoder.reconstruct(hidden)?;
        let at = |wanted: &dyn Fn(Modality) -> bool| {
            let mut out = hidden.to_vec();
            let rows = out.chunks_exact_mut(d).zip(reconstructed.chunks_exact(d));
            for ((row, reconstruction), token) in rows.zip(tokens) {
                let norm = f64::from(norm_sq(row)).sqrt();
                let reasons = exclusion.reasons(token.special, token.position, norm);
                if wanted(token.modality) && reasons == [false; 3] {
                    row.copy_from_slice(reconstruction);
                }
            }
            out
        };
        // In the order of `Variant::ALL`, whose first is what the model has itself.
        let text = at(&|modality| modality == Modality::Text);
        let image = at(&|modality| modality == Modality::Image);
        Ok(vec![at(&|_| true), text, image, vec![0.0; hidden.len()]])
    };
    let (mut text, mut answers) = (Losses::default(), Losses::default());
    let bar = terminal::bar("model", plan.preview()?.rows);
    let skipped = predictor.run(&replace, &mut |predicted, rows| {
        bar.set_position(rows);
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
    bar.finish_and_clear();
    let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(Effect {
        name: harvest::hub::model_name(&plan.model),
        data: name(&plan.data),
        same_checkpoint: same_checkpoint(&predictor, opened)?,
        limit: plan.limit,
        skipped: skipped.rows(),
        text: text.report().context("the data holds no words behind words: there is nothing to predict")?,
        answers: answers.report(),
    })
}

fn same_checkpoint(predictor: &SpliceRunner, opened: &SaeReader) -> Result<Option<bool>> {
    let Some(record) = opened.run.read_step::<StoreRecord>(store::STEP)? else { return Ok(None) };
    let own = predictor.checkpoint().fingerprint()?;
    Ok(Some(record.spec.fingerprint.split('-').next() == Some(&own)))
}

/// The losses as a table: a row a variant.
pub(super) fn describe(effect: &Effect) -> String {
    let LossReport { tokens, samples, .. } = effect.text;
    let (tokens, samples) = (count(tokens), count(samples));
    let mut text = format!("\n{} on {}: {tokens} words of {samples} samples, nats a word", effect.name, effect.data);
    if effect.skipped > 0 {
        text += &format!(" ({} rows skipped)", count(effect.skipped));
    }
    text += &format!("\n{}", rows(&effect.text));
    if let Some(answers) = effect.answers.as_ref().filter(|answers| answers.tokens < effect.text.tokens) {
        text += &format!("  of answers alone, {} words:\n{}", count(answers.tokens), rows(answers));
    }
    if effect.same_checkpoint == Some(false) {
        text += "  note: the run was captured from another checkpoint than this\n";
    }
    text
}

fn rows(report: &LossReport) -> String {
    let show = |of: &BTreeMap<Variant, Estimate>, variant: &Variant| {
        of.get(variant).map_or(String::new(), |Estimate { value, se }| {
            se.map_or(format!("{value:.4}"), |se| format!("{value:.4} +-{se:.4}"))
        })
    };
    let header = ["at the hook", "cross-entropy", "increase", "KL from original", "loss recovered", "KL recovered"];
    let mut lines = vec![header.map(String::from).to_vec()];
    lines.extend(Variant::ALL.iter().map(|variant| {
        let name = match variant {
            Variant::Original => "original",
            Variant::Replaced => "reconstruction",
            Variant::ReplacedText => "  at text only",
            Variant::ReplacedImage => "  at images only",
            Variant::Zero => "zeros",
        };
        let columns =
            [&report.cross_entropy, &report.increase, &report.kl, &report.loss_recovered, &report.kl_recovered];
        std::iter::once(name.into()).chain(columns.map(|of| show(of, variant))).collect()
    }));
    table(&lines)
}
