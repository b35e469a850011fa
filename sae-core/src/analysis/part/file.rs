//! Writes and reads part files: named tensors in sections, a header, and a hash of both.

use super::{Header, Number, VERSION};
use crate::store::Store;
use crate::tensors::{self, Dtype, Raw, Tensors};
use crate::{Error, Result};
use memmap2::Mmap;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// Names of the texts in the header of the safetensors file.
const LAYOUT: &str = "sae_part";
const HEADER: &str = "header";
const HASH: &str = "blake3";

/// Collects the tensors of a part.
#[derive(Default)]
pub struct PartWriter {
    section: String,
    tensors: Vec<Tensor>,
}

struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Bytes,
}

enum Bytes {
    Memory(Vec<u8>),
    File(Mmap),
    Empty,
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::File(map) => map,
            Self::Empty => &[],
        }
    }
}

impl PartWriter {
    /// A part without tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a section: the tensors that follow belong to it.
    pub fn begin(&mut self, section: &str) {
        section.clone_into(&mut self.section);
    }

    /// Adds a tensor, whose rows have `width` numbers each.
    pub fn put<T: Number>(&mut self, name: &str, width: usize, numbers: impl IntoIterator<Item = T>) {
        let mut bytes = Vec::new();
        numbers.into_iter().for_each(|number| number.put(&mut bytes));
        let count = bytes.len() / T::BYTES;
        let shape = if width == 1 { vec![count] } else { vec![count / width.max(1), width] };
        self.push(name, T::DTYPE, shape, Bytes::Memory(bytes));
    }

    /// Adds all bytes of a file, which stay on disk until the part is written. The file must not be changed until then.
    ///
    /// # Errors
    /// The file cannot be mapped.
    pub fn put_file(&mut self, name: &str, file: &File, path: &Path) -> Result<()> {
        let length = file.metadata().map_err(Error::io("read", path))?.len() as usize;
        let bytes = if length == 0 {
            Bytes::Empty
        } else {
            // SAFETY: the map is only read, and the caller does not change the file while this writer exists.
            Bytes::File(unsafe { Mmap::map(file) }.map_err(Error::io("map", path))?)
        };
        self.push(name, Dtype::U8, vec![length], bytes);
        Ok(())
    }

    fn push(&mut self, name: &str, dtype: Dtype, shape: Vec<usize>, bytes: Bytes) {
        self.tensors.push(Tensor { name: format!("{}/{name}", self.section), dtype, shape, bytes });
    }

    /// Writes the part. The same states and header give the same bytes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path, header: &Header) -> Result<()> {
        let mut hasher = hasher(header, path)?;
        let mut sorted: Vec<&Tensor> = self.tensors.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        for tensor in &sorted {
            add(&mut hasher, &tensor.name, tensor.dtype, &tensor.shape, tensor.bytes.get());
        }
        let texts = BTreeMap::from([
            (LAYOUT.to_owned(), VERSION.to_string()),
            (HEADER.to_owned(), serde_json::to_string(header).map_err(Error::format(path))?),
            (HASH.to_owned(), hasher.finalize().to_hex().to_string()),
        ]);
        let raw = sorted.iter().map(|tensor| Raw {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            bytes: tensor.bytes.get(),
        });
        tensors::write_raw(path, &texts, &raw.collect::<Vec<_>>())
    }
}

/// A hash of what a header says, but for the command, which may differ between equal parts.
fn hasher(header: &Header, path: &Path) -> Result<blake3::Hasher> {
    let same = Header { command: Vec::new(), ..header.clone() };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&serde_json::to_vec(&same).map_err(Error::format(path))?);
    Ok(hasher)
}

fn add(hasher: &mut blake3::Hasher, name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) {
    hasher.update(format!("\n{name} {dtype:?} {shape:?}\n").as_bytes());
    hasher.update_rayon(bytes);
}

/// A part file whose hash has been compared.
pub struct PassPart {
    tensors: Tensors,
    header: Header,
    hash: String,
}

impl PassPart {
    /// Opens a part and reads all its bytes once, to compare their hash.
    ///
    /// # Errors
    /// The file cannot be read, is no part, has another layout than [`VERSION`], or its bytes have changed.
    pub fn open(path: &Path) -> Result<Self> {
        let wrong = |cause: String| Error::format(path)(cause);
        let tensors = Tensors::open(path)?;
        let text = |name: &str| tensors.text(name).ok_or_else(|| wrong("this is not a part of a pass".into()));
        let (layout, header, hash) = (text(LAYOUT)?, text(HEADER)?, text(HASH)?.to_owned());
        if layout != VERSION.to_string() {
            return Err(wrong(format!("the part has layout {layout}: expected {VERSION}")));
        }
        let header: Header = serde_json::from_str(header).map_err(|e| wrong(format!("its header is damaged ({e})")))?;
        if header.number == 0 || header.number > header.of {
            return Err(wrong(format!("part {} of {}: expected 1 to {}", header.number, header.of, header.of)));
        }
        let mut hasher = hasher(&header, path)?;
        for name in tensors.names() {
            if let (Some(shape), Some((dtype, bytes))) = (tensors.shape(&name), tensors.bytes(&name)) {
                add(&mut hasher, &name, dtype, shape, bytes);
            }
        }
        if hasher.finalize().to_hex().as_str() != hash {
            return Err(wrong("its bytes have changed since they were written (BLAKE3 differs)".into()));
        }
        Ok(Self { tensors, header, hash })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        self.tensors.path()
    }

