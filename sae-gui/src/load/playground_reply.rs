//! What the worker that runs the model tells the window, and how. Runs nothing.

use crate::state::playground::{Answer, PromptActivations};
use crate::state::writing::Ending;
use sae_workbench::generate::Event;
use std::sync::mpsc::Sender;

/// What the worker has computed.
pub enum PlaygroundReply {
    /// The answer to the prompt of the Playground page.
    Answer(Result<Answer, String>),
    /// The features that are active in the prompt of the page of a feature.
    Test(Result<PromptActivations, String>),
    /// What is done before a text is written.
    Doing(String),
    /// What has happened to the text that is being written.
    Event(Event),
    /// The text is no longer written.
    Ended(Ending),
}

/// The worker's way to the window.
#[derive(Clone)]
pub struct ReplySender<W> {
    /// Where replies go.
    pub sender: Sender<PlaygroundReply>,
    /// Called after each of them.
    pub wake: W,
}

impl<W: Fn()> ReplySender<W> {
    /// Tells the window.
    pub fn send(&self, reply: PlaygroundReply) {
        // The window may be gone; then `quit` comes next.
        let _ = self.sender.send(reply);
        (self.wake)();
    }
}
