//! Parquet tables: atomic writers, column-wise readers, typed access to a batch. Knows nothing of what a
//! table means.

mod bounded;
mod by_row;
mod keyed;
mod panics;

pub use bounded::Bounded;
pub use by_row::ByRow;
pub use keyed::Keyed;
pub use panics::catch_panic;

use crate::{Error, Result, file};
use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::any::type_name;
use std::fmt::Display;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A column for [`batch`]: its name, whether it may have nulls, its values.
pub type Column = (&'static str, bool, ArrayRef);

/// A batch of named columns of equal length.
///
/// # Panics
/// If the lengths of the columns differ, or a column that may not have nulls has one: a mistake of the caller.
pub fn batch(columns: Vec<Column>) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, nullable, values)| (name, values, nullable));
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of equal length")
}

/// A column for [`batch`] without nulls.
pub fn column(name: &'static str, values: impl Array + 'static) -> Column {
    (name, false, Arc::new(values))
}

/// A column for [`batch`] that may have nulls.
pub fn nullable(name: &'static str, values: impl Array + 'static) -> Column {
    (name, true, Arc::new(values))
}

/// Writes a table of one batch.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, batch: &RecordBatch) -> Result<()> {
    write_all(path, batch, std::iter::empty())
}

/// Writes `first` and then the batches of `rest`, each as a row group, so that only one is in memory.
///
/// # Errors
/// Whatever `rest` returns, a batch with other columns, or a file that cannot be written.
pub fn write_all(path: &Path, first: &RecordBatch, rest: impl Iterator<Item = Result<RecordBatch>>) -> Result<()> {
    let level = ZstdLevel::try_new(3).map_err(Error::format(path))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    file::write(path, |out| {
        let mut writer = ArrowWriter::try_new(out, first.schema(), Some(properties)).map_err(Error::format(path))?;
        for batch in std::iter::once(Ok(first.clone())).chain(rest) {
            writer.write(&batch?).map_err(Error::format(path))?;
            writer.flush().map_err(Error::format(path))?;
        }
        writer.finish().map_err(Error::format(path))?;
        Ok(())
    })
}

/// Opens a table for reading batch by batch; only the named columns are decoded (all of them if none is named).
///
/// # Errors
/// The file does not exist, is not Parquet, is damaged, or has no such column.
pub fn scan(path: &Path, columns: &[&str]) -> Result<Batches> {
    let builder = reader(path)?;
    let schema = builder.parquet_schema();
    for name in columns {
        if builder.schema().column_with_name(name).is_none() {
            return Err(Error::format(path)(format!("there is no column {name}")));
        }
    }
    let mask = match columns {
        [] => ProjectionMask::all(),
        _ => ProjectionMask::columns(schema, columns.iter().copied()),
    };
    batches(path, builder.with_projection(mask).with_batch_size(65_536))
}

/// A Parquet file that is about to be read. Its panics are caught by [`batches`].
pub type Reader = ParquetRecordBatchReaderBuilder<Bounded>;

/// Opens a Parquet file whose columns and batches are chosen by the caller.
///
/// # Errors
/// There is no such file, or it is not a Parquet file, or it is damaged.
pub fn reader(path: &Path) -> Result<Reader> {
    let file = open(path)?;
    decode(path, || Reader::try_new(file))
}

/// Reads the batches that `reader` was told to read from the file at `path`.
///
/// # Errors
/// The file is damaged. The iterator returns errors of single batches.
pub fn batches(path: &Path, reader: Reader) -> Result<Batches> {
    let reader = decode(path, || reader.build())?;
    Ok(Batches { path: path.to_path_buf(), reader, ended: false })
}

/// Iterates over the batches of a table, and ends after an error.
pub struct Batches {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    ended: bool,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let batch = decode(&self.path, || self.reader.next().transpose()).transpose();
        self.ended = !matches!(batch, Some(Ok(_)));
        batch
    }
}

/// Runs a step of the Parquet reader, which panics on some damaged files.
fn decode<T, E: Display>(path: &Path, step: impl FnOnce() -> Result<T, E>) -> Result<T> {
    catch_panic(step).ok_or_else(|| Error::format(path)("the Parquet file is damaged"))?.map_err(Error::format(path))
}

/// The schema of a table with its metadata, which batches do not have.
///
/// # Errors
/// The file does not exist, is not Parquet, or is damaged.
pub fn schema(path: &Path) -> Result<SchemaRef> {
    Ok(reader(path)?.schema().clone())
}

fn open(path: &Path) -> Result<Bounded> {
    File::open(path).and_then(Bounded::new).map_err(Error::io("open", path))
}

/// Reads the named columns of a table at once (all of them if none is named).
///
/// # Errors
/// As [`scan`].
pub fn read(path: &Path, columns: &[&str]) -> Result<RecordBatch> {
    let batches = scan(path, columns)?;
    let schema = arrow::array::RecordBatchReader::schema(&batches.reader);
    let batches = batches.collect::<Result<Vec<_>>>()?;
    concat_batches(&schema, &batches).map_err(Error::format(path))
}

/// A column of a batch as the array type that it must have.
///
/// # Errors
/// The batch has no such column, or it has another type.
pub fn get<'a, A: Array + 'static>(path: &Path, batch: &'a RecordBatch, name: &str) -> Result<&'a A> {
    let array = batch.column_by_name(name).ok_or_else(|| Error::format(path)(format!("there is no column {name}")))?;
    array.as_any().downcast_ref().ok_or_else(|| {
        let wanted = type_name::<A>().rsplit("::").next().unwrap_or_default();
        Error::format(path)(format!("column {name} holds {}, not what {wanted} holds", array.data_type()))
    })
}

/// A number of a column that may be null.
pub fn value(column: &Float64Array, row: usize) -> Option<f64> {
    column.is_valid(row).then(|| column.value(row))
}

/// A column of a batch converted to another type, for tables of other programs, which may store the same text or number in
/// different types.
///
/// # Errors
/// The batch has no such column, or a value cannot be converted.
pub fn cast(path: &Path, batch: &RecordBatch, name: &str, to: &DataType) -> Result<ArrayRef> {
    let array = batch.column_by_name(name).ok_or_else(|| Error::format(path)(format!("there is no column {name}")))?;
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &options).map_err(|_| {
        Error::format(path)(format!("column {name} holds {}: expected values that are {to}", array.data_type()))
    })
}
