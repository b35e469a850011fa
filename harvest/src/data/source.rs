//! Where a data set lies and in which format: the files in order, and the stream of their rows. Decodes nothing itself.

use super::columns::Columns;
use super::fetch::Fetch;
use super::record::Record;
use super::{folder, json, parquet, schema, shards, webdataset};
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
    /// `key.jpg` beside `key.txt` or `key.json`.
    Folder,
    /// Archives whose members of one key are a row.
    WebDataset,
}

impl Format {
    fn rows(self, file: &Path) -> Result<FileRows> {
        match self {
            Self::JsonLines => json::lines(file),
            Self::JsonArray => json::array(file),
            Self::Parquet => parquet::rows(file),
            Self::Folder => folder::row(file),
            Self::WebDataset => webdataset::rows(file),
        }
    }
}

/// What a row of a file says, by its number there (see [`Row::source`]); nothing if the file has no such row. A table is
/// entered at the row, other files are read up to it. Links are not followed.
///
/// # Errors
/// The file is none that could be read, or is damaged; why the row cannot be understood.
pub fn record(file: &Path, row: usize, mapping: &Mapping, images_root: Option<&Path>) -> Result<Option<Record>> {
    let mut rows = match Source::open(file)?.format {
        Format::Parquet => parquet::row(file, row)?,
        format => Box::new(format.rows(file)?.skip(row)),
    };
    let Some(columns) = rows.next() else { return Ok(None) };
    let place = Place { mapping, folder: file.parent().unwrap_or(Path::new("")), images_root, fetch: None };
    understand(columns?, &place, String::new()).record.map(Some).map_err(Error::data(file))
}

/// A data set on disk.
#[derive(Clone, Debug)]
pub struct Source {
    /// The folder that names of files are relative to.
    pub root: PathBuf,
    /// How its files are to be read.
    pub format: Format,
    /// Its files in the order of their rows; for [`Format::Folder`] the images, each of which is a row.
    pub files: Vec<PathBuf>,
    /// The folder that paths of images are relative to; without one it is that of the file that names them.
    pub images_root: Option<PathBuf>,
    /// What follows links to images, if they are to be followed.
    pub fetch: Option<Fetch>,
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
    /// Finds the data set at `path`: a file, a folder of files or of folders of files, or a pattern of shards such as
    /// `name-{000..012}.tar`.
    ///
    /// # Errors
    /// There is nothing that could be read.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists()
            && let Some(files) = shards::expand(path)?
        {
            return Self::of_shards(files);
        }
        let meta = fs::metadata(path).map_err(Error::io("read", path))?;
        if meta.is_file() {
            let format = file_format(path)?.ok_or_else(|| {
                let known = "data sets are .jsonl, .json, .parquet, .tar or .tar.gz files";
                Error::data(path)(format!("{known}, or folders of them or of images"))
            })?;
            let root = path.parent().unwrap_or(Path::new("")).to_path_buf();
            let files = vec![path.to_path_buf()];
            return Ok(Self { root, format, files, images_root: None, fetch: None });
        }
        let here = entries(path)?;
        let mut found = choose(&here)?;
        if found.is_none() {
            let folders = here.iter().filter(|entry| entry.is_dir());
            let below = folders.map(|folder| entries(folder)).collect::<Result<Vec<_>>>()?.concat();
            found = choose(&below)?;
        }
        let nothing = "the folder holds no .tar, .parquet, .jsonl or .json files, and no images";
        let (format, files) = found.ok_or_else(|| Error::data(path)(nothing))?;
        Ok(Self { root: path.to_path_buf(), format, files, images_root: None, fetch: None })
    }

    fn of_shards(files: Vec<PathBuf>) -> Result<Self> {
        let missing = files.iter().find(|file| !file.is_file());
        if let Some(file) = missing {
            return Err(Error::data(file)("a shard of the pattern is not there"));
        }
        let unknown = || Error::data(&files[0])("shards are .tar, .tar.gz, .parquet, .jsonl or .json files");
        let format = file_format(&files[0])?.ok_or_else(unknown)?;
        let inside = |root: &Path| files.iter().all(|file| file.starts_with(root));
        let root = files[0].ancestors().skip(1).find(|root| inside(root)).unwrap_or(Path::new("")).to_path_buf();
        Ok(Self { root, format, files, images_root: None, fetch: None })
    }

    /// The number of rows of an archive, without reading what they hold.
    pub(crate) fn archived(path: &Path) -> Result<u64> {
        webdataset::count(path)
    }

    /// The same data set, whose paths of images are relative to this folder.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn images_in(self, root: Option<PathBuf>) -> Result<Self> {
        match &root {
            Some(folder) if !folder.is_dir() => Err(Error::data(folder)("the images root is not a folder")),
            _ => Ok(Self { images_root: root, ..self }),
        }
    }

    /// The same data set, whose links to images are followed, or not.
    #[must_use]
    pub fn fetching(self, links: bool) -> Self {
        Self { fetch: links.then(Fetch::new), ..self }
    }

    /// The rows, read one after the other; columns renamed as `mapping` says.
    ///
    /// # Errors
    /// A file cannot be opened or is damaged as a whole. (Later files are opened when their turn comes.)
    pub fn rows(&self, mapping: &Mapping) -> Result<Rows> {
        let mut number = 0;
        let (root, mapping) = (self.root.clone(), mapping.clone());
        let name = move |file: &Path| file.strip_prefix(&root).unwrap_or(file).display().to_string();
        let (files, fetch, images_root) = (self.files.clone(), self.fetch.clone(), self.images_root.clone());
        let format = self.format;
        let rows = files.into_iter().flat_map(move |file| {
            let name = name(&file);
            let folder = file.parent().unwrap_or(Path::new("")).to_path_buf();
            let (mapping, fetch, images_root) = (mapping.clone(), fetch.clone(), images_root.clone());
            let rows: FileRows = format.rows(&file).unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
            rows.enumerate().map(move |(row, columns)| {
                let images_root = images_root.as_deref();
                let place = Place { mapping: &mapping, folder: &folder, images_root, fetch: fetch.as_ref() };
                columns.map(|columns| understand(columns, &place, format!("{name}:{row}")))
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

/// What a row's columns and images are understood by.
struct Place<'a> {
    mapping: &'a Mapping,
    folder: &'a Path,
    images_root: Option<&'a Path>,
    fetch: Option<&'a Fetch>,
}

fn understand(columns: Result<Columns, String>, place: &Place, source: String) -> Row {
    let mut key = String::new();
    let record = columns.and_then(|mut columns| {
        columns.rename(place.mapping)?;
        key = columns.key().unwrap_or_default();
        let mut record = schema::understand(columns)?;
        record.images.iter_mut().for_each(|image| image.place(place.folder, place.images_root, place.fetch));
        Ok(record)
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

/// The files of the first format that a folder has: archives (tools lay tables of what is in them beside them), tables,
/// images.
fn choose(entries: &[PathBuf]) -> Result<Option<(Format, Vec<PathBuf>)>> {
    let files: Vec<_> = entries.iter().filter(|path| webdataset::is_archive(path)).cloned().collect();
    if let Some(first) = files.first() {
        webdataset::check(first)?;
        return Ok(Some((Format::WebDataset, files)));
    }
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
    if webdataset::is_archive(path) {
        return webdataset::check(path).map(|()| Some(Format::WebDataset));
    }
    let lines = has_extension(path, "jsonl") || has_extension(path, "ndjson");
    Ok(match has_extension(path, "parquet") {
        true => Some(Format::Parquet),
        false => lines.then_some(Format::JsonLines),
    })
}
