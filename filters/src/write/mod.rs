//! Writes chosen rows of a data set: as they stood (`same`), or in a format that trainers read, from conversations that
//! the caller reads. A folder appears whole or not at all. Never touches the input, and knows no scores.

mod archive;
pub mod card;
mod cells;
mod chat_json;
mod columns;
mod image;
mod json;
mod lines;
mod names;
mod original;
mod row;
mod stage;
mod table;
mod verbatim;

pub use columns::ColumnKinds;
pub use image::{Image, Images, below};
pub use names::{Names, SAMPLE_ID};
pub use row::{MessagePart, Row, Turn};
pub use stage::{StagedFolder, check_folders};

use crate::{Error, Result};
use image::ImageOutput;
use original::Originals;
use sae_core::error::{Cause, Hint, Setting};
use sae_core::path_text;
use sae_core::store::sample::Sample;
use serde_json::Map;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
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
    /// Tables of prompts with an answer or two, as TRL reads them.
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

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        let names = || Self::ALL.map(|(name, _)| name).join(", ");
        known.map(|(_, format)| *format).ok_or_else(|| format!("unknown format of rows {name:?}: expected {}", names()))
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

/// What was written, and what people should know about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// How much.
    pub written: Written,
    /// The files of rows, and what to say of them.
    pub contents: Contents,
    /// Images that rows name and that did not come along: their paths are absolute, or lead out of the data set's folder.
    pub left_behind: BTreeSet<PathBuf>,
}

/// The files of rows that a writer made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// Files with the same columns by the name of their set, relative to the writer's folder.
    pub sets: BTreeMap<String, Vec<PathBuf>>,
    /// What readers should know, a sentence each.
    pub notes: Vec<String>,
}

impl Contents {
    /// The name of the only set.
    const DEFAULT: &'static str = "default";

    fn new(file: &str) -> Self {
        Self::of([PathBuf::from(file)])
    }

    fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { sets: [(Self::DEFAULT.to_owned(), files.into_iter().collect())].into(), notes: Vec::new() }
    }
}

/// What all rows have in common, which decides what columns hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// What their columns are called.
    pub names: Names,
    /// Columns that are none of a conversation's.
    pub kinds: ColumnKinds,
    /// Whether a row has more than one image: then all name theirs in lists.
    pub several_images: bool,
    /// The data set's files, relative to its folder.
    pub files: BTreeSet<PathBuf>,
}

impl Shape {
    /// The shape of the rows of these samples, with a column for the score of this name.
    pub fn of(samples: &[Sample], score: Option<&str>) -> Self {
        let names = Names::new(samples, score);
        let none = Map::new();
        let columns = samples.iter().map(|s| names.columns(&s.id, s.meta.as_object().unwrap_or(&none), Some(0.0)));
        Self {
            kinds: ColumnKinds::of(columns),
            several_images: samples.iter().any(|sample| sample.images.len() > 1),
            files: samples.iter().filter_map(Sample::place).map(|(file, _)| path_text::decode(file)).collect(),
            names,
        }
    }
}

/// What takes rows one after the other.
trait Sink {
    /// Takes a row.
    fn push(&mut self, row: &Row, images: &mut ImageOutput) -> Result<()>;
    /// Writes what is left.
    fn finish(&mut self) -> Result<Contents>;
}

/// Rows on their way into files.
pub struct Writer {
    sink: Box<dyn Sink>,
    names: Names,
    images: ImageOutput,
    rows: u64,
    /// Columns of the data set that the format cannot express.
    lost: BTreeSet<String>,
}

/// What rows are written from and to.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The format.
    pub format: Format,
    /// The data set's folder.
    pub root: &'a Path,
    /// What becomes of images.
    pub images: Images,
    /// Bytes of images after which a table or an archive ends and the next begins.
    pub shard: u64,
    /// Columns of the data set that were given another meaning.
    pub mapped: &'a [String],
    /// How its files are divided into rows.
    pub division: Division,
}

