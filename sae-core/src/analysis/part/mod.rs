//! Part files: the states of observers after a pass over some of the shards of a store, so that several machines share a pass.
//!
//! A file is a safetensors file with a [`Header`], which says what was computed from what, and a section of tensors for every
//! store that the operation passes over. A [`Mergeable`] observer writes its state into a section, and takes in the states of
//! sections in the order of their shards; it then is what one pass over all shards would have made of it, bit by bit. This
//! module knows nothing of what a state means, nor of how shards are divided.

mod file;
mod number;
#[cfg(test)]
mod tests;

pub use file::{PartWriter, PassPart, Section};
pub use number::Number;

use crate::Result;
use crate::analysis::pass::Observer;
use crate::store::Store;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;

/// The layout of part files that this code writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// An observer whose states after several parts of a store can be merged.
pub trait Mergeable: Observer {
    /// Prepares for [`Mergeable::save`]: sums that depend on the order of additions are kept for each shard by itself.
    fn begin_part(&mut self) {}

    /// Writes the state into a section.
    ///
    /// # Errors
    /// A temporary file of the state cannot be read.
    fn save(&mut self, out: &mut PartWriter) -> Result<()>;

    /// Takes in the state of a part whose shards follow those taken in so far.
    ///
    /// # Errors
    /// A section without such a state, or one that contradicts itself or the store.
    fn merge(&mut self, section: &Section) -> Result<()>;
}

/// What a part was computed from. Parts of different origins cannot be merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Program and version.
    pub program: String,
    /// The operation and its arguments.
    pub request: Value,
    /// The name of the autoencoder.
    pub sae: String,
    /// Hex BLAKE3 of the autoencoder's files.
    pub sae_blake3: String,
    /// The stores, by the name of their section.
    pub stores: BTreeMap<String, StoreOrigin>,
}

/// A store that parts were computed from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoreOrigin {
    /// The hook.
    pub hook: String,
    /// Number of shards.
    pub shards: usize,
    /// Number of samples.
    pub samples: u64,
    /// Hex BLAKE3 of the hashes of all shards and of the parents of all samples.
    pub blake3: String,
}

impl StoreOrigin {
    /// The origin of states over this store.
    pub fn new(store: &Store) -> Self {
        let mut hasher = blake3::Hasher::new();
        for shard in std::iter::once(store).chain(store.others()).flat_map(|store| &store.manifest().shards) {
            hasher.update(shard.blake3.as_bytes());
        }
        for parent in store.paths().parents() {
            hasher.update(&parent.unwrap_or(u32::MAX).to_le_bytes());
        }
        let manifest = store.manifest();
        Self {
            hook: manifest.hook.clone(),
            shards: store.shards(),
            samples: manifest.samples,
            blake3: hasher.finalize().to_hex().to_string(),
        }
    }
}

/// What a part file says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// What it was computed from.
    pub origin: Origin,
    /// Which part it is, counted from 1.
    pub number: u32,
    /// How many parts there are.
    pub of: u32,
    /// The shards that it covers, by the name of the section.
    pub shards: BTreeMap<String, Range<usize>>,
    /// The command that made it, with `{part}` in the place of number and count; empty if nobody said. It may differ between parts
    /// that can be merged.
    #[serde(default)]
    pub command: Vec<String>,
}
