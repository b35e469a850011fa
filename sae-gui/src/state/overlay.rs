//! What lies over the pages: at most one thing at a time. Draws nothing.

use super::invocation::Invocation;
use super::label_dialog::LabelDialog;
use super::open_dialog::OpenDialog;
use super::palette::Palette;

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
