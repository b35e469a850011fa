//! Reads the data set of a run again: the rows that samples came from, for the writers of `filters`, and the images of
//! samples. Every row is compared with the one that was harvested.

use crate::{Error, Result, objects};
use filters::write::{Division, Image, JsonRows, Row, below};
use harvest::data::{self, ImageFile, Mapping, Melt, Record, SET, Source};
use harvest::objects::Mirror;
use harvest::pixels::{ImageError, Picture};
use sae_core::Run;
use sae_core::path_text;
use sae_core::store::sample::{ImageRef, Sample};
use sae_core::store::{Paths, STEP, StoreRecord};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// How the harvest divides files into rows.
pub(crate) const DIVISION: Division = Division { member_key: data::member_key, delimiter: data::delimiter, json_rows };

fn json_rows(path: &Path) -> filters::Result<Option<JsonRows>> {
    let failed = |error| match error {
        harvest::Error::Core(error) => filters::Error::Core(error),
        harvest::Error::Data { cause, path } => filters::Error::Source { cause: cause.into(), path },
        other => filters::Error::Request(other.message().into()),
    };
    let rows = data::verbatim_rows(path).map_err(failed)?;
    let texts = |rows: data::RowTexts| Box::new(rows.map(move |text| text.map_err(failed)));
    Ok(rows.map(|rows| JsonRows { are_lines: rows.are_lines, texts: texts(rows.texts) }))
}

/// The columns of rows that are samples of their own in a run, if there are such columns.
///
/// # Errors
/// The record of the run cannot be read.
pub(crate) fn melt(run: &Run) -> Result<Option<Melt>> {
    let record: Option<StoreRecord> = run.read_step(STEP)?;
    Ok(record.as_ref().and_then(melt_of))
}

fn melt_of(record: &StoreRecord) -> Option<Melt> {
    serde_json::from_value(record.spec.arguments["melt"].clone()).unwrap_or_default()
}

/// The data set of a run.
pub(crate) struct Dataset {
    /// Its folder.
    pub root: PathBuf,
    /// The folder that paths of its images are relative to, if one was named.
    images_root: Option<PathBuf>,
    /// The copies of objects, if the data or its images are in a bucket.
    mirror: Option<Mirror>,
    mapping: Mapping,
    /// Columns of rows that are samples of their own.
    melt: Option<Melt>,
}

impl Dataset {
    /// The data set that a run was harvested from.
    ///
    /// # Errors
    /// It no longer exists, or the run does not record where it is.
    pub fn open(record: &StoreRecord) -> Result<Self> {
        let arguments = &record.spec.arguments;
        let root = path_text::decode(arguments["data_root"].as_str().ok_or(Error::NoDataRoot)?);
        let (root, mirror) = objects::data_root(root)?;
        if mirror.is_none() && !root.is_dir() {
            return Err(Error::DataMoved { root });
        }
        let mapping = serde_json::from_value(arguments["map"].clone()).unwrap_or_default();
        let melt = melt_of(record);
        let images_root = arguments["images_root"].as_str().map(path_text::decode);
        let images_root = images_root.map(objects::data_root).transpose()?;
        let (images_root, images_mirror) = images_root.unzip();
        Ok(Self { root, images_root, mirror: mirror.or(images_mirror.flatten()), mapping, melt })
    }

    /// The folder that paths of images are relative to in a copy of the rows, relative to that copy; `None` if they
    /// are relative to the files that name them.
    pub fn images_root_of_copies(&self) -> Option<PathBuf> {
        let images_root = self.images_root.as_ref()?;
        Some(below(&self.root, images_root).unwrap_or_default())
    }

    /// Opens a file of the data set, which is copied first if it is in a bucket and not on this machine.
    fn open_file(&self, file: &str) -> Result<Source> {
        let path = path_text::resolve(&self.root, file);
        if let Some(mirror) = &self.mirror
            && let Some(url) = mirror.url(&path)
        {
            mirror.copy(&url, &mut |_| Ok(()))?;
        }
        Ok(Source::open(&path)?.mirrored(self.mirror.clone()).images_in(self.images_root.clone())?)
    }

    /// The path of a copy of a file, relative to the copies of the rows.
    fn path_of_copy(&self, file: &Path) -> Option<PathBuf> {
        below(&self.root, file).or_else(|| below(self.images_root.as_ref()?, file))
    }

