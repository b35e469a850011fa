//! Why models cannot be trained on or compared together.

use std::path::PathBuf;

/// Runs and crosscoders that do not belong together.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// A crosscoder where the states of a single model are read.
    #[error("this needs an autoencoder of one model, and the crosscoder reads {models}")]
    Crosscoder {
        /// Models that it reads.
        models: usize,
    },
    /// A comparison of models with an autoencoder that reads one.
    #[error("{name} is not a crosscoder, so it reads one model")]
    NoCrosscoder {
        /// The autoencoder.
        name: String,
    },
    /// A run that has none of the models of a crosscoder.
    #[error("the crosscoder reads no model of the run {}; it reads those of {}", run.display(), super::joined(available))]
    RunOfNoModel {
        /// The run.
        run: PathBuf,
        /// The runs of its models.
        available: Vec<PathBuf>,
    },
    /// Numbers of samples that do not belong to the checkpoints.
    #[error(
        "the numbers of samples {numbers:?} do not fit {checkpoints} checkpoints after the aligned model: expected one for each, ascending"
    )]
    OtherSeries {
        /// The numbers.
        numbers: Vec<u64>,
        /// Checkpoints after the aligned model.
        checkpoints: usize,
    },
    /// Several runs for an autoencoder that reads one model.
    #[error("{runs} runs were named, and an autoencoder that is not a crosscoder reads one")]
    SeveralRuns {
        /// Runs that were named.
        runs: usize,
    },
    /// A crosscoder of another number of models than the runs that were named.
    #[error(
        "a crosscoder of {models} models needs as many runs, each with stored activations of the same samples, and not {runs}"
    )]
    OtherRuns {
        /// Models that it reads.
        models: usize,
        /// Runs that were named.
        runs: usize,
    },
}
