//! Reads the data set of a run again: the rows that samples came from, for the writers of `filters`, and the images of
//! samples. Every row is compared with the one that was harvested.

use crate::{Error, Result};
use filters::write::{Division, Image, JsonRows, Row, below};
use harvest::data::{self, ImageFile, Mapping, Melt, Record, SET, Source};
use harvest::pixels::{ImageError, Picture};
use sae_core::Run;
use sae_core::path_text;
use sae_core::store::sample::Sample;
use sae_core::store::{STEP, StoreRecord};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};
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
        if !root.is_dir() {
            return Err(Error::DataMoved { root });
        }
        let mapping = serde_json::from_value(arguments["map"].clone()).unwrap_or_default();
        let melt = melt_of(record);
        let images_root = arguments["images_root"].as_str().map(path_text::decode);
        Ok(Self { root, images_root, mapping, melt })
    }

    /// The folder that paths of images are relative to in a copy of the rows, relative to that copy; `None` if they
    /// are relative to the files that name them.
    pub fn images_root_of_copies(&self) -> Option<PathBuf> {
        let images_root = self.images_root.as_ref()?;
        Some(below(&self.root, images_root).unwrap_or_default())
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
        let mut places: HashMap<&str, usize> = HashMap::new();
        let (mut files, mut seen) = (Vec::new(), HashSet::new());
        for (n, sample) in samples.iter().enumerate().filter(|(n, _)| wanted(*n)) {
            let Some((file, _)) = sample.place() else {
                let source_row = sample.source.clone();
                return Err(Error::NoPlace { sample: sample.id.clone(), source_row }.into());
            };
            if seen.insert(file) {
                files.push(file);
            }
            places.insert(&sample.source, n);
        }
        for file in files {
            let open = || Source::open(&path_text::resolve(root, file))?.images_in(self.images_root.clone());
            let source = open().map_err(Error::from)?.melting(self.melt.clone());
            for row in source.rows(&self.mapping).map_err(Error::from)? {
                let row = row.map_err(Error::from)?;
                let place = match row.source.rsplit_once(':') {
                    Some((_, number)) => format!("{file}:{number}"),
                    None => row.source.clone(),
                };
                let Some(n) = places.remove(place.as_str()) else { continue };
                let record = match row.record {
                    Ok(record) => record,
                    Err(reason) => return Err(Error::RowChanged { reason: reason.to_string(), place }.into()),
                };
                take(n, self.understood(record, row.has_own_key.then_some(&row.key), &samples[n], n)?)?;
            }
        }
        match places.len() {
            0 => Ok(()),
            missing => Err(Error::RowsMissing { missing, root: root.clone() }.into()),
        }
    }

    fn understood(&self, record: Record, key: Option<&String>, sample: &Sample, n: usize) -> Result<Row> {
        let same_key = key.is_none_or(|key| *key == sample.key);
        if !same_key || record.images.len() != sample.images.len() {
            return Err(Error::OtherRow { key: sample.key.clone(), source_row: sample.source.clone() });
        }
        let image = |(image, known): (ImageFile, &sae_core::store::sample::ImageRef)| Image {
            name: image.path.into(),
            inside: self.path_of_copy(&image.file),
            file: image.file,
            bytes: image.bytes,
            sha256: known.sha256.clone(),
        };
        let (file, number) = sample.place().unwrap_or_default();
        let file = path_text::resolve(&self.root, file);
        let file = file.strip_prefix(&self.root).unwrap_or(&file).to_path_buf();
        let mut columns = match record.meta {
            Value::Object(columns) => columns,
            _ => Default::default(),
        };
        // Files are opened one by one here, so that rows do not know their folder in the data set.
        if self.melt.is_some() {
            columns.insert(SET.to_owned(), sample.meta[SET].clone());
        }
        Ok(Row {
            number: n as u32,
            id: sample.id.clone(),
            key: sample.key.clone(),
            source: (file, number),
            score: None,
            turns: record.turns,
            pair: record.pair,
            images: record.images.into_iter().zip(&sample.images).map(image).collect(),
            columns,
        })
    }
}

/// Calls `show` with every image of the wanted samples: the number of the sample, which of its images it is, and the image.
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
    let wanted = |n: usize| wanted.contains(&(n as u32)) && samples.get(n).is_some_and(|s| !s.images.is_empty());
    if !(0..samples.len()).any(wanted) {
        return Ok(());
    }
    let record: Option<StoreRecord> = run.read_step(STEP).map_err(Error::from)?;
    let record = record.ok_or_else(|| Error::NoHarvest { run: run.root().into() })?;
    Dataset::open(&record)?.each(samples, wanted, |n, row| {
        for (number, image) in row.images.iter().enumerate() {
            let bad = |error: ImageError| Error::Image { cause: error.to_string(), path: image.name.clone() };
            let picture = Picture::decode(&image.read().map_err(Error::from)?).map_err(bad)?;
            show(n as u32, number, &picture)?;
        }
        Ok(())
    })
}
