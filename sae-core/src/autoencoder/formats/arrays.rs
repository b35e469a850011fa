//! Named tensors of a mapped file in any container: safetensors, `.npz`, a PyTorch archive. A tensor is a view of the file's
//! bytes, and values are converted only on request, so that no file can claim more memory than it has bytes. Knows nothing
//! of what a tensor means.

use crate::error::Cause;
use crate::{Error, Result, file, tensors};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The table of contents of a container: where each tensor is in the file.
pub type Entries = BTreeMap<String, Array>;

/// Where a tensor is. Its range was checked to be inside the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    /// In elements.
    strides: Vec<usize>,
    range: Range<usize>,
}

impl Array {
    /// A tensor in row-major order.
    pub fn row_major(dtype: Dtype, shape: Vec<usize>, range: Range<usize>) -> Result<Self, String> {
        let strides = row_major(&shape).ok_or_else(|| format!("the shape {shape:?} is beyond all bounds"))?;
        Self::strided(dtype, shape, strides, range)
    }

    /// A tensor whose first element begins the range.
    ///
    /// # Errors
    /// The tensor does not fit into the range.
    pub fn strided(dtype: Dtype, shape: Vec<usize>, strides: Vec<usize>, range: Range<usize>) -> Result<Self, String> {
        let held = range.len() / width(dtype).ok_or_else(|| format!("{dtype:?} is not supported"))?;
        let count = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
        // The offset of the last element; a tensor without elements has none.
        let reach = match count {
            Some(0) => Some(0),
            _ if strides.len() != shape.len() => None,
            _ => shape
                .iter()
                .zip(&strides)
                .try_fold(1usize, |at, (n, s)| at.checked_add(n.checked_sub(1)?.checked_mul(*s)?)),
        };
        match (count, reach) {
            (Some(count), Some(reach)) if count <= held && reach <= held => Ok(Self { dtype, shape, strides, range }),
            _ => Err(format!("{dtype:?} {shape:?} does not fit into the {} bytes it has", range.len())),
        }
    }
}

/// Tensors of one file.
pub struct Arrays {
    map: Mmap,
    entries: Entries,
    path: PathBuf,
}

/// A tensor that a format needs, with its expected shape and order.
pub struct Wanted<'a> {
    name: &'a str,
    shape: Vec<usize>,
    turned: bool,
}

/// A tensor in the order that it is stored in.
pub fn plain<'a>(name: &'a str, shape: &[usize]) -> Wanted<'a> {
    Wanted { name, shape: shape.to_vec(), turned: false }
}

/// A matrix that is stored as `[rows, columns]` and needed as `[columns, rows]`.
pub fn turned(name: &str, [rows, columns]: [usize; 2]) -> Wanted<'_> {
    Wanted { name, shape: vec![rows, columns], turned: true }
}

