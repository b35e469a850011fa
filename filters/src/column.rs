//! Reads score tables of this program, and tables to which pandas, polars, DuckDB or another tool added a column. Such tools
//! choose other types for the same values, and may change the order of the rows.

use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema};
use sae_core::error::{Cause, Hint, Operation, Setting};
use sae_core::store::sample::Sample;
use sae_core::table;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A score table whose rows are matched with the samples of a run.
pub struct ScoreTable {
    path: PathBuf,
    all: RecordBatch,
    /// The row of each sample.
    rows: Vec<usize>,
}

impl ScoreTable {
    /// Reads the table at `path`. Rows are matched by `id`, and by `sample` where the table has it.
    ///
    /// # Errors
    /// There is no table, it is damaged, or its rows do not match the samples.
    pub fn open(path: &Path, samples: &[Sample]) -> Result<Self> {
        let ids: Vec<&str> = samples.iter().map(|sample| sample.id.as_str()).collect();
        Self::open_columns(path, &ids, &[])
    }

    /// Reads some columns of the table at `path`, all of them if none is named, for the samples with these ids.
    ///
    /// # Errors
    /// As [`ScoreTable::open`]; there is no such column.
    pub fn open_columns(path: &Path, ids: &[&str], columns: &[&str]) -> Result<Self> {
        if !path.exists() {
            return Err(Error::NoScores { path: path.to_path_buf() });
        }
        let mut columns = columns.to_vec();
        if !columns.is_empty() {
            let schema = table::schema(path)?;
            columns.extend(["sample", "id"].into_iter().filter(|name| schema.column_with_name(name).is_some()));
        }
        let all = table::read(path, &columns)?;
        let rows = rows_of(path, &all, ids)?;
        Ok(Self { path: path.to_path_buf(), all, rows })
    }

    /// Names of the columns of the table at `path` that can be scores, in the order of the table; reads the footer alone.
    ///
    /// # Errors
    /// There is no table, or it is damaged.
    pub fn names_in(path: &Path) -> Result<Vec<String>> {
        if !path.exists() {
            return Err(Error::NoScores { path: path.to_path_buf() });
        }
        let schema = table::schema(path)?;
        Ok(score_names(&schema))
    }

    /// Names of the columns that can be scores, in the order of the table: columns of numbers of any type and of booleans.
    pub fn names(&self) -> Vec<String> {
        score_names(&self.all.schema())
    }

