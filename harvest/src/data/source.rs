//! Where a data set lies and in which format: the files in order, and the stream of their rows. Decodes nothing itself.

use super::record::{Columns, Record};
use super::{folder, json, parquet};
use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The pairs of `--map field=column`.
pub type Mapping = Vec<(String, String)>;

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An object a line.
    JsonLines,
    /// One array of objects.
    JsonArray,
    /// Tables, with Hugging Face's image columns.
    Parquet,
    /// `key.jpg` beside `key.txt`.
    Folder,
}

/// A data set on disk.
#[derive(Clone, Debug)]
pub struct Source {
    /// The folder that names of files are relative to. (Paths of images are relative to the file that names them.)
    pub root: PathBuf,
    /// How its files are to be read.
    pub format: Format,
    /// Its files in the order of their rows; for [`Format::Folder`] the images, each of which is a row.
    pub files: Vec<PathBuf>,
}

/// A row of a data set.
#[derive(Debug)]
pub struct Row {
    /// Number in the whole data set, from 0.
    pub number: u64,
    /// `file:row`: the file relative to the data set's folder, and the row in it, from 0.
    pub source: String,
    /// The data set's own key; the row's number where it has none.
    pub key: String,
    /// What it says, or why that cannot be told.
    pub record: Result<Record, String>,
}

/// The rows of a data set, in order. An error is a file that cannot be read on.
pub type Rows = Box<dyn Iterator<Item = Result<Row>> + Send>;

/// Rows of one file as its reader yields them.
pub(super) type FileRows = Box<dyn Iterator<Item = Result<Result<Columns, String>>> + Send>;

impl Source {
    /// Finds the data set at `path`: a file, or a folder of files or of folders of files.
    ///
    /// # Errors
    /// There is nothing that could be read.
    pub fn open(path: &Path) -> Result<Self> {
        let meta = fs::metadata(path).map_err(Error::io("read", path))?;
        if meta.is_file() {
            let format = file_format(path)?.ok_or_else(|| {
                Error::data(path)("data sets are .jsonl, .json or .parquet files, or folders of them or of images")
            })?;
            let root = path.parent().unwrap_or(Path::new("")).to_path_buf();
            return Ok(Self { root, format, files: vec![path.to_path_buf()] });
        }
        let here = entries(path)?;
        let mut found = choose(&here)?;
        if found.is_none() {
            let folders = here.iter().filter(|entry| entry.is_dir());
            let below = folders.map(|folder| entries(folder)).collect::<Result<Vec<_>>>()?.concat();
            found = choose(&below)?;
        }
        let nothing = "the folder holds no .parquet, .jsonl or .json files, and no images";
        let (format, files) = found.ok_or_else(|| Error::data(path)(nothing))?;
        Ok(Self { root: path.to_path_buf(), format, files })
    }

    /// The rows, read one after the other; columns renamed as `mapping` says.
    ///
    /// # Errors
    /// A file cannot be opened or is damaged as a whole. (Later files are opened when their turn comes.)
    pub fn rows(&self, mapping: &Mapping) -> Result<Rows> {
        let mut number = 0;
        let (root, mapping) = (self.root.clone(), mapping.clone());
        let name = move |file: &Path| file.strip_prefix(&root).unwrap_or(file).display().to_string();
        let files = self.files.clone();
        let open: fn(&Path) -> Result<FileRows> = match self.format {
            Format::JsonLines => json::lines,
            Format::JsonArray => json::array,
            Format::Parquet => parquet::rows,
            Format::Folder => folder::row,
        };
        let rows = files.into_iter().flat_map(move |file| {
            let name = name(&file);
            let folder = file.parent().unwrap_or(Path::new("")).to_path_buf();
            let mapping = mapping.clone();
            let rows: FileRows = open(&file).unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
            rows.enumerate().map(move |(row, columns)| {
                columns.map(|columns| understand(columns, &mapping, &folder, format!("{name}:{row}")))
            })
        });
        Ok(Box::new(rows.map(move |row| {
            let mut row = row?;
            row.number = number;
            if row.key.is_empty() {
                row.key = number.to_string();
            }
            number += 1;
            Ok(row)
        })))
    }
}

fn understand(columns: Result<Columns, String>, mapping: &Mapping, folder: &Path, source: String) -> Row {
    let mut key = String::new();
    let record = columns.and_then(|mut columns| {
        columns.rename(mapping)?;
        key = columns.key().unwrap_or_default();
        Record::new(columns, folder)
    });
    Row { number: 0, source, key, record }
}

/// Files and folders in a folder, without hidden ones, by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(Error::io("read", folder))?;
    paths.retain(|path| !path.file_name().unwrap_or_default().as_encoded_bytes().starts_with(b"."));
    paths.sort();
    Ok(paths)
}

/// The files of the first format that a folder has, tables before images.
fn choose(entries: &[PathBuf]) -> Result<Option<(Format, Vec<PathBuf>)>> {
    for extension in ["parquet", "jsonl", "json"] {
        let files: Vec<_> = entries.iter().filter(|path| has_extension(path, extension)).cloned().collect();
        if let Some(first) = files.first() {
            let format = file_format(first)?.unwrap_or(Format::JsonLines);
            return Ok(Some((format, files)));
        }
    }
    let files: Vec<_> = entries.iter().filter(|path| folder::is_image(path)).cloned().collect();
    Ok((!files.is_empty()).then_some((Format::Folder, files)))
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

fn file_format(path: &Path) -> Result<Option<Format>> {
    if has_extension(path, "json") {
        return json::format(path).map(Some);
    }
    let lines = has_extension(path, "jsonl") || has_extension(path, "ndjson");
    Ok(match has_extension(path, "parquet") {
        true => Some(Format::Parquet),
        false => lines.then_some(Format::JsonLines),
    })
}
