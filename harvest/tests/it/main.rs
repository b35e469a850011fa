//! Tests that need a checkpoint: parity with `transformers` on the golden folders of the repository, interrupted harvests,
//! replaced hidden states, the logit lens, endpoints, and bad input.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod actions;
mod attention;
mod bad_input;
mod caches;
mod chat;
mod checkpoint_copy;
mod checkpoints;
mod continuation;
mod corruption;
mod data;
mod files;
mod generation;
mod geometry;
mod golden;
mod harvest;
mod hooks;
mod hub;
mod image_processors;
mod lerobot;
mod likelihood;
mod logit_lens;
mod memory;
mod parity;
mod playground;
mod prefix;
mod rope;
mod rows;
mod server;
mod splice;
mod templates;
#[cfg(unix)]
mod unix_paths;
mod upload;
mod videos;
mod weights;
