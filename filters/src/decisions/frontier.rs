//! `frontier.parquet`: what other limits of each budget would allow.

use crate::Result;
use crate::select::budget::FrontierPoint;
use arrow::array::{Float64Array, StringArray};
use sae_core::table;
use std::path::Path;

/// Writes the points into a folder, in the order of budgets and falling prices.
///
/// # Errors
/// The file cannot be written.
pub fn write_frontier(folder: &Path, points: &[FrontierPoint]) -> Result<()> {
    let numbers = |of: fn(&FrontierPoint) -> f64| Float64Array::from_iter_values(points.iter().map(of));
    let batch = table::batch(vec![
        table::column("column", StringArray::from_iter_values(points.iter().map(|point| &point.column))),
        table::column("price", numbers(|point| point.price)),
        table::column("mean", numbers(|point| point.mean)),
        table::column("score", numbers(|point| point.score)),
    ]);
    Ok(table::write(&folder.join("frontier.parquet"), &batch)?)
}
