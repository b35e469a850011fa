//! Files of decisions: which samples were kept and why, and decisions that were made elsewhere, for example in SQL. Selects
//! nothing itself.

mod read;
mod write;

pub use read::read;
pub use write::Decisions;
