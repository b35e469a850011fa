//! The tensors of a checkpoint: one file or the shards of an index, memory-mapped. Determines everything that is
//! missing, left over or has an unexpected shape before it copies anything. Knows tensors only by name.

use super::compute::{Compute, Weight};
use crate::kernel::linear::Packed;
use crate::{Error, Result, precedence};
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::bf16;
use rayon::prelude::*;
use sae_core::device::failed;
use sae_core::random::{self, SplitMix64};
use sae_core::tensors::{Tensors, extend_f32, to_f32};
use safetensors::Dtype;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a checkpoint.
pub struct Weights {
    files: Vec<Arc<Tensors>>,
    /// The number of the file that holds a tensor.
    names: BTreeMap<String, usize>,
    /// The file that leads to all tensors.
    path: PathBuf,
    /// Whether there are no files, and every requested tensor exists and has random numbers.
    random: bool,
}

impl Weights {
    /// Maps the weights of the checkpoint in `folder`: one file, or the files that an index names.
    ///
    /// # Errors
    /// There are no weights, or a file is missing, truncated or inconsistent.
    pub fn open(folder: &Path) -> Result<Self> {
        let config = folder.join(precedence::CONFIG);
        let settings = if config.exists() { sae_core::file::read_json(&config, 1 << 24)? } else { Value::Null };
        let exists = |name: &str| fs::symlink_metadata(folder.join(name)).is_ok();
        let Some(name) = precedence::weights(&settings, exists).map_err(Error::checkpoint(&config))? else {
            let files = fs::read_dir(folder).into_iter().flatten().flatten();
            let names = files.filter_map(|file| file.file_name().into_string().ok());
            return Err(Error::checkpoint(folder)(precedence::no_weights(names)));
        };
        let path = folder.join(&name);
        let shards = if name.ends_with(".json") { precedence::shards(&path)? } else { [name].into() };
        let missing: Vec<&str> =
            shards.iter().map(String::as_str).filter(|shard| !folder.join(shard).exists()).collect();
        if let [first, rest @ ..] = missing.as_slice() {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            return Err(Error::checkpoint(&path)(format!(
                "{} of {} files of weights are missing: {first}{more}",
                missing.len(),
                shards.len()
            )));
        }
        let open = |shard: &String| {
            let path = folder.join(shard);
            precedence::check_content(&path)?;
            Ok(Arc::new(Tensors::open(&path)?))
        };
        let files = shards.iter().map(open).collect::<Result<Vec<_>>>()?;
        // The names in the shards count, not those in the index.
        let names = files.iter().enumerate().flat_map(|(n, file)| file.names().into_iter().map(move |name| (name, n)));
        let names = names.collect();
        Ok(Self { files, names, path, random: false })
    }

    /// Random numbers in all tensors of any model, always the same ones; for benchmarks.
    pub fn random() -> Self {
        Self { files: Vec::new(), names: BTreeMap::new(), path: "random weights".into(), random: true }
    }

    /// The paths of the files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path())
    }

    /// The file that leads to all tensors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, in ascending order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// The shape, the number format and the bytes of a tensor, if there is one of this name.
    pub fn tensor(&self, name: &str) -> Option<(&[usize], Dtype, &[u8])> {
        let file = self.files.get(*self.names.get(name)?)?;
        let (dtype, bytes) = file.bytes(name)?;
        Some((file.shape(name)?, dtype, bytes))
    }

    /// The first of `prefixes` with which a tensor `probe` exists.
    fn prefixed<'a>(&self, probe: &str, prefixes: &[&'a str]) -> Option<&'a str> {
        prefixes.iter().find(|prefix| self.names.contains_key(&format!("{prefix}{probe}"))).copied()
    }

    /// Runs `build` twice: first to learn which tensors it requests, and then, if all of them exist, to load them.
    ///
    /// # Errors
    /// The number of tensors that are missing, have an unexpected shape, or are left over next to loaded ones, and the
    /// first of them; or a tensor does not hold floats. A tensor that is left over means that the configuration
    /// describes another model.
    pub(super) fn load<T>(&self, compute: &Compute, build: impl Fn(&mut Loader) -> T) -> Result<T> {
        let host = Compute::Host { bf16: false };
        let mut first_pass = self.first_pass(&host);
        build(&mut first_pass);
        first_pass.find_left_over();
        if let Some(problems) = first_pass.problems() {
            return Err(Error::checkpoint(&self.path)(problems));
        }
        let mut loader = Loader { load: true, compute, ..first_pass };
        let built = build(&mut loader);
        loader.failed.map_or(Ok(built), Err)
    }

    /// The size of the tensors that `build` requests.
    pub(super) fn size<T>(&self, build: impl Fn(&mut Loader) -> T) -> Size {
        let host = Compute::Host { bf16: false };
        let mut first_pass = self.first_pass(&host);
        build(&mut first_pass);
        first_pass.size
    }

    fn first_pass<'a>(&'a self, compute: &'a Compute) -> Loader<'a> {
        let (used, wrong, size) = (BTreeSet::new(), Vec::new(), Size::default());
        Loader { weights: self, compute, load: false, used, wrong, failed: None, size }
    }
}

