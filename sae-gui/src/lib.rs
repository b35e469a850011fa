//! The desktop app: opens a run and shows its features, each with the positions where it fires.
//!
//! [`state`] decides, without a window; [`load`] reads files and computes on threads of its own; [`view`] draws. Dependencies
//! run `view -> load -> state`. The meaning of files is defined in `sae-core`.

pub mod load;
pub mod state;
pub mod view;
