//! What a session asks of the window, since it cannot do it itself. Plain data.

use super::invocation::Invocation;
use super::label_edits::Edits;
use super::link::Link;
use super::location::Page;
use serde::{Deserialize, Serialize};

/// Something that the window does.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Read a run.
    Open(Link),
    /// Show the run that has just been read.
    Opened,
    /// Put a text into the clipboard.
    Copy(String),
    /// Put a picture of the window into the clipboard.
    CopyPicture,
    /// Put the cursor into the search field of a page: that of all samples or that of features.
    FocusSearch(Page),
    /// Put the cursor into the field of the label of a feature.
    FocusLabel(u32),
    /// Scroll to the row of the feature that is shown.
    Reveal,
    /// Save edits of labels.
    Save(Edits),
    /// Estimate what it costs to ask a model for labels of these features.
    EstimateLabels(Vec<u32>),
    /// Start a command.
    Start(Invocation),
    /// Use these colors; none: those that the system prefers.
    Theme(Option<Theme>),
    /// Close the window.
    Quit,
}

/// A set of colors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// Dark text on a light background.
    Light,
    /// Light text on a dark background.
    Dark,
}
