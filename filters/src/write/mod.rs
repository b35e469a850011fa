//! Writes chosen rows of a data set: as they stood ([`same`]), or in a format that trainers read, from conversations that
//! the caller reads. A folder appears whole or not at all. Never touches the input, and knows no scores.

mod archive;
mod columns;
mod image;
mod lines;
mod row;
pub mod same;
mod stage;
mod table;
mod talk;

pub use columns::Kinds;
pub use image::{Image, Images};
pub use row::{Part, Row, Turn};
pub use stage::{Stage, check_folders};

use crate::{Error, Result};
use image::Carrier;
use sae_core::sample::Sample;
use std::path::Path;
use std::str::FromStr;

/// What rows are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// As they stood, in files of the same names.
    Same,
    /// Tables of conversations with their images inside.
    Parquet,
    /// Conversations, an object a line.
    Jsonl,
    /// LLaVA's JSON.
    Llava,
    /// ShareGPT conversations as LLaMA-Factory reads them.
    Sharegpt,
    /// Tables of preference pairs as TRL reads them.
    Trl,
    /// Archives of JSON and images.
    Webdataset,
}

impl Format {
    /// All of them with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("same", Self::Same),
        ("parquet", Self::Parquet),
        ("jsonl", Self::Jsonl),
        ("llava", Self::Llava),
        ("sharegpt", Self::Sharegpt),
        ("trl", Self::Trl),
        ("webdataset", Self::Webdataset),
    ];
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        let names = || Self::ALL.map(|(name, _)| name).join(", ");
        known.map(|(_, format)| *format).ok_or_else(|| format!("{name} is no format of rows: {}", names()))
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Rows.
    pub rows: u64,
    /// Images copied or put inside.
    pub images: u64,
}

/// What all rows have in common, which decides what columns hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// Columns that are none of a conversation's.
    pub kinds: Kinds,
    /// Whether a row has more than one image: then all name theirs in lists.
    pub several_images: bool,
}

impl Shape {
    /// The shape of the rows of these samples.
    pub fn of(samples: &[Sample]) -> Self {
        Self {
            kinds: Kinds::of(samples.iter().filter_map(|sample| sample.meta.as_object())),
            several_images: samples.iter().any(|sample| sample.images.len() > 1),
        }
    }
}

/// What takes rows one after the other.
trait Sink {
    /// Takes a row.
    fn push(&mut self, row: &Row, images: &mut Carrier) -> Result<()>;
    /// Writes what is left.
    fn finish(&mut self) -> Result<()>;
}

/// Rows on their way into files of a format other than [`Format::Same`].
pub struct Writer {
    sink: Box<dyn Sink>,
    images: Carrier,
    rows: u64,
}

impl Writer {
    /// A writer into the folder `out`, which exists. A file of tables or an archive ends once it holds `shard` bytes of
    /// images.
    ///
    /// # Errors
    /// The disk; images that cannot be had as asked for.
    pub fn new(format: Format, out: &Path, shape: &Shape, images: Images, shard: u64) -> Result<Self> {
        let sink: Box<dyn Sink> = match format {
            Format::Same => return Err(Error::Request("rows that stay as they are need no writer".into())),
            Format::Jsonl => Box::new(lines::Jsonl::new(out)?),
            Format::Llava => Box::new(lines::Llava::new(out, shape.several_images)?),
            Format::Sharegpt => Box::new(lines::Sharegpt::new(out)?),
            Format::Parquet => Box::new(table::Tables::new(out, shape.kinds.clone(), false, shard)),
            Format::Trl => Box::new(table::Tables::new(out, Kinds::default(), true, shard)),
            Format::Webdataset if images == Images::Reference => {
                let text = "archives hold their images\nhint: --images copy, or --format jsonl";
                return Err(Error::Request(text.into()));
            }
            Format::Webdataset => Box::new(archive::Archives::new(out, shard)),
        };
        Ok(Self { sink, images: Carrier::new(out, images), rows: 0 })
    }

    /// Takes a row.
    ///
    /// # Errors
    /// The row with what the format cannot express of it; the disk.
    pub fn push(&mut self, row: &Row) -> Result<()> {
        self.rows += 1;
        self.sink.push(row, &mut self.images)
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<Written> {
        self.sink.finish()?;
        Ok(Written { rows: self.rows, images: self.images.carried() })
    }
}

#[cfg(test)]
mod tests;
