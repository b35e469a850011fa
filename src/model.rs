//! The model of a request: a checkpoint folder, or a checkpoint on the Hugging Face hub, which is downloaded into its cache
//! first. A plan downloads nothing.

use crate::control::{Control, Detail, Stage};
use crate::sae::LoadedSae;
use crate::{Error, Result, crosscoder, objects, transcoder};
use harvest::hub::{self, RepoLocation};
use harvest::{Checkpoint, Plan, Preview};
use sae_core::Run;
use sae_core::store::{STEP, StoreRecord};
use std::path::{Path, PathBuf};

/// The folder of a checkpoint that is on this machine.
///
/// # Errors
/// It has not been downloaded from the hub.
pub(crate) fn local(model: &Path) -> Result<PathBuf> {
    match place(model)? {
        RepoLocation::Folder(folder) => Ok(folder),
        RepoLocation::Hub { model } => Err(Error::NotDownloaded { model }),
    }
}

/// The folder of a checkpoint, after a download if necessary.
pub(crate) fn download(model: &Path, control: &mut Control) -> Result<PathBuf> {
    if let RepoLocation::Folder(folder) = place(model)? {
        return Ok(folder);
    }
    let mut staged = control.stage(Stage::Download, None)?;
    Ok(hub::resolve(&model.to_string_lossy(), &mut |progress| {
        staged.extend(progress.total);
        Ok(staged.advance_with(progress.bytes, Detail::Transfer { file: progress.file })?)
    })?)
}

fn place(model: &Path) -> Result<RepoLocation> {
    // A path that is not Unicode cannot be a name on the hub.
    Ok(model.to_str().map_or_else(|| Ok(RepoLocation::Folder(model.into())), hub::locate)?)
}

/// The plan with its model as a folder and its data as files on this machine. Downloads them only with a `control`.
pub(crate) fn resolve(plan: &Plan, mut control: Option<&mut Control>) -> Result<Plan> {
    let model = match control.as_deref_mut() {
        Some(control) => download(&plan.model, control)?,
        None => local(&plan.model)?,
    };
    objects::local_data(Plan { model, ..plan.clone() }, control)
}

/// [`resolve`] for the model of an autoencoder that reconstructs what it reads, with its hook; the widths must agree.
pub(crate) fn resolve_for(plan: &Plan, sae: &LoadedSae, control: Option<&mut Control>) -> Result<(Plan, Preview)> {
    transcoder::check_autoencoder(&sae.saved)?;
    resolve_spliced(plan, sae, control)
}

/// [`resolve`] for the model of an autoencoder whose reconstructions take the place of states, with its hook, or that which a
/// transcoder reads and its target; the widths must agree.
pub(crate) fn resolve_spliced(plan: &Plan, sae: &LoadedSae, control: Option<&mut Control>) -> Result<(Plan, Preview)> {
    crosscoder::check_single(&sae.saved.origin)?;
    let plan = Plan { hooks: sae.hooks()?, ..resolve(plan, control)? };
    let preview = plan.preview()?;
    let weights = &sae.saved.weights;
    match [weights.d_in, weights.d_out()].into_iter().find(|width| *width != preview.d_in) {
        Some(sae) => Err(Error::ModelWidth { sae, model: preview.d_in, path: plan.model }),
        None => Ok((plan, preview)),
    }
}

/// Checks that an autoencoder reads, and reconstructs, the states of a single model, as wide as those of this one.
pub(crate) fn check_fits(checkpoint: &Checkpoint, sae: &LoadedSae) -> Result<()> {
    crosscoder::check_single(&sae.saved.origin)?;
    transcoder::check_autoencoder(&sae.saved)?;
    let (sae, model) = (sae.saved.weights.d_in, checkpoint.config().text.hidden_size);
    if model == sae { Ok(()) } else { Err(Error::ModelWidth { sae, model, path: checkpoint.folder().into() }) }
}

/// Whether a run was captured from the weights of a checkpoint; `None` if it was not captured by this program.
pub(crate) fn is_checkpoint_of(run: &Run, checkpoint: &Checkpoint) -> Result<Option<bool>> {
    let Some(record) = run.read_step::<StoreRecord>(STEP)? else { return Ok(None) };
    let fingerprint = checkpoint.fingerprint()?;
    Ok(Some(record.spec.fingerprint.split('-').next() == Some(&fingerprint)))
}
