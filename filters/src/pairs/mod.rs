//! Which pairs of answers people should compare next, for a reward that is linear in the features of answers.
//!
//! # Method
//! The reward of an answer is `w.x`, with the prior `w ~ N(0, t^2 I)`. A comparison of two answers says which one is better, with the
//! probability `p = sigma(w.d)` for the first, `d` the difference of their features. By Laplace's approximation the weights then have
//! the covariance `S = (I / t^2 + sum p (1 - p) d d')^-1` ([`Posterior`]). What should be small is the mean variance `d' S d` of the
//! reward's difference over pairs of unrelated answers: the inference distance of Qiu et al., "Reward Generalization in RLHF: A
//! Topological Perspective" (2024). It depends on which pairs are compared, and not on how people decide. [`PairSpace`] draws pairs
//! of each [`Topology`], and [`most_informative`] chooses those that reduce the variance most.

mod active;
mod posterior;
mod space;
mod topology;

pub use active::most_informative;
pub use posterior::{Posterior, Step, differences, follow, informativeness};
pub use space::PairSpace;
pub use topology::Topology;
