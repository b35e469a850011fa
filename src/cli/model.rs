//! What `--model` names: a checkpoint folder, or a checkpoint on the hub that is downloaded into its cache first, with a
//! progress bar. A dry run downloads nothing.

use crate::cli::terminal;
use anyhow::{Result, bail};
use harvest::hub::{self, RepoLocation};
use std::path::{Path, PathBuf};

/// The folder of a checkpoint.
pub fn folder(model: &Path, dry: bool) -> Result<PathBuf> {
    let Some(name) = model.to_str() else { return Ok(model.into()) };
    match hub::place(name)? {
        RepoLocation::Folder(folder) => return Ok(folder),
        RepoLocation::Hub { model } if dry => {
            bail!("the model is not here yet, and a dry run downloads nothing: {model}\nhint: leave --dry-run out")
        }
        RepoLocation::Hub { .. } => {}
    }
    let bar = terminal::bar("download", 0);
    let folder = hub::resolve(name, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.bytes);
        bar.set_message(format!("{} of {} MB, {}", progress.bytes >> 20, progress.total >> 20, progress.file));
    })?;
    bar.finish_and_clear();
    Ok(folder)
}
