//! Plain arrays: one matrix of activations in a safetensors or `.npy` file, with one row per token position. A token table
//! describes the positions; without one they are considered text about which nothing else is known.

use super::cache::{Cache, Captured, check_finite, file_name, unknown_token};
use super::npy::Header;
use super::request::{CacheFormat, Import};
use super::table::TokenTable;
use crate::{Error, Result};
use sae_core::file;
use sae_core::store::StoreDtype;
use sae_core::store::sample::{Modality, Token};
use sae_core::tensors::{Dtype, Tensors, extend_f32};
use std::path::{Path, PathBuf};

/// The tensor of activations in a safetensors file.
const TENSOR: &str = "activations";

/// A matrix in a mapped file.
struct Matrix {
    file: File,
    dtype: Dtype,
    rows: usize,
    d_in: usize,
    /// Rows per sample, if the array has an axis of samples.
    length: Option<usize>,
    path: PathBuf,
}

enum File {
    Safetensors(Tensors),
    /// The whole file, and the offset of the numbers in it.
    Npy(memmap2::Mmap, usize),
}

/// Whether a safetensors file holds activations.
pub(super) fn holds_activations(path: &Path) -> bool {
    Tensors::open(path).is_ok_and(|tensors| tensors.shape(TENSOR).is_some())
}

pub(super) fn open(import: &Import) -> Result<Cache> {
    let path = &import.path;
    let (matrix, hook, model) = match import.format {
        CacheFormat::Npy => (Matrix::npy(path)?, String::new(), String::new()),
        _ => Matrix::safetensors(path)?,
    };
    let hook = import.hook(&hook)?;
    let (rows, d_in) = (matrix.rows as u64, matrix.d_in);
    let dtype = match matrix.dtype {
        Dtype::F16 => StoreDtype::F16,
        Dtype::BF16 => StoreDtype::Bf16,
        _ => StoreDtype::F32,
    };
    let mut files = vec![path.clone()];
    let samples: Box<dyn Iterator<Item = Result<(String, Vec<Token>)>>> = match &import.tokens {
        Some(table) => {
            files.push(table.clone());
            Box::new(TokenTable::open(table, rows, import.part_rows)?)
        }
        None => {
            let length = import.sample_length.or(matrix.length).unwrap_or(matrix.rows);
            import.check_length(length)?;
            let rows = matrix.rows;
            let starts = (0..rows).step_by(length.max(1)).enumerate();
            Box::new(starts.map(move |(n, start)| {
                let positions = length.min(rows - start);
                Ok((n.to_string(), (0..positions).map(|p| unknown_token(p as u32, Modality::Text)).collect()))
            }))
        }
    };
    let name = file_name(path);
    let mut start = 0;
    let samples = samples.map(move |sample| {
        let (key, tokens) = sample?;
        let mut values = Vec::new();
        matrix.read(start, tokens.len(), &mut values)?;
        let source = format!("{name}:{start}");
        start += tokens.len();
        Ok(Captured { key, source, tokens, activations: vec![values] })
    });
    let model = if model.is_empty() { "unknown".into() } else { model };
    Ok(Cache { hooks: vec![hook], d_in, dtype, model, files, rows, samples: Box::new(samples) })
}

impl Matrix {
    /// Opens a safetensors file. Returns also the hook and the model that the metadata in its header names.
    fn safetensors(path: &Path) -> Result<(Self, String, String)> {
        let tensors = Tensors::open(path)?;
        let shape = tensors.shape(TENSOR).map(<[usize]>::to_vec).ok_or_else(|| {
            let names = tensors.names();
            let found: Vec<_> = names.iter().take(8).map(String::as_str).collect();
            Error::data(path)(format!("expected a tensor {TENSOR}, found {}", found.join(", ")))
        })?;
        let Some((dtype, _)) = tensors.bytes(TENSOR) else {
            return Err(Error::data(path)(format!("the tensor {TENSOR} has no numbers")));
        };
        if ![Dtype::F32, Dtype::F16, Dtype::BF16].contains(&dtype) {
            return Err(Error::data(path)(format!("the tensor {TENSOR} is {dtype:?}: expected f32, f16 or bf16")));
        }
        let text = |name: &str| tensors.text(name).unwrap_or_default().to_string();
        let (hook, model) = (text("hook"), text("model"));
        let [rows, d_in, length] = sides(path, &shape)?;
        let (path, length) = (path.to_path_buf(), (length > 0).then_some(length));
        Ok((Self { file: File::Safetensors(tensors), dtype, rows, d_in, length, path }, hook, model))
    }

    fn npy(path: &Path) -> Result<Self> {
        let map = file::map(path)?;
        let Header { dtype, shape, data } = Header::read(&map).map_err(Error::data(path))?;
        let [rows, d_in, length] = sides(path, &shape)?;
        let width = if dtype == Dtype::F32 { 4 } else { 2 };
        let expected = rows.checked_mul(d_in).and_then(|n| n.checked_mul(width)).and_then(|n| n.checked_add(data));
        if expected != Some(map.len()) {
            let found = map.len();
            let cause = format!("the file has {found} bytes, which does not fit its array of {shape:?} in {dtype:?}");
            return Err(Error::data(path)(cause));
        }
        let (path, length) = (path.to_path_buf(), (length > 0).then_some(length));
        Ok(Self { file: File::Npy(map, data), dtype, rows, d_in, length, path })
    }

    fn read(&self, start: usize, rows: usize, out: &mut Vec<f32>) -> Result<()> {
        let bytes = match &self.file {
            File::Safetensors(tensors) => tensors.bytes(TENSOR).map_or(&[][..], |(_, bytes)| bytes),
            File::Npy(map, data) => &map[*data..],
        };
        let width = bytes.len() / self.rows;
        let bytes = bytes.get(start * width..(start + rows) * width);
        let bytes =
            bytes.ok_or_else(|| Error::data(&self.path)(format!("the array ends before row {}", start + rows)))?;
        extend_f32(self.dtype, bytes, out).ok_or_else(|| Error::data(&self.path)("the array does not hold floats"))?;
        check_finite(&self.path, start as u64, self.d_in, out)
    }
}

/// The number of rows, the width, and the length of a sample (0 if the array has no axis of samples) of a shape.
fn sides(path: &Path, shape: &[usize]) -> Result<[usize; 3]> {
    let sides = match *shape {
        [rows, d_in] => Some([rows, d_in, 0]),
        [samples, length, d_in] => samples.checked_mul(length).map(|rows| [rows, d_in, length]),
        _ => None,
    };
    match sides {
        Some([rows, d_in, _]) if rows > 0 && d_in > 0 => Ok(sides.unwrap_or_default()),
        _ => Err(Error::data(path)(format!(
            "the array has the shape {shape:?}: expected [rows, d_in] or [samples, positions, d_in]"
        ))),
    }
}
