//! The field for the run to open: what was typed, and the folders that it may lead to. Reads no folder.

use super::link::Link;
use std::path::{Path, PathBuf, absolute, is_separator};

/// A folder in a list of folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its name.
    pub name: String,
    /// Whether it is a run.
    pub is_run: bool,
}

/// The field for the run to open.
#[derive(Clone, Debug, Default)]
pub struct OpenDialog {
    /// What was typed.
    pub text: String,
    /// Why it cannot be opened.
    pub problem: Option<String>,
    /// Whether the system's own dialog is asked for.
    pub browses: bool,
    /// The folder whose folders are listed.
    pub folder: Option<PathBuf>,
    /// The folders in it, or why they cannot be listed; nothing while they are being read.
    listing: Option<Result<Vec<FolderEntry>, String>>,
}

impl OpenDialog {
    /// Follows the text to the folder that it names up to its last separator; `start` while nothing is typed. Returns the folder
    /// if it is another one than before, so that it has to be read.
    pub fn follow(&mut self, start: &Path) -> Option<PathBuf> {
        let text = self.text.trim_start();
        let folder = match text.rfind(is_separator) {
            _ if text.is_empty() => Some(start.to_path_buf()),
            _ if Link::is_link(text) => None,
            Some(end) => Some(PathBuf::from(&text[..=end])),
            None => Some(PathBuf::from(".")),
        };
        let folder = folder.map(|folder| absolute(&folder).unwrap_or(folder));
        if folder == self.folder {
            return None;
        }
        self.listing = None;
        self.folder = folder;
        self.folder.clone()
    }

    /// Takes the folders in a folder, unless the text names another one by now.
    pub fn set_listing(&mut self, folder: &Path, listing: Result<Vec<FolderEntry>, String>) {
        if self.folder.as_deref() == Some(folder) {
            self.listing = Some(listing);
        }
    }

    /// The listed folders whose names begin with what follows the last separator of the text, all of them if none does, or why
    /// there are none. Hidden ones only if their beginning is typed.
    pub fn shown(&self) -> Option<Result<Vec<&FolderEntry>, &str>> {
        let typed = self.text.rsplit(is_separator).next().unwrap_or_default().to_lowercase();
        let is_visible = |entry: &&FolderEntry| typed.starts_with('.') || !entry.name.starts_with('.');
        let is_meant = |entry: &&FolderEntry| entry.name.to_lowercase().starts_with(&typed);
        let found = |entries| {
            let visible: Vec<&FolderEntry> = <[FolderEntry]>::iter(entries).filter(is_visible).collect();
            let meant: Vec<&FolderEntry> = visible.iter().copied().filter(is_meant).collect();
            if meant.is_empty() { visible } else { meant }
        };
        let listing = self.listing.as_ref()?;
        Some(listing.as_deref().map(found).map_err(String::as_str))
    }

    /// Goes into a folder.
    pub fn enter(&mut self, folder: &Path) {
        self.text = folder.join("").display().to_string();
        self.problem = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> FolderEntry {
        FolderEntry { name: name.into(), is_run: false }
    }

    #[test]
    fn the_listed_folder_follows_the_text() {
        let mut dialog = OpenDialog::default();
        assert_eq!(dialog.follow(Path::new("/runs")), Some("/runs".into()));
        assert_eq!(dialog.follow(Path::new("/runs")), None, "it is asked for once");
        dialog.set_listing(Path::new("/other"), Ok(vec![entry("late")]));
        assert_eq!(dialog.shown(), None);
        dialog.set_listing(Path::new("/runs"), Ok(vec![entry("Big"), entry("small"), entry(".hidden")]));
        let names = |dialog: &OpenDialog| -> Vec<String> {
            dialog.shown().unwrap().unwrap().iter().map(|entry| entry.name.clone()).collect()
        };
        assert_eq!(names(&dialog), ["Big", "small"]);
        dialog.text = "/runs/b".into();
        assert_eq!(dialog.follow(Path::new("/")), None, "the same folder");
        assert_eq!(names(&dialog), ["Big"]);
        dialog.text = "/runs/.".into();
        assert_eq!(names(&dialog), [".hidden"]);
        dialog.text = "/runs/typo".into();
        assert_eq!(names(&dialog), ["Big", "small"]);
        dialog.enter(Path::new("/runs/Big"));
        assert_eq!(Path::new(&dialog.text), Path::new("/runs/Big"));
        assert_eq!(dialog.follow(Path::new("/")), Some("/runs/Big".into()));
        assert_eq!(dialog.shown(), None, "it is being read");
        dialog.text = "sae:///runs/f/3".into();
        assert_eq!((dialog.follow(Path::new("/")), dialog.shown()), (None, None));
    }
}
