//! Probes: linear functions of a few features that predict what people say about samples, from labels that some samples have.
//!
//! A probe reads `log(1 + max)` of each feature over the positions of a part of a sample. Its weights have an L1 penalty, so that
//! few features carry it and it can be read. Published comparisons find no consistent gain of probes on sparse features over good
//! probes on hidden states (Kantamneni et al. 2025), which is why the operation reports those beside it.

mod audit;
mod fit;
#[cfg(test)]
mod golden;
mod isotonic;
mod loss;
pub mod measures;
mod rows;
mod solver;

pub use audit::{Audit, expected_auc};
pub use fit::{FOLDS, Fit, PathPoint, Probe, calibrate, folds};
pub use isotonic::Isotonic;
pub use loss::{Kind, Targets, sigmoid};
pub use rows::Rows;
pub use solver::{Penalty, Problem, Solution};
