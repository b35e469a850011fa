//! A table that is sorted by a key, and read for one key at a time. The file is mapped into memory; opening it reads only
//! its footer, and a look-up decodes only the row groups whose statistics allow the key.

use super::get;
use crate::{Error, Result, file};
use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::statistics::Statistics;
use std::path::{Path, PathBuf};

/// A table whose column `key` (u32) ascends.
pub struct Keyed {
    path: PathBuf,
    key: &'static str,
    file: Bytes,
    metadata: ArrowReaderMetadata,
    /// Smallest and largest key of each row group, if the file has them.
    spans: Vec<Option<(u32, u32)>>,
}

impl Keyed {
    /// Maps the table and reads its footer.
    ///
    /// # Errors
    /// The file is missing, is not Parquet, or has no such column.
    pub fn open(path: &Path, key: &'static str) -> Result<Self> {
        let file = Bytes::from_owner(file::map(path)?);
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(Error::format(path))?;
        let columns = metadata.parquet_schema().columns();
        let column = columns.iter().position(|column| column.path().parts() == [key]);
        let column = column.ok_or_else(|| Error::format(path)(format!("there is no column {key}")))?;
        let groups = metadata.metadata().row_groups().iter();
        let spans = groups.map(|group| group.column(column).statistics().and_then(span)).collect();
        Ok(Self { path: path.to_path_buf(), key, file, metadata, spans })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The rows of one key, in the order of the file.
    ///
    /// # Errors
    /// The file is damaged, or its key is not a u32.
    pub fn rows(&self, key: u32) -> Result<RecordBatch> {
        let groups = self.spans.iter().enumerate();
        let groups = groups.filter(|(_, span)| span.is_none_or(|(low, high)| low <= key && key <= high));
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone())
            .with_row_groups(groups.map(|(group, _)| group).collect());
        let reader = builder.build().map_err(Error::format(&self.path))?;
        let schema = arrow::array::RecordBatchReader::schema(&reader);
        let mut found = Vec::new();
        for batch in reader {
            let batch = batch.map_err(Error::format(&self.path))?;
            let keys = get::<UInt32Array>(&self.path, &batch, self.key)?;
            let wanted: BooleanArray = keys.iter().map(|found| Some(found == Some(key))).collect();
            found.push(filter_record_batch(&batch, &wanted).map_err(Error::format(&self.path))?);
        }
        concat_batches(&schema, &found).map_err(Error::format(&self.path))
    }
}

fn span(statistics: &Statistics) -> Option<(u32, u32)> {
    match statistics {
        // Parquet keeps a u32 in the bits of an i32.
        Statistics::Int32(found) => Some((*found.min_opt()? as u32, *found.max_opt()? as u32)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{batch, column, write_all};
    use arrow::array::StringArray;

    fn part(keys: &[u32]) -> RecordBatch {
        let words = keys.iter().enumerate().map(|(n, key)| format!("{key}.{n}"));
        batch(vec![
            column("key", UInt32Array::from(keys.to_vec())),
            column("word", StringArray::from_iter_values(words)),
        ])
    }

    #[test]
    fn the_rows_of_a_key_are_found_across_row_groups_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let parts: [&[u32]; 3] = [&[0, 0, 3], &[3, 3, 5], &[5, 1 << 31, u32::MAX]];
        let parts = parts.map(part);
        write_all(&path, &parts[0], parts[1..].iter().cloned().map(Ok)).unwrap();
        let table = Keyed::open(&path, "key").unwrap();
        assert_eq!(table.spans, [Some((0, 3)), Some((3, 5)), Some((5, u32::MAX))]);
        let words = |key| {
            let rows = table.rows(key).unwrap();
            get::<StringArray>(&path, &rows, "word").unwrap().iter().flatten().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(words(3), ["3.2", "3.0", "3.1"]);
        assert_eq!(words(u32::MAX), [format!("{}.2", u32::MAX)]);
        assert!(words(4).is_empty() && words(7).is_empty());
    }

    #[test]
    fn files_that_are_no_such_table_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        crate::table::write(&path, &part(&[1])).unwrap();
        let said = |key| Keyed::open(&path, key).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said("feature").starts_with("there is no column feature"));
        assert!(Keyed::open(&path, "word").unwrap().rows(1).unwrap_err().to_string().contains("column word holds"));
        file::write_bytes(&path, b"PAR1").unwrap();
        assert!(said("key").ends_with("a.parquet"));
        file::write_bytes(&path, b"").unwrap();
        assert!(said("key").ends_with("a.parquet"));
    }
}
