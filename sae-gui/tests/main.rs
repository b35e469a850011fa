//! What needs a run on disk: the app through the accessibility tree, and the real window.

#![allow(clippy::unwrap_used)]

mod app;
mod ask_label;
mod captions;
mod compare;
mod contrast;
mod filter;
mod fixture;
mod guarded;
mod harness;
mod labeling;
mod layout;
mod meaning;
mod memory;
mod models;
mod navigation;
mod opening;
mod pictures;
mod playground;
mod popups;
mod probe;
mod prompts;
mod remote;
mod samples;
mod selection;
#[path = "../../harvest/tests/it/server.rs"]
#[allow(dead_code, reason = "what only the tests of other crates need")]
mod server;
mod snapshots;
mod window;
