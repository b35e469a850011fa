//! Folders that `sae filter` wrote. Their rows are in a folder of their own, next to the files that describe them.

use sae_core::file;
use serde::Deserialize;
use std::path::{Component, Path, PathBuf};

/// Size of the largest manifest that is read, in bytes.
const LIMIT: u64 = 1 << 28;

/// The fields of a manifest that are needed here.
#[derive(Deserialize)]
struct Manifest {
    program: String,
    data: PathBuf,
    /// The folder to which the image paths of verbatim rows are relative.
    images_root: Option<PathBuf>,
}

/// The parts of such a folder.
#[derive(Debug, PartialEq)]
pub(super) struct Filtered {
    pub rows: PathBuf,
    pub images_root: Option<PathBuf>,
}

/// The parts of a folder, or nothing if `sae filter` did not write it.
pub(super) fn open(folder: &Path) -> Option<Filtered> {
    let path = folder.join("manifest.json");
    if !path.is_file() {
        return None;
    }
    // Other programs may write a file with this name, too.
    let manifest: Manifest = file::read_json(&path, LIMIT).ok()?;
    let is_inside = |path: &PathBuf| path.components().all(|c| matches!(c, Component::Normal(_)));
    let rows = folder.join(&manifest.data);
    let is_valid = manifest.program.starts_with("sae ") && is_inside(&manifest.data) && rows.is_dir();
    let images_root = manifest.images_root.filter(is_inside).map(|root| folder.join(root));
    is_valid.then_some(Filtered { rows, images_root })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_a_manifest_of_this_program_leads_to_rows() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let found = |manifest: &str| {
            fs::write(dir.path().join("manifest.json"), manifest).unwrap();
            open(dir.path())
        };
        let (rows, images_root) = (dir.path().join("data"), Some(dir.path().join("data/images")));
        let plain = found(r#"{"program": "sae 0.1.0", "data": "data"}"#);
        assert_eq!(plain, Some(Filtered { rows: rows.clone(), images_root: None }));
        let with_root = found(r#"{"program": "sae 0.1.0", "data": "data", "images_root": "data/images"}"#);
        assert_eq!(with_root, Some(Filtered { rows, images_root }));
        for other in [
            r#"{"name": "an app"}"#,
            r#"{"program": "sae 0.1.0", "data": ".."}"#,
            r#"{"program": "x", "data": "data"}"#,
            "[",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }
}
