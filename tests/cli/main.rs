//! What crosses crates, through the real program: the whole way, evaluation with a model, resumption after a kill, bad
//! input, the demo model.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod bad_input;
mod demo_model;
mod evaluate;
mod exchange;
mod filtered;
mod resume;
mod tool;
mod training;
mod whole_way;
