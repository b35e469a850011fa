//! What a transcoder reconstructs: the activations of another hook of the run. Trains nothing.

use crate::Result;
use crate::error::TranscoderError;
use sae_core::Run;
use sae_core::autoencoder::formats::{Origin, Saved};
use sae_core::store::Store;

/// Activations with those of another hook of their run as a target.
pub(crate) fn with_target(store: Store, target: &str) -> Result<Store> {
    let hook = &store.manifest().hook;
    if target == hook {
        return Err(TranscoderError::TargetIsInput { hook: hook.clone() }.into());
    }
    let target = Store::open_with_pieces(store.run(), target)?;
    Ok(store.with_target(target)?)
}

/// The activations that an autoencoder reads, with those that a transcoder reconstructs if the run has them: only its evaluation
/// needs them.
pub(crate) fn with_known_target(store: Store, origin: &Origin, run: &Run) -> Result<Store> {
    let is_known = !origin.target.is_empty() && run.list("activations").contains(&origin.target);
    if is_known { with_target(store, &origin.target) } else { Ok(store) }
}

/// Checks that the activations that a transcoder of a run reads have what it reconstructs, as wide as its reconstructions.
pub(crate) fn check_target(run: &Run, name: &str, saved: &Saved, store: &Store) -> Result<()> {
    if !saved.is_transcoder() {
        return Ok(());
    }
    let target = &saved.origin.target;
    if target.is_empty() {
        return Err(TranscoderError::UnknownTarget { name: name.into() }.into());
    }
    // The error of a run without the target names the hooks that it has.
    let opened = if store.target().is_none() { Some(Store::open_with_pieces(run, target)?) } else { None };
    store.target().or(opened.as_ref()).map_or(Ok(()), |target| check_width(saved, target))
}

/// Checks that the reconstructions of a transcoder are as wide as its target.
pub(crate) fn check_width(saved: &Saved, target: &Store) -> Result<()> {
    let (sae, activations) = (saved.weights.d_out(), target.manifest().d_in);
    if sae == activations {
        return Ok(());
    }
    Err(TranscoderError::TargetWidth { sae, activations, target: target.manifest().hook.clone() }.into())
}

/// Rejects a transcoder where the reconstruction of an autoencoder takes the place of what it read.
pub(crate) fn check_autoencoder(saved: &Saved) -> Result<()> {
    if saved.is_transcoder() {
        return Err(TranscoderError::NoAutoencoder { target: saved.origin.target.clone() }.into());
    }
    Ok(())
}