    /// What it says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The hash of its states and of its header, but for the command.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// A section, of states over `store`.
    ///
    /// # Errors
    /// The part has no such section, or it covers shards that the store does not have.
    pub fn section<'a>(&'a self, name: &'a str, store: &'a Store) -> Result<Section<'a>> {
        let shards = self.header.shards.get(name).cloned();
        let shards = shards.filter(|shards| shards.start <= shards.end && shards.end <= store.shards());
        let wrong = || Error::format(self.path())(format!("it has no states of {name}"));
        Ok(Section { part: self, name, store, shards: shards.ok_or_else(wrong)? })
    }
}

/// The tensors of a part that belong to one store.
pub struct Section<'a> {
    part: &'a PassPart,
    name: &'a str,
    store: &'a Store,
    shards: Range<usize>,
}

impl Section<'_> {
    /// The shards that the states are of.
    pub fn shards(&self) -> Range<usize> {
        self.shards.clone()
    }

    /// Whether a position, by its shard and row, is among those that the states are of.
    pub fn has_row(&self, shard: u32, row: u32) -> bool {
        let records = &self.store.manifest().shards;
        self.shards.contains(&(shard as usize)) && u64::from(row) < records[shard as usize].rows
    }

    /// The width of the store's rows.
    pub fn width(&self) -> usize {
        self.store.manifest().d_in
    }

    /// Whether the store has a sample of this number.
    pub fn has_sample(&self, sample: u32) -> bool {
        u64::from(sample) < self.store.manifest().samples
    }

    /// The numbers of a tensor whose rows have `width` each.
    ///
    /// # Errors
    /// There is no such tensor, or it has another type or width.
    pub fn get<T: Number>(&self, name: &str, width: usize) -> Result<Vec<T>> {
        let (bytes, shape) = self.tensor(name, T::DTYPE)?;
        if shape.get(1).copied().unwrap_or(1) != width || shape.len() > 2 {
            return Err(self.error(format!("tensor {name} has shape {shape:?}: expected rows of {width}")));
        }
        Ok(bytes.chunks_exact(T::BYTES).map(T::get).collect())
    }

    /// [`Section::get`] for a tensor of a known number of rows.
    ///
    /// # Errors
    /// As [`Section::get`], and a tensor of another number of rows.
    pub fn get_rows<T: Number>(&self, name: &str, rows: usize, width: usize) -> Result<Vec<T>> {
        let numbers = self.get(name, width)?;
        if numbers.len() != rows * width {
            return Err(self.error(format!("tensor {name} has {} numbers: expected {}", numbers.len(), rows * width)));
        }
        Ok(numbers)
    }

    /// The bytes that [`PartWriter::put_file`] added.
    ///
    /// # Errors
    /// There is no such tensor, or it is not one of bytes.
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        Ok(self.tensor(name, Dtype::U8)?.0)
    }

    fn tensor(&self, name: &str, expected: Dtype) -> Result<(&[u8], &[usize])> {
        let full = format!("{}/{name}", self.name);
        let found = self.part.tensors.bytes(&full).zip(self.part.tensors.shape(&full));
        let ((dtype, bytes), shape) = found.ok_or_else(|| self.error(format!("there is no tensor {full}")))?;
        if dtype != expected {
            return Err(self.error(format!("tensor {full} is stored as {dtype:?}: expected {expected:?}")));
        }
        Ok((bytes, shape))
    }

    /// Divides rows by how many of them each feature has.
    ///
    /// # Errors
    /// The counts do not add up to the number of rows.
    pub fn ranges(&self, counts: &[u32], rows: usize) -> Result<Vec<Range<usize>>> {
        let mut end = 0usize;
        let ranges = counts.iter().map(|count| {
            let start = end;
            end += *count as usize;
            start..end
        });
        let ranges: Vec<Range<usize>> = ranges.collect();
        if end == rows { Ok(ranges) } else { Err(self.error(format!("lists of {end} entries, {rows} stored"))) }
    }

    /// An error about the states.
    pub fn error(&self, cause: impl Into<String>) -> Error {
        Error::format(self.part.path())(cause.into())
    }
}
