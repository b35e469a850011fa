//! A data set on disk: its files in order, and the stream of their rows. Decodes nothing itself.

use super::columns::{Columns, IMAGES};
use super::fetch::Fetch;
use super::format::{self, Format};
use super::lerobot::LeRobot;
use super::notes::Notes;
use super::record::Record;
use super::row::{FileRows, Row, Rows};
use super::row_error::RowError;
use super::{filtered, imagefolder, layout, parquet, schema, shards};
use crate::{Error, Result};
use sae_core::path_text;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Pairs of a field and the column that holds it.
pub type Mapping = Vec<(String, String)>;

/// The content of one row of a file, by its number in the file (see [`Row::source`]); nothing if the file has no such row.
/// Tables are read from this row on, other files from the beginning. Links are not followed.
///
/// # Errors
/// The file is not of a supported format or is damaged, or the row cannot be used.
pub fn record(file: &Path, row: usize, mapping: &Mapping, images_root: Option<&Path>) -> Result<Option<Record>> {
    let notes = Notes::default();
    let mut rows = match format::open(file)? {
        Format::Parquet => parquet::row(file, row)?,
        format => Box::new(format.rows(file, &notes)?.skip(row)),
    };
    let Some(columns) = rows.next() else { return Ok(None) };
    let lerobot = LeRobot::containing(file)?;
    let lerobot = lerobot.as_ref();
    let context = RowContext { mapping, file, images_root, fetch: None, lerobot, notes: &notes };
    let row = read_row(columns?, &context, String::new());
    row.record.map(Some).map_err(|error| {
        let found = Error::data(file)(&error.cause);
        match error.hint {
            Some(hint) => found.with_hint(hint),
            None => found,
        }
    })
}

/// A data set on disk.
#[derive(Clone, Debug)]
pub struct Source {
    /// The folder to which the names of files are relative.
    pub root: PathBuf,
    /// The files, in the order of their rows. An image with its caption is a file of one row.
    pub files: Vec<PathBuf>,
    /// The folder to which the paths of images are relative. If there is none, they are relative to the file that names
    /// them.
    pub images_root: Option<PathBuf>,
    /// Downloads images behind links, if they are to be followed.
    pub fetch: Option<Fetch>,
    /// What people should know about the data although no row is skipped because of it.
    pub notes: Notes,
}

