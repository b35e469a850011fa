//! What lies over the pages: at most one thing at a time. Draws nothing.

use super::invocation::Invocation;
use super::label_dialog::LabelDialog;
use super::open_dialog::OpenDialog;
use super::palette::Palette;
use std::path::Path;

/// What lies over the pages.
#[derive(Clone, Debug, Default)]
pub enum Overlay {
    /// Nothing.
    #[default]
    None,
    /// All shortcuts.
    Shortcuts,
    /// The field for another run.
    Open(OpenDialog),
    /// The command palette.
    Palette(Palette),
    /// A picture, as large as the window.
    Picture(PictureView),
    /// Asking where to save a picture.
    SavePicture(SavePictureDialog),
    /// Asking a model for labels.
    AskLabel(LabelDialog),
    /// The question whether to start a command.
    Confirm(Invocation),
    /// The question what to do with edits that cannot be saved before the window closes.
    Unsaved(UnsavedDialog),
}

/// Which picture is looked at by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureView {
    /// The sample.
    pub sample: u32,
    /// The number of its picture, from 0.
    pub picture: usize,
}

/// The question where to save a picture of a sample.
#[derive(Clone, Debug)]
pub struct SavePictureDialog {
    /// The picture.
    pub picture: PictureView,
    /// The file, as typed.
    pub path: String,
    /// Why it cannot be saved there.
    pub problem: Option<String>,
}

impl SavePictureDialog {
    /// Proposes a file beside a run.
    pub fn new(picture: PictureView, run: &Path) -> Self {
        let name = run.file_name().unwrap_or_default().to_string_lossy();
        let file = format!("{name}-sample-{}-{}.png", picture.sample, picture.picture + 1);
        Self { picture, path: run.with_file_name(file).display().to_string(), problem: None }
    }
}

/// The question what to do with edits that cannot be saved.
#[derive(Clone, Debug, Default)]
pub struct UnsavedDialog {
    /// Where to write the labels instead, as typed.
    pub path: String,
    /// Why they cannot be written there.
    pub problem: Option<String>,
}

impl Overlay {
    /// Whether there is one.
    pub fn is_open(&self) -> bool {
        !matches!(self, Self::None)
    }
}
