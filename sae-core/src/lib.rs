//! The sparse autoencoder and what it produces.
//!
//! Data flows one way: a [`store`] of activations -> [`stream`] -> [`train`] -> an autoencoder ([`sae`], saved by
//! [`formats`]) -> [`pass`], one stream of sparse activations -> whatever wants to see them ([`eval`], [`index`], and
//! the scores of the crate `filters`). Models and data sets live in the crate `harvest`; nothing here prints.

pub mod adam;
pub mod context;
pub mod dashboard;
pub mod device;
pub mod error;
pub mod eval;
pub mod explain;
pub mod file;
pub mod formats;
pub mod index;
pub mod kernel;
pub mod labels;
pub mod pass;
pub mod path_text;
pub mod run;
pub mod sae;
pub mod saebench;
pub mod sample;
pub mod samples_features;
pub mod sparse;
pub mod store;
pub mod stream;
pub mod table;
pub mod tensors;
pub mod train;

#[cfg(test)]
mod fixture;

pub use error::{Error, Result};
pub use run::Run;
