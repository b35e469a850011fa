//! Runs that take part in the scoring or filtering of another run: for calibration, with rejected answers, with blank images, as
//! a target. They must have activations of the same hook and model.

use crate::roles::Role;
use crate::sae::{LoadedSae, check_width};
use crate::{Error, Result};
use sae_core::Run;
use sae_core::store::Store;
use std::path::Path;

/// A run with activations that an autoencoder reads.
pub(crate) struct Companion {
    pub run: Run,
    pub store: Store,
}

impl Companion {
    /// Opens it for an autoencoder.
    pub fn open(sae: &LoadedSae, path: &Path, role: Role) -> Result<Self> {
        let run = Run::open(path)?;
        // Rows are paired by their keys, which all pieces of a row share.
        if role == Role::Rejected && sae.store.paths().are_pieces() {
            return Err(sae_core::Error::Pieces { path: sae.run.root().to_path_buf() }.into());
        }
        let scored = sae.store.manifest();
        let store = Store::open(&run, &scored.hook);
        let unusable = |source| Error::CompanionHook { role, hook: scored.hook.clone(), source: Box::new(source) };
        let store = store.map_err(unusable)?;
        check_width(&sae.saved, &store)?;
        let model = &store.manifest().model;
        if *model != scored.model {
            let (model, run_model) = (model.clone(), scored.model.clone());
            return Err(Error::CompanionModel { role, model, run_model, path: path.into() });
        }
        Ok(Self { run, store })
    }
}
