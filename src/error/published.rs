//! Why a published autoencoder cannot be taken into a run, or none is found.

use sae_core::error::{Hint, Setting};
use std::path::PathBuf;

/// What is wrong with the name of a published autoencoder, or with the run that it should go into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishedError {
    /// A repository that the hub does not have.
    #[error("the hub has no such repository, or shows it only to others: {name}{}", nearest_names(nearest))]
    NoRepository {
        /// What was asked for.
        name: String,
        /// Repositories of released autoencoders with similar names.
        nearest: Vec<String>,
    },
    /// A repository without autoencoders.
    #[error("no autoencoder of a known format is in this repository: {name}{}", only_cached(unlisted.as_deref()))]
    NoAutoencoder {
        /// What was asked for.
        name: String,
        /// Why only files in the cache are known.
        unlisted: Option<String>,
    },
    /// A path at which the repository has no autoencoder.
    #[error("the repository has no autoencoder at this path: {name}{}{}", nearest_names(nearest), only_cached(unlisted.as_deref()))]
    NoPath {
        /// What was asked for.
        name: String,
        /// Autoencoders with similar paths.
        nearest: Vec<String>,
        /// Why only files in the cache are known.
        unlisted: Option<String>,
    },
    /// A path below which there are several autoencoders.
    #[error("{count} autoencoders are below this path: {name}: {}{}", paths.join(", "), if *count > paths.len() { ", ..." } else { "" })]
    Several {
        /// What was asked for.
        name: String,
        /// How many.
        count: usize,
        /// The first of them.
        paths: Vec<String>,
    },
    /// A released autoencoder whose files are not read.
    #[error(
        "the files of the release {release} are of a layout that is not read, or need settings that no file has: {name}"
    )]
    NotRead {
        /// What was asked for.
        name: String,
        /// The release.
        release: String,
    },
    /// An autoencoder of a hook that is never captured.
    #[error("the autoencoder was trained on {hook}, which is not captured")]
    NotCaptured {
        /// Its hook.
        hook: String,
    },
    /// An autoencoder of a hook that the run does not have.
    #[error(
        "the autoencoder was trained on {hook}, and the run has {}: {}",
        if available.is_empty() { "no activations".into() } else { format!("activations of {}", available.join(", ")) },
        run.display()
    )]
    OtherHook {
        /// Its hook.
        hook: String,
        /// The hooks of the run.
        available: Vec<String>,
        /// The run folder.
        run: PathBuf,
    },
    /// An autoencoder whose hook is not known.
    #[error(
        "neither the files of the autoencoder nor the list of released ones say which hook it was trained on: {name}"
    )]
    UnknownHook {
        /// The autoencoder.
        name: String,
    },
    /// An autoencoder of another model than the run's.
    #[error("the autoencoder was trained on the model {sae}, and the run was captured from {found}: {}", run.display())]
    OtherModel {
        /// The model of the autoencoder.
        sae: String,
        /// The model of the run.
        found: String,
        /// The run folder.
        run: PathBuf,
    },
    /// A search without a result.
    #[error("no released autoencoder has all of these words: {words}{}", nearest_names(nearest))]
    NothingFound {
        /// What was looked for.
        words: String,
        /// Similar names of models, repositories and releases.
        nearest: Vec<String>,
    },
}

fn nearest_names(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; the nearest are {}", names.join(", ")) }
}

fn only_cached(unlisted: Option<&str>) -> String {
    unlisted.map(|why| format!(" (only its files in the cache were looked at: {why})")).unwrap_or_default()
}

impl PublishedError {
    /// What can be done about it.
    pub(super) fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::NoRepository { .. } => {
                "if it is private or gated, accept its terms on its page and set HF_TOKEN to a token that may read it"
                    .into()
            }
            Self::Several { .. } | Self::NoPath { .. } => "name one of them".into(),
            Self::OtherHook { hook, .. } => {
                Hint::AnyOf(vec![format!("capture {hook} of the same data").into(), Hint::Change(Setting::Run)])
            }
            Self::UnknownHook { .. } => Hint::Set(Setting::Hook, Vec::new()),
            Self::OtherModel { .. } => {
                Hint::AnyOf(vec![Hint::Change(Setting::Run), Hint::Set(Setting::AnyModel, Vec::new())])
            }
            Self::NothingFound { .. } => "use fewer words, or parts of words".into(),
            Self::NotCaptured { .. } => {
                "choose one of another hook; a search lists those that can be captured first".into()
            }
            Self::NoAutoencoder { .. } | Self::NotRead { .. } => return None,
        })
    }
}
