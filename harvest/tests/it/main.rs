//! Everything this crate promises that needs a checkpoint: parity with `transformers` on the golden folders of the
//! repository, harvests that are interrupted, states that are replaced, words through the head, endpoints, input that is
//! bad.

#![allow(clippy::unwrap_used, reason = "what cannot be set up has failed")]

mod altered;
mod bad;
mod caches;
mod chat;
mod checkpoints;
mod data;
mod files;
mod geometry;
mod golden;
mod harvest;
mod hub;
mod lens;
mod output_heads;
mod parity;
mod predict;
mod probe;
mod rope;
mod rows;
mod server;
mod templates;
#[cfg(unix)]
mod unix_paths;
