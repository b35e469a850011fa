//! Sparse autoencoders for multimodal language models: what a model has learned across images and text, and which data is worth
//! training on. This library is what the program `sae` and the desktop app run.
//!
//! Each step of the work is a *request*: a struct with public fields that is checked, run, and answered by a *report*. The steps
//! share one *run folder*. The following captures the bundled model's activations, trains an autoencoder, indexes its features,
//! scores the samples and writes the better half of them:
//!
//! ```
//! use filters::select::Keep;
//! use sae_core::autoencoder::Architecture;
//! use sae_core::store::Hook;
//! use sae_core::train::TrainConfig;
//! use sae_workbench::*;
//!
//! # let folder = tempfile::tempdir().expect("a temporary folder");
//! # let [run, better] = ["run", "better"].map(|name| folder.path().join(name));
//! let mut control = Control::default();
//!
//! // The residual stream after decoder block 4, for 48 image-text pairs; once more with blank images for the score `pmi_blank`.
//! let (model, data) = ("assets/demo-mllm", "assets/demo-data/data.jsonl");
//! let mut harvest = HarvestRequest::new(model, data, vec![Hook::block(4)], &run);
//! harvest.plan.limit = Some(48);
//! harvest.blank_images = true;
//! let captured = harvest.run(&mut control)?;
//!
//! let config = TrainConfig { features: 256, k: 8, batch: 128, ..TrainConfig::for_architecture(Architecture::TopK) };
//! let trained = TrainRequest::new(&run, "layers.4", "base", config.with_steps(30)).run(&mut control)?;
//!
//! let sae = SaeChoice::new(&run);
//! let indexed = IndexRequest::new(sae.clone()).run(&mut control)?;
//! let scored = ScoreRequest::new(sae).run(&mut control)?;
//!
//! let rules = SelectionRules::new("pmi_blank", Keep::Share(0.5));
//! let filtered = FilterRequest::new(&run, FilterBy::Rules(rules), &better).run(&mut control)?;
//!
//! assert_eq!((captured.samples, trained.saes[0].d_sae, indexed.features), (48, 256, 256));
//! assert_eq!((scored.samples, filtered.kept.rows), (48, 24));
//! # Ok::<(), Error>(())
//! ```
//!
//! # What is in it
//!
//! | to | use |
//! |---|---|
//! | capture activations, or take another tool's | [`HarvestRequest`], [`MergeRequest`], [`import`] |
//! | train and measure autoencoders | [`TrainRequest`], [`EvalRequest`] |
//! | understand features | [`IndexRequest`], [`LabelRequest`], [`export`] |
//! | score samples, and explain and validate scores | [`ScoreRequest`], [`ExplainRequest`], [`ValidateRequest`] |
//! | find what differs between groups, along an order, or with a target | [`ContrastRequest`] |
//! | compare models | [`EvalModelsRequest`] (bits per byte of text), [`OwnershipRequest`] (by a crosscoder), [`SeriesRequest`] (by an autoencoder of one) |
//! | learn from labels | [`ProbeRequest`] |
//! | choose what to label | [`PairsRequest`] |
//! | have a model write, with a guard | [`GenerateRequest`] |
//! | share the passes of an index, a scoring or a question between machines | [`PassRequest`], [`ReduceRequest`] |
//! | bring folders into a bucket, and from there | [`PushRequest`], [`PullRequest`] |
//! | choose data | [`FilterRequest`], [`PatchesRequest`] |
//! | read and convert files | [`InfoRequest`], [`ConvertRequest`] |
//! | find features by captions | [`caption_search::CaptionSearch`] |
//! | compare two features | [`compare::cosine`], [`compare::Coactivation`] |
//! | search the table of features | [`feature_table::FeatureList`] |
//! | show a run in the browser, or read one that is shown elsewhere | [`ServeRequest`], [`RemoteRun`] |
//! | look at an autoencoder with its activations | [`SaeChoice::load`], [`SampleActivations`] |
//!
//! `XRequest::new` fills in the defaults of the command line. `plan` says what would be done, and does nothing; `run` does it.
//! Reports serialize: as JSON they are what `sae --json` prints. [`Control`] is how a program follows an operation and stops it.
//! [`Error`] is an enum with data, and [`Error::hint`] says what could be done about it, in terms of requests. Operations never
//! print, never read arguments, and never name command-line flags.
//!
//! # Where to go next
//!
//! The folder `examples` of the repository has six programs that use this library, from training to an observer of your own.
//! The crates below do the work: [`sae_core`] (run folder, training, analysis), [`harvest`](::harvest) (models, data sets,
//! capture) and [`filters`] (scores, selection, writing). `FORMATS.md` defines the files of a run folder, for programs that
//! read them directly.

