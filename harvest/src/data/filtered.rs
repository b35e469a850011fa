//! Folders that `sae filter` wrote: their rows lie in a folder of their own, beside what describes them.

use sae_core::file;
use serde::Deserialize;
use std::path::{Component, Path, PathBuf};

/// Bytes of the largest manifest.
const LIMIT: u64 = 1 << 28;

/// What of a manifest matters here.
#[derive(Deserialize)]
struct Manifest {
    program: String,
    data: PathBuf,
    /// Where rows that stand as they stood look for their images.
    images_root: Option<PathBuf>,
}

/// Where the parts of such a folder lie.
#[derive(Debug, PartialEq)]
pub(super) struct Filtered {
    pub rows: PathBuf,
    pub images_root: Option<PathBuf>,
}

/// The parts of a folder, if `sae filter` wrote it.
pub(super) fn open(folder: &Path) -> Option<Filtered> {
    let path = folder.join("manifest.json");
    if !path.is_file() {
        return None;
    }
    // Any other file of that name is none of ours.
    let manifest: Manifest = file::read_json(&path, LIMIT).ok()?;
    let inside = |path: &PathBuf| path.components().all(|c| matches!(c, Component::Normal(_)));
    let rows = folder.join(&manifest.data);
    let ours = manifest.program.starts_with("sae ") && inside(&manifest.data) && rows.is_dir();
    let images_root = manifest.images_root.filter(inside).map(|root| folder.join(root));
    ours.then_some(Filtered { rows, images_root })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_a_manifest_of_ours_points_to_rows() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let found = |manifest: &str| {
            fs::write(dir.path().join("manifest.json"), manifest).unwrap();
            open(dir.path())
        };
        let (rows, images_root) = (dir.path().join("data"), Some(dir.path().join("data/images")));
        let ours = found(r#"{"program": "sae 0.1.0", "data": "data"}"#);
        assert_eq!(ours, Some(Filtered { rows: rows.clone(), images_root: None }));
        let ours = found(r#"{"program": "sae 0.1.0", "data": "data", "images_root": "data/images"}"#);
        assert_eq!(ours, Some(Filtered { rows, images_root }));
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
