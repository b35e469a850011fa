//! Why no pairs of answers can be chosen.

use crate::numbers::counted;
use filters::probe::Kind;
use sae_core::error::{Hint, Setting};
use std::path::PathBuf;

/// Answers of which no pairs can be chosen.
#[derive(Debug, thiserror::Error)]
pub enum PairsError {
    /// Samples that are no pieces, so that nothing says which answers belong together.
    #[error("the samples are not pieces of trees: {}", run.display())]
    NoPieces {
        /// The run folder.
        run: PathBuf,
    },
    /// No answers that could be compared within a tree.
    #[error("expected a tree with two answers or more, and found {} in {}, never two in one", counted(*answers as u64, "answer"), counted(*trees as u64, "tree"))]
    NoPairs {
        /// Answers in all.
        answers: usize,
        /// Trees in all.
        trees: usize,
    },
    /// Answers of one tree, so that none are unrelated.
    #[error(
        "all {answers} answers belong to one tree: expected answers of two trees or more, because the uncertainty is that of \
         unrelated answers"
    )]
    OneTree {
        /// Answers in all.
        answers: usize,
    },
    /// A probe that does not say which of two answers is better.
    #[error("expected a probe of the kind pair, and {name} is {}", kind.name())]
    ProbeKind {
        /// The name of the probe.
        name: String,
        /// Its kind.
        kind: Kind,
    },
    /// No feature that distinguishes answers.
    #[error(
        "no feature distinguishes the {answers} answers: expected some that are active in two answers or more, and not in nearly all"
    )]
    NoFeatures {
        /// Answers in all.
        answers: usize,
    },
    /// A line that names no pair of answers of the run.
    #[error("{}, line {line}: expected the ids of two answers of this run: {cause}", path.display())]
    Earlier {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// A number out of its range.
    #[error("invalid {what} {found}: expected {expected}")]
    Number {
        /// What the number is.
        what: &'static str,
        /// The number.
        found: f64,
        /// Its range.
        expected: String,
    },
}

impl PairsError {
    /// What can be done about it, if that is known.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::NoPieces { .. } => Hint::set(Setting::Pieces, "tree"),
            Self::NoPairs { .. } | Self::OneTree { .. } => "capture trees with more answers".into(),
            Self::ProbeKind { .. } => "fit a probe to pairs".into(),
            Self::Earlier { .. } | Self::NoFeatures { .. } | Self::Number { .. } => return None,
        })
    }
}
