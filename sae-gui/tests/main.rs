//! What needs a run on disk: the app through the accessibility tree, and the real window.

#![allow(clippy::unwrap_used)]

mod app;
mod fixture;
mod snapshots;
mod window;