    /// Columns that were mapped to a field.
    pub fn mapped(&self) -> Vec<String> {
        self.mapping.iter().map(|(_, column)| column.clone()).collect()
    }

    /// Calls `take` with the number and the row of every wanted sample, in the order of the data.
    ///
    /// # Errors
    /// A file that cannot be read; a row that no longer exists or differs from the one that was harvested; whatever `take`
    /// returns.
    pub fn each<E: From<Error>>(
        &self,
        samples: &[Sample],
        wanted: impl Fn(usize) -> bool,
        mut take: impl FnMut(usize, Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let root = &self.root;
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        let (mut files, mut seen) = (Vec::new(), HashSet::new());
        for (n, sample) in samples.iter().enumerate().filter(|(n, _)| wanted(*n)) {
            let Some((file, _)) = sample.place() else {
                let source_row = sample.source.clone();
                return Err(Error::NoPlace { sample: sample.id.clone(), source_row }.into());
            };
            if seen.insert(file) {
                files.push(file);
            }
            places.entry(&sample.source).or_default().push(n);
        }
        let images = RowImages::new(samples, |source| places.contains_key(source));
        for file in files {
            let source = self.open_file(file)?.melting(self.melt.clone());
            for row in source.rows(&self.mapping).map_err(Error::from)? {
                let row = row.map_err(Error::from)?;
                let place = match row.source.rsplit_once(':') {
                    Some((_, number)) => format!("{file}:{number}"),
                    None => row.source.clone(),
                };
                let Some(numbers) = places.remove(place.as_str()) else { continue };
                let record = match row.record {
                    Ok(record) => record,
                    Err(reason) => return Err(Error::RowChanged { reason: reason.to_string(), place }.into()),
                };
                let key = row.has_own_key.then_some(&row.key);
                let known = images.of_row(&samples[numbers[0]].source);
                let (last, others) = numbers.split_last().unwrap_or((&0, &[]));
                for n in others {
                    take(*n, self.understood(record.clone(), key, &samples[*n], *n, known)?)?;
                }
                take(*last, self.understood(record, key, &samples[*last], *last, known)?)?;
            }
        }
        match places.len() {
            0 => Ok(()),
            missing => Err(Error::RowsMissing { missing, root: root.clone() }.into()),
        }
    }

    /// The row of sample `n`, whose images are known.
    fn understood(
        &self,
        record: Record,
        key: Option<&String>,
        sample: &Sample,
        n: usize,
        known: &[&ImageRef],
    ) -> Result<Row> {
        // The key of a nested message begins with that of its row.
        let is_nested =
            |key: &str| sample.piece.is_some() && sample.key.strip_prefix(key).is_some_and(|k| k.starts_with('/'));
        let same_key = key.is_none_or(|key| *key == sample.key || is_nested(key));
        if !same_key || record.images.len() != known.len() {
            return Err(Error::OtherRow { key: sample.key.clone(), source_row: sample.source.clone() });
        }
        let mut columns = match record.meta {
            Value::Object(columns) => columns,
            _ => Default::default(),
        };
        // Files are opened one by one here, so that rows do not know their folder in the data set.
        if self.melt.is_some() {
            columns.insert(SET.to_owned(), sample.meta[SET].clone());
        }
        let images = record.images.into_iter().zip(known).map(|(image, known)| self.image(image, known)).collect();
        self.mirror.as_ref().map_or(Ok(()), Mirror::check)?;
        Ok(Row {
            number: n as u32,
            id: sample.id.clone(),
            key: sample.key.clone(),
            source: self.place(sample),
            score: None,
            turns: record.turns,
            pair: record.pair,
            images,
            columns,
        })
    }

    /// The file of the row that a sample came from, relative to the data set, and the number of the row there.
    pub fn place(&self, sample: &Sample) -> (PathBuf, u64) {
        let (file, number) = sample.place().unwrap_or_default();
        let file = path_text::resolve(&self.root, file);
        (file.strip_prefix(&self.root).unwrap_or(&file).to_path_buf(), number)
    }

    /// An image of a row, as it was harvested.
    pub fn image(&self, image: ImageFile, known: &ImageRef) -> Image {
        // An image that is missing is reported by whoever needs it; a bucket that does not answer by the check after the row.
        let _ = image.copy();
        Image {
            name: image.path.into(),
            inside: self.path_of_copy(&image.file),
            file: image.file,
            bytes: image.bytes,
            sha256: known.sha256.clone(),
        }
    }

    /// The trees of messages in some files of the data set, each as one row. The source of a row or message is that of its sample.
    ///
    /// # Errors
    /// A file cannot be read, or the rows are too large.
    pub fn trees(&self, files: &BTreeSet<&str>) -> Result<harvest::data::Rows> {
        let mut rows: Vec<harvest::data::Rows> = Vec::new();
        for file in files {
            let source = self.open_file(file)?;
            let file = (*file).to_owned();
            rows.push(Box::new(source.rows(&self.mapping)?.map(move |row| {
                let mut row = row?;
                if let Some((_, number)) = row.source.rsplit_once(':') {
                    row.source = format!("{file}:{number}");
                }
                Ok(row)
            })));
        }
        Ok(data::trees(Box::new(rows.into_iter().flatten()))?)
    }
}

/// The images of rows, as they were harvested. Each belongs to the first sample of its row that shows it: the images of a piece are
/// those of its path, which begins in the same row or in another one.
struct RowImages<'a> {
    of: HashMap<&'a str, Vec<&'a ImageRef>>,
    /// For each sample, which image of its row is the first that it brings.
    first: Vec<usize>,
}

