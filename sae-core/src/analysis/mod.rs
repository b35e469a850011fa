//! What a trained autoencoder finds in the activations of a store: one [`pass`] over them with any number of observers, and
//! the results of the observers ([`eval`], [`index`], [`samples_features`]). A [`part`] is the state of observers after some of the shards. [`labels`] are what people and models write
//! about features, [`layout`] places them on a map, [`autointerp`] is how a model is asked for them, and [`dashboard`] how features are shown elsewhere. Knows
//! nothing of training.

pub mod autointerp;
pub mod between;
pub mod context;
pub mod contrast;
pub mod dashboard;
pub mod eval;
pub mod feature_sets;
pub mod index;
pub mod labels;
pub mod latent_scaling;
pub mod layout;
pub mod part;
pub mod pass;
pub mod patching;
pub mod rebound;
pub mod saebench;
pub mod samples_features;
pub mod summary;
