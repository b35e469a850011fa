//! Which files of a folder are its data, decided by all of them together. [`choose`] is the rule, which FORMATS.md states
//! as a table: the first kind of data that is there is read, what describes it is not, and what is left out is told.

use super::columns::Columns;
use super::file_kind::{FileKind, is_hidden};
use super::format::Format;
use super::notes::Notes;
use super::{card, fields, filtered, folder, imagefolder, input, json, saved};
use crate::{Error, Result};
use sae_core::{Run, path_text};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Rows of a table that are looked at for images.
const PEEKED: usize = 16;

/// The files that hold the rows of the data set in a folder, in order.
///
/// # Errors
/// A folder that cannot be listed; no data; a saved data set that cannot be read.
pub(super) fn files(root: &Path, notes: &Notes) -> Result<Vec<PathBuf>> {
    if Run::open(root).is_ok() {
        return Err(Error::data(root)(
            "this is the folder of a run, not a data set\nhint: name what the run was harvested from",
        ));
    }
    let mut tree = Tree::default();
    tree.list(root)?;
    let chosen = match tree.saved.is_empty() {
        false => std::mem::take(&mut tree.saved),
        true => {
            if let Some(listed) = card::data_files(root, &tree.files, notes)? {
                tree.files = listed;
            }
            choose(&tree.files)?
        }
    };
    if chosen.is_empty() {
        return Err(Error::data(root)(nothing(root, &tree)));
    }
    tell_filtered(root, &tree.filtered, notes);
    tell_rest(root, &tree.files, &chosen, notes);
    tell_splits(root, &chosen, notes);
    tell_twins(&chosen, notes);
    Ok(chosen)
}

/// What lies below a folder.
#[derive(Default)]
struct Tree {
    /// All files that are not hidden, by name.
    files: Vec<PathBuf>,
    /// Files of folders that `datasets` saved.
    saved: Vec<PathBuf>,
    /// Folders that `sae filter` wrote: their rows are copies of rows of the data set that they were chosen from.
    filtered: Vec<PathBuf>,
    /// Folders that were listed, by their true names: a folder that links lead to again is listed once.
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
            match path.is_dir() {
                // A run of this program beside the data that it was harvested from.
                true if Run::open(&path).is_ok() => {}
                true if filtered::open(&path).is_some() => self.filtered.push(path),
                true => self.list(&path)?,
                // A link that leads nowhere is an entry, too: whoever reads it says so.
                false => self.files.push(path),
            }
        }
        Ok(())
    }
}

/// The files that hold rows: archives; image folders' `metadata` tables; images with captions beside them, unless a table
/// names images; Parquet; Arrow; JSON; CSV; images.
fn choose(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let all: HashSet<_> = files.iter().collect();
    // A packed file beside itself is not read twice.
    let files: Vec<_> =
        files.iter().filter(|path| !input::unpacked(path).is_some_and(|name| all.contains(&name))).collect();
    let of = |kind| files.iter().copied().filter(move |path| FileKind::from_path(path) == kind);
    let images: Vec<_> = files.iter().copied().filter(|path| is_image(path)).cloned().collect();
    let beside = Beside::of(&images);
    let captioned = files.iter().any(|path| beside.has(path));

    let archives: Vec<_> = of(FileKind::Archive).cloned().collect();
    if let Some(first) = archives.first() {
        Format::detect(first)?;
        return Ok(archives);
    }
    let metadata = files.iter().copied().filter(|path| imagefolder::is_table(path) && !images.is_empty());
    let metadata: Vec<_> = metadata.filter(|path| peek(path, imagefolder::names_images)).cloned().collect();
    if !metadata.is_empty() {
        return Ok(metadata);
    }
    for kind in [FileKind::Parquet, FileKind::Arrow, FileKind::Json, FileKind::Csv] {
        let tables = of(kind).filter(|path| !beside.has(path));
        let mut tables: Vec<_> = tables.filter(|path| kind != FileKind::Json || holds_rows(path)).cloned().collect();
        // A list of texts beside rows is a list of classes or the like.
        if kind == FileKind::Json && !tables.iter().all(|path| json::lists_texts(path)) {
            tables.retain(|path| !json::lists_texts(path));
        }
        let shows = |columns: &Columns| {
            !columns.images.is_empty() || fields::first(&columns.fields, &["image", "images"]).is_some()
        };
        match tables.first() {
            Some(first) if !captioned || peek(first, shows) => return Ok(tables),
            _ => {}
        }
    }
    Ok(images)
}

/// Whether one of a table's first rows is as asked. A table that cannot be read says so when its turn comes.
fn peek(path: &Path, asked: impl Fn(&Columns) -> bool) -> bool {
    let Ok(Some(format)) = Format::detect(path) else { return false };
    let Ok(rows) = format.rows(path, &Notes::default()) else { return false };
    rows.take(PEEKED).flatten().flatten().any(|columns| asked(&columns))
}

