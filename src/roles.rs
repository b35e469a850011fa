//! The kinds of things in a run that requests name, and the roles of a run in the scoring or filtering of another. Errors and operations
//! share them.

use std::fmt;

/// A kind of thing in a run that requests name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An autoencoder.
    Autoencoder,
    /// A score table.
    ScoreTable,
    /// A probe.
    Probe,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Autoencoder => "autoencoder",
            Self::ScoreTable => "score table",
            Self::Probe => "probe",
        })
    }
}

/// The role of a run in the scoring or filtering of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weights and `pmi` are fitted to it.
    Calibration,
    /// The same samples with their rejected answers.
    Rejected,
    /// The same samples with blank images.
    BlankImages,
    /// A selection should have its features.
    Target,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calibration => "the calibration run",
            Self::Rejected => "the run with rejected answers",
            Self::BlankImages => "the pass with blank images",
            Self::Target => "the target run",
        })
    }
}
