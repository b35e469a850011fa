//! The operations of the SAE workbench as a library: what the program `sae` runs, and what the app calls.
//!
//! Every operation is a request that is checked and run, and returns a report:
//!
//! ```no_run
//! use sae_core::train::TrainConfig;
//! use sae_workbench::{Control, HarvestRequest, SaeChoice, ScoreRequest, TrainRequest};
//!
//! # fn main() -> sae_workbench::Result<()> {
//! let mut control = Control::default();
//! HarvestRequest::new("llava-1.5-7b-hf", "train.jsonl", vec![16], "run").run(&mut control)?;
//! let trained = TrainRequest::new("run", "layers.16", "base", TrainConfig::default()).run(&mut control)?;
//! println!("{} features", trained.saes[0].d_sae);
//! let scored = ScoreRequest::new(SaeChoice::new("run")).run(&mut control)?;
//! println!("{} samples have no score", scored.without_score);
//! # Ok(())
//! # }
//! ```
//!
//! - **Requests** are plain structs with public fields. `XRequest::new` fills in the defaults of the command line; `plan` says what
//!   would be done, and does nothing; `run` does it.
//! - **Reports** are plain structs that serialize: as JSON they are what `sae --json` prints.
//! - [`Control`] is how a program follows an operation and stops it: a [`Progress`] is told stages, positions and notices, and a
//!   [`Cancel`] token asks to stop. An operation that was stopped leaves what it has stored; the same request goes on there.
//! - [`Error`] is an enum with data, and [`Error::hint`] says what could be done about it, in terms of requests.
//!
//! Operations never print, never read arguments, and never name command-line flags. What they are made of is in the crates below:
//! `harvest` (models, data sets, capture), `filters` (scores, selection, writing) and `sae_core` (store, training, analysis).

pub mod bench;
mod causes;
mod companion;
pub mod control;
pub mod convert;
mod dataset;
pub mod demo;
pub mod error;
pub mod eval;
pub mod explain;
pub mod export;
pub mod filter;
pub mod harvest;
pub mod import;
pub mod index;
pub mod info;
pub mod label;
pub mod merge;
mod model;
pub mod numbers;
pub mod patches;
pub mod roles;
pub mod sae;
pub mod sample_activations;
pub mod score;
pub mod train;
pub mod validate;

pub use control::{Cancel, Control, NoProgress, Progress};
pub use convert::{ConvertReport, ConvertRequest};
pub use demo::{DemoReport, DemoRequest};
pub use error::{Error, Result};
pub use eval::{EvalReport, EvalRequest};
pub use explain::{ExplainReport, ExplainRequest, Explainer};
pub use filter::{FilterBy, FilterReport, FilterRequest, ScoreRules};
pub use harvest::{HarvestReport, HarvestRequest};
pub use index::{IndexReport, IndexRequest};
pub use info::{InfoReport, InfoRequest};
pub use label::{LabelReport, LabelRequest};
pub use merge::{MergeReport, MergeRequest};
pub use patches::{PatchesReport, PatchesRequest};
pub use sae::{FeatureChoice, LoadedSae, SaeChoice};
pub use sample_activations::SampleActivations;
pub use score::{ScoreOptions, ScoreReport, ScoreRequest};
pub use train::{TrainReport, TrainRequest};
pub use validate::{ValidateReport, ValidateRequest};
