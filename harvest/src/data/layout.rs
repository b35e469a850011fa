//! Which files of a folder are its data. [`choose`] is the rule, which FORMATS.md states as a table: the first kind of data
//! in the table that exists is read, files that describe it are not, and notes name the files that are left out.

use super::columns::Columns;
use super::file_kind::{FileKind, is_hidden};
use super::format::Format;
use super::notes::Notes;
use super::{card, fields, filtered, folder, imagefolder, input, json, lerobot, saved};
use crate::{Error, Result};
use sae_core::{Run, path_text};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Number of rows of a table that are searched for images.
const INSPECTED: usize = 16;

/// The files that hold the rows of the data set in a folder, in order.
///
/// # Errors
/// A folder cannot be listed, there is no data, or a saved data set cannot be read.
pub(super) fn files(root: &Path, notes: &Notes) -> Result<Vec<PathBuf>> {
    if Run::open(root).is_ok() {
        let error = Error::data(root)("this is the folder of a run, not a data set");
        return Err(error.with_hint("name the data set that the run was harvested from"));
    }
    if let Some(steps) = lerobot::files(root)? {
        return Ok(steps);
    }
    let mut tree = Tree::default();
    tree.list(root)?;
    let chosen = if tree.saved.is_empty() {
        if let Some(listed) = card::data_files(root, &tree.files, notes)? {
            tree.files = listed;
        }
        choose(&tree.files)?
    } else {
        std::mem::take(&mut tree.saved)
    };
    if chosen.is_empty() {
        return Err(no_data(root, &tree));
    }
    note_filtered(root, &tree.filtered, notes);
    note_other_data(root, &tree.files, &chosen, notes);
    note_splits(root, &chosen, notes);
    note_duplicates(&chosen, notes);
    Ok(chosen)
}

/// The content of a folder and its subfolders.
#[derive(Default)]
struct Tree {
    /// All files that are not hidden, in the order of their names.
    files: Vec<PathBuf>,
    /// Files of folders that `datasets` saved.
    saved: Vec<PathBuf>,
    /// Folders that `sae filter` wrote. Their rows are copies of rows of the data set that was filtered.
    filtered: Vec<PathBuf>,
    /// Folders that were listed, without links in their paths, so that each folder is listed once.
    listed: HashSet<PathBuf>,
}

impl Tree {
    fn list(&mut self, folder: &Path) -> Result<()> {
        if !self.listed.insert(folder.canonicalize().map_err(Error::io("read", folder))?) {
            return Ok(());
        }
        if saved::is_saved(folder) {
            self.saved.extend(saved::files(folder)?);
            return Ok(());
        }
        let entries = fs::read_dir(folder).map_err(Error::io("list the folder", folder))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
        let mut paths = paths.map_err(Error::io("list the folder", folder))?;
        paths.retain(|path| !is_hidden(path.file_name().unwrap_or_default().as_encoded_bytes()));
        paths.sort();
        for path in paths {
            if !path.is_dir() {
                // This includes broken links, which are reported when they are read.
                self.files.push(path);
            } else if Run::open(&path).is_ok() {
                // A run of this program may be next to the data that it was harvested from.
            } else if filtered::open(&path).is_some() {
                self.filtered.push(path);
            } else {
                self.list(&path)?;
            }
        }
        Ok(())
    }
}

