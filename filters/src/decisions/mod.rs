//! Files of decisions: which samples were kept and why, what other budgets would allow, and decisions that were made elsewhere, for example in SQL. Selects
//! nothing itself.

mod frontier;
mod read;
mod write;

pub use frontier::write_frontier;
pub use read::{files, read};
pub use write::Decisions;