    /// The scores of the samples, in the order of the samples. Booleans are 1 and 0. Null and NaN mean that a sample has no
    /// score.
    ///
    /// # Errors
    /// There is no such column, or it does not hold numbers.
    pub fn column(&self, name: &str) -> Result<Vec<Option<f64>>> {
        let available = self.names();
        if !available.iter().any(|known| known == name) {
            return Err(match self.all.column_by_name(name) {
                Some(column) => {
                    let text = format!("the column {name} holds {}: expected numbers or booleans", column.data_type());
                    Error::request(Cause::with_hint(text, Hint::Set(Setting::Score, available)))
                }
                None => Error::UnknownScore { asked: name.into(), available },
            });
        }
        let values = table::cast(&self.path, &self.all, name, &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>();
        let score = |row: &usize| values.is_valid(*row).then(|| values.value(*row)).filter(|score| !score.is_nan());
        Ok(self.rows.iter().map(score).collect())
    }
}

/// Reads the scores of the samples of a run from one column of the table at `path`.
///
/// # Errors
/// See [`ScoreTable`]. It is also an error if no sample has a score in this column.
pub fn read_column(path: &Path, name: &str, samples: &[Sample]) -> Result<Vec<Option<f64>>> {
    let scores = ScoreTable::open(path, samples)?.column(name)?;
    if scores.iter().all(Option::is_none) && !samples.is_empty() {
        let text = format!("no sample has a score {name} (the report of the scoring says why)");
        return Err(Error::request(Cause::with_hint(text, Hint::set(Setting::Definition, "all"))));
    }
    Ok(scores)
}

/// Adds a column to the score table at `path`, in place of one of the same name. Without a table, one is made that has this
/// column alone.
///
/// # Errors
/// The table cannot be read or written, or its rows do not match the samples.
pub fn add_column(path: &Path, name: &str, samples: &[Sample], scores: &[Option<f64>]) -> Result<()> {
    let mut columns: Vec<(String, ArrayRef, bool)> = Vec::new();
    let mut by_row: Vec<Option<f64>> = scores.to_vec();
    if path.exists() {
        let table = ScoreTable::open(path, samples)?;
        table.rows.iter().zip(scores).for_each(|(row, score)| by_row[*row] = *score);
        let schema = table.all.schema();
        let fields = schema.fields().iter().zip(table.all.columns()).filter(|(field, _)| field.name() != name);
        columns.extend(fields.map(|(field, values)| (field.name().clone(), values.clone(), field.is_nullable())));
    } else {
        let ids = StringArray::from_iter_values(samples.iter().map(|sample| &sample.id));
        columns.push(("sample".into(), Arc::new(UInt32Array::from_iter_values(0..samples.len() as u32)), false));
        columns.push(("id".into(), Arc::new(ids), false));
    }
    columns.push((name.into(), Arc::new(Float64Array::from(by_row)), true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).map_err(sae_core::Error::format(path))?;
    Ok(table::write(path, &batch)?)
}

/// Columns of numbers that are not scores.
const KEYS: [&str; 3] = ["sample", "n_text", "n_image"];

/// The prefix of the index columns that pandas adds to a table.
const PANDAS_INDEX: &str = "__index_level_";

fn score_names(schema: &Schema) -> Vec<String> {
    let scores = schema.fields().iter().filter(|field| !is_key(field.name()) && is_score(field.data_type()));
    scores.map(|field| field.name().clone()).collect()
}

fn is_key(name: &str) -> bool {
    KEYS.contains(&name) || name.starts_with(PANDAS_INDEX)
}

fn is_score(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => is_score(values),
        kind => kind.is_numeric() || matches!(kind, DataType::Boolean | DataType::Null),
    }
}

/// The row of each sample.
fn rows_of(path: &Path, all: &RecordBatch, samples: &[&str]) -> Result<Vec<usize>> {
    let ids = table::cast(path, all, "id", &DataType::Utf8)?;
    let ids = ids.as_string::<i32>();
    let numbers = match all.column_by_name("sample") {
        Some(_) => Some(table::cast(path, all, "sample", &DataType::Int64)?),
        None => None,
    };
    let numbers = numbers.as_ref().map(|numbers| numbers.as_primitive::<Int64Type>());
    let mut of_id: BTreeMap<&str, VecDeque<usize>> = BTreeMap::new();
    if numbers.is_none() {
        // Samples with the same content have the same id. Their rows are matched in order.
        samples.iter().enumerate().for_each(|(n, id)| of_id.entry(*id).or_default().push_back(n));
    }
    let mut rows: Vec<Option<usize>> = vec![None; samples.len()];
    let mut unmatched = 0;
    for row in 0..all.num_rows() {
        let id = if ids.is_valid(row) { ids.value(row) } else { "" };
        let number = match numbers {
            Some(numbers) => usize::try_from(numbers.value(row)).ok().filter(|_| numbers.is_valid(row)),
            None => of_id.get_mut(id).and_then(VecDeque::pop_front),
        };
        let matching = number.filter(|n| samples.get(*n).is_some_and(|sample| *sample == id) && rows[*n].is_none());
        match matching {
            Some(number) => rows[number] = Some(row),
            None => unmatched += 1,
        }
    }
    let without = rows.iter().position(Option::is_none);
    if unmatched > 0 || without.is_some() {
        let first = without.map_or(String::new(), |n| format!(" sample {n} has no score;"));
        let text = format!(
            "the scores belong to other samples than those of the run ({} rows, {} samples;{first} {unmatched} rows match no sample)",
            all.num_rows(),
            samples.len(),
        );
        let keep = "keep the columns `sample` and `id` of every row as they were".into();
        let hint = Hint::AnyOf(vec![Hint::Run(Operation::Score), keep]);
        return Err(Error::source(path, Cause::with_hint(text, hint)));
    }
    Ok(rows.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int32Array,
        LargeStringArray, StringArray, StringViewArray, UInt32Array,
    };
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    fn samples() -> Vec<Sample> {
        let sample = |id: &str| {
            let [key, text, source] = Default::default();
            Sample { id: id.into(), key, text, images: vec![], source, meta: serde_json::Value::Null, piece: None }
        };
        ["a", "b", "a"].map(sample).to_vec()
    }

    fn read(columns: Vec<(&str, ArrayRef)>, name: &str) -> Result<Vec<Option<f64>>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scores.parquet");
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        table::write(&path, &RecordBatch::try_from_iter_with_nullable(columns).unwrap()).unwrap();
        read_column(&path, name, &samples()).map_err(|error| error.message())
    }

