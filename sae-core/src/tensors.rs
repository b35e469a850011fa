//! Safetensors files: a validated, memory-mapped reader that returns `f32`, and an atomic writer. Used for shards,
//! autoencoders and model checkpoints; knows nothing of what a tensor means.

use crate::{Error, Result, file};
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
pub use safetensors::tensor::Dtype;
use safetensors::tensor::{Metadata, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A safetensors file, mapped and validated: its header is inside the file, and its tensors cover the data exactly.
pub struct Tensors {
    map: Mmap,
    metadata: Metadata,
    data: usize,
    path: PathBuf,
}

impl Tensors {
    /// Maps `path` and validates its header; nothing is copied.
    ///
    /// # Errors
    /// The file cannot be mapped, or is not a complete safetensors file.
    pub fn open(path: &Path) -> Result<Self> {
        let map = file::map(path)?;
        let (header, metadata) = SafeTensors::read_metadata(&map)
            .map_err(|e| Error::format(path)(format!("not a whole safetensors file ({e})")))?;
        Ok(Self { map, metadata, data: header + 8, path: path.to_path_buf() })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.metadata.offset_keys();
        names.sort();
        names
    }

    /// Shape of a tensor; `None` if the file has none of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|info| info.shape.as_slice())
    }

    /// Stored dtype and little-endian bytes of a tensor; `None` if the file has none of this name.
    pub fn bytes(&self, name: &str) -> Option<(Dtype, &[u8])> {
        let info = self.metadata.info(name)?;
        let (from, to) = info.data_offsets;
        Some((info.dtype, &self.map[self.data + from..self.data + to]))
    }

    /// A text of the metadata in the header, by its name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(name).map(String::as_str)
    }

    /// A tensor of this shape as `f32` in row-major order, whatever float it is stored as.
    ///
    /// # Errors
    /// The file has no such tensor, or it has another shape, or it is not stored as a float.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let found = self.shape(name).ok_or_else(|| Error::format(&self.path)(format!("there is no tensor {name}")))?;
        if found != shape {
            let cause = format!("tensor {name} has shape {found:?}, expected {shape:?}");
            return Err(Error::format(&self.path)(cause));
        }
        let (dtype, bytes) = self.bytes(name).expect("the tensor was found above");
        to_f32(dtype, bytes)
            .ok_or_else(|| Error::format(&self.path)(format!("tensor {name} is stored as {dtype:?}, not as a float")))
    }
}

/// The longest header that readers of safetensors accept.
const HEADER_LIMIT: usize = 100_000_000;

/// A tensor that is written with the bytes that it has in memory.
pub struct Raw<'a> {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Little-endian bytes.
    pub bytes: &'a [u8],
}

/// Writes tensors and a table of texts as a safetensors file, straight from memory: nothing is copied.
///
/// # Errors
/// The header is larger than readers accept, or the file cannot be written.
pub fn write_raw(path: &Path, texts: &BTreeMap<String, String>, tensors: &[Raw]) -> Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!(texts));
    let mut at = 0;
    for tensor in tensors {
        let offsets = [at, at + tensor.bytes.len()];
        at = offsets[1];
        let entry = serde_json::json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets });
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = serde_json::to_vec(&header).map_err(Error::format(path))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() > HEADER_LIMIT {
        let cause = format!("a header of {} bytes, where readers take {HEADER_LIMIT}", header.len());
        return Err(Error::format(path)(cause));
    }
    file::write(path, |out| {
        let length = (header.len() as u64).to_le_bytes();
        for part in [&length[..], &header].into_iter().chain(tensors.iter().map(|t| t.bytes)) {
            out.write_all(part).map_err(Error::io("write", path))?;
        }
        Ok(())
    })
}

/// Little-endian floats of any width as `f32`; `None` for dtypes that are not floats.
pub fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let mut out = Vec::new();
    extend_f32(dtype, bytes, &mut out)?;
    Some(out)
}

/// [`to_f32`], appended to an existing vector.
pub fn extend_f32(dtype: Dtype, bytes: &[u8], out: &mut Vec<f32>) -> Option<()> {
    match dtype {
        Dtype::F32 => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        Dtype::F16 => out.extend(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32())),
        Dtype::BF16 => out.extend(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32())),
        Dtype::F64 => out.extend(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32)),
        _ => return None,
    }
    Some(())
}