/// The size of a model's weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Numbers that are loaded. The embedding is not included, because its rows are read only when they are needed.
    pub numbers: u64,
    /// Bytes of all tensors in the checkpoint's files.
    pub stored: u64,
}

/// Provides the tensors for a model that is being built. Problems are collected, and placeholders are returned in place
/// of the tensors; they never leave [`Weights::load`].
pub(super) struct Loader<'a> {
    weights: &'a Weights,
    compute: &'a Compute,
    load: bool,
    used: BTreeSet<String>,
    wrong: Vec<String>,
    failed: Option<Error>,
    size: Size,
}

impl Loader<'_> {
    /// Where the model will compute.
    pub fn compute(&self) -> &Compute {
        self.compute
    }

    /// The first of `prefixes` with which a tensor `probe` exists, or the first of all if none exists.
    pub fn prefix<'b>(&self, probe: &str, prefixes: &[&'b str]) -> &'b str {
        self.prefixed(probe, prefixes).unwrap_or(prefixes[0])
    }

    /// The first of `prefixes` with which a tensor `probe` exists.
    pub fn prefixed<'b>(&self, probe: &str, prefixes: &[&'b str]) -> Option<&'b str> {
        self.weights.prefixed(probe, prefixes)
    }

    /// A tensor that is not loaded, but read from its file row by row.
    pub fn mapped(&mut self, name: &str, shape: [usize; 2]) -> Mapped {
        let file = self.find(name, &shape).cloned();
        self.size.numbers -= file.as_ref().map_or(0, |_| (shape[0] * shape[1]) as u64);
        Mapped { file, name: name.to_owned(), shape }
    }

    /// The numbers of a tensor.
    pub fn values(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        if self.weights.random && self.load {
            return random(name, 0..shape.iter().product(), shape);
        }
        let file = self.find(name, shape).cloned().filter(|_| self.load);
        match file.map(|file| file.f32(name, shape)) {
            Some(Ok(values)) => return values,
            Some(Err(error)) => self.failed = Some(error.into()),
            None => {}
        }
        Vec::new()
    }

    /// A weight whose first dimension is the output and whose other dimensions are the input, divided into `parts` with
    /// equally many outputs.
    pub fn weights(&mut self, name: &str, shape: &[usize], parts: usize) -> Vec<Weight> {
        let (d_out, d_in) = (shape[0] / parts, shape[1..].iter().product::<usize>());
        if self.weights.random && self.load {
            let values = random(name, 0..shape.iter().product(), shape);
            return values.chunks_exact(d_out * d_in).map(|part| self.computed(part.to_vec(), [d_out, d_in])).collect();
        }
        let Some(file) = self.find(name, shape).cloned().filter(|_| self.load) else {
            return (0..parts).map(|_| placeholder()).collect();
        };
        let (dtype, bytes) = file.bytes(name).expect("the tensor was found above");
        let read = bytes.chunks_exact(bytes.len() / parts).map(|part| self.read(name, dtype, part, [d_out, d_in]));
        read.collect::<Result<_>>().unwrap_or_else(|error| {
            self.failed = Some(error);
            (0..parts).map(|_| placeholder()).collect()
        })
    }

    /// A weight `[d_out, d_in]` from its bytes in the file. No copy in memory outlasts this call, other than the weight itself.
    fn read(&self, name: &str, dtype: Dtype, bytes: &[u8], [d_out, d_in]: [usize; 2]) -> Result<Weight> {
        let floats = || Error::checkpoint(&self.weights.path)(format!("{name} does not hold floats"));
        match self.compute {
            Compute::Host { bf16: false } | Compute::Device(_, DType::F32) => {
                self.weight(to_f32(dtype, bytes).ok_or_else(floats)?, [d_out, d_in])
            }
            Compute::Host { bf16: true } | Compute::Device(..) => {
                let values = to_bf16(dtype, bytes, d_out * d_in).ok_or_else(floats)?;
                self.narrow_weight(values, [d_out, d_in])
            }
        }
    }

    /// A weight `[d_out, d_in]` from its numbers.
    ///
    /// # Errors
    /// The device failed.
    fn weight(&self, values: Vec<f32>, [d_out, d_in]: [usize; 2]) -> Result<Weight> {
        match self.compute {
            Compute::Host { bf16: false } => Ok(Weight::Host(Packed::from_f32(&values, [d_out, d_in]))),
            Compute::Device(device, DType::F32) => upload(TensorData::new(values, [d_out, d_in]), device),
            Compute::Host { bf16: true } | Compute::Device(..) => {
                self.narrow_weight(values.into_iter().map(bf16::from_f32).collect(), [d_out, d_in])
            }
        }
    }

    fn narrow_weight(&self, values: Vec<bf16>, [d_out, d_in]: [usize; 2]) -> Result<Weight> {
        match self.compute {
            Compute::Host { .. } => Ok(Weight::Host(Packed::from_bf16(&values, [d_out, d_in]))),
            Compute::Device(device, _) => upload(TensorData::new(values, [d_out, d_in]), device),
        }
    }

    /// A weight `[d_out, d_in]` from numbers that were computed from those of the file, or a placeholder if there are none.
    pub fn computed(&mut self, values: Vec<f32>, shape: [usize; 2]) -> Weight {
        if values.is_empty() {
            return placeholder();
        }
        self.weight(values, shape).unwrap_or_else(|error| {
            self.failed = Some(error);
            placeholder()
        })
    }

    /// The file that contains a tensor with this name and shape.
    fn find(&mut self, name: &str, shape: &[usize]) -> Option<&Arc<Tensors>> {
        self.used.insert(name.to_owned());
        if self.weights.random {
            return None;
        }
        let file = self.weights.names.get(name).map(|n| &self.weights.files[*n]);
        let problem = match file.and_then(|file| file.shape(name).map(|found| (file, found))) {
            Some((file, _)) if !file.bytes(name).is_some_and(|(dtype, _)| is_float(dtype)) => {
                let dtype = file.bytes(name).map(|(dtype, _)| dtype);
                let dtype = dtype.map_or_else(String::new, |d| format!("{d:?}"));
                format!("{name} is stored as {dtype}: expected F32, F16, BF16 or F64")
            }
            Some((file, found)) if found == shape => {
                self.size.numbers += shape.iter().product::<usize>() as u64;
                self.size.stored += file.bytes(name).map_or(0, |(_, bytes)| bytes.len() as u64);
                return Some(file);
            }
            Some((file, found)) => {
                let file = file.path().file_name().unwrap_or_default().display();
                format!("{name} in {file} has shape {found:?}: expected {shape:?}")
            }
            None => format!("{name} is missing"),
        };
        if !self.load {
            self.wrong.push(problem);
        }
        None
    }

    /// The problems of the requested tensors, if there are any.
    fn problems(&self) -> Option<String> {
        const SHOWN: usize = 6;
        let first = self.wrong.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
        let more = self.wrong.len().checked_sub(SHOWN + 1).map(|more| format!("; and {} more", more + 1));
        // A model that was saved as part of another one has all of its names, but behind a prefix.
        let none = !self.used.iter().any(|name| self.weights.names.contains_key(name));
        let other = self.weights.names.keys().next().filter(|_| none);
        let other = other.map(|name| format!("; the file has others, such as {name}"));
        let count = self.wrong.len();
        let rest = format!("{}{}", more.unwrap_or_default(), other.unwrap_or_default());
        (count > 0).then(|| format!("{count} tensors are missing or unexpected: {first}{rest}"))
    }

    /// Finds tensors that were not requested although they affect the result. A bias or norm next to a used weight
    /// changes what the model computes. If it was not requested, the configuration describes another model.
    fn find_left_over(&mut self) {
        let module = |name: &str| name.rsplit_once('.').map(|(module, _)| module.to_owned());
        let modules: BTreeSet<String> = self.used.iter().filter_map(|name| module(name)).collect();
        let is_beside = |name: &&String| {
            let module = module(name);
            let attention = module.as_deref().and_then(|module| module.rsplit_once('.')).map(|(above, _)| above);
            let norm = name.contains(".q_norm.") || name.contains(".k_norm.");
            let near = |module: &str| modules.range(module.to_owned()..).next().is_some_and(|m| m.starts_with(module));
            module.as_ref().is_some_and(|module| modules.contains(module)) || norm && attention.is_some_and(near)
        };
        let is_ignored = |name: &str| name.ends_with("inv_freq") || name.ends_with("position_ids");
        let names = self.weights.names.keys().filter(|name| !self.used.contains(*name) && !is_ignored(name));
        let left: Vec<_> =
            names.filter(is_beside).map(|name| format!("{name} exists, but config.json does not use it")).collect();
        self.wrong.extend(left);
    }
}

