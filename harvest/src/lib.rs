//! Multimodal models, their processors and data sets, and the capture of their hidden states.
//!
//! Data flows one way:
//!
//! ```text
//! data::Source ──rows──▶ Checkpoint::prepare ──────────▶ Model::hidden ──▶ sae_core::store
//! JSON, Parquet,         prompt: turns ▶ template ▶ ids   ViT ▶ projector   parts of shards
//! tar, folder            pixels: file ▶ Pillow's resize   ▶ decoder blocks  and tables
//! ```
//!
//! [`harvest()`] does all of this according to a [`Plan`]. [`OnlineActivations`] serves hidden states without storing
//! them. A [`SpliceRunner`] replaces the hidden states behind one block and continues the forward pass from there; a
//! [`Playground`] does the same with a single prompt, [`generation`] writes many texts at a time, and a [`ModelPair`] with states that depend on those of another model. A [`LogitLens`] finds the tokens that a direction promotes.
//! [`Checkpoint`] opens the files of a Hugging Face folder and turns rows into samples; [`model`] computes; [`data`]
//! reads. Inputs and outputs equal those of `transformers` 5.23 with Pillow 13 as the image backend: token ids exactly,
//! pixel values exactly, hidden states to 1e-4.
//!
//! [`Import`] copies activations that another tool captured into a run.
//!
//! A row that cannot be used is skipped, counted, and listed with its reason. Only what would affect every row (a
//! checkpoint, an argument, a disk) is an [`Error`]. Nothing here prints. Three modules use the network, each only when
//! a caller asks for it: [`hub`] downloads a checkpoint or uploads files, [`data::Fetch`] downloads an image behind a link, and [`chat`]
//! sends a question to an endpoint.
//!
//! This crate does not know what an autoencoder is.
//!
//! # Example
//!
//! The residual stream of the bundled model on one row of the bundled data. Checkpoints of all supported families work the same
//! way.
//!
//! ```
//! use harvest::data::Source;
//! use harvest::model::Compute;
//! use harvest::{Answers, Checkpoint, Templating};
//! use sae_core::store::Hook;
//!
//! let source = Source::open("../assets/demo-data/data.jsonl".as_ref())?;
//! let row = source.rows(&Vec::new())?.next().expect("the data has rows")?;
//!
//! let checkpoint = Checkpoint::open("../assets/demo-mllm".as_ref())?;
//! let prepared = checkpoint.prepare(row, Answers::All, Templating::Auto).expect("a usable row");
//! println!("{:?}: {} tokens", prepared.sample.text, prepared.tokens.len());
//!
//! // Decoder blocks up to 4 are loaded, counted from 0. The stream after block 4 has a row of 256 numbers for each token.
//! let hook = Hook::block(4);
//! let model = checkpoint.load_to(hook, &Compute::Host { bf16: false })?;
//! let hidden = model.hidden(&[&checkpoint.input(&prepared)], &[hook])?;
//! assert_eq!(hidden.rows(0, 0).len(), prepared.tokens.len() * 256);
//! # Ok::<(), harvest::Error>(())
//! ```
//!
//! The crate `sae_workbench` has the operations: its `HarvestRequest` captures a whole data set.

mod action;
mod alphabet;
mod capture;
pub mod chat;
mod checkpoint;
pub mod data;
mod devices;
mod error;
mod fields;
mod fingerprint;
pub mod generation;
pub mod hub;
mod identity;
mod image_positions;
mod import;
mod ipc;
mod jinja;
pub mod kernel;
mod likelihood;
mod logit_lens;
pub mod model;
mod model_pair;
mod net;
pub mod objects;
mod online;
mod overlap;
mod pieces;
pub mod pixels;
mod plan;
mod playground;
mod precedence;
mod predictions;
mod prepared;
mod preview;
pub mod prompt;
pub mod resample;
mod sample_capture;
mod served;
mod shard;
mod splice;
pub mod template;
mod tokenizer;
mod weight_distance;

pub use action::ActionStatistics;
pub use capture::{CaptureProgress, harvest};
pub use checkpoint::{Answers, Checkpoint, Templating};
pub use error::{Error, Result};
pub use import::{CacheFormat, Import, ImportPreview};
pub use likelihood::{AnswerLikelihood, LikelihoodRunner, Visit};
pub use logit_lens::{DirectionLogits, LOGIT_BINS, LogitHistogram, LogitLens, TokenLogit};
pub use model_pair::{ModelPair, PairIntervention};
pub use online::OnlineActivations;
pub use pieces::{Pieces, TreePath, tree_paths};
pub use plan::{ComputeDtype, Plan};
pub use playground::{Continuation, NextToken, Playground};
pub use predictions::Predicted;
pub use prepared::Prepared;
pub use preview::{Memory, Preview};
pub use sample_capture::{CapturedSample, for_each_sample};
pub use served::ServedClient;
pub use shard::Shard;
pub use splice::{Intervention, SpliceRunner};
pub use weight_distance::weight_distance;
