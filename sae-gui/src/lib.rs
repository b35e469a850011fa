//! The desktop app `sae-gui`: opens a run and shows its features, each with the positions where it fires; its samples, with the
//! features that are active in them; a filter with a threshold to drag; and a playground for prompts.
//!
//! [`state`] decides, without a window; [`load`] reads files and computes on threads of its own; [`view`] draws. Dependencies
//! run `view -> load -> state`. The meaning of files is defined in `sae-core`, and operations are those of `sae_workbench`.
//!
//! | to change | begin with |
//! |---|---|
//! | what the app knows and what an action does | [`state::Session`], [`state::Command`] |
//! | links such as `sae://RUN/f/12` | [`state::Link`] |
//! | how something is drawn | [`view::App`] |
//!
//! This is a library so that tests can run the app without a window. It is not meant for other programs: use `sae_workbench`.

pub mod load;
pub mod state;
pub mod view;
