//! Tables with several rows a feature, feature by feature, a row group for some hundred features: how they are written,
//! and read whole or for one feature. What a row holds is told where the row is made.

use super::{Example, Indexer, Neighbor};
use crate::table::{self, Column, Keyed};
use crate::{Error, Result};
use arrow::array::{RecordBatch, UInt32Array};
use std::cmp::Ordering;
use std::marker::PhantomData;
use std::path::Path;

/// Features of a row group: few enough that one is read in a millisecond, enough that they compress.
const TOGETHER: usize = 256;
const KEY: &str = "feature";

/// A row of such a table.
pub trait Row: Sized {
    /// Name of the file.
    const FILE: &'static str;

    /// The columns behind `feature`; rows of a feature follow each other.
    fn columns(rows: &[(u32, Self)]) -> Vec<Column>;

    /// Rows of a batch, of an index of `d_sae` features.
    ///
    /// # Errors
    /// A column is missing or of another type, or a value is none that there can be.
    fn read(path: &Path, batch: &RecordBatch, d_sae: usize) -> Result<Vec<Self>>;
}

/// Places in the lists that `rows` are made of: from 0 in each feature, and anew where a row is not `alike` the one before.
pub(super) fn ranks<R>(rows: &[(u32, R)], alike: impl Fn(&R, &R) -> bool) -> UInt32Array {
    let mut rank = 0;
    let ranks = (0..rows.len()).map(|n| {
        let goes_on = n > 0 && rows[n - 1].0 == rows[n].0 && alike(&rows[n - 1].1, &rows[n].1);
        rank = if goes_on { rank + 1 } else { 0 };
        rank
    });
    ranks.collect::<Vec<u32>>().into()
}

/// Puts `new` where it belongs among the first `room` by `order`.
pub(super) fn place<T>(list: &mut Vec<T>, new: T, room: usize, order: impl Fn(&T, &T) -> Ordering) {
    if list.len() == room && list.last().is_some_and(|last| order(last, &new).is_le()) {
        return;
    }
    list.insert(list.partition_point(|other| order(other, &new).is_lt()), new);
    list.truncate(room);
}

/// Writes a table; `of` tells a feature's rows.
pub fn write_lists<R: Row>(path: &Path, d_sae: usize, of: impl Fn(usize) -> Vec<R>) -> Result<()> {
    let part = |from: usize| {
        let features = from..(from + TOGETHER).min(d_sae);
        let rows = features.flat_map(|k| of(k).into_iter().map(move |row| (k as u32, row)));
        let rows: Vec<(u32, R)> = rows.collect();
        let mut columns = vec![table::column(KEY, UInt32Array::from_iter_values(rows.iter().map(|(k, _)| *k)))];
        columns.extend(R::columns(&rows));
        table::batch(columns)
    };
    let rest = (TOGETHER..d_sae).step_by(TOGETHER).map(|from| Ok(part(from)));
    table::write_all(path, &part(0), rest)
}

/// Reads a whole table: for every feature its rows, in the order written.
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

/// A table of which one feature's rows are read at a time.
pub struct Lists<R> {
    table: Keyed,
    d_sae: usize,
    row: PhantomData<fn() -> R>,
}

impl<R: Row> Lists<R> {
    /// Opens the table in the folder of an index of `d_sae` features.
    ///
    /// # Errors
    /// The file is missing or no such table.
    pub fn open(folder: &Path, d_sae: usize) -> Result<Self> {
        Ok(Self { table: Keyed::open(&folder.join(R::FILE), KEY)?, d_sae, row: PhantomData })
    }

    /// Rows of a feature, in the order written.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn of(&self, feature: u32) -> Result<Vec<R>> {
        R::read(self.table.path(), &self.table.rows(feature)?, self.d_sae)
    }
}

/// Writes `examples.parquet`: every feature's examples, group by group, best first.
pub fn write_examples(path: &Path, index: &Indexer) -> Result<()> {
    write_lists(path, index.counts.len(), |k| index.examples.of(k).map(|(group, e)| (group, *e)).collect::<Vec<_>>())
}

/// Reads `examples.parquet`: for every feature its examples with their group, in the order written.
pub fn read_examples(path: &Path, d_sae: usize) -> Result<Vec<Vec<(u8, Example)>>> {
    read_lists(path, d_sae)
}

/// Writes `neighbours.parquet`.
pub fn write_neighbors(path: &Path, lists: &[Vec<Neighbor>]) -> Result<()> {
    write_lists(path, lists.len(), |k| lists[k].clone())
}

/// Reads `neighbours.parquet`: for every feature its neighbors, nearest first.
pub fn read_neighbors(path: &Path, d_sae: usize) -> Result<Vec<Vec<Neighbor>>> {
    read_lists(path, d_sae)
}
