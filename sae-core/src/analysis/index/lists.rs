//! Tables with several rows for each feature, feature by feature, in row groups of some hundred features: how they are
//! written, and read at once or for one feature. The columns of a row are defined with its type.

use crate::table::{self, Column, Keyed};
use crate::{Error, Result};
use arrow::array::{RecordBatch, UInt32Array};
use std::cmp::Ordering;
use std::marker::PhantomData;
use std::path::Path;

/// Features of a row group: few enough to read one group in a millisecond, and enough to compress well.
const TOGETHER: usize = 256;
const KEY: &str = "feature";

/// A row of such a table.
pub trait Row: Sized {
    /// Name of the file.
    const FILE: &'static str;

    /// The columns that follow `feature`; the rows of a feature are consecutive.
    fn columns(rows: &[(u32, Self)]) -> Vec<Column>;

    /// Rows of a batch, of an index of `d_sae` features.
    ///
    /// # Errors
    /// A column is missing or has another type, or a value is invalid.
    fn read(path: &Path, batch: &RecordBatch, d_sae: usize) -> Result<Vec<Self>>;
}

/// The rank of each row in its list, from 0. A list ends where the feature changes, or where `same_list` is false for two
/// consecutive rows.
pub(super) fn ranks<R>(rows: &[(u32, R)], same_list: impl Fn(&R, &R) -> bool) -> UInt32Array {
    let mut rank = 0;
    let ranks = (0..rows.len()).map(|n| {
        let continues = n > 0 && rows[n - 1].0 == rows[n].0 && same_list(&rows[n - 1].1, &rows[n].1);
        rank = if continues { rank + 1 } else { 0 };
        rank
    });
    ranks.collect::<Vec<u32>>().into()
}

/// Inserts `new` into a list that keeps the first `room` elements in `order`.
pub(super) fn place<T>(list: &mut Vec<T>, new: T, room: usize, order: impl Fn(&T, &T) -> Ordering) {
    if list.len() == room && list.last().is_some_and(|last| order(last, &new).is_le()) {
        return;
    }
    list.insert(list.partition_point(|other| order(other, &new).is_lt()), new);
    list.truncate(room);
}

/// Writes a table; `rows_of` returns the rows of a feature.
///
/// # Errors
/// The file cannot be written.
pub fn write_lists<R: Row>(path: &Path, d_sae: usize, rows_of: impl Fn(usize) -> Vec<R>) -> Result<()> {
    let part = |from: usize| {
        let features = from..(from + TOGETHER).min(d_sae);
        let rows = features.flat_map(|k| rows_of(k).into_iter().map(move |row| (k as u32, row)));
        let rows: Vec<(u32, R)> = rows.collect();
        let mut columns = vec![table::column(KEY, UInt32Array::from_iter_values(rows.iter().map(|(k, _)| *k)))];
        columns.extend(R::columns(&rows));
        table::batch(columns)
    };
    let rest = (TOGETHER..d_sae).step_by(TOGETHER).map(|from| Ok(part(from)));
    table::write_all(path, &part(0), rest)
}

/// Reads a table at once: for every feature its rows, in the order written.
///
/// # Errors
/// The file is missing, damaged, or not such a table.
pub fn read_lists<R: Row>(path: &Path, d_sae: usize) -> Result<Vec<Vec<R>>> {
    let mut lists: Vec<Vec<R>> = (0..d_sae).map(|_| Vec::new()).collect();
    for batch in table::scan(path, &[])? {
        let batch = batch?;
        let features = table::get::<UInt32Array>(path, &batch, KEY)?.values();
        for (feature, row) in features.iter().zip(R::read(path, &batch, d_sae)?) {
            let list = lists.get_mut(*feature as usize);
            list.ok_or_else(|| Error::format(path)(format!("feature {feature} of {d_sae}")))?.push(row);
        }
    }
    Ok(lists)
}

/// A table that is read for one feature at a time.
pub struct Lists<R> {
    table: Keyed,
    d_sae: usize,
    row: PhantomData<fn() -> R>,
}

impl<R: Row> Lists<R> {
    /// Opens the table in the folder of an index of `d_sae` features.
    ///
    /// # Errors
    /// The file is missing or is not such a table.
    pub fn open(folder: &Path, d_sae: usize) -> Result<Self> {
        Ok(Self { table: Keyed::open(&folder.join(R::FILE), KEY)?, d_sae, row: PhantomData })
    }

    /// Rows of a feature, in the order written.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn rows(&self, feature: u32) -> Result<Vec<R>> {
        R::read(self.table.path(), &self.table.rows(feature)?, self.d_sae)
    }
}
