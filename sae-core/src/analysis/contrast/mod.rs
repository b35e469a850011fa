//! What differs between groups of samples, along an order, or with a target: one statistical test of every feature, robust
//! to samples that depend on each other, and adjusted for length.
//!
//! # Formulas
//! `y_ij` is 1 if feature `j` is active in sample `i`, and 0 otherwise ([`FeatureSets`](super::feature_sets::FeatureSets)), or its
//! strength ([`Measure`](super::feature_sets::Measure)). A question is a column `t_i`: the
//! indicator of a group, a rank, a target. Samples lie in strata `s` (of equal length, say) and in clusters `c` of samples
//! that may depend on each other (one author's, one episode's). A [`Design`] holds both.
//!
//! - `t~_i` is `t_i` minus its mean in the stratum of `i`. If samples are paired, the mean of the pair is subtracted as well;
//!   both subtractions alternate until nothing changes.
//! - `U_j`, the sum of `t~_i y_ij`, gives the effect `U_j / sum_i t~_i^2`: for a group, the adjusted difference in prevalence,
//!   or in mean strength.
//! - The variance of `U_j` under the null hypothesis is estimated from sums over clusters (Liang and Zeger 1986), here
//!   computed from active features alone (`sums.rs`).
//! - `z = U / sqrt(V C / (C - 1))` is compared with Student's distribution with `C - 1` degrees of freedom, `C` being the
//!   number of clusters. With fewer than [`MANY_CLUSTERS`] clusters, the p-value is the larger one of this and that of a
//!   permutation test; with fewer than [`FEWEST_CLUSTERS`] there is none.
//! - The p-values of all features and columns together are corrected by the procedure of Benjamini and Hochberg (1995).
//!
//! A [`study()`] confirms what it finds in one half of the clusters with the other half, and applies everything to shuffled
//! columns as well.

mod blocks;
mod design;
mod examples;
mod forecast;
mod order;
mod permutation;
mod significance;
mod study;
mod sums;
mod tables;
#[cfg(test)]
mod tests;

pub use design::{Column, Design, Participant, length_strata};
pub use examples::{EXAMPLES, ExampleCollector, GroupExample, read_examples, write_examples};
pub use forecast::{Forecast, ForecastMethod, forecasts};
pub use order::{Bins, Trajectory, trajectories};
pub use significance::{adjust, student, student_bound};
pub use study::{Estimate, Study, StudyOptions, StudyReport, TestedFeature, study};
pub use tables::{
    ChanceTest, FeatureNote, GroupSeries, GroupValue, TestTable, read_chance, read_features, read_groups, write_chance,
    write_features, write_groups,
};

/// Number of samples in which a feature must be active to be tested.
pub const FEWEST_SAMPLES: u32 = 20;
/// Number of clusters in which a feature must be active to be tested, and number of clusters below which there are no
/// p-values.
pub const FEWEST_CLUSTERS: u32 = 10;
/// Number of clusters from which Student's distribution alone decides.
pub const MANY_CLUSTERS: u32 = 50;
