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
}

/// The folder of the rows, if `sae filter` wrote this folder.
pub(super) fn rows(folder: &Path) -> Option<PathBuf> {
    let path = folder.join("manifest.json");
    if !path.is_file() {
        return None;
    }
    // Any other file of that name is none of ours.
    let manifest: Manifest = file::read_json(&path, LIMIT).ok()?;
    let inside = manifest.data.components().all(|c| matches!(c, Component::Normal(_)));
    let rows = folder.join(&manifest.data);
    (manifest.program.starts_with("sae ") && inside && rows.is_dir()).then_some(rows)
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
            rows(dir.path())
        };
        assert_eq!(found(r#"{"program": "sae 0.1.0", "data": "data"}"#), Some(dir.path().join("data")));
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
