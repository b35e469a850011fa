//! The run that the examples read: one of yours, or a small one that `train_sae` makes of the bundled model and data.

#[path = "../train_sae.rs"]
#[allow(dead_code, reason = "`main` runs only in the example itself")]
mod train_sae;

use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A run folder. A temporary one is removed when this is dropped.
pub struct RunFolder {
    path: PathBuf,
    _temporary: Option<TempDir>,
}

impl RunFolder {
    /// The run that the first argument names, or else a small run in a temporary folder, which takes some seconds to make.
    pub fn from_arguments() -> anyhow::Result<Self> {
        if let Some(path) = std::env::args_os().nth(1) {
            return Ok(Self { path: path.into(), _temporary: None });
        }
        let temporary = tempfile::tempdir()?;
        let path = temporary.path().join("run");
        train_sae::train(&path)?;
        println!();
        Ok(Self { path, _temporary: Some(temporary) })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
