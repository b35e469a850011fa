//! NumPy archives (`.npz`): a ZIP of `.npy` files, each with a header and raw numbers. Arrays of Python objects, which are
//! pickles, are never read.

use super::arrays::{Array, Entries};
use super::zip;
use safetensors::tensor::Dtype;

/// The table of contents.
pub fn entries(bytes: &[u8]) -> Result<Entries, String> {
    let mut entries = Entries::new();
    for entry in zip::entries(bytes)? {
        let Some(name) = entry.name.strip_suffix(".npy") else { continue };
        let (head, dtype, order, shape) =
            header(&bytes[entry.range.clone()]).ok_or_else(|| format!("{} is not a .npy file", entry.name))?;
        let range = entry.range.start + head..entry.range.end;
        let dtype = dtype.map_err(|descr| format!("{name} is {descr}, not a little-endian number"))?;
        let array = match order {
            Order::Rows => Array::row_major(dtype, shape, range),
            Order::Columns => {
                let strides = shape.iter().scan(1usize, |next, size| {
                    let stride = *next;
                    *next = next.saturating_mul(*size);
                    Some(stride)
                });
                let strides = strides.collect();
                Array::strided(dtype, shape, strides, range)
            }
        };
        entries.insert(name.into(), array.map_err(|e| format!("{name}: {e}"))?);
    }
    Ok(entries)
}

enum Order {
    Rows,
    Columns,
}

type Header = (usize, Result<Dtype, String>, Order, Vec<usize>);

/// Length of the header, dtype (or what it says instead), order and shape.
fn header(bytes: &[u8]) -> Option<Header> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (start, length): (usize, usize) = match rest.first()? {
        1 => (10, u16::from_le_bytes(*bytes.get(8..)?.first_chunk()?) as usize),
        _ => (12, u32::from_le_bytes(*bytes.get(8..)?.first_chunk()?) as usize),
    };
    let text = std::str::from_utf8(bytes.get(start..start.checked_add(length)?)?).ok()?;
    let value = |key: &str| Some(text.split_once(&format!("'{key}':"))?.1.trim_start());
    let descr = value("descr")?;
    let dtype = match descr.strip_prefix('\'').and_then(|d| d.split('\'').next()) {
        Some("<f4") => Ok(Dtype::F32),
        Some("<f2") => Ok(Dtype::F16),
        Some("<f8") => Ok(Dtype::F64),
        Some("<i4") => Ok(Dtype::I32),
        Some("<i8") => Ok(Dtype::I64),
        other => Err(other.unwrap_or("a record").to_string()),
    };
    let order = if value("fortran_order")?.starts_with("True") { Order::Columns } else { Order::Rows };
    let shape = value("shape")?.strip_prefix('(')?.split(')').next()?;
    let shape = shape.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.parse().ok());
    Some((start + length, dtype, order, shape.collect::<Option<_>>()?))
}
