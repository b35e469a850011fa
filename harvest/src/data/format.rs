//! The formats of files with rows: which one a file has, according to its name and, if the name contradicts them or
//! says nothing, its first bytes; and how its rows are read and counted.

use super::file_kind::FileKind;
use super::json::VerbatimRows;
use super::notes::Notes;
use super::row::FileRows;
use super::wrapped::Layout;
use super::{arrow, csv, folder, input, json, parquet, webdataset};
use crate::{Error, Result, ipc};
use std::path::Path;

/// The supported formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One object per line.
    JsonLines,
    /// A single array of objects.
    JsonArray,
    /// Consecutive objects, each over several lines.
    JsonObjects,
    /// Lines of cells. The first line has the names of the columns.
    Csv,
    /// Parquet tables, with Hugging Face's columns of images.
    Parquet,
    /// Arrow IPC files, as `datasets` saves them.
    Arrow,
    /// An image, with the files next to it that describe it.
    Image,
    /// An archive in which consecutive members with the same key are a row.
    WebDataset,
}

/// Number of bytes that are sufficient to detect a format.
const HEAD: u64 = 512;

impl Format {
    /// The format of a file, or nothing if it has none of them.
    ///
    /// # Errors
    /// The file cannot be read, or its name is that of JSON or of an archive but its content is not.
    pub(super) fn detect(path: &Path) -> Result<Option<Self>> {
        let kind = FileKind::from_extension(&input::extension(path));
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

    /// Reads the rows of a file.
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

    /// Counts the rows of a file without interpreting them.
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

/// Which of the JSON formats a file has.
fn json_format(path: &Path) -> Result<Format> {
    let layout = match input::extension(path).as_str() {
        "jsonl" | "ndjson" | "jsonlines" => json::layout_of_lines(path),
        _ => json::layout(path),
    };
    Ok(match layout? {
        Layout::Lines => Format::JsonLines,
        Layout::Objects => Format::JsonObjects,
        Layout::Array | Layout::List(_) => Format::JsonArray,
    })
}

/// The unchanged texts of the rows of a JSON file, for copies of them. Nothing if the file has another format, or if its
/// rows are in a list inside of an object.
///
/// # Errors
/// The file cannot be read.
pub fn verbatim_rows(path: &Path) -> Result<Option<VerbatimRows>> {
    Ok(match Format::detect(path)? {
        Some(Format::JsonLines) => Some(VerbatimRows { are_lines: true, texts: json::line_texts(path)? }),
        Some(Format::JsonObjects) => Some(VerbatimRows { are_lines: false, texts: json::object_texts(path)? }),
        Some(Format::JsonArray) if json::layout(path)? == Layout::Array => {
            Some(VerbatimRows { are_lines: false, texts: json::element_texts(path)? })
        }
        _ => None,
    })
}

/// The format of a file.
///
/// # Errors
/// The file has no supported format, or cannot be read.
pub(super) fn open(path: &Path) -> Result<Format> {
    let expected = ".jsonl, .json, .csv, .tsv, .parquet, .arrow or .tar, possibly compressed by gzip or Zstandard";
    Format::detect(path)?
        .ok_or_else(|| Error::data(path)(format!("unsupported data format: expected {expected}, or a folder")))
}
