//! The formats that hold rows: which one a file has, by its name and, where that says otherwise or nothing, by its first
//! bytes; its rows, and how many there are.

use super::file_kind::FileKind;
use super::notes::Notes;
use super::source::FileRows;
use super::{arrow, csv, folder, input, json, parquet, webdataset};
use crate::{Error, Result, ipc};
use std::path::Path;

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An object a line.
    JsonLines,
    /// One array of objects.
    JsonArray,
    /// Objects over several lines, one behind the other.
    JsonObjects,
    /// Lines of cells, the first of which names the columns.
    Csv,
    /// Tables, with Hugging Face's image columns.
    Parquet,
    /// The same in Arrow's own files, as `datasets` saves them.
    Arrow,
    /// An image, with what stands beside it.
    Image,
    /// An archive whose members of one key are a row.
    WebDataset,
}

/// Bytes that are enough to tell a format.
const HEAD: u64 = 512;

impl Format {
    /// The format of a file, or nothing if it has none of these.
    ///
    /// # Errors
    /// The file cannot be read, or is a JSON file or an archive that does not begin as one.
    pub(super) fn detect(path: &Path) -> Result<Option<Self>> {
        let kind = FileKind::of_extension(&input::extension(path));
        if matches!(kind, FileKind::Image | FileKind::OtherImage) {
            return Ok(Some(Self::Image));
        }
        let head = input::head(path, HEAD)?;
        let text = head.trim_ascii_start();
        match kind {
            _ if head.starts_with(parquet::MAGIC) => Ok(Some(Self::Parquet)),
            _ if head.starts_with(b"ARROW1") => Ok(Some(Self::Arrow)),
            FileKind::Parquet => Ok(Some(Self::Parquet)),
            FileKind::Arrow => Ok(Some(Self::Arrow)),
            FileKind::Csv => Ok(Some(Self::Csv)),
            FileKind::Json => json_format(path).map(Some),
            FileKind::Archive => webdataset::check(path).map(|()| Some(Self::WebDataset)),
            _ if head.get(257..262) == Some(b"ustar") => Ok(Some(Self::WebDataset)),
            FileKind::Other if text.starts_with(b"{") || text.starts_with(b"[") => json_format(path).map(Some),
            _ => Ok(None),
        }
    }

    /// The rows of a file.
    ///
    /// # Errors
    /// The file cannot be opened, or is damaged as a whole.
    pub(super) fn rows(self, path: &Path, notes: &Notes) -> Result<FileRows> {
        match self {
            Self::JsonLines => json::lines(path),
            Self::JsonArray => json::array(path),
            Self::JsonObjects => json::objects(path),
            Self::Csv => csv::rows(path),
            Self::Parquet => parquet::rows(path, notes),
            Self::Arrow => arrow::rows(path, notes),
            Self::Image => folder::row(path),
            Self::WebDataset => webdataset::rows(path),
        }
    }

    /// The number of rows of a file, without understanding them.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn count(self, path: &Path) -> Result<u64> {
        match self {
            Self::JsonLines => json::count_lines(path),
            Self::JsonArray | Self::JsonObjects | Self::Csv => {
                self.rows(path, &Notes::default())?.try_fold(0, |rows, row| row.map(|_| rows + 1))
            }
            Self::Parquet => parquet::count(path),
            Self::Arrow => ipc::count(path),
            Self::Image => Ok(1),
            Self::WebDataset => webdataset::count(path),
        }
    }
}

/// How a JSON file's values lie.
fn json_format(path: &Path) -> Result<Format> {
    match input::extension(path).as_str() {
        "jsonl" | "ndjson" | "jsonlines" => json::format_of_lines(path),
        _ => json::format(path),
    }
}

/// Opens a file in the format that it has.
///
/// # Errors
/// It has none, or cannot be read.
pub(super) fn open(path: &Path) -> Result<Format> {
    let known = ".jsonl, .json, .csv, .tsv, .parquet, .arrow and .tar files, compressed with gzip or Zstandard or not";
    Format::detect(path)?
        .ok_or_else(|| Error::data(path)(format!("not a data set that is read: expected {known}, or a folder")))
}