/// Whether numbers of this type can be read.
fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64)
}

/// So many little-endian floats as `bf16`; `None` for types that are not floats. Other types become `f32` a few at a time.
fn to_bf16(dtype: Dtype, bytes: &[u8], count: usize) -> Option<Vec<bf16>> {
    const BLOCK: usize = 1 << 16;
    if dtype == Dtype::BF16 {
        return Some(bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes)).collect());
    }
    let (mut block, mut values) = (Vec::new(), Vec::with_capacity(count));
    for bytes in bytes.chunks(BLOCK) {
        block.clear();
        extend_f32(dtype, bytes, &mut block)?;
        values.extend(block.iter().map(|value| bf16::from_f32(*value)));
    }
    Some(values)
}

/// Copies a weight to the device, and waits until its copy in memory is free.
fn upload(data: TensorData, device: &Device) -> Result<Weight> {
    let dtype = data.dtype();
    let weight = Tensor::from_data(data, (device, dtype));
    // A device copies later than it is asked to. Without waiting, the queue could hold the whole model in memory.
    device.sync().map_err(failed)?;
    Ok(Weight::Device(weight))
}

/// A weight that is never used.
fn placeholder() -> Weight {
    Weight::Host(Packed::from_f32(&[0.0], [1, 1]))
}

