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
    /// Checkpoints that are not one for each run.
    #[error("{models} checkpoints were named for {runs} runs: expected the checkpoint of each run, in the same order")]
    OtherCheckpoints {
        /// Checkpoints that were named.
        models: usize,
        /// Runs that were named.
        runs: usize,
    },
    /// A checkpoint that is not that of its run.
    #[error("the run {} was captured from another checkpoint than {}", run.display(), model.display())]
    NotOfRun {
        /// The checkpoint.
        model: PathBuf,
        /// The run.
        run: PathBuf,
    },
    /// Features cannot be moved from one model to another.
    #[error(
        "features are moved from the first model of a crosscoder of two to the second: expected both of its runs, and found a crosscoder of {models} with {}",
        super::joined(runs)
    )]
    PatchOfTwo {
        /// Models that the crosscoder reads.
        models: usize,
        /// The runs that were named.
        runs: Vec<PathBuf>,
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