impl Source {
    /// Finds the data set at `path`: a file, a folder, or a pattern of shards such as `name-{000..012}.tar`. Which files of
    /// a folder are read depends on all files in it and in its subfolders.
    ///
    /// ```no_run
    /// use harvest::data::{Mapping, Source};
    ///
    /// let source = Source::open("photos.jsonl".as_ref())?;
    /// for row in source.rows(&Mapping::new())? {
    ///     let row = row?;
    ///     match row.record {
    ///         Ok(record) => println!("{}: {} turns, {} images", row.key, record.turns.len(), record.images.len()),
    ///         Err(reason) => println!("{}: {reason}", row.key),
    ///     }
    /// }
    /// # Ok::<(), harvest::Error>(())
    /// ```
    ///
    /// # Errors
    /// No data is found, or its format is not supported.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists()
            && let Some(files) = shards::expand(path)?
        {
            return Self::from_shards(files);
        }
        let meta = fs::metadata(path).map_err(Error::io("read", path))?;
        let notes = Notes::default();
        if let Some(filtered) = filtered::open(path).filter(|_| meta.is_dir()) {
            return Self::open(&filtered.rows)?.images_in(filtered.images_root);
        }
        if meta.is_dir() {
            return Ok(Self::from_files(path, layout::files(path, &notes)?, notes));
        }
        format::open(path)?;
        Ok(Self::from_files(path.parent().unwrap_or(Path::new("")), vec![path.to_path_buf()], notes))
    }

    fn from_files(root: &Path, files: Vec<PathBuf>, notes: Notes) -> Self {
        Self { root: root.to_path_buf(), files, images_root: None, fetch: None, notes }
    }

    fn from_shards(files: Vec<PathBuf>) -> Result<Self> {
        let missing = files.iter().find(|file| !file.is_file());
        if let Some(file) = missing {
            return Err(Error::data(file)("a shard of the pattern does not exist"));
        }
        format::open(&files[0])?;
        let inside = |root: &Path| files.iter().all(|file| file.starts_with(root));
        let root = files[0].ancestors().skip(1).find(|root| inside(root)).unwrap_or(Path::new("")).to_path_buf();
        Ok(Self::from_files(&root, files, Notes::default()))
    }

    /// Counts the rows without interpreting them.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn count(&self) -> Result<u64> {
        self.files.iter().map(|file| format::open(file)?.count(file)).sum()
    }

    /// The same data set with another folder to which the paths of images are relative, if `root` names one.
    ///
    /// # Errors
    /// The folder does not exist.
    pub fn images_in(self, root: Option<PathBuf>) -> Result<Self> {
        match &root {
            Some(folder) if !folder.is_dir() => Err(Error::data(folder)("the images root is not a folder")),
            _ => Ok(Self { images_root: root.or(self.images_root), ..self }),
        }
    }

    /// The same data set, which adds its notes to `notes`.
    #[must_use]
    pub fn noting(self, notes: &Notes) -> Self {
        self.notes.take().into_iter().for_each(|note| notes.add(note));
        Self { notes: notes.clone(), ..self }
    }

    /// The same data set, whose links to images are followed if `links` says so.
    #[must_use]
    pub fn fetching(self, links: bool) -> Self {
        Self { fetch: links.then(Fetch::new), ..self }
    }

    /// Reads the rows one after the other, with columns renamed according to `mapping`.
    ///
    /// # Errors
    /// A file cannot be opened or is damaged as a whole. (Later files are opened when they are reached.)
    pub fn rows(&self, mapping: &Mapping) -> Result<Rows> {
        let mut number = 0;
        let (root, mapping) = (self.root.clone(), mapping.clone());
        let (files, images_root) = (self.files.clone(), self.images_root.clone());
        let (fetch, notes) = (self.fetch.clone(), self.notes.clone());
        let rows = files.into_iter().flat_map(move |file| {
            let name = path_text::encode(file.strip_prefix(&root).unwrap_or(&file));
            let (mapping, images_root) = (mapping.clone(), images_root.clone());
            let (fetch, notes) = (fetch.clone(), notes.clone());
            let lerobot = LeRobot::containing(&file);
            let rows = format::open(&file).and_then(|format| format.rows(&file, &notes));
            let (rows, lerobot) = match lerobot {
                Ok(lerobot) => (rows, lerobot),
                Err(error) => (Err(error), None),
            };
            let rows: FileRows = rows.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
            rows.enumerate().map(move |(row, columns)| {
                let images_root = images_root.as_deref();
                let (fetch, lerobot) = (fetch.as_ref(), lerobot.as_ref());
                let context = RowContext { mapping: &mapping, file: &file, images_root, fetch, lerobot, notes: &notes };
                columns.map(|columns| read_row(columns, &context, format!("{name}:{row}")))
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

/// What is needed to interpret the columns and images of a row.
struct RowContext<'a> {
    mapping: &'a Mapping,
    file: &'a Path,
    images_root: Option<&'a Path>,
    fetch: Option<&'a Fetch>,
    lerobot: Option<&'a LeRobot>,
    notes: &'a Notes,
}

fn read_row(columns: Result<Columns, RowError>, context: &RowContext, source: String) -> Row {
    let mut key = String::new();
    let record = columns.and_then(|mut columns| {
        if let Some(lerobot) = context.lerobot {
            lerobot.complete(&mut columns, context.mapping)?;
        }
        columns.rename(context.mapping)?;
        if imagefolder::is_table(context.file) {
            columns = imagefolder::resolve(columns)?;
        }
        key = columns.key().unwrap_or_default();
        let unused: Vec<_> = columns.images.keys().filter(|name| !IMAGES.contains(&name.as_str())).cloned().collect();
        let mut record = schema::record(columns)?;
        for name in unused {
            context.notes.add(format!("column {name}: its bytes are not read; the column is null in the metadata"));
            record.meta[name] = Value::Null;
        }
        let folder = context.file.parent().unwrap_or(Path::new(""));
        record.images.iter_mut().for_each(|image| image.locate(folder, context.images_root, context.fetch));
        Ok(record)
    });
    Row { number: 0, source, key, record }
}
