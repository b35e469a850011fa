//! Folders that `datasets` wrote with `save_to_disk`. Their `state.json` lists the Arrow files of a split in the order
//! of their rows.

use crate::{Error, Result};
use sae_core::error::Hint;
use sae_core::file;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Size of the largest `state.json` that is read, in bytes.
const LIMIT: u64 = 1 << 28;

#[derive(Deserialize)]
struct State {
    #[serde(rename = "_data_files")]
    data_files: Vec<DataFile>,
    /// A table that selects or reorders rows, as older versions of `datasets` wrote it.
    #[serde(rename = "_indices_data_files", default)]
    indices: Value,
}

#[derive(Deserialize)]
struct DataFile {
    filename: String,
}

/// Whether a folder is a saved split. (A saved `DatasetDict` has one such folder for each split.)
pub(super) fn is_saved(folder: &Path) -> bool {
    folder.join("state.json").is_file() && folder.join("dataset_info.json").is_file()
}

/// The Arrow files of a saved split, in the order of their rows.
///
/// # Errors
/// `state.json` cannot be read, selects rows with a table of indices, or names a file outside of the folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let path = folder.join("state.json");
    let state: State = file::read_json(&path, LIMIT)?;
    if !matches!(&state.indices, Value::Null) && state.indices != Value::Array(Vec::new()) {
        let error = Error::data(&path)("the rows are selected by a table of indices, which is not supported");
        return Err(error.with_hint(Hint::from("call Dataset.flatten_indices() in Python and save again")));
    }
    let names: Vec<_> = state.data_files.into_iter().map(|file| file.filename).collect();
    if let Some(name) = names.iter().find(|name| Path::new(name).components().count() != 1) {
        return Err(Error::data(&path)(format!("the file {name:?} is outside of the data set")));
    }
    Ok(names.iter().map(|name| folder.join(name)).collect())
}
