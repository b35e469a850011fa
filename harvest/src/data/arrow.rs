//! Rows of Arrow IPC files and streams, as `datasets` caches and saves them, read one batch at a time.

use super::notes::Notes;
use super::row::FileRows;
use super::table;
use crate::Result;
use crate::ipc::Batches;
use std::path::Path;

/// Reads the rows of a file.
pub(super) fn rows(path: &Path, notes: &Notes) -> Result<FileRows> {
    let (path, notes) = (path.to_path_buf(), notes.clone());
    Ok(Box::new(Batches::open(&path)?.flat_map(move |batch| {
        let batch = batch.and_then(|batch| table::check_names(&path, &batch.schema()).map(|()| batch));
        match batch {
            Ok(batch) => table::rows(batch, notes.clone()),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    })))
}