/// A matrix whose rows are read from the file when they are needed.
pub(super) struct Mapped {
    /// Nothing if the numbers are random.
    file: Option<Arc<Tensors>>,
    name: String,
    shape: [usize; 2],
}

impl Mapped {
    /// Some of its rows, one after the other.
    ///
    /// # Errors
    /// The tensor does not hold floats.
    pub fn rows(&self, rows: &[u32]) -> Result<Vec<f32>> {
        let width = self.shape[1];
        let mut values = Vec::with_capacity(rows.len() * width);
        let Some((file, (dtype, bytes))) = self.file.as_ref().and_then(|file| Some((file, file.bytes(&self.name)?)))
        else {
            let row = |row: &u32| random(&self.name, *row as usize * width..(*row as usize + 1) * width, &self.shape);
            return Ok(rows.iter().flat_map(row).collect());
        };
        let size = bytes.len() / self.shape[0];
        for row in rows {
            let row = &bytes[*row as usize * size..][..size];
            let read = extend_f32(dtype, row, &mut values);
            read.ok_or_else(|| Error::checkpoint(file.path())(format!("{} does not hold floats", self.name)))?;
        }
        Ok(values)
    }
}

/// A range of the numbers of a random tensor. Their size keeps the results of a model bounded; the numbers of a norm
/// are 1, those of a bias 0.
fn random(name: &str, range: Range<usize>, shape: &[usize]) -> Vec<f32> {
    let fan_in: usize = shape[1..].iter().product();
    if shape.len() == 1 {
        let value = if name.ends_with("bias") { 0.0 } else { 1.0 };
        return vec![value; range.len()];
    }
    let seed = random::fnv1a(name.bytes());
    let scale = 2.0 * (3.0 / fan_in as f32).sqrt();
    let number = |n: usize| ((SplitMix64::nth(seed, n as u64) >> 40) as f32 / (1 << 24) as f32 - 0.5) * scale;
    range.into_par_iter().map(number).collect()
}