/// Whether a JSON file holds rows, rather than one object or a list of something else. Lines are rows by their name, and
/// a file that cannot be read says so when its turn comes.
fn holds_rows(path: &Path) -> bool {
    input::extension(path) != "json" || input::head(path, 1).is_err() || peek(path, |_| true)
}

fn is_image(path: &Path) -> bool {
    matches!(FileKind::from_path(path), FileKind::Image | FileKind::OtherImage)
}

/// Names of images without their extensions.
struct Beside(HashSet<OsString>);

impl Beside {
    fn of(images: &[PathBuf]) -> Self {
        Self(images.iter().map(|path| path.with_extension("").into_os_string()).collect())
    }

    /// Whether a file is what is said about an image beside it.
    fn has(&self, path: &Path) -> bool {
        let extension = path.extension().unwrap_or_default();
        folder::SIDECARS.iter().any(|sidecar| extension.eq_ignore_ascii_case(sidecar))
            && self.0.contains(path.with_extension("").as_os_str())
    }
}

/// Why a folder is no data set.
fn nothing(root: &Path, tree: &Tree) -> String {
    let expected =
        "the folder holds no data that is read (.parquet, .arrow, .json, .jsonl, .csv, .tsv, .tar, or images)";
    if let Some(first) = tree.filtered.first() {
        let first = path_text::encode(first.strip_prefix(root).unwrap_or(first));
        return format!("{expected} but rows that `sae filter` kept\nhint: name their folder, such as {first}");
    }
    match tree.files.iter().take(3).map(|path| name(path)).collect::<Vec<_>>() {
        names if names.is_empty() => format!("{expected}: it is empty"),
        names => {
            format!(
                "{expected}, but {} files such as {}\nhint: name the file itself",
                tree.files.len(),
                names.join(", ")
            )
        }
    }
}

/// Tells which files could be data, too, and are not read.
fn tell_rest(root: &Path, files: &[PathBuf], chosen: &[PathBuf], notes: &Notes) {
    let read: HashSet<_> = chosen.iter().collect();
    let images: Vec<_> = files.iter().filter(|path| is_image(path)).cloned().collect();
    let beside = Beside::of(&images);
    // Tables beside archives of the same name are img2dataset's.
    let archives: HashSet<_> =
        chosen.iter().filter(|path| FileKind::from_path(path) == FileKind::Archive).map(|path| stem(path)).collect();
    let mut rest: BTreeMap<FileKind, Vec<&PathBuf>> = BTreeMap::new();
    for path in files.iter().filter(|path| !read.contains(path)) {
        let kind = FileKind::from_path(path);
        let data = matches!(
            kind,
            FileKind::Parquet | FileKind::Arrow | FileKind::Json | FileKind::Csv | FileKind::Unread | FileKind::Archive
        );
        if data && !beside.has(path) && !archives.contains(&stem(path)) {
            rest.entry(kind).or_default().push(path);
        }
    }
    for (kind, paths) in rest {
        let first = path_text::encode(paths[0].strip_prefix(root).unwrap_or(paths[0]));
        let more = if paths.len() > 1 { format!(" and {} more of its kind", paths.len() - 1) } else { String::new() };
        notes.add(match kind {
            FileKind::Unread => format!("not read: {first}{more} (unpack or convert it first if it holds data)"),
            _ => format!("not read: {first}{more}; the rows come from {}", name(&chosen[0])),
        });
    }
}

/// Tells which folders of an earlier filter are not read.
fn tell_filtered(root: &Path, filtered: &[PathBuf], notes: &Notes) {
    let names: Vec<_> =
        filtered.iter().map(|path| path_text::encode(path.strip_prefix(root).unwrap_or(path))).collect();
    if let [first, others @ ..] = &names[..] {
        let more = if others.is_empty() { String::new() } else { format!(" and {} more of its kind", others.len()) };
        notes.add(format!("not read: {first}{more}, since `sae filter` wrote it; to read its rows, name that folder"));
    }
}

/// Tells which splits are read together.
fn tell_splits(root: &Path, chosen: &[PathBuf], notes: &Notes) {
    const SPLITS: [(&str, &[&str]); 3] = [
        ("train", &["train", "training"]),
        ("validation", &["validation", "valid", "val", "dev"]),
        ("test", &["test", "testing", "eval", "evaluation"]),
    ];
    let split = |path: &Path| {
        let name = path_text::encode(path.strip_prefix(root).unwrap_or(path)).to_ascii_lowercase();
        // The file's own name says more than its folders' names.
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

/// Tells which tables have one name in two formats: they may hold the same rows.
fn tell_twins(chosen: &[PathBuf], notes: &Notes) {
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