pub mod assets;
pub mod bench;
pub mod caption_search;
mod causes;
pub mod command_line;
mod companion;
pub mod compare;
pub mod contrast;
pub mod control;
pub mod convert;
mod crosscoder;
mod dataset;
pub mod demo;
pub mod error;
pub mod eval;
pub mod explain;
pub mod export;
pub mod feature_table;
mod feedback;
pub mod filter;
pub mod generate;
pub mod harvest;
pub mod import;
pub mod index;
pub mod info;
pub mod job_array;
pub mod label;
pub mod launch;
mod likelihood;
pub mod merge;
mod model;
mod model_card;
pub mod models;
pub mod numbers;
pub mod objects;
pub mod pairs;
pub mod parts;
mod passes;
pub mod patches;
pub mod probe;
mod provenance;
pub mod published;
pub mod remote;
pub mod roles;
pub mod sae;
pub mod sample_activations;
pub mod sample_images;
pub mod score;
pub mod serve;
pub mod steering;
pub mod summaries;
pub mod train;
mod transcoder;
mod unknown;
pub mod upload;
pub mod validate;

pub use contrast::{ContrastReport, ContrastRequest};
pub use control::{Cancel, Control, NoProgress, Progress};
pub use convert::{ConvertReport, ConvertRequest};
pub use demo::{DemoReport, DemoRequest};
pub use error::{Error, FilterError, Result};
pub use eval::{EvalModelsReport, EvalModelsRequest, EvalReport, EvalRequest, TransferReport, TransferRequest};
pub use explain::{ExplainReport, ExplainRequest, Explainer};
pub use filter::{
    BudgetRules, FilterBy, FilterReport, FilterRequest, FilterSeries, PromiseRule, QuantileReport, SelectionRule,
    SelectionRules, ShortlistReport, ShownFeatures,
};
pub use generate::{GenerateReport, GenerateRequest};
pub use harvest::{HarvestReport, HarvestRequest};
pub use index::{IndexReport, IndexRequest};
pub use info::{InfoReport, InfoRequest};
pub use label::{LabelReport, LabelRequest};
pub use launch::{LaunchReport, LaunchRequest};
pub use merge::{MergeReport, MergeRequest};
pub use models::{ModelsChoice, OwnershipReport, OwnershipRequest, SeriesReport, SeriesRequest};
pub use objects::{PullReport, PullRequest, PushReport, PushRequest};
pub use pairs::{PairsReport, PairsRequest};
pub use parts::{PartOperation, PassReport, PassRequest, ReduceReport, ReduceRequest};
pub use patches::{MeasurePatchesRequest, PatchesMeasured, PatchesReport, PatchesRequest};
pub use probe::{ProbeReport, ProbeRequest};
pub use remote::RemoteRun;
pub use sae::{FeatureChoice, LoadedSae, SaeChoice};
pub use sample_activations::SampleActivations;
pub use score::{ScoreOptions, ScoreReport, ScoreRequest};
pub use serve::{ServePlan, ServeRequest, Server};
pub use summaries::{SummariesReport, SummariesRequest};
pub use train::{TrainReport, TrainRequest};
pub use upload::{UploadReport, UploadRequest};
pub use validate::{ValidateReport, ValidateRequest};