    #[test]
    fn columns_of_every_kind_of_number_are_read() {
        let ids: [ArrayRef; 4] = [
            Arc::new(StringArray::from(vec!["a", "b", "a"])),
            Arc::new(LargeStringArray::from(vec!["a", "b", "a"])),
            Arc::new(StringViewArray::from(vec!["a", "b", "a"])),
            Arc::new(DictionaryArray::<Int32Type>::from_iter(["a", "b", "a"])),
        ];
        for ids in ids {
            let decimals =
                Decimal128Array::from(vec![Some(150), None, Some(-25)]).with_precision_and_scale(5, 2).unwrap();
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("id", ids),
                ("f64", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)]))),
                ("f32", Arc::new(Float32Array::from(vec![1.5, 0.5, -1.0]))),
                ("int", Arc::new(Int32Array::from(vec![3, -2, 1]))),
                ("flag", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
                ("decimal", Arc::new(decimals)),
                ("text", Arc::new(StringArray::from(vec!["1", "2", "3"]))),
                ("__index_level_0__", Arc::new(Int32Array::from(vec![2, 0, 1]))),
            ];
            let values = |name| read(columns.clone(), name);
            assert_eq!(values("f64"), Ok(vec![Some(1.5), None, None]));
            assert_eq!(values("f32"), Ok(vec![Some(1.5), Some(0.5), Some(-1.0)]));
            assert_eq!(values("int"), Ok(vec![Some(3.0), Some(-2.0), Some(1.0)]));
            assert_eq!(values("flag"), Ok(vec![Some(1.0), Some(0.0), None]));
            assert_eq!(values("decimal"), Ok(vec![Some(1.5), None, Some(-0.25)]));
            assert!(values("text").unwrap_err().contains("holds Utf8"));
            assert!(values("beauty").unwrap_err().contains("the table has f64, f32, int, flag, decimal"));
        }
    }

    #[test]
    fn rows_in_another_order_are_matched_and_others_refused() {
        let table = |ids: Vec<&str>, numbers: Option<Vec<u32>>| {
            let scores: Vec<f64> = (0..ids.len()).map(|n| n as f64).collect();
            let mut columns: Vec<(&str, ArrayRef)> =
                vec![("id", Arc::new(StringArray::from(ids))), ("x", Arc::new(Float64Array::from(scores)))];
            if let Some(numbers) = numbers {
                columns.push(("sample", Arc::new(UInt32Array::from(numbers))));
            }
            read(columns, "x")
        };
        assert_eq!(table(vec!["b", "a", "a"], Some(vec![1, 2, 0])), Ok(vec![Some(2.0), Some(0.0), Some(1.0)]));
        assert_eq!(table(vec!["b", "a", "a"], None), Ok(vec![Some(1.0), Some(0.0), Some(2.0)]));
        let refused = [
            (vec!["b", "a"], None),
            (vec!["b", "a", "c"], None),
            (vec!["b", "a", "a", "a"], None),
            (vec!["a", "b", "a"], Some(vec![0, 2, 1])),
            (vec!["a", "b", "a", "a"], Some(vec![0, 1, 2, 2])),
        ];
        for (ids, numbers) in refused {
            let said = table(ids.clone(), numbers).unwrap_err();
            assert!(said.contains("other samples than those of the run") && said.contains("hint"), "{ids:?}: {said}");
        }
    }
}
