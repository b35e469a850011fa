//! The tensors of a checkpoint: one file or the shards of an index, memory-mapped. Finds out everything that is missing,
//! left over or has the wrong shape before it copies anything. Knows tensors by name only.

use super::ops::{Compute, Matrix, Weight};
use crate::kernel::linear::Packed;
use crate::{Error, Result, precedence};
use half::bf16;
use rayon::prelude::*;
use sae_core::random::{self, SplitMix64};
use sae_core::tensors::{Tensors, extend_f32};
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
    /// Which file holds a tensor.
    names: BTreeMap<String, usize>,
    /// What is said to hold all tensors.
    path: PathBuf,
    /// Whether there are no files, and every tensor that is asked for is there, with random numbers.
    random: bool,
}

impl Weights {
    /// Maps the weights of the checkpoint in `folder`: one file, or those that an index names.
    ///
    /// # Errors
    /// There are none, or a file is missing, truncated or lies about its content.
    pub fn open(folder: &Path) -> Result<Self> {
        let config = folder.join(precedence::CONFIG);
        let settings = if config.exists() { sae_core::file::read_json(&config, 1 << 24)? } else { Value::Null };
        let there = |name: &str| fs::symlink_metadata(folder.join(name)).is_ok();
        let Some(name) = precedence::weights(&settings, there).map_err(Error::checkpoint(&config))? else {
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
                "{} of {} files are missing: {first}{more}",
                missing.len(),
                shards.len()
            )));
        }
        let open = |shard: &String| {
            let path = folder.join(shard);
            precedence::present(&path)?;
            Ok(Arc::new(Tensors::open(&path)?))
        };
        let files = shards.iter().map(open).collect::<Result<Vec<_>>>()?;
        // What the shards hold counts, not what the index says about them.
        let names = files.iter().enumerate().flat_map(|(n, file)| file.names().into_iter().map(move |name| (name, n)));
        let names = names.collect();
        Ok(Self { files, names, path, random: false })
    }

    /// Random numbers in all tensors of any model, the same each time: for measurements.
    pub fn random() -> Self {
        Self { files: Vec::new(), names: BTreeMap::new(), path: "random weights".into(), random: true }
    }

    /// Where the files lie.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path())
    }

    /// The first of `prefixes` under which there is a tensor `probe`.
    fn prefixed<'a>(&self, probe: &str, prefixes: &[&'a str]) -> Option<&'a str> {
        prefixes.iter().find(|prefix| self.names.contains_key(&format!("{prefix}{probe}"))).copied()
    }

    /// Runs `build` twice: to learn which tensors it wants, and, if all of them are there, to load them.
    ///
    /// # Errors
    /// How many tensors are missing or misshapen, and the first of them; tensors that stand beside loaded ones and belong to another model
    /// than the configuration describes; or a tensor that holds no floats.
    pub(super) fn load<T>(&self, compute: &Compute, build: impl Fn(&mut Loader) -> T) -> Result<T> {
        let host = Compute::Host { bf16: false };
        let mut rehearsal = self.rehearsal(&host);
        build(&mut rehearsal);
        rehearsal.find_left_over();
        if let Some(complaint) = rehearsal.complaint() {
            return Err(Error::checkpoint(&self.path)(complaint));
        }
        let mut loader = Loader { load: true, compute, ..rehearsal };
        let built = build(&mut loader);
        loader.failed.map_or(Ok(built), Err)
    }

    /// How large the tensors are that `build` wants.
    pub(super) fn size<T>(&self, build: impl Fn(&mut Loader) -> T) -> Size {
        let host = Compute::Host { bf16: false };
        let mut rehearsal = self.rehearsal(&host);
        build(&mut rehearsal);
        rehearsal.size
    }

    fn rehearsal<'a>(&'a self, compute: &'a Compute) -> Loader<'a> {
        let (used, wrong, size) = (BTreeSet::new(), Vec::new(), Size::default());
        Loader { weights: self, compute, load: false, used, wrong, failed: None, size }
    }
}

/// How large a model's weights are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Numbers that are loaded: all but those of the embedding, whose rows are read as they are needed.
    pub numbers: u64,
    /// Bytes of all of them in the checkpoint's files.
    pub stored: u64,
}

