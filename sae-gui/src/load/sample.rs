//! Samples of a run with their tokens and pictures. Keeps the token tables that were read last, [`TABLES`] of them.

use super::sample_image::Pictures;
use crate::state::data::{SampleView, TokenView};
use arrow::array::{Array, BooleanArray, Float32Array, Int16Array, RecordBatch, StringArray, UInt8Array, UInt32Array};
use sae_core::store::sample::{Modality, Sample};
use sae_core::store::{STEP, StoreRecord, load_samples};
use sae_core::{Error, Run, table};
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

/// Token tables kept. A part of 65,536 positions takes about 4 MB.
const TABLES: usize = 8;

const COLUMNS: [&str; 10] = ["sample", "position", "modality", "piece", "special", "image", "x0", "y0", "x1", "y1"];

/// Reads samples of one run.
pub struct Samples {
    run: Run,
    pictures: Pictures,
    /// What does not change; read when the first sample is asked for.
    known: Option<Result<Known, String>>,
    tables: VecDeque<(usize, RecordBatch)>,
}

struct Known {
    samples: Vec<Sample>,
    /// Number of the sample behind the last one of each part.
    ends: Vec<u64>,
}

impl Samples {
    /// A reader of a run; `data` overrides where the run says its data set lies.
    pub fn new(run: Run, data: Option<&Path>) -> Self {
        let pictures = Pictures::new(&run, data);
        Self { run, pictures, known: None, tables: VecDeque::new() }
    }

    /// Reads a sample.
    pub fn read(&mut self, number: u32) -> Result<SampleView, String> {
        let Self { run, pictures, known, tables } = self;
        let known = known.get_or_insert_with(|| Known::read(run)).as_ref().map_err(Clone::clone)?;
        let sample = known.samples.get(number as usize);
        let sample = sample.ok_or_else(|| format!("the run has no sample {number}, only {}", known.samples.len()))?;
        let part = known.ends.partition_point(|end| *end <= number as u64);
        if part == known.ends.len() {
            return Err(format!("no part of the store holds sample {number}"));
        }
        let tokens = tokens(run, tables, part, number).map_err(|error| error.message())?;
        Ok(SampleView {
            key: sample.key.clone(),
            source: sample.source.clone(),
            tokens,
            pictures: sample.images.iter().map(|image| pictures.read(image, &sample.source)).collect(),
        })
    }
}

impl Known {
    fn read(run: &Run) -> Result<Self, String> {
        let harvest: Option<StoreRecord> = run.read_step(STEP).map_err(|error| error.message())?;
        let harvest = harvest.ok_or("run.json does not tell how the store is divided")?;
        if !run.samples().is_file() {
            return Err("the harvest is not finished: there is no samples.parquet yet".into());
        }
        let mut end = 0;
        let ends = harvest.parts.iter().map(|part| {
            end += part.samples;
            end
        });
        let ends = ends.collect();
        Ok(Self { samples: load_samples(run).map_err(|error| error.message())?, ends })
    }
}

fn tokens(
    run: &Run,
    tables: &mut VecDeque<(usize, RecordBatch)>,
    part: usize,
    number: u32,
) -> Result<Vec<TokenView>, Error> {
    let path = run.tokens(part);
    match tables.iter().position(|(known, _)| *known == part) {
        Some(at) => tables.rotate_left(at),
        None => {
            let columns = table::read(&path, &COLUMNS)?;
            tables.truncate(TABLES - 1);
            tables.push_front((part, columns));
        }
    }
    let (_, columns) = &tables[0];
    let samples = table::get::<UInt32Array>(&path, columns, "sample")?.values();
    let rows = samples.partition_point(|s| *s < number)..samples.partition_point(|s| *s <= number);
    views(&path, columns, rows)
}

fn views(path: &Path, columns: &RecordBatch, rows: Range<usize>) -> Result<Vec<TokenView>, Error> {
    let position = table::get::<UInt32Array>(path, columns, "position")?;
    let modality = table::get::<UInt8Array>(path, columns, "modality")?;
    let piece = table::get::<StringArray>(path, columns, "piece")?;
    let special = table::get::<BooleanArray>(path, columns, "special")?;
    let image = table::get::<Int16Array>(path, columns, "image")?;
    let corner = |name| table::get::<Float32Array>(path, columns, name);
    let corners = [corner("x0")?, corner("y0")?, corner("x1")?, corner("y1")?];
    let view = |row: usize| {
        let rect = corners.iter().all(|c| c.is_valid(row)).then(|| corners.map(|c| c.value(row)));
        Ok(TokenView {
            position: position.value(row),
            modality: Modality::try_from(modality.value(row)).map_err(Error::format(path))?,
            piece: piece.value(row).into(),
            special: special.value(row),
            image: image.is_valid(row).then(|| image.value(row)).and_then(|number| usize::try_from(number).ok()),
            rect: rect.filter(|rect| rect.iter().all(|c| (0.0..=1.0).contains(c))),
        })
    };
    rows.map(view).collect()
}
