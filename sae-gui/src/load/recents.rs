//! The runs that were open lately, in a file of the person's own. A file that cannot be read or written costs nothing but
//! the list.

use sae_core::file;
use std::path::{Path, PathBuf};

/// Runs remembered.
const COUNT: usize = 8;
/// Bytes of the file at most.
const LIMIT: u64 = 1 << 16;

/// Where the list of this person lies, if the system tells.
pub fn usual() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder =
        var("XDG_STATE_HOME").or_else(|| Some(var("HOME")?.join(".local/state"))).or_else(|| var("LOCALAPPDATA"))?;
    Some(folder.join("sae-workbench").join("recents.json"))
}

/// The runs, the last one first.
pub fn read(path: &Path) -> Vec<String> {
    let mut runs: Vec<String> = file::read_json(path, LIMIT).unwrap_or_default();
    runs.truncate(COUNT);
    runs
}

/// Puts a run on top of the list.
pub fn add(path: &Path, run: &str) -> Vec<String> {
    let mut runs = read(path);
    runs.retain(|known| known != run);
    runs.insert(0, run.into());
    runs.truncate(COUNT);
    // Without it the app works as well.
    let _ = file::write_json(path, &runs);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_run_is_on_top_and_nonsense_is_an_empty_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/recents.json");
        (0..12).for_each(|n| drop(add(&path, &n.to_string())));
        add(&path, "7");
        assert_eq!(read(&path)[..3], ["7", "11", "10"]);
        assert_eq!(read(&path).len(), COUNT);
        std::fs::write(&path, "[3, {").unwrap();
        assert!(read(&path).is_empty());
        assert_eq!(add(&path, "a"), ["a"]);
    }
}
