//! Samples of a run with their tokens and pictures. Keeps the token tables that were read last, [`TABLES`] of them.

use super::pictures::{self, LARGE, SMALL};
use crate::state::sample::{Picture, SampleData, TokenView};
use arrow::array::{Array, BooleanArray, Float32Array, Int16Array, RecordBatch, StringArray, UInt8Array, UInt32Array};
use filters::select::Groups;
use sae_core::store::sample::{Modality, Sample};
use sae_core::store::{STEP, StoreRecord, load_samples};
use sae_core::{Error, Run, table};
use sae_workbench::sample_images::SampleImages;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

/// Token tables kept. A part of 65,536 positions takes about 4 MB.
const TABLES: usize = 8;

const COLUMNS: [&str; 10] = ["sample", "position", "modality", "piece", "special", "image", "x0", "y0", "x1", "y1"];

/// Reads samples of one run.
pub struct Samples {
    run: Run,
    images: SampleImages,
    /// Read when the first sample is asked for.
    catalog: Option<Result<Catalog, String>>,
    tables: VecDeque<(usize, RecordBatch)>,
}

/// All samples, and which part of the store has which of them.
struct Catalog {
    samples: Vec<Sample>,
    /// For each part, the number of the first sample behind it.
    ends: Vec<u64>,
}

impl Samples {
    /// A reader of a run. `data` overrides where the run says that its data set is.
    pub fn new(run: Run, data: Option<&Path>) -> Self {
        let images = SampleImages::new(&run, data);
        Self { run, images, catalog: None, tables: VecDeque::new() }
    }

    fn catalog(&mut self) -> Result<&Catalog, String> {
        let run = &self.run;
        self.catalog.get_or_insert_with(|| Catalog::read(run)).as_ref().map_err(Clone::clone)
    }

    fn sample(&mut self, number: u32) -> Result<Sample, String> {
        let catalog = self.catalog()?;
        let sample = catalog.samples.get(number as usize).cloned();
        sample.ok_or_else(|| format!("The run has no sample {number}, only {}.", catalog.samples.len()))
    }

    /// Reads a sample with small pictures.
    pub fn read(&mut self, number: u32) -> Result<SampleData, String> {
        let sample = self.sample(number)?;
        let ends = &self.catalog()?.ends;
        let part = ends.partition_point(|end| *end <= u64::from(number));
        if part == ends.len() {
            return Err(format!("No part of the store has sample {number}."));
        }
        let tokens = self.tokens(part, number).map_err(|error| error.message())?;
        let pictures =
            sample.images.iter().map(|image| pictures::read(&self.images, image, &sample.source, SMALL)).collect();
        Ok(SampleData { key: sample.key, source: sample.source, tokens, pictures })
    }

    /// Reads one picture of a sample, large.
    pub fn picture(&mut self, number: u32, picture: usize) -> Result<Picture, String> {
        let sample = self.sample(number)?;
        let image = sample.images.get(picture).ok_or_else(|| format!("Sample {number} has no picture {picture}."))?;
        pictures::read(&self.images, image, &sample.source, LARGE)
    }

    /// The samples whose caption or key has all words of a text, upper and lower case alike.
    pub fn search(&mut self, text: &str) -> Result<Vec<u32>, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        let has = |sample: &Sample| {
            let (caption, key) = (sample.text.to_lowercase(), sample.key.to_lowercase());
            words.iter().all(|word| caption.contains(word) || key.contains(word))
        };
        let samples = self.catalog()?.samples.iter().zip(0..);
        Ok(samples.filter(|(sample, _)| has(sample)).map(|(_, number)| number).collect())
    }

    /// All samples.
    pub fn all(&mut self) -> Result<&[Sample], String> {
        Ok(&self.catalog()?.samples)
    }

    /// The groups that columns of the data set divide the samples into.
    pub fn groups(&mut self, fields: &str) -> Result<Groups, String> {
        Groups::by_fields(&self.catalog()?.samples, fields).map_err(|error| error.message())
    }

    fn tokens(&mut self, part: usize, number: u32) -> Result<Vec<TokenView>, Error> {
        let path = self.run.tokens(part);
        match self.tables.iter().position(|(known, _)| *known == part) {
            Some(at) => self.tables.rotate_left(at),
            None => {
                let columns = table::read(&path, &COLUMNS)?;
                self.tables.truncate(TABLES - 1);
                self.tables.push_front((part, columns));
            }
        }
        let (_, columns) = &self.tables[0];
        let samples = table::get::<UInt32Array>(&path, columns, "sample")?.values();
        let rows = samples.partition_point(|s| *s < number)..samples.partition_point(|s| *s <= number);
        views(&path, columns, rows)
    }
}

impl Catalog {
    fn read(run: &Run) -> Result<Self, String> {
        let harvest: Option<StoreRecord> = run.read_step(STEP).map_err(|error| error.message())?;
        let harvest = harvest.ok_or("run.json does not say how the store is divided.")?;
        if !run.samples().is_file() {
            return Err("The harvest is not finished: there is no samples.parquet yet.".into());
        }
        let ends = harvest.parts.iter().scan(0, |end, part| {
            *end += part.samples;
            Some(*end)
        });
        let ends = ends.collect();
        Ok(Self { samples: load_samples(run).map_err(|error| error.message())?, ends })
    }
}

fn views(path: &Path, columns: &RecordBatch, rows: Range<usize>) -> Result<Vec<TokenView>, Error> {
    let position = table::get::<UInt32Array>(path, columns, "position")?;
    let modality = table::get::<UInt8Array>(path, columns, "modality")?;
    let text = table::get::<StringArray>(path, columns, "piece")?;
    let special = table::get::<BooleanArray>(path, columns, "special")?;
    let image = table::get::<Int16Array>(path, columns, "image")?;
    let corner = |name| table::get::<Float32Array>(path, columns, name);
    let corners = [corner("x0")?, corner("y0")?, corner("x1")?, corner("y1")?];
    let view = |row: usize| {
        let rect = corners.iter().all(|c| c.is_valid(row)).then(|| corners.map(|c| c.value(row)));
        Ok(TokenView {
            position: position.value(row),
            modality: Modality::try_from(modality.value(row)).map_err(Error::format(path))?,
            text: text.value(row).into(),
            special: special.value(row),
            image: image.is_valid(row).then(|| image.value(row)).and_then(|number| usize::try_from(number).ok()),
            rect: rect.filter(|rect| rect.iter().all(|c| (0.0..=1.0).contains(c))),
        })
    };
    rows.map(view).collect()
}
