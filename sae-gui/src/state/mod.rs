//! What the app knows and what happens to it: search, sort, selection, labels and their undo, thresholds, history, links,
//! commands. No egui type and no file access is here, so that all of it is tested without a window.

pub mod activations;
pub mod budget;
pub mod clipboard;
pub mod command;
pub mod contrast;
pub mod details;
pub mod effect;
pub mod excerpt;
pub mod explanation;
pub mod export_settings;
pub mod format;
pub mod guard;
pub mod history;
pub mod hover;
pub mod invocation;
pub mod job;
pub mod label_dialog;
pub mod label_edits;
pub mod link;
pub mod location;
pub mod lru;
pub mod map;
pub mod models;
pub mod named;
pub mod open_dialog;
pub mod open_run;
pub mod overlay;
pub mod palette;
pub mod playground;
pub mod probe;
pub mod report;
pub mod run_info;
pub mod sample;
pub mod sample_browser;
pub mod score_description;
pub mod score_filter;
pub mod script;
pub mod session;
pub mod settings;
pub mod shared_samples;
pub mod writing;

pub use sae_workbench::feature_table::{annotations, caption_shares, field, list, query, typical_words};

pub use command::Command;
pub use link::Link;
pub use session::Session;
