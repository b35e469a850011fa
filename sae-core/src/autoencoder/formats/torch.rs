//! PyTorch archives (`torch.save`): a ZIP with a pickle that describes tensors and an entry of raw numbers for each
//! storage. Only state dicts are read, and written; see [`pickle`] for what that keeps out.

use super::arrays::{Array, Entries};
use super::{pickle, zip};
use crate::error::Cause;
use crate::{Result, tensors};
use safetensors::tensor::Dtype;
use std::collections::BTreeMap;
use std::path::Path;

/// The beginning of files from `torch.save` up to PyTorch 1.5, which were not archives.
const LEGACY: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.";

/// The table of contents.
pub fn entries(bytes: &[u8]) -> Result<Entries, Cause> {
    if bytes.starts_with(LEGACY) {
        let hint = "load and save it with torch.load and torch.save of a later version".into();
        return Err(Cause::with_hint("the file has the format that PyTorch wrote before version 1.6", hint));
    }
    let files: BTreeMap<_, _> = zip::entries(bytes)?.into_iter().map(|e| (e.name, e.range)).collect();
    let description =
        files.keys().find(|name| name.ends_with("/data.pkl")).ok_or("no PyTorch archive (no data.pkl)")?;
    let folder = description.trim_end_matches("data.pkl");
    if files.get(&format!("{folder}byteorder")).is_some_and(|r| bytes[r.clone()] != *b"little") {
        return Err("the numbers are not little-endian".into());
    }
    let mut entries = Entries::new();
    for (name, tensor) in pickle::read(&bytes[files[description].clone()])? {
        let storage = files.get(&format!("{folder}data/{}", tensor.key));
        let storage = storage.ok_or_else(|| format!("{name}: the archive lacks storage {}", tensor.key))?;
        // The view begins at its offset; its extent is checked against the rest of the storage.
        let start = tensor.dtype.bitsize().checked_mul(tensor.offset).map(|bits| bits / 8);
        let start = start.and_then(|s| s.checked_add(storage.start)).filter(|s| *s <= storage.end);
        let start = start.ok_or_else(|| format!("{name} begins outside of its storage"))?;
        let array = Array::strided(tensor.dtype, tensor.shape, tensor.strides, start..storage.end);
        entries.insert(name.clone(), array.map_err(|e| format!("{name}: {e}"))?);
    }
    Ok(entries)
}

/// Writes named `f32` tensors, each with its shape, as the state dict that `torch.save` writes. The same tensors give the same bytes.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, tensors: &[(&str, &[usize], &[f32])]) -> Result<()> {
    const FOLDER: &str = "archive";
    let shapes: Vec<(&str, &[usize])> = tensors.iter().map(|(name, shape, _)| (*name, *shape)).collect();
    let mut entries = vec![(format!("{FOLDER}/data.pkl"), pickle::write(&shapes))];
    entries.push((format!("{FOLDER}/byteorder"), b"little".to_vec()));
    for (key, (_, _, values)) in tensors.iter().enumerate() {
        entries.push((format!("{FOLDER}/data/{key}"), tensors::from_f32(Dtype::F32, values)));
    }
    entries.push((format!("{FOLDER}/version"), b"3\n".to_vec()));
    zip::write(path, &entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoencoder::formats::arrays::{Arrays, plain};

    #[test]
    fn what_is_written_is_read_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.pt");
        let values: Vec<f32> = (0..300).map(|n| n as f32 * 0.37 - 11.0).collect();
        let [a, b, c]: [(&str, &[usize], &[f32]); 3] =
            [("W", &[10, 30], &values), ("b", &[300], &values), ("cube", &[2, 3, 1], &values[..6])];
        write(&path, &[a, b, c]).unwrap();
        let file = Arrays::open(&path, entries).unwrap();
        let [w, b, cube] = file.take([plain("W", &[10, 30]), plain("b", &[300]), plain("cube", &[2, 3, 1])]).unwrap();
        assert_eq!((&w, &b, &cube[..]), (&values, &values, &values[..6]));
        let before = std::fs::read(&path).unwrap();
        write(&path, &[a, ("b", &[300], &values), c]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
