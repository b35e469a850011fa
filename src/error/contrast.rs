//! Why a contrast cannot be made.

use sae_core::analysis::between::Markers;
use sae_core::error::{Hint, Setting};

/// A question that the samples cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum ContrastError {
    /// A field that no row has.
    #[error("no row has a field {field} (rows have {})", available.join(", "))]
    UnknownField {
        /// The field.
        field: String,
        /// Fields that rows have, and the columns of the scores for a target.
        available: Vec<String>,
    },
    /// A grouping with one group.
    #[error("all {samples} samples with a value of {field} are in one group, {group}: there is nothing to compare")]
    OneGroup {
        /// The field.
        field: String,
        /// The group.
        group: String,
        /// Samples in it.
        samples: usize,
    },
    /// Groups with too few samples.
    #[error(
        "each group of {field} needs {} samples or more, but {}",
        sae_core::analysis::contrast::FEWEST_SAMPLES,
        small.iter().map(|(group, samples)| format!("{group} has {samples}")).collect::<Vec<_>>().join(", ")
    )]
    SmallGroups {
        /// The field.
        field: String,
        /// The groups with their samples.
        small: Vec<(String, usize)>,
    },
    /// Groups that are clusters.
    #[error("each group of {field} is one cluster, so nothing varies between the clusters of a group")]
    GroupsAreClusters {
        /// The field.
        field: String,
    },
    /// An order or target whose values are not numbers.
    #[error("{field} has values that are not numbers: {}", values.join(", "))]
    NotNumbers {
        /// The field.
        field: String,
        /// Some of them.
        values: Vec<String>,
    },
    /// Values that are not in the list of an order.
    #[error("{field} has values that the order does not name: {}", values.join(", "))]
    NotInOrder {
        /// The field.
        field: String,
        /// Some of them.
        values: Vec<String>,
    },
    /// A field that few samples have.
    #[error("only {present} of {samples} samples have a number in {field}; 5 % are needed")]
    MostlyAbsent {
        /// The field.
        field: String,
        /// Samples that have it.
        present: usize,
        /// All samples.
        samples: usize,
    },
    /// A field with one value.
    #[error("{field} is {value} for every sample that has it: there is nothing to compare")]
    Constant {
        /// The field.
        field: String,
        /// The value.
        value: f64,
    },
    /// A pair in several clusters.
    #[error("the samples with {pair} = {value} are in several clusters of {cluster}")]
    PairInClusters {
        /// The field of pairs.
        pair: String,
        /// The pair.
        value: String,
        /// The field of clusters.
        cluster: String,
    },
    /// No two samples that could be compared.
    #[error("no two samples that take part have the same {field}")]
    NoPairs {
        /// The field of pairs.
        field: String,
    },
    /// Too many strata.
    #[error("length and {adjust} divide the samples into {strata} strata; at most {most} can be adjusted for")]
    TooManyStrata {
        /// The fields.
        adjust: String,
        /// The number of strata.
        strata: usize,
        /// The largest number.
        most: usize,
    },
    /// A lead without episodes.
    #[error("a lead needs clusters, within which samples follow each other")]
    LeadWithoutClusters,
    /// Groups whose field is not named.
    #[error("the field of the two groups is not named, and the samples of this run were not melted")]
    NoGroupField,
    /// A group that no sample has.
    #[error("the field {field} has no group {group} (it has {})", available.join(", "))]
    UnknownGroup {
        /// The field.
        field: String,
        /// The group that was asked for.
        group: String,
        /// The groups that there are.
        available: Vec<String>,
    },
    /// Too few sets with both groups.
    #[error("only {sets} sets have a number of {field} in both groups; 20 are needed")]
    FewSets {
        /// The field.
        field: String,
        /// Sets that have both.
        sets: usize,
    },
    /// A difference of answers, asked of the words of one answer.
    #[error("a difference between two answers belongs to their question, but the part {part} has words of the answer")]
    DifferenceInAnswer {
        /// The part.
        part: String,
    },
    /// A part that no sample has.
    #[error(
        "no sample with a value of {field} has a position of the part {part}{}",
        markers.as_ref().map_or(String::new(), |m| format!(" between {} and {}", m.open, m.close))
    )]
    NoPositions {
        /// The field.
        field: String,
        /// The part.
        part: String,
        /// The markers between which it should be.
        markers: Option<Markers>,
    },
}

impl ContrastError {
    /// What can be done about it, if that is known.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::TooManyStrata { .. } => "adjust for fewer fields, or for fields with fewer values".into(),
            Self::SmallGroups { .. } => {
                "divide the samples by another field, or into fewer groups (FIELD:4 for numbers)".into()
            }
            Self::GroupsAreClusters { .. } | Self::LeadWithoutClusters => Hint::Change(Setting::Cluster),
            Self::NoGroupField => "name the field, as in style=short,long".into(),
            Self::DifferenceInAnswer { .. } => "the words of the question are the part user".into(),
            _ => return None,
        })
    }
}