impl Arrays {
    /// Maps a file and reads its table of contents.
    pub fn open<E: Into<Cause>>(path: &Path, contents: impl FnOnce(&[u8]) -> Result<Entries, E>) -> Result<Self> {
        let map = file::map(path)?;
        let entries = contents(&map).map_err(Error::format(path))?;
        Ok(Self { map, entries, path: path.to_path_buf() })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Whether there is such a tensor, and all of its values are finite numbers.
    pub fn is_finite(&self, name: &str) -> bool {
        let finite = |array: &Array| self.values(array, false).iter().all(|value| value.is_finite());
        self.entries.get(name).is_some_and(finite)
    }

    /// The shape of a matrix, from which a format gets its sizes.
    pub fn matrix(&self, name: &str) -> Result<[usize; 2]> {
        let shape = self.entries.get(name).map(|a| &a.shape[..]);
        let wrong = || match shape {
            Some(shape) => format!("{name} has shape {shape:?}, expected a matrix"),
            None => format!("there is no {name}; there are {}", self.names()),
        };
        shape.and_then(|s| s.try_into().ok()).ok_or_else(wrong).map_err(Error::format(&self.path))
    }

    /// The value of a tensor with one element.
    pub fn number(&self, name: &str) -> Result<f64> {
        let array = self.entries.get(name).ok_or_else(|| format!("there is no {name}; there are {}", self.names()));
        let array = array.map_err(Error::format(&self.path))?;
        let bytes = &self.map[array.range.clone()];
        let value = match (array.shape.iter().product::<usize>(), array.dtype) {
            (1, Dtype::F64) => bytes.first_chunk().map(|b| f64::from_le_bytes(*b)),
            (1, Dtype::I64) => bytes.first_chunk().map(|b| i64::from_le_bytes(*b) as f64),
            (1, Dtype::I32) => bytes.first_chunk().map(|b| i32::from_le_bytes(*b) as f64),
            (1, dtype) => tensors::to_f32(dtype, bytes).and_then(|v| v.first().map(|v| *v as f64)),
            _ => None,
        };
        let finite = value.filter(|v| v.is_finite());
        finite.ok_or_else(|| Error::format(&self.path)(format!("{name} is not one finite number")))
    }

    /// The values of several tensors.
    ///
    /// # Errors
    /// Tensors that are missing, have another shape, are not floats, or are not finite; all of them are named at once.
    pub fn take<const N: usize>(&self, wanted: [Wanted; N]) -> Result<[Vec<f32>; N]> {
        let wrong: Vec<_> = wanted.iter().filter_map(|w| self.misfit(w)).collect();
        if !wrong.is_empty() {
            return Err(Error::format(&self.path)(wrong.join("; ")));
        }
        let values = wanted.each_ref().map(|w| self.values(&self.entries[w.name], w.turned));
        let infinite = wanted.iter().zip(&values).filter(|(_, values)| values.iter().any(|v| !v.is_finite()));
        let infinite: Vec<_> = infinite.map(|(w, _)| w.name).collect();
        if infinite.is_empty() {
            return Ok(values);
        }
        Err(Error::format(&self.path)(format!("values that are not finite in {}", infinite.join(", "))))
    }

    fn misfit(&self, wanted: &Wanted) -> Option<String> {
        let (name, shape) = (wanted.name, &wanted.shape);
        match self.entries.get(name) {
            None => Some(format!("there is no {name}")),
            Some(a) if a.shape != *shape => Some(format!("{name} has shape {:?}, expected {shape:?}", a.shape)),
            Some(_) if shape.contains(&0) => Some(format!("{name} has shape {shape:?}, which holds nothing")),
            Some(a) if tensors::to_f32(a.dtype, &[]).is_none() => Some(format!("{name} is {:?}, not a float", a.dtype)),
            Some(_) => None,
        }
    }

    fn values(&self, array: &Array, turn: bool) -> Vec<f32> {
        let mut flat = tensors::to_f32(array.dtype, &self.map[array.range.clone()]).unwrap_or_default();
        let count = array.shape.iter().product();
        if row_major(&array.shape).as_ref() == Some(&array.strides) {
            flat.truncate(count);
            return match array.shape[..] {
                [rows, columns] if turn => transposed(&flat, rows, columns),
                _ => flat,
            };
        }
        // A view in another order, such as a transposed matrix in a PyTorch archive.
        let mut view = (array.shape.clone(), array.strides.clone());
        if turn {
            view.0.reverse();
            view.1.reverse();
        }
        let place = |mut n: usize| {
            let dims = view.0.iter().zip(&view.1).rev();
            dims.fold(0, |at, (size, stride)| {
                let here = n % size;
                n /= size;
                at + here * stride
            })
        };
        (0..count).into_par_iter().map(|n| flat[place(n)]).collect()
    }

    fn names(&self) -> String {
        self.entries.keys().cloned().collect::<Vec<_>>().join(", ")
    }
}

/// The table of contents of a safetensors file.
pub fn safetensors(bytes: &[u8]) -> Result<Entries, String> {
    let (header, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|e| format!("not a whole safetensors file ({e})"))?;
    let data = header + 8;
    let mut entries = Entries::new();
    for name in metadata.offset_keys() {
        let info = metadata.info(&name).ok_or("a safetensors header that contradicts itself")?;
        let (from, to) = info.data_offsets;
        // Dtypes that no autoencoder uses are skipped; a tensor that is needed is reported as missing then.
        if width(info.dtype).is_some() {
            let array = Array::row_major(info.dtype, info.shape.clone(), data + from..data + to);
            entries.insert(name.clone(), array.map_err(|e| format!("{name}: {e}"))?);
        }
    }
    Ok(entries)
}

fn row_major(shape: &[usize]) -> Option<Vec<usize>> {
    let mut strides = vec![1usize; shape.len()];
    for n in (1..shape.len()).rev() {
        strides[n - 1] = strides[n].checked_mul(shape[n])?;
    }
    Some(strides)
}

/// Bytes of an element; `None` for dtypes that are not supported.
fn width(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F64 | Dtype::I64 => Some(8),
        Dtype::F32 | Dtype::I32 => Some(4),
        Dtype::F16 | Dtype::BF16 => Some(2),
        _ => None,
    }
}

