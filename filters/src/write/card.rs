//! The `README.md` of a written folder: the dataset card with which `datasets.load_dataset(FOLDER)` and the hub find the rows.

use super::Contents;
use super::stage::put_file;
use crate::Result;
use serde_json::Value;
use std::path::Path;

/// The folder of the rows in a written folder. It contains only the rows and their images, so that readers of whole folders can
/// read it.
pub const ROWS: &str = "data";

/// Writes the card into `folder`. `about` is the text below the title.
///
/// # Errors
/// The file cannot be written.
pub fn write(folder: &Path, contents: &Contents, about: &str) -> Result<()> {
    let mut text = String::new();
    if contents.sets.values().any(|files| !files.is_empty()) {
        text += "---\nconfigs:\n";
        for (name, files) in &contents.sets {
            // A JSON string is also a YAML string.
            text +=
                &format!("- config_name: {}\n  data_files:\n  - split: train\n    path:\n", Value::from(name.as_str()));
            for file in files {
                text += &format!("    - {}\n", Value::from(pattern(file)));
            }
        }
        text += "---\n\n";
    }
    text += &format!("# Filtered data set\n\n{}\n", about.trim_end());
    for note in &contents.notes {
        text += &format!("\n{note}.\n");
    }
    put_file(&folder.join("README.md"), text.as_bytes())
}

/// A path below [`ROWS`], as a pattern for `datasets`, in which wildcard characters are escaped by brackets.
fn pattern(file: &Path) -> String {
    let names = file.components().map(|name| name.as_os_str().to_string_lossy());
    let path = [ROWS.into()].into_iter().chain(names).collect::<Vec<_>>().join("/");
    let escaped = |c: char| if "[*?".contains(c) { format!("[{c}]") } else { c.to_string() };
    path.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_names_the_files_of_each_set() {
        let dir = tempfile::tempdir().unwrap();
        let mut contents = Contents::from_files(["a [1].jsonl".into(), "b/c.jsonl".into()]);
        contents.notes.push("Mind the gap".into());
        write(dir.path(), &contents, "Two of four.").unwrap();
        let expected = "---\nconfigs:\n- config_name: \"default\"\n  data_files:\n  - split: train\n    path:\n    \
            - \"data/a [[]1].jsonl\"\n    - \"data/b/c.jsonl\"\n---\n\n# Filtered data set\n\nTwo of four.\n\nMind the gap.\n";
        assert_eq!(std::fs::read_to_string(dir.path().join("README.md")).unwrap(), expected);
        write(dir.path(), &Contents::default(), "x").unwrap();
        assert!(std::fs::read_to_string(dir.path().join("README.md")).unwrap().starts_with("# Filtered"));
    }
}