/// Hands tensors to a model that is being built. What is wrong is noted; the stand-ins that are returned then never get
/// out of [`Weights::load`].
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

    /// The first of `prefixes` under which there is a tensor `probe`; the first of all if there is none.
    pub fn prefix<'b>(&self, probe: &str, prefixes: &[&'b str]) -> &'b str {
        self.prefixed(probe, prefixes).unwrap_or(prefixes[0])
    }

    /// The first of `prefixes` under which there is a tensor `probe`.
    pub fn prefixed<'b>(&self, probe: &str, prefixes: &[&'b str]) -> Option<&'b str> {
        self.weights.prefixed(probe, prefixes)
    }

    /// A tensor that stays in its file.
    pub fn mapped(&mut self, name: &str, shape: [usize; 2]) -> Mapped {
        let file = self.find(name, &shape).cloned();
        self.size.numbers -= file.as_ref().map_or(0, |_| (shape[0] * shape[1]) as u64);
        Mapped { file, name: name.to_owned(), shape }
    }

    /// A tensor's numbers.
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

    /// A weight whose first dimension is the output, the others the input; cut into `parts` of as many outputs each.
    pub fn weights(&mut self, name: &str, shape: &[usize], parts: usize) -> Vec<Weight> {
        let (d_out, d_in) = (shape[0] / parts, shape[1..].iter().product::<usize>());
        if self.weights.random && self.load {
            let values = random(name, 0..shape.iter().product(), shape);
            return values.chunks_exact(d_out * d_in).map(|part| self.weight(part, [d_out, d_in])).collect();
        }
        let Some(file) = self.find(name, shape).cloned().filter(|_| self.load) else {
            return (0..parts).map(|_| stand_in()).collect();
        };
        if let (Compute::Host { bf16: true }, Some((Dtype::BF16, bytes))) = (self.compute, file.bytes(name)) {
            // Straight from the file: never twice as large in between.
            let parts = bytes.chunks_exact(2 * d_out * d_in).map(|bytes| {
                let values: Vec<bf16> = bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes)).collect();
                Weight::Host(Packed::of_bf16(&values, [d_out, d_in]))
            });
            return parts.collect();
        }
        match file.f32(name, shape) {
            Ok(values) => values.chunks_exact(d_out * d_in).map(|part| self.weight(part, [d_out, d_in])).collect(),
            Err(error) => {
                self.failed = Some(error.into());
                (0..parts).map(|_| stand_in()).collect()
            }
        }
    }

    /// A weight `[d_out, d_in]` from its numbers; of none a stand-in.
    pub fn weight(&self, values: &[f32], [d_out, d_in]: [usize; 2]) -> Weight {
        match self.compute {
            _ if values.is_empty() => stand_in(),
            Compute::Host { bf16: false } => Weight::Host(Packed::of_f32(values, [d_out, d_in])),
            Compute::Host { bf16: true } => {
                let values: Vec<_> = values.iter().map(|value| bf16::from_f32(*value)).collect();
                Weight::Host(Packed::of_bf16(&values, [d_out, d_in]))
            }
            device => Weight::Device(Matrix::new(values.to_vec(), d_in, device).into_tensor()),
        }
    }

    /// The file that holds a tensor of this name and shape.
    fn find(&mut self, name: &str, shape: &[usize]) -> Option<&Arc<Tensors>> {
        self.used.insert(name.to_owned());
        if self.weights.random {
            return None;
        }
        let file = self.weights.names.get(name).map(|n| &self.weights.files[*n]);
        let problem = match file.and_then(|file| file.shape(name).map(|found| (file, found))) {
            Some((file, _)) if !file.bytes(name).is_some_and(|(dtype, _)| is_float(dtype)) => {
                let dtype = file.bytes(name).map(|(dtype, _)| dtype);
                format!(
                    "{name} is stored as {}, expected F32, F16, BF16 or F64",
                    dtype.map_or_else(String::new, |d| format!("{d:?}"))
                )
            }
            Some((file, found)) if found == shape => {
                self.size.numbers += shape.iter().product::<usize>() as u64;
                self.size.stored += file.bytes(name).map_or(0, |(_, bytes)| bytes.len() as u64);
                return Some(file);
            }
            Some((file, found)) => {
                let file = file.path().file_name().unwrap_or_default().display();
                format!("{name} in {file} has shape {found:?}, expected {shape:?}")
            }
            None => format!("{name} is missing"),
        };
        if !self.load {
            self.wrong.push(problem);
        }
        None
    }

    /// What is wrong with the tensors that were asked for, if anything is.
    fn complaint(&self) -> Option<String> {
        const NAMED: usize = 6;
        let named = self.wrong.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
        let more = self.wrong.len().checked_sub(NAMED + 1).map(|more| format!("; and {} more", more + 1));
        // A model that was saved inside another has all its names, behind those of the other.
        let none = !self.used.iter().any(|name| self.weights.names.contains_key(name));
        let other = self.weights.names.keys().next().filter(|_| none);
        let other = other.map(|name| format!("; there are others, such as {name}"));
        let wrong = self.wrong.len();
        let rest = format!("{}{}", more.unwrap_or_default(), other.unwrap_or_default());
        (wrong > 0).then(|| format!("{wrong} tensors are wrong: {named}{rest}"))
    }

    /// A bias or norm beside a weight that is used changes what the model computes: if nobody asked for it, the
    /// configuration describes another model.
    fn find_left_over(&mut self) {
        let module = |name: &str| name.rsplit_once('.').map(|(module, _)| module.to_owned());
        let modules: BTreeSet<String> = self.used.iter().filter_map(|name| module(name)).collect();
        let beside = |name: &&String| {
            let module = module(name);
            let attention = module.as_deref().and_then(|module| module.rsplit_once('.')).map(|(above, _)| above);
            let norm = name.contains(".q_norm.") || name.contains(".k_norm.");
            let near = |module: &str| modules.range(module.to_owned()..).next().is_some_and(|m| m.starts_with(module));
            module.as_ref().is_some_and(|module| modules.contains(module)) || norm && attention.is_some_and(near)
        };
        let ignored = |name: &str| name.ends_with("inv_freq") || name.ends_with("position_ids");
        let names = self.weights.names.keys().filter(|name| !self.used.contains(*name) && !ignored(name));
        let left: Vec<_> =
            names.filter(beside).map(|name| format!("{name} is there, but config.json names no use for it")).collect();
        self.wrong.extend(left);
    }
}

/// Whether numbers of a kind can be read.
fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64)
}

fn stand_in() -> Weight {
    Weight::Host(Packed::of_f32(&[0.0], [1, 1]))
}

/// A table of which rows are read from the file as they are needed.
pub(super) struct Mapped {
    /// None for random numbers.
    file: Option<Arc<Tensors>>,
    name: String,
    shape: [usize; 2],
}

impl Mapped {
    /// Some of its rows, one behind the other.
    ///
    /// # Errors
    /// The tensor holds no floats.
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
            read.ok_or_else(|| Error::checkpoint(file.path())(format!("{} holds no floats", self.name)))?;
        }
        Ok(values)
    }
}

/// Some of the numbers of a random tensor, of a size that keeps what a model computes in bounds: those of a norm are 1,
/// those of a bias 0.
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
