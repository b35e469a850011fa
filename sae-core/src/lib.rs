//! Sparse autoencoders as data and as computations: the run folder with its activations, training, analysis, file formats. Models
//! and data sets live in the crate `harvest`. Nothing here prints.
//!
//! The crate has four layers. Each knows only the layers before it, and `train` and `analysis` do not know each other:
//!
//! | layer | has | begin with |
//! |---|---|---|
//! | [`store`] | the run folder, samples, tokens and activations on disk, the shuffled stream of activations | [`Run`], [`store::Store`] |
//! | [`autoencoder`] | weights in memory, the kernels that encode and decode, file formats | [`autoencoder::Encoder`], [`autoencoder::formats::load`] |
//! | [`mod@train`] | from a stream of activations to autoencoders | [`train::train`], [`train::TrainConfig`] |
//! | [`analysis`] | one pass over a store, and what it finds: evaluation, feature index, labels, dashboards | [`analysis::pass`], [`analysis::index::Index`] |
//!
//! Below all layers are files, tables, tensors, vectors and devices. Arrays are row-major slices of `f32`, their shapes
//! stand in the documentation, such as `[rows, d_in]`: `d_in` is the width of the residual stream, `d_sae` the number of
//! features.
//!
//! Train a small autoencoder on the activations of a run, and see which features it finds in a row:
//!
//! ```
#![doc = include_str!("example_store.md")]
//! use sae_core::Run;
//! use sae_core::autoencoder::{Architecture, Encoder};
//! use sae_core::device::DeviceChoice;
//! use sae_core::store::Store;
//! use sae_core::train::{TrainConfig, train};
//!
//! # let folder = example_store()?;
//! # let path = folder.path();
//! let store = Store::open(&Run::open(path)?, "layers.2")?;
//! let device = DeviceChoice::Auto.open()?;
//! let defaults = TrainConfig::for_architecture(Architecture::TopK);
//! let config = TrainConfig { features: 16, k: 2, batch: 16, buffer: 64, lr: 1e-2, ..defaults }.with_steps(50);
//! let mut losses = Vec::new();
//! let weights = train(&store, &config, &device, &mut |step| losses.push(step.mse))?;
//! assert!(losses[49] < losses[0]);
//!
//! let mut hidden = Vec::new();
//! store.shard(0)?.read(7..8, &mut hidden);
//! let active = Encoder::new(&weights, &device).encode(&hidden)?;
//! let (features, activations) = active.row(0);
//! println!("features {features:?} are active, with {activations:?}");
//! assert!(features.len() <= 2);
//! # Ok::<(), sae_core::Error>(())
//! ```
//!
//! The crate `sae_workbench` has the operations that are made of these parts, with defaults, progress and cancellation.

pub mod analysis;
pub mod autoencoder;
pub mod device;
pub mod error;
pub mod file;
pub mod nearest;
pub mod numbers;
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
