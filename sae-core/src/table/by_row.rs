//! A table that is read a few rows at a time, by their numbers. The file is mapped into memory; opening it reads only its footer,
//! and reading decodes only the pages that have the rows.

use super::decode;
use crate::{Error, Result, file};
use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::compute::concat_batches;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::PageIndexPolicy;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A table whose rows are known by their numbers.
pub struct ByRow {
    path: PathBuf,
    file: Bytes,
    metadata: ArrowReaderMetadata,
    /// For each row group, the number of the row after its last one.
    ends: Vec<usize>,
}

impl ByRow {
    /// Maps the table and reads its footer.
    ///
    /// # Errors
    /// The file is missing, or is not Parquet.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Bytes::from_owner(file::map(path)?);
        // Without an index of pages, whole row groups are decoded.
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = decode(path, || ArrowReaderMetadata::load(&file, options))?;
        let mut end = 0usize;
        let groups = metadata.metadata().row_groups().iter();
        let ends = groups.map(|group| {
            let rows = usize::try_from(group.num_rows()).ok();
            end = rows.and_then(|rows| end.checked_add(rows)).ok_or("a row group has an impossible number of rows")?;
            Ok::<_, &str>(end)
        });
        let ends = ends.collect::<Result<_, _>>().map_err(Error::format(path))?;
        Ok(Self { path: path.to_path_buf(), file, metadata, ends })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some consecutive rows, all columns; those that the table does not have are left out.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn rows(&self, rows: Range<usize>) -> Result<RecordBatch> {
        let (start, end) = (rows.start.min(self.len()), rows.end.min(self.len()));
        let first = self.ends.partition_point(|group_end| *group_end <= start);
        let groups = first..(self.ends.partition_point(|group_end| *group_end < end) + 1).min(self.ends.len());
        let groups = if start < end { groups } else { 0..0 };
        // The selection counts from the first row of the first of these groups.
        let offset = groups.start.checked_sub(1).map_or(0, |before| self.ends[before]);
        let total = groups.end.checked_sub(1).map_or(0, |last| self.ends[last]).saturating_sub(offset);
        let wanted = if groups.is_empty() { 0..0 } else { start - offset..end - offset };
        let selection = RowSelection::from_consecutive_ranges(std::iter::once(wanted), total);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone());
        let builder = builder.with_row_groups(groups.collect()).with_row_selection(selection);
        let mut reader = decode(&self.path, || builder.build())?;
        let schema = reader.schema();
        let mut found = Vec::new();
        while let Some(batch) = decode(&self.path, || reader.next().transpose())? {
            found.push(batch);
        }
        concat_batches(&schema, &found).map_err(Error::format(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{batch, column, get, write_all};
    use arrow::array::UInt32Array;

    #[test]
    fn rows_are_found_within_and_across_row_groups() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let part = |numbers: Range<u32>| batch(vec![column("n", UInt32Array::from_iter_values(numbers))]);
        write_all(&path, &part(0..3), [3..3, 3..70_000, 70_000..70_001].map(|range| Ok(part(range))).into_iter())
            .unwrap();
        let table = ByRow::open(&path).unwrap();
        assert_eq!((table.len(), table.is_empty()), (70_001, false));
        for range in [0..1, 2..5, 0..70_001, 69_999..70_001, 5..5, 40_000..40_003, 70_000..80_000, 80_000..80_001] {
            let rows = table.rows(range.clone()).unwrap();
            let numbers = get::<UInt32Array>(&path, &rows, "n").unwrap().values().to_vec();
            let expected: Vec<u32> = (range.start as u32..(range.end as u32).min(70_001)).collect();
            assert_eq!(numbers, expected, "{range:?}");
        }
        write_all(&path, &part(0..0), std::iter::empty()).unwrap();
        assert_eq!(ByRow::open(&path).unwrap().rows(0..4).unwrap().num_rows(), 0);
        crate::file::write_bytes(&path, b"PAR1").unwrap();
        assert!(ByRow::open(&path).is_err_and(|error| error.to_string().ends_with("a.parquet")));
    }
}
