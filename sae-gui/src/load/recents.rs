//! The runs that were opened last, in a file in the home folder. If the file cannot be read or written, only the list is lost.

use sae_core::file;
use std::path::{Path, PathBuf};

/// Runs remembered.
const COUNT: usize = 8;
/// Bytes of the file at most.
const LIMIT: u64 = 1 << 16;

/// The folder for what the app remembers, if the system names one.
pub fn state_folder() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder =
        var("XDG_STATE_HOME").or_else(|| Some(var("HOME")?.join(".local/state"))).or_else(|| var("LOCALAPPDATA"))?;
    Some(folder.join("sae-workbench"))
}

/// The runs that still exist, the last one first.
pub fn read(path: &Path) -> Vec<String> {
    let mut runs: Vec<String> = file::read_json(path, LIMIT).unwrap_or_default();
    runs.retain(|run| Path::new(run).join("run.json").is_file());
    runs.truncate(COUNT);
    runs
}

/// Puts a run on top of the list.
pub fn add(path: &Path, run: &str) -> Vec<String> {
    let mut runs = read(path);
    runs.retain(|known| known != run);
    runs.insert(0, run.into());
    runs.truncate(COUNT);
    // The app works without the list.
    let _ = file::write_json(path, &runs);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_run_is_on_top_and_runs_that_are_gone_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/recents.json");
        let run = |n: u32| {
            let root = dir.path().join(n.to_string());
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join("run.json"), "{}").unwrap();
            root.display().to_string()
        };
        (0..12).for_each(|n| drop(add(&path, &run(n))));
        add(&path, &run(7));
        assert_eq!(read(&path)[..3], [run(7), run(11), run(10)]);
        assert_eq!(read(&path).len(), COUNT);
        std::fs::remove_dir_all(dir.path().join("11")).unwrap();
        assert_eq!(read(&path)[..2], [run(7), run(10)]);
        std::fs::write(&path, "[3, {").unwrap();
        assert!(read(&path).is_empty());
        assert_eq!(add(&path, &run(1)), [run(1)]);
    }
}