/// The files that hold rows, in order of precedence: archives; `metadata` tables of image folders; images with captions
/// next to them, unless a table names images; Parquet; Arrow; JSON; CSV; images.
fn choose(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let all: HashSet<_> = files.iter().collect();
    // A compressed file next to its decompressed copy is not read.
    let files: Vec<_> =
        files.iter().filter(|path| !input::uncompressed(path).is_some_and(|name| all.contains(&name))).collect();
    let files_of = |kind| files.iter().copied().filter(move |path| FileKind::from_path(path) == kind);
    let images: Vec<_> = files.iter().copied().filter(|path| is_image(path)).cloned().collect();
    let sidecars = Sidecars::new(&images);
    let has_captions = files.iter().any(|path| sidecars.contain(path));

    let archives: Vec<_> = files_of(FileKind::Archive).cloned().collect();
    if let Some(first) = archives.first() {
        Format::detect(first)?;
        return Ok(archives);
    }
    let metadata = files.iter().copied().filter(|path| imagefolder::is_table(path) && !images.is_empty());
    let metadata: Vec<_> = metadata.filter(|path| any_row(path, imagefolder::names_images)).cloned().collect();
    if !metadata.is_empty() {
        return Ok(metadata);
    }
    for kind in [FileKind::Parquet, FileKind::Arrow, FileKind::Json, FileKind::Csv] {
        let tables = files_of(kind).filter(|path| !sidecars.contain(path));
        let mut tables: Vec<_> = tables.filter(|path| kind != FileKind::Json || holds_rows(path)).cloned().collect();
        // A list of texts next to a file of rows is a list of classes or the like.
        if kind == FileKind::Json && !tables.iter().all(|path| json::lists_texts(path)) {
            tables.retain(|path| !json::lists_texts(path));
        }
        let has_image = |columns: &Columns| {
            !columns.images.is_empty() || fields::first(&columns.fields, &["image", "images"]).is_some()
        };
        match tables.first() {
            Some(first) if !has_captions || any_row(first, has_image) => return Ok(tables),
            _ => {}
        }
    }
    Ok(images)
}

/// Whether one of the first rows of a table satisfies a condition. A table that cannot be read is reported later.
fn any_row(path: &Path, condition: impl Fn(&Columns) -> bool) -> bool {
    let Ok(Some(format)) = Format::detect(path) else { return false };
    let Ok(rows) = format.rows(path, &Notes::default()) else { return false };
    rows.take(INSPECTED).flatten().flatten().any(|columns| condition(&columns))
}

/// Whether a JSON file holds rows, rather than one object or a list of something else. Files of lines hold rows according to
/// their name. A file that cannot be read is reported later.
fn holds_rows(path: &Path) -> bool {
    input::extension(path) != "json" || input::head(path, 1).is_err() || any_row(path, |_| true)
}

fn is_image(path: &Path) -> bool {
    matches!(FileKind::from_path(path), FileKind::Image | FileKind::OtherImage)
}

/// The files that may describe images, known by the names of the images without their extensions.
struct Sidecars(HashSet<OsString>);

impl Sidecars {
    fn new(images: &[PathBuf]) -> Self {
        Self(images.iter().map(|path| path.with_extension("").into_os_string()).collect())
    }

    /// Whether a file describes an image next to it.
    fn contain(&self, path: &Path) -> bool {
        let extension = path.extension().unwrap_or_default();
        folder::SIDECARS.iter().any(|sidecar| extension.eq_ignore_ascii_case(sidecar))
            && self.0.contains(path.with_extension("").as_os_str())
    }
}

/// The error for a folder without data.
fn no_data(root: &Path, tree: &Tree) -> Error {
    let cause =
        "the folder has no data in a supported format (.parquet, .arrow, .json, .jsonl, .csv, .tsv, .tar, images)";
    let error = |detail: &str| Error::data(root)(format!("{cause}{detail}"));
    if let Some(first) = tree.filtered.first() {
        let first = path_text::encode(first.strip_prefix(root).unwrap_or(first));
        return error(", but rows that `sae filter` kept").with_hint(format!("name their folder, such as {first}"));
    }
    let names: Vec<_> = tree.files.iter().take(3).map(|path| name(path)).collect();
    if names.is_empty() {
        return error(": it is empty");
    }
    error(&format!(", but {} files such as {}", tree.files.len(), names.join(", "))).with_hint("name the file itself")
}