impl<'a> RowImages<'a> {
    fn new(samples: &'a [Sample], wanted: impl Fn(&str) -> bool) -> Self {
        let (mut of, mut first): (HashMap<&str, Vec<&ImageRef>>, _) = (HashMap::new(), vec![0; samples.len()]);
        for (sample, first) in samples.iter().zip(&mut first).filter(|(sample, _)| wanted(&sample.source)) {
            let parent = sample.piece.as_ref().and_then(|piece| samples.get(piece.parent? as usize));
            let before = parent.map_or(0, |parent| parent.images.len());
            let images = of.entry(&sample.source).or_default();
            *first = images.len();
            // Samples that are no pieces are rows, or columns of them with the same images.
            if sample.piece.is_some() || images.is_empty() {
                images.extend(sample.images.iter().skip(before));
            }
        }
        Self { of, first }
    }

    fn of_row(&self, source: &str) -> &[&'a ImageRef] {
        self.of.get(source).map_or(&[], Vec::as_slice)
    }
}

/// Calls `show` with every image of the wanted samples: the number of the sample, which of its images it is, and the image. A piece
/// has the images of its path.
///
/// # Errors
/// The data is no longer where it was, a row or an image has changed since, or an image cannot be decoded; whatever `show`
/// returns.
pub(crate) fn each_image<E: From<Error>>(
    run: &Run,
    samples: &[Sample],
    wanted: &BTreeSet<u32>,
    mut show: impl FnMut(u32, usize, &Picture) -> Result<(), E>,
) -> Result<(), E> {
    let wanted = || wanted.iter().filter_map(|n| Some((*n, samples.get(*n as usize)?.images.len())));
    if wanted().all(|(_, images)| images == 0) {
        return Ok(());
    }
    let record: Option<StoreRecord> = run.read_step(STEP).map_err(Error::from)?;
    let record = record.ok_or_else(|| Error::NoHarvest { run: run.root().into() })?;
    let damaged = |error| Error::from(sae_core::Error::format(&run.samples())(error));
    let paths = Paths::from_samples(samples).map_err(damaged)?;
    let images = RowImages::new(samples, |_| true);
    // By the piece that brings an image and its place in the row: the samples that show it.
    let mut shown: BTreeMap<u32, BTreeMap<usize, Vec<(u32, usize)>>> = BTreeMap::new();
    for (n, count) in wanted() {
        for image in 0..count {
            let Some((piece, place)) = paths.image(samples, n, image) else { continue };
            let place = images.first[piece as usize] + place;
            shown.entry(piece).or_default().entry(place).or_default().push((n, image));
        }
    }
    Dataset::open(&record)?.each(
        samples,
        |n| shown.contains_key(&(n as u32)),
        |n, row| {
            for (place, by) in shown.get(&(n as u32)).into_iter().flatten() {
                let Some(image) = row.images.get(*place) else { continue };
                let bad = |error: ImageError| Error::Image { cause: error.to_string(), path: image.name.clone() };
                let picture = Picture::decode(&image.read().map_err(Error::from)?).map_err(bad)?;
                by.iter().try_for_each(|(sample, number)| show(*sample, *number, &picture))?;
            }
            Ok(())
        },
    )
}
