//! The token table of a plain array: Parquet with one row per position, in the order of the array. Read one batch at a
//! time. Of its columns only `sample` is required.

use super::cache::{piece_from_id, unknown_token};
use crate::data::{attempt, checked};
use crate::{Error, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray,
    UInt8Array, UInt32Array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use sae_core::error::{Hint, Setting};
use sae_core::store::sample::{Modality, Role, Token};
use sae_core::table::Bounded;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The columns that are read.
const COLUMNS: [&str; 12] =
    ["sample", "position", "modality", "token_id", "piece", "role", "special", "image", "x0", "y0", "x1", "y1"];

/// The samples of a token table, in order. Each is yielded with its number in the table and its tokens.
pub(super) struct TokenTable {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
    /// The current batch, and the next row in it.
    batch: Option<Columns>,
    at: usize,
    /// Maximum length of a sample.
    longest: usize,
    /// Number of the preceding sample.
    previous: Option<i64>,
    failed: bool,
}

struct Columns {
    sample: Int64Array,
    position: Option<UInt32Array>,
    modality: Option<UInt8Array>,
    token_id: Option<Int32Array>,
    piece: Option<StringArray>,
    role: Option<UInt8Array>,
    special: Option<BooleanArray>,
    image: Option<Int16Array>,
    rect: Option<[Float32Array; 4]>,
}

impl TokenTable {
    /// Opens the table of an array with `rows` rows.
    ///
    /// # Errors
    /// The file is not Parquet, has no column `sample`, or has another number of rows.
    pub fn open(path: &Path, rows: u64, longest: usize) -> Result<Self> {
        let file = File::open(path).and_then(Bounded::new).map_err(Error::io("open", path))?;
        let builder = attempt(path, || ParquetRecordBatchReaderBuilder::try_new(file))?;
        let found = builder.metadata().file_metadata().num_rows();
        if u64::try_from(found) != Ok(rows) {
            let cause = format!("the token table has {found} rows, but the array of activations has {rows}");
            return Err(Error::data(path)(cause));
        }
        if builder.schema().column_with_name("sample").is_none() {
            return Err(Error::data(path)("the token table has no column sample"));
        }
        let present = COLUMNS.into_iter().filter(|name| builder.schema().column_with_name(name).is_some());
        let mask = ProjectionMask::columns(builder.parquet_schema(), present);
        let batches = attempt(path, || builder.with_projection(mask).with_batch_size(8192).build())?;
        Ok(Self { path: path.to_path_buf(), batches, batch: None, at: 0, longest, previous: None, failed: false })
    }

    fn sample(&mut self) -> Result<Option<(String, Vec<Token>)>> {
        let (mut number, mut tokens) = (None, Vec::new());
        loop {
            let Some(batch) = self.batch.as_ref().filter(|batch| self.at < batch.sample.len()) else {
                let batches = &mut self.batches;
                match attempt(&self.path, || batches.next().map(|batch| batch.and_then(checked)).transpose())? {
                    Some(batch) => {
                        self.batch = Some(Columns::new(&batch).map_err(Error::data(&self.path))?);
                        self.at = 0;
                        continue;
                    }
                    None => break,
                }
            };
            let current = batch.sample.value(self.at);
            if *number.get_or_insert(current) != current {
                break;
            }
            let token: Token = batch.token(self.at, tokens.len() as u32).map_err(Error::data(&self.path))?;
            let previous = tokens.last().map(|token: &Token| token.position);
            if let Some(previous) = previous.filter(|previous| *previous >= token.position) {
                let cause = format!("sample {current}: position {} follows position {previous}", token.position);
                return Err(Error::data(&self.path)(format!("{cause}: expected ascending positions")));
            }
            tokens.push(token);
            self.at += 1;
            if tokens.len() > self.longest {
                let cause = format!("sample {current} has more than {} positions, the size of a shard", self.longest);
                return Err(Error::data(&self.path)(cause).with_hint(Hint::Raise(Setting::ShardTokens)));
            }
        }
        let Some(number) = number else { return Ok(None) };
        if let Some(previous) = self.previous.replace(number).filter(|previous| *previous >= number) {
            let cause = format!(
                "sample {number} follows sample {previous}: expected ascending samples, each in consecutive rows"
            );
            return Err(Error::data(&self.path)(cause));
        }
        Ok(Some((number.to_string(), tokens)))
    }
}

impl Iterator for TokenTable {
    type Item = Result<(String, Vec<Token>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.sample();
        self.failed = next.is_err();
        next.transpose()
    }
}

impl Columns {
    fn new(batch: &RecordBatch) -> Result<Self, String> {
        let get = |name: &str, kind: DataType, nullable: bool| column(batch, name, &kind, nullable);
        let corners = ["x0", "y0", "x1", "y1"].map(|name| get(name, DataType::Float32, true));
        let [x0, y0, x1, y1] = corners;
        let rect = match (x0?, y0?, x1?, y1?) {
            (Some(x0), Some(y0), Some(x1), Some(y1)) => Some([x0, y0, x1, y1].map(|c| c.as_primitive().clone())),
            (None, None, None, None) => None,
            _ => return Err("some of the columns x0, y0, x1 and y1 are missing: expected all or none".into()),
        };
        let sample = get("sample", DataType::Int64, false)?.ok_or("the token table has no column sample")?;
        Ok(Self {
            sample: sample.as_primitive().clone(),
            position: get("position", DataType::UInt32, false)?.map(|c| c.as_primitive().clone()),
            modality: get("modality", DataType::UInt8, false)?.map(|c| c.as_primitive().clone()),
            token_id: get("token_id", DataType::Int32, false)?.map(|c| c.as_primitive().clone()),
            piece: get("piece", DataType::Utf8, false)?.map(|c| c.as_string().clone()),
            role: get("role", DataType::UInt8, false)?.map(|c| c.as_primitive().clone()),
            special: get("special", DataType::Boolean, false)?.map(|c| c.as_boolean().clone()),
            image: get("image", DataType::Int16, true)?.map(|c| c.as_primitive().clone()),
            rect,
        })
    }

    fn token(&self, row: usize, default_position: u32) -> Result<Token, String> {
        let position = self.position.as_ref().map_or(default_position, |c| c.value(row));
        let mut token = unknown_token(position, Modality::Text);
        if let Some(codes) = &self.modality {
            token.modality = Modality::try_from(codes.value(row))?;
        }
        if let Some(codes) = &self.role {
            token.role = Role::try_from(codes.value(row))?;
        }
        if let Some(ids) = &self.token_id {
            token.token_id = ids.value(row);
            token.piece = piece_from_id(token.token_id);
        }
        if let Some(pieces) = &self.piece {
            token.piece = pieces.value(row).into();
        }
        token.special = self.special.as_ref().is_some_and(|c| c.value(row));
        token.image = self.image.as_ref().filter(|c| c.is_valid(row)).map(|c| c.value(row));
        if let Some(image) = token.image.filter(|image| *image < 0) {
            return Err(format!("column image holds {image}: expected the number of an image, from 0 on, or null"));
        }
        let corners = self.rect.as_ref().filter(|r| r.iter().all(|c| c.is_valid(row)));
        token.rect = corners.map(|corners| corners.each_ref().map(|c| c.value(row)));
        match token.rect {
            Some(rect) if !rect.iter().all(|c| (0.0..=1.0).contains(c)) => {
                Err(format!("position {}: the rectangle {rect:?} is not within 0 to 1", token.position))
            }
            Some([x0, y0, x1, y1]) if x1 < x0 || y1 < y0 => {
                let rect = [x0, y0, x1, y1];
                Err(format!("position {}: invalid rectangle {rect:?}: x1 < x0 or y1 < y0", token.position))
            }
            _ => Ok(token),
        }
    }
}

/// A column, cast to the type that is needed. Other integers, floats and texts are accepted as long as every value
/// fits.
fn column(batch: &RecordBatch, name: &str, kind: &DataType, nullable: bool) -> Result<Option<ArrayRef>, String> {
    let Some(column) = batch.column_by_name(name) else { return Ok(None) };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = |column: &ArrayRef, kind: &DataType| {
        cast_with_options(column, kind, &options).map_err(|e| format!("column {name}: {e}"))
    };
    let original = column;
    let column = cast(original, kind)?;
    // A cast of floats to integers would drop fractions. (In pandas, columns of integers with nulls are floats.)
    if original.data_type().is_floating()
        && kind.is_integer()
        && cast(&column, original.data_type())?.as_ref() != original.as_ref()
    {
        return Err(format!("column {name} holds numbers that are not integers"));
    }
    if !nullable && column.null_count() > 0 {
        return Err(format!("column {name} has {} nulls: expected none", column.null_count()));
    }
    Ok(Some(column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Float64Array;
    use std::sync::Arc;

    fn read(columns: Vec<(&str, ArrayRef)>) -> Result<Vec<(String, Vec<Token>)>, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let path = dir.path().join("tokens.parquet");
        let batch = RecordBatch::try_from_iter(columns).map_err(|e| e.to_string())?;
        let file = File::create(&path).map_err(|e| e.to_string())?;
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).map_err(|e| e.to_string())?;
        writer.write(&batch).and_then(|()| writer.close()).map_err(|e| e.to_string())?;
        let table = TokenTable::open(&path, batch.num_rows() as u64, 100).map_err(|e| e.to_string())?;
        table.collect::<Result<_>>().map_err(|e| e.to_string())
    }

    fn ints(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    fn floats(values: &[f64]) -> ArrayRef {
        Arc::new(Float64Array::from(values.to_vec()))
    }

    #[test]
    fn integers_may_be_stored_as_floats_but_not_as_fractions() {
        let good = read(vec![("sample", floats(&[0.0, 0.0, 4.0])), ("token_id", floats(&[7.0, 8.0, -1.0]))]).unwrap();
        let ids: Vec<Vec<i32>> = good.iter().map(|(_, tokens)| tokens.iter().map(|t| t.token_id).collect()).collect();
        assert_eq!((good[1].0.as_str(), ids), ("4", vec![vec![7, 8], vec![-1]]));
        for (name, value, expected) in [
            ("token_id", 7.5, "column token_id holds numbers that are not integers"),
            ("token_id", f64::NAN, "column token_id"),
            ("token_id", 3e9, "column token_id"),
            ("modality", 300.0, "column modality"),
            ("position", -1.0, "column position"),
        ] {
            let error = read(vec![("sample", ints(&[0])), (name, floats(&[value]))]).unwrap_err();
            assert!(error.contains(expected), "{name} {value}: {error}");
        }
    }

    #[test]
    fn impossible_rectangles_and_positions_are_rejected() {
        let rect = |x1: f64| -> Vec<(&str, ArrayRef)> {
            let corners = [("x0", 0.5), ("y0", 0.0), ("x1", x1), ("y1", 1.0)];
            corners.map(|(name, value)| (name, floats(&[value]))).into()
        };
        let with = |columns: Vec<(&'static str, ArrayRef)>| read([vec![("sample", ints(&[0]))], columns].concat());
        assert_eq!(with(rect(0.75)).unwrap()[0].1[0].rect, Some([0.5, 0.0, 0.75, 1.0]));
        for (columns, expected) in [
            (rect(0.25), "x1 < x0"),
            (rect(1.5), "not within 0 to 1"),
            (vec![("image", ints(&[-1]))], "column image holds -1"),
            (vec![("modality", ints(&[9]))], "modality"),
        ] {
            let error = with(columns).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let twice = read(vec![("sample", ints(&[0, 0])), ("position", ints(&[1, 1]))]).unwrap_err();
        assert!(twice.contains("position 1 follows position 1"), "{twice}");
    }
}
