//! PyTorch archives (`torch.save`): a ZIP with a pickle that describes tensors and an entry of raw numbers for each
//! storage. Only state dicts are read; see [`pickle`] for what that keeps out.

use super::arrays::{Array, Entries};
use super::{pickle, zip};
use crate::error::Cause;
use std::collections::BTreeMap;

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
