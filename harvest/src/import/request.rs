//! What is to be imported and how. Says at which hook activations were captured if the files do not, and how long a
//! sample may be. Reads nothing.

use crate::{Error, Result};
use sae_core::error::{Hint, Setting};
use sae_core::store::{Hook, StoreDtype, hooks};
use std::path::PathBuf;
use std::str::FromStr;

/// The formats of activations that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheFormat {
    /// The output of SAELens' `CacheActivationsRunner`: a data set written by Hugging Face's `save_to_disk`.
    SaeLens,
    /// Shards of saev, protocol 2.1.
    Saev,
    /// A safetensors file with a tensor `activations`.
    Safetensors,
    /// A NumPy array.
    Npy,
    /// A folder of the files that vLLM writes hidden states into.
    Vllm,
}

impl CacheFormat {
    /// All formats.
    pub const ALL: [Self; 5] = [Self::SaeLens, Self::Saev, Self::Safetensors, Self::Npy, Self::Vllm];

    /// The name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::SaeLens => "saelens-cache",
            Self::Saev => "saev",
            Self::Safetensors => "safetensors",
            Self::Npy => "npy",
            Self::Vllm => "vllm",
        }
    }
}

impl FromStr for CacheFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        let known = || Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| format!("invalid format of activations {name:?}: expected {}", known()))
    }
}

/// What is to be imported, and how.
#[derive(Clone, Debug)]
pub struct Import {
    /// The format.
    pub format: CacheFormat,
    /// The file or folder.
    pub path: PathBuf,
    /// Where the activations were captured; required if the files do not state it.
    pub hook: Option<Hook>,
    /// The column of activations, if a cache has several.
    pub column: Option<String>,
    /// A table that describes each position; for plain arrays.
    pub tokens: Option<PathBuf>,
    /// Number of positions of every sample; for plain arrays without a token table.
    pub sample_length: Option<usize>,
    /// The layers whose states vLLM wrote, in its order and as it counts them.
    pub state_layers: Vec<usize>,
    /// The checkpoint of the model, if its tokenizer is to name the tokens that vLLM read.
    pub checkpoint: Option<PathBuf>,
    /// The name of the model, if the files do not state it.
    pub model: Option<String>,
    /// The number format in which activations are stored; that of the files if it is not given.
    pub store_dtype: Option<StoreDtype>,
    /// A part is closed when it holds this many positions; no sample may have more.
    pub part_rows: usize,
}

impl Import {
    /// The hook of activations that the files place at `name`, unless the request names it.
    ///
    /// # Errors
    /// The files state no place, or one that is not a hook of this workbench.
    pub(super) fn hook(&self, name: &str) -> Result<Hook> {
        if let Some(hook) = self.hook.or_else(|| hooks::known(name)) {
            return Ok(hook);
        }
        let cause = if name.is_empty() {
            "the files do not say at which hook the activations were captured".to_owned()
        } else {
            format!("the activations were captured at {name}, which is not a hook of this workbench")
        };
        let settings = [Setting::Layer, Setting::Hook].map(|setting| Hint::Set(setting, Vec::new()));
        Err(Error::data(&self.path)(cause).with_hint(Hint::AnyOf(settings.to_vec())))
    }

    /// Rejects samples that are longer than a part.
    pub(super) fn check_length(&self, positions: usize) -> Result<()> {
        if positions > self.part_rows {
            let cause = format!("a sample has {positions} positions, more than the {} of a shard", self.part_rows);
            let hint = Hint::AnyOf(vec![
                Hint::Set(Setting::SampleLength, Vec::new()),
                Hint::Set(Setting::Tokens, Vec::new()),
                Hint::Raise(Setting::ShardTokens),
            ]);
            return Err(Error::data(&self.path)(cause).with_hint(hint));
        }
        Ok(())
    }
}
