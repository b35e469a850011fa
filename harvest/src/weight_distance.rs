//! How far the weights of a checkpoint are from those of another one. Reads the files tensor by tensor and block by block, so that the
//! memory it needs does not grow with the model. Builds no model.

use crate::model::Weights;
use crate::{Error, Result};
use rayon::prelude::*;
use sae_core::tensors::to_f32;
use safetensors::Dtype;
use std::path::Path;

/// Numbers whose squares are summed by one thread at a time.
const BLOCK: usize = 1 << 18;

/// The Frobenius norm of the difference between all weights of two checkpoints, relative to that of the first:
/// `|W - W_0| / |W_0|`. Tensors that hold no floats, such as numbers of positions, do not count.
///
/// # Errors
/// Files that cannot be read; a tensor that only one of the checkpoints has, or that has another shape.
pub fn weight_distance(first: &Path, other: &Path) -> Result<f64> {
    let (first, other) = (Weights::open(first)?, Weights::open(other)?);
    let [mut difference, mut size] = [0.0, 0.0];
    let names: Vec<&str> = first.names().collect();
    let wrong = |name: &str, cause: &str| Error::checkpoint(other.path())(format!("the tensor {name} {cause}"));
    if let Some(name) = other.names().find(|name| names.binary_search(name).is_err()) {
        return Err(wrong(name, "is not in the other checkpoint"));
    }
    for name in names {
        let (Some((shape, dtype, bytes)), Some((other_shape, other_dtype, other_bytes))) =
            (first.tensor(name), other.tensor(name))
        else {
            return Err(wrong(name, "is missing, and the other checkpoint has it"));
        };
        if shape != other_shape {
            return Err(wrong(name, &format!("has the shape {other_shape:?}, and {shape:?} in the other checkpoint")));
        }
        let numbers: usize = shape.iter().product();
        let sums = (0..numbers.div_ceil(BLOCK)).into_par_iter().map(|block| {
            let range = block * BLOCK..((block + 1) * BLOCK).min(numbers);
            let read = |dtype: Dtype, bytes: &[u8]| {
                let size = bytes.len() / numbers;
                to_f32(dtype, &bytes[range.start * size..range.end * size])
            };
            let (a, b) = read(dtype, bytes).zip(read(other_dtype, other_bytes))?;
            let sums = a.iter().zip(&b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
            Some(sums.fold([0.0, 0.0], |[difference, size], (a, b)| [difference + (b - a).powi(2), size + a * a]))
        });
        // In the order of the blocks, so that the result is the same on any number of threads.
        for [of_block, of_size] in sums.flatten().collect::<Vec<_>>() {
            difference += of_block;
            size += of_size;
        }
    }
    Ok((difference / size).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::tensors;

    /// A checkpoint of two tensors.
    fn checkpoint(dtype: Dtype, names: [&str; 2], values: &[f32]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = values.split_at(4);
        let parts = [(names[0], &[2, 2][..], first), (names[1], &[second.len()][..], second)];
        tensors::write(&dir.path().join("model.safetensors"), dtype, &parts).unwrap();
        dir
    }

    #[test]
    fn the_distance_is_relative_and_tensors_have_to_agree() {
        let values = [1.0, 2.0, 2.0, 4.0, 0.0, 0.0];
        let moved = [1.0, 2.0, 2.0, 4.0, 0.0, 3.0];
        let first = checkpoint(Dtype::F32, ["a", "b"], &values);
        let distance = |other: &tempfile::TempDir| weight_distance(first.path(), other.path());
        assert_eq!(distance(&checkpoint(Dtype::BF16, ["a", "b"], &moved)).unwrap(), 0.6);
        assert_eq!(distance(&first).unwrap(), 0.0);
        let error = |other| distance(&other).unwrap_err().to_string();
        assert!(error(checkpoint(Dtype::F32, ["a", "c"], &values)).contains("c is not in the other checkpoint"));
        assert!(error(checkpoint(Dtype::F32, ["a", "b"], &[1.0; 7])).contains("b has the shape [3], and [2]"));
    }
}