/// The hint to write another format, one of those named.
fn other_format(names: &[&str]) -> Hint {
    Hint::Set(Setting::Format, names.iter().map(|name| name.to_string()).collect())
}

/// The hint to copy images, or to write the format that can refer to them.
fn copied_images() -> Hint {
    Hint::AnyOf(vec![Hint::set(Setting::Images, "copy"), Hint::set(Setting::Format, "jsonl")])
}

/// How files are divided into rows, where their formats leave that open. Copies have to agree with whoever counted them.
#[derive(Clone, Copy, Debug)]
pub struct Division {
    /// The key of an archive's member, by its name; members of one key in sequence are a row.
    pub member_key: fn(&str) -> Option<&str>,
    /// The delimiter of a text of cells, by how it begins.
    pub delimiter: fn(&[u8]) -> u8,
    /// The rows of a JSON file; nothing if they lie in a list of one object.
    pub json_rows: fn(&Path) -> Result<Option<JsonRows>>,
}

/// The rows of a JSON file.
pub struct JsonRows {
    /// Whether each row is a line of its own.
    pub are_lines: bool,
    /// The texts of the rows as they stand there.
    pub texts: Box<dyn Iterator<Item = Result<Vec<u8>>>>,
}

impl Writer {
    /// A writer into the folder `out`, which exists.
    ///
    /// # Errors
    /// The disk; images that cannot be had as asked for.
    pub fn new(job: &Job, out: &Path, shape: &Shape) -> Result<Self> {
        let names = || shape.names.clone();
        let table = |prompts| -> Result<Box<dyn Sink>> {
            let originals = Originals::open(job.root, &shape.files, &shape.names, &shape.kinds.names(), job.mapped)?;
            Ok(Box::new(table::Tables::new(out, shape.kinds.clone(), prompts, originals, job.shard)))
        };
        let sink: Box<dyn Sink> = match job.format {
            Format::Same => Box::new(verbatim::Verbatim::new(job, out)),
            Format::Jsonl => Box::new(lines::Jsonl::new(out)?),
            Format::Llava => Box::new(lines::Llava::new(out, shape.several_images)?),
            Format::Sharegpt => Box::new(lines::Sharegpt::new(out, names())),
            Format::Parquet => table(false)?,
            Format::Trl => table(true)?,
            Format::Webdataset if job.images == Images::Reference => {
                let text = "an archive holds its images, so that they cannot be referred to";
                return Err(Error::request(Cause::with_hint(text, copied_images())));
            }
            Format::Webdataset => Box::new(archive::Archives::new(out, job.shard)),
        };
        let mut lost = BTreeSet::new();
        if matches!(job.format, Format::Jsonl | Format::Llava | Format::Sharegpt | Format::Webdataset) {
            lost = original::columns_of_bytes(job.root, &shape.files, job.mapped)?;
        }
        Ok(Self { sink, names: names(), images: ImageOutput::new(out, job.images), rows: 0, lost })
    }

    /// Takes a row.
    ///
    /// # Errors
    /// The row with what the format cannot express of it; an image that cannot be read, or has changed; the disk.
    pub fn push(&mut self, mut row: Row) -> Result<()> {
        self.rows += 1;
        row.columns = self.names.columns(&row.id, &row.columns, row.score);
        self.sink.push(&row, &mut self.images)
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// The disk; a file of the data set that has changed.
    pub fn finish(mut self) -> Result<Report> {
        let mut contents = self.sink.finish()?;
        let lost = |name: &String| {
            format!("the column {name} holds bytes, which JSON cannot express; --format parquet or same keeps it")
        };
        contents.notes.extend(self.lost.iter().map(lost));
        let written = Written { rows: self.rows, images: self.images.carried() };
        Ok(Report { written, contents, left_behind: self.images.left_behind().clone() })
    }
}

#[cfg(test)]
mod tests;
