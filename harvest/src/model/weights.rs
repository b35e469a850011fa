//! The tensors of a checkpoint: one file or the shards of an index, memory-mapped. Finds out everything that is missing
//! or has the wrong shape before it copies anything. Knows tensors by name only.

use crate::{Error, Result};
use burn::tensor::{DType, Device, Tensor, TensorData};
use sae_core::tensors::Tensors;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The files of a checkpoint.
pub struct Weights {
    files: Vec<Tensors>,
    /// Which file holds a tensor.
    names: BTreeMap<String, usize>,
    /// What is said to hold all tensors.
    path: PathBuf,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Maps `model.safetensors` of the checkpoint in `folder`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// A file is missing, truncated or lies about its content.
    pub fn open(folder: &Path) -> Result<Self> {
        let index = folder.join("model.safetensors.index.json");
        let single = folder.join("model.safetensors");
        if !index.exists() {
            if !single.exists() {
                let cause = "the checkpoint has no weights (neither model.safetensors nor its index)";
                return Err(Error::checkpoint(folder)(cause));
            }
            let file = Tensors::open(&single)?;
            let names = file.names().into_iter().map(|name| (name, 0)).collect();
            return Ok(Self { files: vec![file], names, path: single });
        }
        let Index { weight_map } = sae_core::file::read_json(&index, 1 << 28)?;
        let shards: BTreeSet<_> = weight_map.into_values().collect();
        if let Some(shard) = shards.iter().find(|shard| Path::new(shard).components().count() != 1) {
            return Err(Error::checkpoint(&index)(format!("shard {shard} lies outside the checkpoint")));
        }
        let files = shards.iter().map(|shard| Tensors::open(&folder.join(shard)));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        // What the shards hold counts, not what the index says about them.
        let names = files.iter().enumerate().flat_map(|(n, file)| file.names().into_iter().map(move |name| (name, n)));
        let names = names.collect();
        Ok(Self { files, names, path: index })
    }

    /// Where the files lie.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(Tensors::path)
    }

    /// The first of `prefixes` under which there is a tensor `probe`; the first of all if there is none.
    pub fn prefix<'a>(&self, probe: &str, prefixes: &[&'a str]) -> &'a str {
        let found = prefixes.iter().find(|prefix| self.names.contains_key(&format!("{prefix}{probe}")));
        found.unwrap_or(&prefixes[0])
    }

    /// Runs `build` twice: to learn which tensors it wants, and, if all of them are there, to load them.
    ///
    /// # Errors
    /// All missing tensors and wrong shapes at once, or a tensor that holds no floats.
    pub fn load<T>(&self, device: &Device, dtype: DType, build: impl Fn(&mut Loader) -> T) -> Result<T> {
        let mut rehearsal = Loader { weights: self, device, dtype, load: false, wrong: Vec::new(), failed: None };
        build(&mut rehearsal);
        if !rehearsal.wrong.is_empty() {
            let cause = format!("{} tensors are wrong: {}", rehearsal.wrong.len(), rehearsal.wrong.join("; "));
            return Err(Error::checkpoint(&self.path)(cause));
        }
        let mut loader = Loader { load: true, ..rehearsal };
        let built = build(&mut loader);
        loader.failed.map_or(Ok(built), Err)
    }
}

/// Hands tensors to a model that is being built.
pub struct Loader<'a> {
    weights: &'a Weights,
    device: &'a Device,
    dtype: DType,
    load: bool,
    wrong: Vec<String>,
    failed: Option<Error>,
}

impl Loader<'_> {
    /// The tensor `name`, which has to have the given shape. What is wrong is noted; the stand-in that is returned then
    /// never gets out of [`Weights::load`].
    pub fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Tensor<D> {
        let file = self.weights.names.get(name).map(|n| &self.weights.files[*n]);
        match file.and_then(|file| file.shape(name).map(|found| (file, found))) {
            None => self.wrong.push(format!("{name} is missing")),
            Some((file, found)) if found != shape => {
                let file = file.path().file_name().unwrap_or_default().display();
                self.wrong.push(format!("{name} in {file} has shape {found:?}, expected {shape:?}"));
            }
            Some((file, _)) if self.load => match file.f32(name, &shape) {
                Ok(values) => return Tensor::from_data(TensorData::new(values, shape), (self.device, self.dtype)),
                Err(error) => self.failed = Some(error.into()),
            },
            Some(_) => {}
        }
        Tensor::zeros([1; D], (self.device, self.dtype))
    }
}
