//! The settings, in a file in the home folder. If the file cannot be read or written, only they are lost.

use crate::state::settings::Settings;
use sae_core::file;
use std::path::Path;

/// The name of the file.
pub const SETTINGS: &str = "settings.json";
/// Bytes of the file at most.
const LIMIT: u64 = 1 << 16;

/// Reads the settings; the defaults if there are none.
pub fn read(path: &Path) -> Settings {
    file::read_json::<Settings>(path, LIMIT).unwrap_or_default().checked()
}

/// Writes the settings.
pub fn write(path: &Path, settings: &Settings) {
    // The app works without them.
    let _ = file::write_json(path, settings);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_and_a_broken_file_means_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/settings.json");
        assert_eq!(read(&path), Settings::default());
        let settings = Settings { pane: Some(420.0), ..Settings::default() };
        write(&path, &settings);
        assert_eq!(read(&path), settings);
        std::fs::write(&path, "{ \"pane\": [").unwrap();
        assert_eq!(read(&path), Settings::default());
    }
}
