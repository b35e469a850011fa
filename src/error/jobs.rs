//! Why jobs that several processes share cannot be begun, or their parts not be put together.

use crate::command_line::quoted;
use crate::numbers::counted;
use sae_core::error::{Hint, Operation};
use std::path::PathBuf;

/// A job that several processes share and that cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// No part was named.
    #[error("no part was found in {}", place.display())]
    NoParts {
        /// The folder, or the run.
        place: PathBuf,
    },
    /// A part that does not belong to the run, or not to the other parts.
    #[error("the part has {}: {}", others(differences), path.display())]
    OtherPart {
        /// What differs: the version of the program, the run, the autoencoder, the arguments, the number of parts.
        differences: Vec<&'static str>,
        /// Its file.
        path: PathBuf,
    },
    /// Two parts of the same number with different states.
    #[error("part {part} exists twice, with different states: {} and {}", first.display(), second.display())]
    UnequalParts {
        /// Number and count.
        part: harvest::Shard,
        /// A file.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
    },
    /// Parts that are not there.
    #[error("{} missing: {}", counted_parts(missing), listed(missing))]
    MissingParts {
        /// Which ones.
        missing: Vec<harvest::Shard>,
        /// The commands that make them, as the files of the other parts tell; empty if they do not.
        commands: Vec<Vec<String>>,
    },

    /// Variables of a job array that do not say which share this process has.
    #[error("{cause} ({})", variables.join(", "))]
    Array {
        /// What is wrong.
        cause: String,
        /// The variables that were found, with their values.
        variables: Vec<String>,
    },

    /// Several processes with a model and a data set.
    #[error("several processes can only train on stored activations, since each would run the model on all data")]
    OnlineRanks,
    /// The first of several processes could not save what all of them have trained.
    #[error("process 1 could not save what was trained")]
    NotSaved,

    /// A process that cannot be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The command that follows all parts failed.
    #[error("all parts are done, but not the command that follows them ({status}): {said}")]
    Last {
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
    },
    /// Parts of a job that failed again and again.
    #[error("{} after {tries} tries each: {}", failed_parts(failed), listed_numbers(failed))]
    Failed {
        /// Numbers of the parts, with the last line that each of them said.
        failed: Vec<(u32, String)>,
        /// How often each was tried.
        tries: u32,
        /// The folder of their logs.
        logs: PathBuf,
    },
}

impl JobsError {
    /// What can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::OnlineRanks => Hint::Run(Operation::Harvest),
            Self::NotSaved => "see the error of process 1, and start all processes again".into(),
            Self::NoParts { .. } => "make the parts first, or name their files".into(),
            Self::OtherPart { .. } => "name the parts of one pass only, or make this one again".into(),
            Self::UnequalParts { .. } => "remove one of them, or both and make the part again".into(),
            Self::MissingParts { commands, .. } => {
                let commands = commands.iter().map(|words| format!("\n  {}", quoted(words))).collect::<String>();
                if commands.is_empty() { return None } else { format!("these commands make them:{commands}").into() }
            }
            Self::Array { .. } => "name the share in place of auto, such as 3/8".into(),
            Self::Start { .. } | Self::Last { .. } => return None,
            Self::Failed { logs, .. } => {
                let logs = logs.display();
                format!("see the logs, and run the same command again, which makes only what is missing: {logs}").into()
            }
        })
    }
}

fn others(differences: &[&str]) -> String {
    differences.iter().map(|what| format!("another {what}")).collect::<Vec<_>>().join(" and ")
}

fn counted_parts(missing: &[harvest::Shard]) -> String {
    format!("{} {}", counted(missing.len() as u64, "part"), if missing.len() == 1 { "is" } else { "are" })
}

fn listed(missing: &[harvest::Shard]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn failed_parts(failed: &[(u32, String)]) -> String {
    format!("{} failed", counted(failed.len() as u64, "part"))
}

fn listed_numbers(failed: &[(u32, String)]) -> String {
    failed.iter().map(|(number, said)| format!("part {number} ({said})")).collect::<Vec<_>>().join(", ")
}
