//! The sparse autoencoder and what it produces, in four layers. Each knows only the layers before it:
//!
//! 1. [`store`]: the run folder, samples, tokens and activations on disk, and the shuffled stream of activations.
//! 2. [`autoencoder`]: weights in memory, the kernels that encode and decode, file formats.
//! 3. [`train`]: from a stream of activations to autoencoders.
//! 4. [`analysis`]: one pass over a store, and what it finds: evaluation, feature index, labels, dashboards.
//!
//! `train` and `analysis` do not know each other. Below all layers are files, tables, tensors, vectors and devices.
//! Models and data sets live in the crate `harvest`. Nothing here prints.

pub mod analysis;
pub mod autoencoder;
pub mod device;
pub mod error;
pub mod file;
pub mod path_text;
pub mod random;
pub mod store;
pub mod table;
pub mod tensors;
pub mod train;
pub mod vector;

#[cfg(test)]
mod fixture;

pub use error::{Error, Result};
pub use store::run::Run;
