//! The table of samples and features: which features fire in which sample, how strongly and how often. One row for each
//! feature that fires in a sample; features
//! that do not fire have no row. Filled during a pass, in bounded memory.

use crate::analysis::pass::{Block, Observer};
use crate::store::{PathStack, Paths};
use crate::{Error, Result, file, table};
use arrow::array::{Float32Array, RecordBatch, UInt32Array};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

/// Rows of a row group.
const GROUP: usize = 1 << 20;

/// Writes the table to `path`: `pass` is called with an observer, and runs a pass with it. The table has rows of these
/// `features`, or of all features if none is named. Returns the number of rows.
///
/// # Errors
/// The file cannot be written, or whatever `pass` returns.
pub fn write(
    path: &Path,
    features: &BTreeSet<u32>,
    paths: &Paths,
    pass: impl FnOnce(&mut dyn Observer) -> Result<()>,
) -> Result<u64> {
    let level = ZstdLevel::try_new(3).map_err(Error::format(path))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let mut written = 0;
    file::write(path, |out| {
        let empty = Rows::default().batch();
        let writer = ArrowWriter::try_new(out, empty.schema(), Some(properties)).map_err(Error::format(path))?;
        let mut filler = Filler {
            writer,
            path,
            features,
            paths,
            begun: PathStack::default(),
            open: None,
            traces: BTreeMap::new(),
            rows: Rows::default(),
            written: 0,
        };
        pass(&mut filler)?;
        filler.close_sample();
        filler.flush()?;
        filler.writer.finish().map_err(Error::format(path))?;
        written = filler.written;
        Ok(())
    })?;
    Ok(written)
}

/// Columns that are not written yet.
#[derive(Default)]
struct Rows {
    sample: Vec<u32>,
    feature: Vec<u32>,
    max: Vec<f32>,
    count: Vec<u32>,
}

impl Rows {
    fn batch(self) -> RecordBatch {
        table::batch(vec![
            table::column("sample", UInt32Array::from(self.sample)),
            table::column("feature", UInt32Array::from(self.feature)),
            table::column("max", Float32Array::from(self.max)),
            table::column("count", UInt32Array::from(self.count)),
        ])
    }
}

struct Filler<'a, W: Write + Send> {
    writer: ArrowWriter<W>,
    path: &'a Path,
    features: &'a BTreeSet<u32>,
    paths: &'a Paths,
    /// What was found on the path to the pieces that others continue.
    begun: PathStack<BTreeMap<u32, (f32, u32)>>,
    open: Option<u32>,
    /// On the path to the open sample: the largest activation of a feature and the positions where it fires.
    traces: BTreeMap<u32, (f32, u32)>,
    rows: Rows,
    written: u64,
}

impl<W: Write + Send> Filler<'_, W> {
    fn close_sample(&mut self) {
        let Some(sample) = self.open.take() else { return };
        if self.paths.is_continued(sample) {
            return self.begun.push(sample, std::mem::take(&mut self.traces));
        }
        for (feature, (max, count)) in std::mem::take(&mut self.traces) {
            self.rows.sample.push(sample);
            self.rows.feature.push(feature);
            self.rows.max.push(max);
            self.rows.count.push(count);
        }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.written += rows.sample.len() as u64;
        let written = self.writer.write(&rows.batch()).and_then(|()| self.writer.flush());
        written.map_err(Error::format(self.path))
    }
}

impl<W: Write + Send> Observer for Filler<'_, W> {
    fn observe(&mut self, block: &Block) -> Result<()> {
        for (r, row) in block.positions() {
            let sample = block.tokens.sample[row];
            if self.open != Some(sample) {
                self.close_sample();
                self.open = Some(sample);
                self.traces = self.begun.begin(self.paths.goes_on_from(sample))?.cloned().unwrap_or_default();
                if self.rows.sample.len() >= GROUP {
                    self.flush()?;
                }
            }
            let (features, values) = block.active.row(r);
            for (feature, z) in features.iter().zip(values).filter(|(_, z)| **z > 0.0) {
                if self.features.is_empty() || self.features.contains(feature) {
                    let trace = self.traces.entry(*feature).or_insert((0.0, 0));
                    *trace = (trace.0.max(*z), trace.1 + 1);
                }
            }
        }
        Ok(())
    }
}
