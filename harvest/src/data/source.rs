//! A data set on disk: its files in order, and the stream of their rows. Decodes nothing itself.

use super::columns::{Columns, IMAGES};
use super::fetch::Fetch;
use super::format::{self, Format};
use super::notes::Notes;
use super::record::Record;
use super::{filtered, imagefolder, layout, parquet, schema, shards};
use crate::{Error, Result};
use sae_core::path_text;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The pairs of `--map field=column`.
pub type Mapping = Vec<(String, String)>;

/// What a row of a file says, by its number there (see [`Row::source`]); nothing if the file has no such row. A table is
/// entered at the row, other files are read up to it. Links are not followed.
///
/// # Errors
/// The file is none that could be read, or is damaged; why the row cannot be understood.
pub fn record(file: &Path, row: usize, mapping: &Mapping, images_root: Option<&Path>) -> Result<Option<Record>> {
    let notes = Notes::default();
    let mut rows = match format::open(file)? {
        Format::Parquet => parquet::row(file, row)?,
        format => Box::new(format.rows(file, &notes)?.skip(row)),
    };
    let Some(columns) = rows.next() else { return Ok(None) };
    let place = Place { mapping, file, images_root, fetch: None, notes: &notes };
    understand(columns?, &place, String::new()).record.map(Some).map_err(Error::data(file))
}

/// A data set on disk.
#[derive(Clone, Debug)]
pub struct Source {
    /// The folder that names of files are relative to.
    pub root: PathBuf,
    /// Its files in the order of their rows. An image with its caption is a file of one row.
    pub files: Vec<PathBuf>,
    /// The folder that paths of images are relative to; without one it is that of the file that names them.
    pub images_root: Option<PathBuf>,
    /// What follows links to images, if they are to be followed.
    pub fetch: Option<Fetch>,
    /// What people should know about it although it costs no row.
    pub notes: Notes,
}

/// A row of a data set.
#[derive(Debug)]
pub struct Row {
    /// Number in the whole data set, from 0.
    pub number: u64,
    /// `file:row`: the file relative to the data set's folder (see [`path_text`]), and the row in it, from 0.
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
    /// Finds the data set at `path`: a file, a folder, or a pattern of shards such as `name-{000..012}.tar`. What a folder
    /// holds is decided by all files in it and in its folders.
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
        let notes = Notes::default();
        if let Some(filtered) = filtered::open(path).filter(|_| meta.is_dir()) {
            return Self::open(&filtered.rows)?.images_in(filtered.images_root);
        }
        if meta.is_dir() {
            return Ok(Self::of_files(path, layout::files(path, &notes)?, notes));
        }
        format::open(path)?;
        Ok(Self::of_files(path.parent().unwrap_or(Path::new("")), vec![path.to_path_buf()], notes))
    }

    fn of_files(root: &Path, files: Vec<PathBuf>, notes: Notes) -> Self {
        Self { root: root.to_path_buf(), files, images_root: None, fetch: None, notes }
    }

    fn of_shards(files: Vec<PathBuf>) -> Result<Self> {
        let missing = files.iter().find(|file| !file.is_file());
        if let Some(file) = missing {
            return Err(Error::data(file)("a shard of the pattern is not there"));
        }
        format::open(&files[0])?;
        let inside = |root: &Path| files.iter().all(|file| file.starts_with(root));
        let root = files[0].ancestors().skip(1).find(|root| inside(root)).unwrap_or(Path::new("")).to_path_buf();
        Ok(Self::of_files(&root, files, Notes::default()))
    }

    /// The number of rows, without understanding them.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn count(&self) -> Result<u64> {
        self.files.iter().map(|file| format::open(file)?.count(file)).sum()
    }

    /// The same data set, whose paths of images are relative to this folder; without one, as they were.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn images_in(self, root: Option<PathBuf>) -> Result<Self> {
        match &root {
            Some(folder) if !folder.is_dir() => Err(Error::data(folder)("the images root is not a folder")),
            _ => Ok(Self { images_root: root.or(self.images_root), ..self }),
        }
    }

    /// The same data set, which adds its notes to others.
    #[must_use]
    pub fn noting(self, notes: &Notes) -> Self {
        self.notes.take().into_iter().for_each(|note| notes.add(note));
        Self { notes: notes.clone(), ..self }
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
        let (files, images_root) = (self.files.clone(), self.images_root.clone());
        let (fetch, notes) = (self.fetch.clone(), self.notes.clone());
        let rows = files.into_iter().flat_map(move |file| {
            let name = path_text::encode(file.strip_prefix(&root).unwrap_or(&file));
            let (mapping, images_root) = (mapping.clone(), images_root.clone());
            let (fetch, notes) = (fetch.clone(), notes.clone());
            let rows = format::open(&file).and_then(|format| format.rows(&file, &notes));
            let rows: FileRows = rows.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
            rows.enumerate().map(move |(row, columns)| {
                let images_root = images_root.as_deref();
                let place = Place { mapping: &mapping, file: &file, images_root, fetch: fetch.as_ref(), notes: &notes };
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
    file: &'a Path,
    images_root: Option<&'a Path>,
    fetch: Option<&'a Fetch>,
    notes: &'a Notes,
}

fn understand(columns: Result<Columns, String>, place: &Place, source: String) -> Row {
    let mut key = String::new();
    let record = columns.and_then(|mut columns| {
        columns.rename(place.mapping)?;
        if imagefolder::is_table(place.file) {
            columns = imagefolder::resolve(columns)?;
        }
        key = columns.key().unwrap_or_default();
        let unused: Vec<_> = columns.images.keys().filter(|name| !IMAGES.contains(&name.as_str())).cloned().collect();
        let mut record = schema::understand(columns)?;
        for name in unused {
            place.notes.add(format!("column {name}: its bytes are not read, and null in the metadata"));
            record.meta[name] = Value::Null;
        }
        let folder = place.file.parent().unwrap_or(Path::new(""));
        record.images.iter_mut().for_each(|image| image.place(folder, place.images_root, place.fetch));
        Ok(record)
    });
    Row { number: 0, source, key, record }
}
