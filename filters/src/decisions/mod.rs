//! Decisions in files: what became of every sample, and decisions that were made elsewhere, in SQL say. Chooses nothing.

mod read;
mod write;

pub use read::read;
pub use write::Decisions;
