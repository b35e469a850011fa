//! The activation store: samples, tokens and activations of a run on disk.
//!
//! A store is written in *parts*. Part `n` is one shard of every hook and one token table with the same rows in the same
//! order. A part counts once `run.json` lists it, which happens after all its files are in place: a run that is interrupted at any
//! moment continues after its last listed part. To write activations of your own, give parts to a [`StoreWriter`]; to read them,
//! open a [`Store`]. Knows nothing of models or autoencoders.

pub mod conversation;
pub mod hooks;
pub mod image_format;
mod join;
mod lookup;
mod merge;
mod norms;
mod paths;
mod positions;
mod reader;
pub mod run;
pub mod sample;
mod samples;
mod sides;
mod skipped;
pub mod stream;
mod tables;
mod writer;

pub use hooks::{Hook, InvalidHook, Site};
pub use lookup::{SampleLookup, load_ids};
pub use merge::{Merge, Merged};
pub use norms::Norms;
pub use paths::{DEEPEST, PathStack, Paths, SENTENCE};
pub use positions::{ExcludedCounts, PositionFilter, PositionRule, Reasons};
pub use reader::{Shard, Store, load_samples, token_texts};
pub use samples::TokenTable;
pub use sides::Sides;
pub use skipped::{SkipList, Skipped, brief, read_skipped};
pub use tables::{TokenColumns, read_tokens, write_tokens};
pub use writer::{
    JobShard, Part, PartRecord, ShardRecord, StoreRecord, StoreSpec, StoreWriter, WriteProgress, check_storable,
};

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Entry of the store in `run.json`.
pub const STEP: &str = "harvest";

/// Name of the hook after decoder block `layer`, counted from 0.
pub fn hook(layer: usize) -> String {
    Hook::block(layer).to_string()
}

/// How activations are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreDtype {
    /// 4 bytes, as computed.
    #[default]
    F32,
    /// 2 bytes, 11 bits of precision, up to 65,504: residual streams with sinks can overflow it.
    F16,
    /// 2 bytes, 8 bits of precision, the range of `f32`.
    Bf16,
}

impl From<StoreDtype> for safetensors::Dtype {
    fn from(dtype: StoreDtype) -> Self {
        match dtype {
            StoreDtype::F32 => Self::F32,
            StoreDtype::F16 => Self::F16,
            StoreDtype::Bf16 => Self::BF16,
        }
    }
}

impl FromStr for StoreDtype {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("invalid dtype of the store {name:?}: expected f32, f16 or bf16")),
        }
    }
}

/// `activations/<hook>/manifest.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout of the store.
    pub schema_version: u32,
    /// Checkpoint the activations come from.
    pub model: String,
    /// Its architecture, as in its `config.json`.
    pub architecture: String,
    /// Name of the hook, such as `layers.16`.
    pub hook: String,
    /// Decoder block of the hook, counted from 0.
    pub layer: usize,
    /// Width of an activation.
    pub d_in: usize,
    /// How values are stored.
    pub dtype: StoreDtype,
    /// Token positions.
    pub rows: u64,
    /// Samples.
    pub samples: u64,
    /// The shards, in order.
    pub shards: Vec<ShardRecord>,
    /// Mean Euclidean norm of a row.
    pub mean_norm: f64,
    /// When the run began, in UTC.
    pub created: String,
}

#[cfg(test)]
mod tests;
