//! How the processes that train the same autoencoders connect, and which settings all of them must have.

use super::{Start, TrainRequest};
use crate::Result;
use crate::control::{Control, Notice, Stage};
use burn::tensor::Device;
use sae_core::autoencoder::Weights;
use sae_core::train::ranks::{self, Ranks, Rendezvous};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

/// What a process trains, from what, and from which step on: a line for each. Ranks with other lines are rejected.
pub(super) fn settings(request: &TrainRequest, start: &Start) -> Result<String> {
    let none = || "none".to_owned();
    let checkpoint = start.checkpoint.as_deref().and_then(Path::file_name);
    let mut lines = vec![
        format!("version = {}", env!("CARGO_PKG_VERSION")),
        format!("hook = {}", request.hook),
        format!("target = {}", request.target.clone().unwrap_or_else(none)),
        format!("activations = {}", start.activations.join(" ")),
        format!("from = {}", start.base.as_ref().map_or_else(none, |base| hash(&base.weights))),
        format!("checkpoint = {}", checkpoint.map_or_else(none, |name| name.to_string_lossy().into_owned())),
        format!("checkpoint_every = {}", request.checkpoint_every),
    ];
    for (name, config) in &request.saes {
        lines.push(format!("name = {name}"));
        lines.push(toml::to_string(config).map_err(sae_core::Error::format(Path::new("train.toml")))?);
    }
    Ok(lines.join("\n"))
}

/// The same for equal weights, wherever they were read from.
fn hash(weights: &Weights) -> String {
    let mut hash = Sha256::new();
    for array in [&weights.w_enc, &weights.w_dec, &weights.b_enc, &weights.b_dec] {
        array.iter().for_each(|value| hash.update(value.to_le_bytes()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Connects to the others.
pub(super) fn connect(
    rendezvous: &Rendezvous,
    settings: &str,
    device: &Device,
    control: &mut Control,
) -> Result<Arc<dyn Ranks>> {
    let staged = control.stage(Stage::Connect, None)?;
    let cancel = staged.cancel();
    let _attended = cancel.attend();
    let (ranks, without_nccl) = ranks::connect(rendezvous, settings.as_bytes(), device, &mut || cancel.check())?;
    drop(staged);
    if let Some(cause) = &without_nccl {
        control.notice(&Notice::WithoutNccl { cause });
    }
    Ok(ranks)
}
