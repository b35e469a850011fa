//! What crosses crates, through the real program: the whole way, evaluation with a model, resumption after a kill, bad
//! input, the demo model, jobs of several shards, activations of other tools, labels, features for others.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod bad_input;
mod bucket;
mod caches;
mod contrast;
mod contributing;
mod critiques;
mod demo;
mod demo_model;
mod describe;
mod documents;
mod evaluate;
mod examples;
mod exchange;
mod feedback;
mod filtered;
mod generate;
mod generate_trees;
mod help;
mod hooks;
mod hub;
mod label;
mod launch;
mod melt;
mod models;
mod objects;
mod one_build;
mod pairs;
mod parts;
mod patches;
mod paths;
mod pieces;
mod probe;
mod progress;
mod published;
mod ranks;
mod resume;
mod rows;
mod serve;
#[path = "../../harvest/tests/it/server.rs"]
#[allow(dead_code, reason = "what only the other crate's tests need")]
mod server;
mod shards;
mod shared;
mod sides;
mod tool;
mod training;
mod transcoder;
mod trees;
mod upload;
mod validate;
mod videos;
mod whole_way;
mod wild;
mod wording;
mod written;
