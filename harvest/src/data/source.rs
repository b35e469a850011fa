//! A data set on disk: its files in order, and the stream of their rows. Decodes nothing itself.

use super::columns::{Columns, IMAGES};
use super::fetch::Fetch;
use super::format::{self, Format};
use super::lerobot::LeRobot;
use super::melt::{Melt, Melted, Seen};
use super::notes::Notes;
use super::record::Record;
use super::row::{FileRows, Row, Rows};
use super::row_error::RowError;
use super::{filtered, imagefolder, layout, parquet, schema, shards};
use crate::objects::Mirror;
use crate::{Error, Result};
use sae_core::path_text;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Pairs of a field and the column that holds it.
pub type Mapping = Vec<(String, String)>;

/// The content of one row of a file, by its number in the file (see [`Row::source`]); nothing if the file has no such row.
/// Tables are read from this row on, other files from the beginning. Links are not followed. If several columns of the row are
/// samples, it is the content of the first one that can be used.
///
/// # Errors
/// The file is not of a supported format or is damaged, or the row cannot be used.
pub fn record(
    file: &Path,
    row: usize,
    mapping: &Mapping,
    melt: Option<&Melt>,
    images_root: Option<&Path>,
) -> Result<Option<Record>> {
    let notes = Notes::default();
    let mut rows = match format::open(file)? {
        Format::Parquet => parquet::row(file, row)?,
        format => Box::new(format.rows(file, &notes)?.skip(row)),
    };
    let Some(columns) = rows.next() else { return Ok(None) };
    let lerobot = LeRobot::containing(file)?;
    let context = RowContext {
        mapping,
        melt,
        file,
        images_root,
        fetch: None,
        mirror: None,
        lerobot: lerobot.as_ref(),
        notes: &notes,
    };
    let mut failed = None;
    for row in read_row(columns?, &context, "") {
        match row.record {
            // Every sample of a row has the same images.
            Ok(record) => return Ok(Some(record)),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let Some(error) = failed else { return Ok(None) };
    let found = Error::data(file)(&error.cause);
    Err(match error.hint {
        Some(hint) => found.with_hint(hint),
        None => found,
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
    /// The copies of objects, if files are such copies: images that rows name are copied when they are read.
    pub mirror: Option<Mirror>,
    /// Columns that become samples of their own, if rows hold several texts.
    pub melt: Option<Melt>,
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
        Self { root: root.to_path_buf(), files, images_root: None, fetch: None, mirror: None, melt: None, notes }
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
            // Images of a bucket are copied one by one.
            Some(folder) if !folder.is_dir() && self.mirror.as_ref().is_none_or(|m| m.url(folder).is_none()) => {
                Err(Error::data(folder)("the images root is not a folder"))
            }
            _ => Ok(Self { images_root: root.or(self.images_root), ..self }),
        }
    }

    /// The same data set, which adds its notes to `notes`.
    #[must_use]
    pub fn noting(self, notes: &Notes) -> Self {
        self.notes.take().into_iter().for_each(|note| notes.add(note));
        Self { notes: notes.clone(), ..self }
    }

    /// The same data set, whose images may be objects that have not been copied yet.
    #[must_use]
    pub fn mirrored(self, mirror: Option<Mirror>) -> Self {
        Self { mirror, ..self }
    }

    /// The same data set, whose links to images are followed if `links` says so.
    #[must_use]
    pub fn fetching(self, links: bool) -> Self {
        Self { fetch: links.then(Fetch::new), ..self }
    }

    /// The same data set, of whose rows several columns are samples.
    #[must_use]
    pub fn melting(self, melt: Option<Melt>) -> Self {
        Self { melt, ..self }
    }

    /// Checks that some row has each of the columns that become samples, among the first `limit` rows.
    ///
    /// # Errors
    /// No row has one of them, or rows have a field that melting adds. The error names the columns that there are.
    pub(crate) fn check_melt(&self, mapping: &Mapping, limit: u64) -> Result<()> {
        let Some(melt) = &self.melt else { return Ok(()) };
        let mut seen = Seen::new(melt);
        let rows =
            self.files.iter().flat_map(|file| match format::open(file).and_then(|f| f.rows(file, &self.notes)) {
                Ok(rows) => rows,
                Err(error) => Box::new(std::iter::once(Err(error))) as FileRows,
            });
        for row in rows.take(usize::try_from(limit).unwrap_or(usize::MAX)) {
            let Ok(mut columns) = row? else { continue };
            if columns.rename(mapping).is_ok() && seen.add(&columns) {
                break;
            }
        }
        seen.finish().map_err(|cause| Error::data(&self.root)(cause))
    }

    /// How many rows [`Source::rows`] yields for a row of a file.
    pub fn samples_per_row(&self) -> u64 {
        self.melt.as_ref().map_or(1, Melt::samples_per_row)
    }

    /// Reads the rows one after the other, with columns renamed according to `mapping`. Of a row with several samples, each is
    /// a row of its own, even if its column is missing.
    ///
    /// # Errors
    /// A file cannot be opened or is damaged as a whole. (Later files are opened when they are reached.)
    pub fn rows(&self, mapping: &Mapping) -> Result<Rows> {
        let mut number = 0;
        let (root, mapping) = (self.root.clone(), mapping.clone());
        let (files, images_root) = (self.files.clone(), self.images_root.clone());
        let (fetch, notes, melt) = (self.fetch.clone(), self.notes.clone(), self.melt.clone());
        let mirror = self.mirror.clone();
        let per_row = self.samples_per_row();
        let melted = melt.clone();
        let rows = files.into_iter().flat_map(move |file| {
            let name = path_text::encode(file.strip_prefix(&root).unwrap_or(&file));
            let (mapping, images_root) = (mapping.clone(), images_root.clone());
            let (fetch, notes, melt) = (fetch.clone(), notes.clone(), melt.clone());
            let mirror = mirror.clone();
            let lerobot = LeRobot::containing(&file);
            let rows = format::open(&file).and_then(|format| format.rows(&file, &notes));
            let (rows, lerobot) = match lerobot {
                Ok(lerobot) => (rows, lerobot),
                Err(error) => (Err(error), None),
            };
            let rows: FileRows = rows.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
            rows.enumerate().flat_map(move |(row, columns)| {
                let context = RowContext {
                    mapping: &mapping,
                    melt: melt.as_ref(),
                    file: &file,
                    images_root: images_root.as_deref(),
                    fetch: fetch.as_ref(),
                    mirror: mirror.as_ref(),
                    lerobot: lerobot.as_ref(),
                    notes: &notes,
                };
                match columns {
                    Ok(columns) => read_row(columns, &context, &format!("{name}:{row}")).into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(error)],
                }
            })
        });
        Ok(Box::new(rows.map(move |row| {
            let mut row = row?;
            row.number = number;
            if !row.has_own_key {
                row.key = (number / per_row).to_string();
            }
            if let Some(melt) = &melted {
                row.key = format!("{}/{}", row.key, melt.columns[(number % per_row) as usize]);
            }
            number += 1;
            Ok(row)
        })))
    }
}

/// What is needed to interpret the columns and images of a row.
struct RowContext<'a> {
    mapping: &'a Mapping,
    melt: Option<&'a Melt>,
    file: &'a Path,
    images_root: Option<&'a Path>,
    fetch: Option<&'a Fetch>,
    mirror: Option<&'a Mirror>,
    lerobot: Option<&'a LeRobot>,
    notes: &'a Notes,
}

