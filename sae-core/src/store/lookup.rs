//! Single samples of a large run, by their number: their rows of `samples.parquet` and their tokens. Reads what one sample needs
//! and keeps nothing but footers.

use super::samples::tokens_of;
use super::tables::samples_of;
use super::{STEP, StoreRecord};
use crate::error::PieceError;
use crate::store::sample::{Sample, Token};
use crate::table::{self, ByRow};
use crate::{Error, Result, Run};
use arrow::array::{RecordBatch, StringArray, UInt32Array};
use std::path::Path;

/// A run whose samples are read one by one.
pub struct SampleLookup {
    run: Run,
    /// A row for each sample, in the order of their numbers.
    samples: ByRow,
    /// For each part, the number of the sample after its last one.
    ends: Vec<u32>,
    /// Whether the samples are pieces.
    are_pieces: bool,
}

impl SampleLookup {
    /// Opens the tables of a run.
    ///
    /// # Errors
    /// The harvest is not finished, or the run does not record its parts.
    pub fn open(run: &Run) -> Result<Self> {
        let record: Option<StoreRecord> = run.read_step(STEP)?;
        let missing = || Error::run(run.root(), "run.json does not say how the store is divided into parts");
        let mut end = 0u64;
        let record = record.ok_or_else(missing)?;
        let are_pieces = record.spec.pieces;
        let ends = record.parts.into_iter().map(|part| {
            end += part.samples;
            u32::try_from(end).map_err(|_| missing())
        });
        let ends = ends.collect::<Result<Vec<u32>>>()?;
        Ok(Self { run: run.clone(), samples: ByRow::open(&run.samples())?, ends, are_pieces })
    }

    /// The number of samples.
    pub fn samples(&self) -> u32 {
        self.ends.last().copied().unwrap_or_default()
    }

    /// A sample; nothing if none has this number.
    ///
    /// # Errors
    /// The table is damaged.
    pub fn sample(&self, number: u32) -> Result<Option<Sample>> {
        let (path, row) = (self.samples.path(), number as usize);
        let batch = self.samples.rows(row..row + 1)?;
        let found = table::get::<UInt32Array>(path, &batch, "sample")?.values().first();
        if let Some(found) = found.filter(|found| **found != number) {
            return Err(Error::format(path)(format!("row {row} is of sample {found}")));
        }
        Ok(samples_of(path, &batch)?.into_iter().next())
    }

    /// The tokens of a sample, of a piece those of the path that leads to it; none if no part has it.
    ///
    /// # Errors
    /// The token table of its part cannot be read, or a piece does not come after the one that it continues.
    pub fn tokens(&self, number: u32) -> Result<Vec<Token>> {
        let part = self.ends.partition_point(|end| *end <= number);
        if part == self.ends.len() {
            return Ok(Vec::new());
        }
        let (path, mut tokens) = (self.run.tokens(part), Vec::new());
        for piece in self.path(number)? {
            tokens.extend(tokens_of(&path, &rows_of(&path, piece)?)?);
        }
        Ok(tokens)
    }

    /// The pieces from the first one to a sample; a whole sample itself.
    fn path(&self, number: u32) -> Result<Vec<u32>> {
        let (mut path, mut sample) = (vec![number], number);
        let parent = |sample: u32| -> Result<Option<u32>> {
            // Other runs have no such column.
            if self.are_pieces { Ok(self.sample(sample)?.and_then(|sample| sample.piece?.parent)) } else { Ok(None) }
        };
        while let Some(parent) = parent(sample)? {
            if parent >= sample {
                return Err(Error::format(self.samples.path())(PieceError::Order { sample, parent }));
            }
            path.push(parent);
            sample = parent;
        }
        path.reverse();
        Ok(path)
    }
}

/// The rows of a sample in the token table of its part. Only the column of samples is decoded as a whole.
fn rows_of(path: &Path, sample: u32) -> Result<RecordBatch> {
    let numbers = table::read(path, &["sample"])?;
    let numbers = table::get::<UInt32Array>(path, &numbers, "sample")?.values();
    ByRow::open(path)?.rows(numbers.partition_point(|s| *s < sample)..numbers.partition_point(|s| *s <= sample))
}

/// The ids of all samples of a run, in order of their number.
///
/// # Errors
/// The table cannot be read.
pub fn load_ids(run: &Run) -> Result<StringArray> {
    let path = run.samples();
    let batch = table::read(&path, &["id"])?;
    Ok(table::get::<StringArray>(&path, &batch, "id")?.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{SAMPLES, store, tokens};
    use crate::store::load_samples;

    #[test]
    fn a_sample_is_looked_up_as_it_is_in_the_whole_tables() {
        let (_dir, store) = store(4);
        let all = load_samples(store.run()).unwrap();
        let lookup = SampleLookup::open(store.run()).unwrap();
        assert_eq!(lookup.samples() as usize, SAMPLES);
        for (number, sample) in all.iter().enumerate().rev() {
            assert_eq!(lookup.sample(number as u32).unwrap().as_ref(), Some(sample));
            assert_eq!(lookup.tokens(number as u32).unwrap(), tokens(number));
        }
        let beyond = SAMPLES as u32;
        assert_eq!((lookup.sample(beyond).unwrap(), lookup.tokens(beyond).unwrap()), (None, vec![]));
        let ids = load_ids(store.run()).unwrap();
        assert!(ids.iter().flatten().eq(all.iter().map(|sample| sample.id.as_str())));
    }

    #[test]
    fn a_run_that_is_not_finished_has_no_lookup() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(&dir.path().join("run")).unwrap();
        assert!(SampleLookup::open(&run).err().unwrap().to_string().contains("divided into parts"));
    }
}
