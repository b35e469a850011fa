//! What the app knows and what happens to it: search, sort, selection, labels and their undo, thresholds,
//! history, links, commands. No egui type and no
//! file access lives here, so that all of it is tested without a window.

pub mod annotations;
pub mod command;
pub mod data;
pub mod excerpt;
pub mod export;
pub mod field;
pub mod format;
pub mod history;
pub mod hover;
pub mod job;
pub mod label_edits;
pub mod link;
pub mod list;
pub mod location;
pub mod lru;
pub mod map;
pub mod open_run;
pub mod palette;
pub mod playground;
pub mod query;
pub mod session;
pub mod threshold;

pub use command::Command;
pub use link::Link;
pub use session::Session;
