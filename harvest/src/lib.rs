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
//! [`harvest`] runs all of it by a [`Plan`]; [`OnlineActivations`] serves hidden states without storing them; a [`SpliceRunner`] goes
//! on behind a block with other hidden states; a [`Playground`] does so with one text of a person's own; a [`LogitLens`] tells what
//! tokens a direction promotes. [`Checkpoint`] opens the parts of a Hugging Face folder and makes samples
//! of rows; [`model`] computes; [`data`] reads. What goes in and comes out equals `transformers` 5.23 with Pillow 13 as
//! the image backend: token ids exactly, pixel values exactly, hidden states to 1e-4.
//!
//! [`Import`] takes activations that another tool captured into a run instead.
//!
//! A row that cannot be used is skipped, counted and listed with its reason; only what would make all rows wrong (a
//! checkpoint, an argument, a disk) is an [`Error`]. Nothing here prints. [`hub`] downloads a checkpoint that is named as
//! one of the hub, [`data::Fetch`] an image behind a link, and [`chat`] asks an endpoint, for those who want it; nothing else
//! reaches for the network.

mod alphabet;
mod capture;
pub mod chat;
mod checkpoint;
pub mod data;
mod error;
mod fields;
pub mod hub;
mod import;
mod ipc;
mod jinja;
pub mod kernel;
mod logit_lens;
pub mod model;
mod net;
mod online;
pub mod pixels;
mod playground;
mod precedence;
mod preview;
pub mod prompt;
pub mod resample;
mod sample_capture;
mod shard;
mod splice;
pub mod template;
mod tokenizer;

pub use capture::{CaptureProgress, ComputeDtype, Plan, harvest};
pub use checkpoint::{Answers, Checkpoint, Prepared, Templating};
pub use error::{Error, Result};
pub use import::{CacheFormat, Import, ImportPreview};
pub use logit_lens::LogitLens;
pub use online::OnlineActivations;
pub use playground::{Continuation, Next, Playground};
pub use preview::{Memory, Preview};
pub use sample_capture::{CapturedSample, for_each_sample};
pub use shard::Shard;
pub use splice::{Intervention, Predicted, SpliceRunner};
