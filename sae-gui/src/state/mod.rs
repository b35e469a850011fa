//! What the app knows and what happens to it: search, sort, selection, labels and their undo, thresholds,
//! history, links, commands. No egui type and no
//! file access lives here, so that all of it is tested without a window.

pub mod command;
pub mod data;
pub mod excerpt;
pub mod export;
pub mod field;
pub mod format;
pub mod history;
pub mod job;
pub mod labelling;
pub mod link;
pub mod list;
pub mod lru;
pub mod map;
pub mod marks;
pub mod palette;
pub mod place;
pub mod pointing;
pub mod query;
pub mod session;
pub mod sieve;
pub mod trial;

pub use command::Command;
pub use link::Link;
pub use session::Session;
