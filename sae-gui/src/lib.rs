//! The desktop app: opens a run and shows its features, each with the places where it fires.
//!
//! [`state`] knows and decides, without a window; [`load`] reads files on a thread of its own; [`view`] draws. Arrows
//! run `view -> load -> state`. Everything about files and their meaning is in `sae-core`.

pub mod load;
pub mod state;
pub mod view;
