//! Edits of labels that could not be saved before the program had to end: they are kept in a file in the home folder, and made
//! again when their run is opened the next time.

use crate::state::Link;
use crate::state::label_edits::Edits;
use sae_core::analysis::labels::Change;
use sae_core::{file, path_text, random};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Bytes of a file at most.
const LIMIT: u64 = 1 << 28;

/// What a file has.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Where the run is: its folder, or the address of its server with the folder there.
    run: String,
    /// The autoencoder.
    sae: String,
    /// The edits, in order.
    changes: Vec<Change>,
}

/// The file for the labels of an autoencoder of a run.
pub fn path(folder: &Path, origin: &Path, sae: &str) -> PathBuf {
    let name = [origin.as_os_str().as_encoded_bytes(), b"\0", sae.as_bytes()].concat();
    folder.join(format!("unsaved-{:016x}.json", random::fnv1a(name)))
}

/// Keeps edits, behind those that the file has already unless they begin with these. Returns the file.
///
/// # Errors
/// There is no folder, or the file cannot be written.
pub fn keep(folder: Option<&Path>, edits: &Edits) -> Result<PathBuf, String> {
    let folder = folder.ok_or("The system names no folder for what programs remember.")?;
    let path = path(folder, &edits.origin, &edits.sae);
    let mut changes = read(&path);
    if edits.changes.starts_with(&changes) {
        changes.clear();
    }
    changes.extend(edits.changes.iter().cloned());
    let kept = Kept { run: path_text::encode(&edits.origin), sae: edits.sae.clone(), changes };
    file::write_json(&path, &kept).map_err(|error| error.message())?;
    Ok(path)
}

/// The edits in a file; none if there is no such file.
pub fn read(path: &Path) -> Vec<Change> {
    file::read_json::<Kept>(path, LIMIT).map(|kept| kept.changes).unwrap_or_default()
}

/// What a person should know about edits that could not be saved before the program ended, after an attempt to keep them.
pub fn farewell(folder: Option<&Path>, edits: &Edits, reason: &str) -> String {
    let origin = edits.origin.display().to_string();
    let lost = format!("labels of {origin} could not be saved: {reason}");
    let again = if Link::is_link(&origin) { "opened again at the same address" } else { "opened again" };
    match keep(folder, edits) {
        Ok(path) => {
            format!("{lost}\nhint: {} has these edits; they are made when the run is {again}", path.display())
        }
        Err(problem) => {
            let text = serde_json::to_string(&edits.changes).unwrap_or_default();
            format!("{lost}\nThey could not be kept either ({problem}), so here they are: {text}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::analysis::labels::{Entry, Labels};

    fn edits(label: &str) -> Edits {
        let after = Entry { label: label.into(), ..Entry::empty(3) };
        let change = Change::Entry { before: Entry::empty(3), after };
        Edits { origin: "/runs/a".into(), sae: "base".into(), changes: vec![change], on_disk: Labels::default() }
    }

    #[test]
    fn edits_are_kept_in_order_for_their_run_alone() {
        let dir = tempfile::tempdir().unwrap();
        let told = farewell(Some(dir.path()), &edits("red"), "no space");
        let file = keep(Some(dir.path()), &edits("blue")).unwrap();
        assert!(told.contains("no space") && told.contains(&file.display().to_string()), "{told}");
        assert_eq!(read(&file), [edits("red").changes, edits("blue").changes].concat());
        let both = Edits { changes: read(&file), ..edits("red") };
        keep(Some(dir.path()), &both).unwrap();
        assert_eq!(read(&file), both.changes, "what was made again and failed again is there once");
        assert_ne!(file, path(dir.path(), "/runs/b".as_ref(), "base"));
        assert_ne!(file, path(dir.path(), "/runs/a".as_ref(), "other"));
    }

    #[test]
    fn edits_that_cannot_be_kept_are_told_in_full() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a file");
        std::fs::write(&file, "").unwrap();
        for folder in [None, Some(&*file)] {
            let told = farewell(folder, &edits("red ring"), "no space");
            assert!(told.contains("no space") && told.contains("\"red ring\""), "{told}");
        }
    }
}
