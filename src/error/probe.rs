//! Why a probe cannot be fitted.

use filters::probe::Kind;
use sae_core::error::{Hint, Setting};
use std::path::PathBuf;

/// Labels that a probe cannot be fitted to.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A field that no row has.
    #[error("no row has a field {field} (rows have {})", available.join(", "))]
    UnknownField {
        /// The field.
        field: String,
        /// Fields that rows have.
        available: Vec<String>,
    },
    /// No label was named.
    #[error("a {} probe needs the field with the labels", kind.name())]
    NoLabel {
        /// The kind of probe.
        kind: Kind,
    },
    /// No pairs were named.
    #[error("a {} probe compares samples: it needs the field of the sets that are compared, or a run with rejected answers", kind.name())]
    NoPairs {
        /// The kind of probe.
        kind: Kind,
    },
    /// Values that the kind of probe does not take.
    #[error("{field} has values that are not {expected}: {}", values.join(", "))]
    Values {
        /// The field.
        field: String,
        /// What was expected.
        expected: String,
        /// Some of them.
        values: Vec<String>,
    },
    /// Too few labels.
    #[error("{field}: {}; each needs {fewest} samples or more", found.iter().map(|(what, count)| format!("{what} has {count}")).collect::<Vec<_>>().join(", "))]
    TooFew {
        /// The field.
        field: String,
        /// Labels, or what is counted, with the number of samples.
        found: Vec<(String, usize)>,
        /// The smallest number.
        fewest: usize,
    },
    /// Labels that contradict another field.
    #[error("{field} and {other} contradict each other in {count} of {compared} samples ({})", keys.join(", "))]
    Conflicts {
        /// The field with the labels.
        field: String,
        /// The other field.
        other: String,
        /// Samples whose fields contradict each other.
        count: usize,
        /// Samples with both fields.
        compared: usize,
        /// The keys of the first of them.
        keys: Vec<String>,
    },
    /// Too many pairs.
    #[error("the sets of {field} have {pairs} pairs; at most {most} can be fitted")]
    TooManyPairs {
        /// The field of sets.
        field: String,
        /// The number of pairs.
        pairs: usize,
        /// The largest number.
        most: usize,
    },
    /// A probe of another autoencoder.
    #[error("the probe belongs to an autoencoder with other weights than {sae}: {}", path.display())]
    OtherAutoencoder {
        /// The file of the probe.
        path: PathBuf,
        /// The autoencoder that was to be used.
        sae: String,
    },
    /// Few groups to hold out.
    #[error(
        "the labeled samples belong to {groups} images or sets; {fewest} or more are needed to test the probe on others"
    )]
    FewGroups {
        /// Different images or sets.
        groups: usize,
        /// The smallest number.
        fewest: usize,
    },
}

impl ProbeError {
    /// What can be done about it, if that is known.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::TooFew { .. } | Self::FewGroups { .. } => Some("label more samples".into()),
            Self::Conflicts { .. } => {
                Some(Hint::AnyOf(vec!["correct the data".into(), Hint::set(Setting::Conflicts, "keep")]))
            }
            Self::TooManyPairs { .. } => Some("compare samples within smaller sets".into()),
            _ => None,
        }
    }
}
