//! Lists the folders in a folder, for the choice of a run.

use crate::state::open_dialog::FolderEntry;
use std::fs;
use std::path::Path;

/// Folders listed at most.
const LIMIT: usize = 1000;

/// The folders in a folder, by name.
pub fn list(folder: &Path) -> Result<Vec<FolderEntry>, String> {
    let found = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths = found.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir());
    let entry = |path: &Path| {
        // A name that is not text cannot be typed either.
        Some(FolderEntry { name: path.file_name()?.to_str()?.to_owned(), is_run: path.join("run.json").is_file() })
    };
    let mut entries: Vec<_> = paths.filter_map(|path| entry(&path)).take(LIMIT).collect();
    entries.sort_by_cached_key(|entry| (entry.name.to_lowercase(), entry.name.clone()));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_listed_by_name_and_runs_are_marked() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "A", "run"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("run/run.json"), "{}").unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let found = list(dir.path()).unwrap();
        let found: Vec<_> = found.iter().map(|entry| (entry.name.as_str(), entry.is_run)).collect();
        assert_eq!(found, [("A", false), ("b", false), ("run", true)]);
        assert!(list(&dir.path().join("file")).unwrap_err().contains("file: "));
    }
}
