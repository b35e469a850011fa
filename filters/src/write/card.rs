//! The `README.md` of a written folder: the dataset card with which `datasets.load_dataset(FOLDER)` and the hub find the rows.

use super::Contents;
use super::stage::put_file;
use crate::Result;
use sae_core::file;
use sae_core::random::fnv1a;
use serde_json::Value;
use std::path::Path;

/// The folder of the rows in a written folder. It contains only the rows and their images, so that readers of whole folders can
/// read it.
pub const ROWS: &str = "data";

/// Writes the card into `folder`. `about` is the text below the title. The description of each set has a hash of its files:
/// `datasets` keeps what it once loaded from a local folder by the name of the folder and the card alone, and would otherwise show
/// the rows of another folder with the same name.
///
/// # Errors
/// The files of a set cannot be read, or the card cannot be written.
pub fn write(folder: &Path, contents: &Contents, about: &str) -> Result<()> {
    let mut text = String::new();
    if contents.sets.values().any(|files| !files.is_empty()) {
        text += "---\nconfigs:\n";
        for (name, files) in &contents.sets {
            let hashes = files.iter().map(|file| file::hash(&folder.join(ROWS).join(file)));
            let hash = fnv1a(hashes.collect::<sae_core::Result<String>>()?.bytes());
            // A JSON string is also a YAML string.
            let name = Value::from(name.as_str());
            text += &format!("- config_name: {name}\n  description: \"Hash of the rows: {hash:016x}\"\n");
            text += "  data_files:\n  - split: train\n    path:\n";
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
        for (file, rows) in [("a [1].jsonl", "{}"), ("b/c.jsonl", "{}\n{}")] {
            put_file(&dir.path().join(ROWS).join(file), rows.as_bytes()).unwrap();
        }
        write(dir.path(), &contents, "Two of four.").unwrap();
        let expected = "---\nconfigs:\n- config_name: \"default\"\n  description: \"Hash of the rows: HASH\"\n  data_files:\n  - split: train\n    path:\n    \
            - \"data/a [[]1].jsonl\"\n    - \"data/b/c.jsonl\"\n---\n\n# Filtered data set\n\nTwo of four.\n\nMind the gap.\n";
        let card = || std::fs::read_to_string(dir.path().join("README.md")).unwrap();
        let hash = |card: &str| card.split_once("of the rows: ").unwrap().1[..16].to_owned();
        let first = hash(&card());
        assert_eq!(card().replace(&first, "HASH"), expected);
        put_file(&dir.path().join("data/b/c.jsonl"), b"{}\n[]").unwrap();
        write(dir.path(), &contents, "Two of four.").unwrap();
        assert_ne!(hash(&card()), first);
        write(dir.path(), &Contents::default(), "x").unwrap();
        assert!(std::fs::read_to_string(dir.path().join("README.md")).unwrap().starts_with("# Filtered"));
    }
}
