//! What was clicked on a page, for the window to do. Does nothing itself.

use crate::state::Command;
use crate::state::invocation::Invocation;
use crate::state::link::Counterpart;
use crate::state::location::Location;
use crate::state::open_run::SampleList;
use crate::state::overlay::PictureView;
use crate::state::playground::Prompt;
use crate::state::writing::WritingRequest;
use std::path::PathBuf;

/// What was clicked on a page.
pub enum Action {
    /// Show a location.
    Go(Location),
    /// Go to a visit of the history, by its number.
    GoToVisit(usize),
    /// Show a sample of a list, which Next and Previous then walk.
    GoToSample(u32, SampleList),
    /// Walk all samples again.
    LeaveSampleList,
    /// Show a picture as large as the window.
    ViewPicture(PictureView),
    /// Copy a picture of a sample.
    CopyPicture(PictureView),
    /// Ask where to save a picture of a sample.
    SavePicture(PictureView),
    /// Say something.
    Say(&'static str),
    /// Run a command.
    Command(Command),
    /// Open another autoencoder of the run.
    Sae(String),
    /// Open a path or a link.
    OpenText(String),
    /// Ask whether to start a command of the program `sae`.
    Confirm(Invocation),
    /// Start `sae filter`, after writing the decisions that it reads, if some were made by hand.
    Export(Invocation),
    /// Save what was written about features.
    Edited,
    /// Run the model on the prompt of the Playground page.
    Submit(Prompt),
    /// Have the model write under a guard.
    Write(WritingRequest),
    /// Stop the model that writes.
    StopWriting,
    /// Find the features that are active in the prompt of the page of a feature.
    Test(Prompt),
    /// Copy a text, and say so.
    Copy(String, &'static str),
    /// Star features, or remove their stars.
    Star(Vec<u32>, bool),
    /// Add features to a list.
    AddToList(String, Vec<u32>),
    /// Remove a list.
    RemoveList(String),
    /// Ask a model for labels of features.
    AskLabels(Vec<u32>),
    /// Show a feature beside another one.
    Compare(u32, Counterpart),
    /// Show only these features.
    Restrict(Vec<u32>),
    /// Go to the Playground and steer features there, on this prompt if there is one.
    Steer {
        /// The features.
        features: Vec<u32>,
        /// The prompt; without one, that of the page stays.
        prompt: Option<String>,
    },
    /// Keep or drop samples by hand; nothing lets the score decide.
    Choose(Vec<u32>, Option<bool>),
    /// Divide the samples into groups by columns of the data set; empty for no groups.
    Groups(String),
    /// Look for the pictures of the data set in this folder.
    SetData(PathBuf),
}
