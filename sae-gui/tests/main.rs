//! What needs a run on disk: the app through the accessibility tree, and the real window.

#![allow(clippy::unwrap_used)]

mod app;
mod captions;
mod compare;
mod filter;
mod fixture;
mod harness;
mod labeling;
mod layout;
mod meaning;
mod memory;
mod opening;
mod playground;
mod popups;
mod prompts;
mod samples;
mod selection;
mod snapshots;
mod window;