/// The rows of the stream that a row of a file becomes: one, or one for each melted column.
fn read_row(columns: Result<Columns, RowError>, context: &RowContext, source: &str) -> Vec<Row> {
    let columns = columns.and_then(|mut columns| {
        if let Some(lerobot) = context.lerobot {
            lerobot.complete(&mut columns, context.mapping)?;
        }
        columns.rename(context.mapping)?;
        if imagefolder::is_table(context.file) { imagefolder::resolve(columns) } else { Ok(columns) }
    });
    let key = columns.as_ref().ok().and_then(Columns::key).unwrap_or_default();
    let row = |source: String, part: Result<Melted, RowError>| {
        let record = part.and_then(|part| interpret(part, context));
        Row { number: 0, source, key: key.clone(), has_own_key: !key.is_empty(), record }
    };
    match context.melt {
        None => vec![row(source.to_owned(), columns.map(Melted::whole))],
        Some(melt) => {
            let part = |number| columns.clone().and_then(|columns| melt.part(columns, number, source));
            (0..melt.columns.len()).map(|number| row(melt.source(source, number), part(number))).collect()
        }
    }
}

fn interpret(part: Melted, context: &RowContext) -> Result<Record, RowError> {
    let Melted { columns, text } = part;
    let mut unused: Vec<_> = columns.images.keys().filter(|name| !IMAGES.contains(&name.as_str())).cloned().collect();
    let mut record = schema::record(columns, text)?;
    unused.retain(|name| !schema::holds_frames(name, &record));
    for name in unused {
        context.notes.add(format!("column {name}: its bytes are not read; the column is null in the metadata"));
        record.meta[name] = Value::Null;
    }
    let folder = context.file.parent().unwrap_or(Path::new(""));
    record.images.iter_mut().for_each(|image| image.locate(folder, context.images_root, context.fetch, context.mirror));
    Ok(record)
}