/// The index of the first value that a dtype (`F32`, `F16` or `BF16`) cannot store: one that is not finite, or that rounding would
/// make infinite.
pub fn unstorable(dtype: Dtype, values: &[f32]) -> Option<usize> {
    let fits = |v: &f32| match dtype {
        Dtype::F16 => f16::from_f32(*v).is_finite(),
        Dtype::BF16 => bf16::from_f32(*v).is_finite(),
        _ => v.is_finite(),
    };
    values.par_iter().position_first(|v| !fits(v))
}

/// Little-endian bytes of `f32` values in the stored dtype (`F32`, `F16` or `BF16`), rounded to nearest. A value that
/// does not fit becomes infinite: see [`unstorable`].
pub fn from_f32(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// Writes named `f32` tensors, each with its shape, as a safetensors file of `dtype`. Returns the BLAKE3 hash of the file.
///
/// # Errors
/// A shape that does not fit its values; the file cannot be written.
pub fn write(path: &Path, dtype: Dtype, tensors: &[(&str, &[usize], &[f32])]) -> Result<blake3::Hash> {
    let encoded: Vec<_> =
        tensors.iter().map(|(name, shape, values)| (*name, shape.to_vec(), from_f32(dtype, values))).collect();
    let views = encoded.iter().map(|(name, shape, bytes)| Ok((*name, TensorView::new(dtype, shape.clone(), bytes)?)));
    let bytes = views
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .and_then(|views| safetensors::serialize(views, None))
        .map_err(Error::format(path))?;
    file::write_bytes(path, &bytes)?;
    Ok(blake3::hash(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tensors_are_read_as_they_were_written(values in prop::collection::vec(-1e4f32..1e4, 1..64)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("t.safetensors");
            for (dtype, tolerance) in [(Dtype::F32, 0.0), (Dtype::BF16, 1.0 / 256.0), (Dtype::F16, 1.0 / 2048.0)] {
                write(&path, dtype, &[("a", &[values.len()], &values)]).unwrap();
                let read = Tensors::open(&path).unwrap().f32("a", &[values.len()]).unwrap();
                for (a, b) in values.iter().zip(&read) {
                    prop_assert!((a - b).abs() <= a.abs() * tolerance + 1e-7);
                }
            }
        }

        #[test]
        fn arbitrary_bytes_are_rejected_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("t.safetensors");
            file::write_bytes(&path, &bytes).unwrap();
            prop_assert!(Tensors::open(&path).is_err());
        }
    }

    #[test]
    fn values_that_no_stored_number_can_hold_are_found() {
        for (dtype, largest, first) in [(Dtype::F16, 65_519.9, 65_520.0), (Dtype::BF16, 3.39e38, f32::MAX)] {
            assert_eq!(unstorable(dtype, &[0.0, largest, -largest]), None, "{dtype:?}");
            assert_eq!(unstorable(dtype, &[0.0, largest, -first, first]), Some(2), "{dtype:?}");
        }
        assert_eq!(unstorable(Dtype::F32, &[f32::MAX, f32::MIN]), None);
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            assert_eq!(unstorable(dtype, &[1.0, f32::NAN]), Some(1));
            assert_eq!(unstorable(dtype, &[f32::NEG_INFINITY]), Some(0));
        }
    }

    #[test]
    fn a_truncated_file_and_a_wrong_shape_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        write(&path, Dtype::F32, &[("a", &[2, 3], &[0.0; 6])]).unwrap();
        let wrong = Tensors::open(&path).unwrap().f32("a", &[3, 2]).unwrap_err().to_string();
        assert!(wrong.contains("[2, 3]") && wrong.contains("[3, 2]") && wrong.contains("t.safetensors"), "{wrong}");
        let bytes = std::fs::read(&path).unwrap();
        file::write_bytes(&path, &bytes[..bytes.len() - 4]).unwrap();
        let cut = Tensors::open(&path).err().unwrap().to_string();
        assert!(cut.contains("not a whole safetensors file"), "{cut}");
    }
}