/// Adds notes on files that could also be data but are not read.
fn note_other_data(root: &Path, files: &[PathBuf], chosen: &[PathBuf], notes: &Notes) {
    let read: HashSet<_> = chosen.iter().collect();
    let images: Vec<_> = files.iter().filter(|path| is_image(path)).cloned().collect();
    let sidecars = Sidecars::new(&images);
    // img2dataset writes a table next to each archive, with the same name.
    let archives: HashSet<_> =
        chosen.iter().filter(|path| FileKind::from_path(path) == FileKind::Archive).map(|path| stem(path)).collect();
    let mut rest: BTreeMap<FileKind, Vec<&PathBuf>> = BTreeMap::new();
    for path in files.iter().filter(|path| !read.contains(path)) {
        let kind = FileKind::from_path(path);
        let is_data = matches!(
            kind,
            FileKind::Parquet
                | FileKind::Arrow
                | FileKind::Json
                | FileKind::Csv
                | FileKind::Unsupported
                | FileKind::Archive
        );
        if is_data && !sidecars.contain(path) && !archives.contains(&stem(path)) {
            rest.entry(kind).or_default().push(path);
        }
    }
    for (kind, paths) in rest {
        let first = path_text::encode(paths[0].strip_prefix(root).unwrap_or(paths[0]));
        let more = if paths.len() > 1 { format!(" and {} more of its kind", paths.len() - 1) } else { String::new() };
        notes.add(match kind {
            FileKind::Unsupported => format!("not read: {first}{more} (unpack or convert it first if it holds data)"),
            _ => format!("not read: {first}{more}; the rows come from {}", name(&chosen[0])),
        });
    }
}

/// Adds a note on folders that `sae filter` wrote, which are not read.
fn note_filtered(root: &Path, filtered: &[PathBuf], notes: &Notes) {
    let names: Vec<_> =
        filtered.iter().map(|path| path_text::encode(path.strip_prefix(root).unwrap_or(path))).collect();
    if let [first, others @ ..] = &names[..] {
        let more = if others.is_empty() { String::new() } else { format!(" and {} more of its kind", others.len()) };
        notes.add(format!("not read: {first}{more}, since `sae filter` wrote it; to read its rows, name that folder"));
    }
}

/// Adds a note if several splits are read together.
fn note_splits(root: &Path, chosen: &[PathBuf], notes: &Notes) {
    const SPLITS: [(&str, &[&str]); 3] = [
        ("train", &["train", "training"]),
        ("validation", &["validation", "valid", "val", "dev"]),
        ("test", &["test", "testing", "eval", "evaluation"]),
    ];
    let split = |path: &Path| {
        let name = path_text::encode(path.strip_prefix(root).unwrap_or(path)).to_ascii_lowercase();
        // The name of the file takes precedence over the names of its folders.
        let words: Vec<_> = name.rsplit(|c: char| !c.is_ascii_alphabetic()).map(str::to_owned).collect();
        let known = |word: &str| SPLITS.iter().position(|(_, names)| names.contains(&word));
        words.iter().find_map(|word| known(word))
    };
    let mut counts = [0u64; SPLITS.len()];
    chosen.iter().filter_map(|path| split(path)).for_each(|split| counts[split] += 1);
    let found = SPLITS.iter().zip(counts).filter(|(_, count)| *count > 0);
    let found: Vec<_> =
        found.map(|((name, _), count)| format!("{name} ({count} files)").replace("(1 files)", "(1 file)")).collect();
    if found.len() > 1 {
        notes.add(format!("read together: {}; to read one alone, name its file or folder", found.join(", ")));
    }
}

/// Adds a note on tables with the same name in two formats, which may hold the same rows.
fn note_duplicates(chosen: &[PathBuf], notes: &Notes) {
    let tables = chosen.iter().filter(|path| !is_image(path));
    let mut names: BTreeMap<OsString, &PathBuf> = BTreeMap::new();
    for path in tables {
        if let Some(other) = names.insert(path.with_extension("").into_os_string(), path) {
            notes.add(format!(
                "{} and {} are both read; if they hold the same rows, name one",
                name(other),
                name(path)
            ));
        }
    }
}

fn stem(path: &Path) -> OsString {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let end = name.iter().position(|byte| *byte == b'.').unwrap_or(name.len());
    let stem = String::from_utf8_lossy(&name[..end]).into_owned();
    path.with_file_name(stem).into_os_string()
}

fn name(path: &Path) -> String {
    path_text::encode(Path::new(path.file_name().unwrap_or_default()))
}
