//! Writes selected rows of a data set: unchanged (`same`), or as conversations in a format that trainers read. The caller reads
//! the conversations. A folder is written completely or not at all. Never changes the input, and knows no scores.

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

pub use chat_json::messages;
pub use columns::ColumnKinds;
pub use image::{Image, Images, below};
pub use names::{Names, SAMPLE_ID};
pub use row::Row;
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

/// The format in which rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Unchanged, in files with the same names.
    Same,
    /// Parquet tables of conversations with embedded images.
    Parquet,
    /// Conversations, one object per line.
    Jsonl,
    /// LLaVA's JSON.
    Llava,
    /// ShareGPT conversations, as LLaMA-Factory reads them.
    Sharegpt,
    /// Parquet tables of prompts with one or two answers, as TRL reads them.
    Trl,
    /// WebDataset archives of JSON and images.
    Webdataset,
}

impl Format {
    /// All formats with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("same", Self::Same),
        ("parquet", Self::Parquet),
        ("jsonl", Self::Jsonl),
        ("llava", Self::Llava),
        ("sharegpt", Self::Sharegpt),
        ("trl", Self::Trl),
        ("webdataset", Self::Webdataset),
    ];

    /// The name of the format.
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

/// How much was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Number of rows.
    pub rows: u64,
    /// Number of images that were copied or embedded.
    pub images: u64,
}

/// The result of writing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// How much was written.
    pub written: Written,
    /// The files of rows, with notes for their users.
    pub contents: Contents,
    /// Images that were not copied, because rows name them by an absolute path or outside of the data set's folder.
    pub left_behind: BTreeSet<PathBuf>,
}

/// The files of rows that a writer wrote.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The files, relative to the writer's folder, by the name of their set. The files of a set have the same columns.
    pub sets: BTreeMap<String, Vec<PathBuf>>,
    /// Notes for the users of the files, each a sentence.
    pub notes: Vec<String>,
}

impl Contents {
    /// The name of the set if there is only one.
    const DEFAULT: &'static str = "default";

    fn new(file: &str) -> Self {
        Self::from_files([PathBuf::from(file)])
    }

    fn from_files(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { sets: [(Self::DEFAULT.to_owned(), files.into_iter().collect())].into(), notes: Vec::new() }
    }
}

/// What is common to all rows. It determines the columns of the output.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// The names of the columns.
    pub names: Names,
    /// The types of columns that are not part of the conversation.
    pub kinds: ColumnKinds,
    /// Whether any row has more than one image. All rows then name their images in lists.
    pub several_images: bool,
    /// The files of the data set, relative to its folder.
    pub files: BTreeSet<PathBuf>,
}

impl Shape {
    /// The shape of the rows of these samples, with a column for the score of this name.
    pub fn new(samples: &[Sample], score: Option<&str>) -> Self {
        let names = Names::new(samples, score);
        let none = Map::new();
        let columns = samples.iter().map(|s| names.columns(&s.id, s.meta.as_object().unwrap_or(&none), Some(0.0)));
        Self {
            kinds: ColumnKinds::new(columns),
            several_images: samples.iter().any(|sample| sample.images.len() > 1),
            files: samples.iter().filter_map(Sample::place).map(|(file, _)| path_text::decode(file)).collect(),
            names,
        }
    }
}

/// A writer of one format.
trait Sink {
    /// Writes a row.
    fn push(&mut self, row: &Row, images: &mut ImageOutput) -> Result<()>;
    /// Writes what is still buffered.
    fn finish(&mut self) -> Result<Contents>;
}

/// Writes rows in any format.
pub struct Writer {
    sink: Box<dyn Sink>,
    names: Names,
    images: ImageOutput,
    /// Whether the format can express rows with a video.
    takes_videos: bool,
    rows: u64,
    /// The columns of the data set that the format cannot express.
    lost: BTreeSet<String>,
}

/// The settings of a writer.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The format.
    pub format: Format,
    /// The data set's folder.
    pub root: &'a Path,
    /// What is done with images.
    pub images: Images,
    /// The folder of another writer of the same data set. Image files that it has already are linked instead of copied, where the
    /// file system has hard links.
    pub linked: Option<&'a Path>,
    /// Size of the images after which a table or an archive ends and the next one begins, in bytes.
    pub shard: u64,
    /// Columns of the data set that were mapped to another field.
    pub mapped: &'a [String],
    /// How the files of the data set are divided into rows.
    pub division: Division,
}

/// The hint to write one of the named formats instead.
fn other_format(names: &[&str]) -> Hint {
    Hint::Set(Setting::Format, names.iter().map(|name| name.to_string()).collect())
}

/// The hint to copy images, or to write a format that can refer to them.
fn copied_images() -> Hint {
    Hint::AnyOf(vec![Hint::set(Setting::Images, "copy"), Hint::set(Setting::Format, "jsonl")])
}

/// How files are divided into rows. The caller decides this, because copies have to agree with the reader that counted rows.
#[derive(Clone, Copy, Debug)]
pub struct Division {
    /// The key of an archive's member with a given name. Consecutive members with the same key are a row.
    pub member_key: fn(&str) -> Option<&str>,
    /// The delimiter of a CSV file, detected from its beginning.
    pub delimiter: fn(&[u8]) -> u8,
    /// The rows of a JSON file. Nothing if they are in a list inside of an object.
    pub json_rows: fn(&Path) -> Result<Option<JsonRows>>,
}

/// The rows of a JSON file.
pub struct JsonRows {
    /// Whether each row is a line.
    pub are_lines: bool,
    /// The unchanged texts of the rows.
    pub texts: Box<dyn Iterator<Item = Result<Vec<u8>>>>,
}

impl Writer {
    /// A writer to the existing folder `out`.
    ///
    /// # Errors
    /// A file cannot be written, or the format does not support the handling of images.
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
        let takes_videos = matches!(job.format, Format::Same | Format::Jsonl);
        Ok(Self {
            sink,
            names: names(),
            images: ImageOutput::new(out, job.images, job.linked),
            takes_videos,
            rows: 0,
            lost,
        })
    }

    /// Writes a row.
    ///
    /// # Errors
    /// The format cannot express the row, an image cannot be read or has changed, or a file cannot be written.
    pub fn push(&mut self, mut row: Row) -> Result<()> {
        if !self.takes_videos && chat_json::has_video(&row) {
            let text = format!("the row {} has a video, which the format cannot express", row.key);
            return Err(Error::request(Cause::with_hint(text, other_format(&["same", "jsonl"]))));
        }
        self.rows += 1;
        row.columns = self.names.columns(&row.id, &row.columns, row.score);
        self.sink.push(&row, &mut self.images)
    }

    /// Writes what is still buffered.
    ///
    /// # Errors
    /// A file cannot be written, or a file of the data set has changed.
    pub fn finish(mut self) -> Result<Report> {
        let mut contents = self.sink.finish()?;
        let lost = |name: &String| {
            format!("the column {name} holds bytes, which JSON cannot express; the formats parquet and same keep it")
        };
        contents.notes.extend(self.lost.iter().map(lost));
        let written = Written { rows: self.rows, images: self.images.carried() };
        Ok(Report { written, contents, left_behind: self.images.left_behind().clone() })
    }
}

#[cfg(test)]
mod tests;
