//! What a trained autoencoder says about the activations of a store: one [`pass`] over them with any number of
//! observers, and what the observers find. Knows nothing of training.

pub mod autointerp;
pub mod context;
pub mod dashboard;
pub mod eval;
pub mod index;
pub mod labels;
pub mod pass;
pub mod saebench;
pub mod samples_features;