/// `[rows, columns]` as `[columns, rows]`, tile by tile: whole columns at a time would miss the cache at every value.
pub fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut out = vec![0.0; values.len()];
    out.par_chunks_mut((TILE * rows).max(1)).enumerate().for_each(|(tile, out)| {
        for from in (0..rows).step_by(TILE) {
            for (c, out) in out.chunks_exact_mut(rows).enumerate() {
                let to = rows.min(from + TILE);
                out[from..to].iter_mut().zip(from..to).for_each(|(o, r)| *o = values[r * columns + tile * TILE + c]);
            }
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tensors_that_exceed_their_bytes_are_rejected() {
        let array = |shape: &[usize], strides: &[usize]| {
            Array::strided(Dtype::F32, shape.to_vec(), strides.to_vec(), 0..4 * 12).is_ok()
        };
        assert!(array(&[3, 4], &[4, 1]) && array(&[4, 3], &[1, 4]) && array(&[], &[]) && array(&[0, 9], &[9, 1]));
        assert!(!array(&[3, 4], &[5, 1]), "the last element lies outside");
        assert!(!array(&[1 << 40], &[0]), "more elements than bytes");
        assert!(!array(&[usize::MAX, 2], &[1, 1]) && !array(&[2], &[usize::MAX]) && !array(&[2, 2], &[1]));
        assert!(Array::row_major(Dtype::F32, vec![usize::MAX, usize::MAX, 3], 0..8).is_err());
    }

    #[test]
    fn a_turned_view_is_the_transposed_matrix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("numbers");
        let numbers: Vec<f32> = (0..12).map(|n| n as f32).collect();
        file::write_bytes(&path, &tensors::from_f32(Dtype::F32, &numbers)).unwrap();
        let view = |strides: Vec<usize>| {
            let array = Array::strided(Dtype::F32, vec![3, 4], strides, 0..48)?;
            Ok::<_, Cause>(Entries::from([("a".to_string(), array)]))
        };
        for strides in [vec![4, 1], vec![1, 3], vec![2, 1]] {
            let expected: Vec<f32> = (0..3)
                .flat_map(|r| (0..4).map(move |c| (r, c)))
                .map(|(r, c)| numbers[r * strides[0] + c * strides[1]])
                .collect();
            let arrays = Arrays::open(&path, |_| view(strides.clone())).unwrap();
            let [plain_order, turned_order] = arrays.take([plain("a", &[3, 4]), turned("a", [3, 4])]).unwrap();
            assert_eq!(plain_order, expected);
            assert_eq!(turned_order, transposed(&expected, 3, 4));
        }
    }

    proptest! {
        #[test]
        fn transposing_moves_every_value(rows in 0usize..70, columns in 0usize..70) {
            let values: Vec<f32> = (0..rows * columns).map(|n| n as f32).collect();
            let turned = transposed(&values, rows, columns);
            for r in 0..rows {
                for c in 0..columns {
                    prop_assert_eq!(turned[c * rows + r], values[r * columns + c]);
                }
            }
        }
    }
}
