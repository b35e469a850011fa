//! `models.parquet`: which features belong to one of several models.

use super::ScaledFeature;
use crate::Result;
use crate::table::{self, column, nullable};
use arrow::array::{Float64Array, StringArray, UInt32Array, UInt64Array};
use std::path::Path;

/// Writes a row for each feature that fires, for each pair and each of its models; `names` are those of the models.
///
/// # Errors
/// The file cannot be written.
///
/// # Panics
/// If `names` lacks a model.
pub fn write_ownership(path: &Path, names: &[String], rows: &[ScaledFeature]) -> Result<()> {
    let real = |value: fn(&ScaledFeature) -> f64| Float64Array::from_iter_values(rows.iter().map(value));
    // Where there is no interval, the bounds are null.
    let maybe = |value: fn(&ScaledFeature) -> f64| {
        Float64Array::from_iter(rows.iter().map(|row| Some(value(row)).filter(|value| value.is_finite())))
    };
    let model =
        |number: fn(&ScaledFeature) -> usize| UInt32Array::from_iter_values(rows.iter().map(|row| number(row) as u32));
    let name =
        |number: fn(&ScaledFeature) -> usize| StringArray::from_iter_values(rows.iter().map(|row| &names[number(row)]));
    let batch = table::batch(vec![
        column("feature", UInt32Array::from_iter_values(rows.iter().map(|row| row.feature))),
        column("model", model(|row| row.model)),
        column("reference", model(|row| row.reference)),
        column("model_name", name(|row| row.model)),
        column("reference_name", name(|row| row.reference)),
        column("ownership", StringArray::from_iter_values(rows.iter().map(|row| row.ownership().name()))),
        column("firings", UInt64Array::from_iter_values(rows.iter().map(|row| row.firings))),
        column("delta", real(|row| row.delta)),
        nullable("nu_error", maybe(|row| row.nu_error.value)),
        nullable("nu_error_lo", maybe(|row| row.nu_error.lo)),
        nullable("nu_error_hi", maybe(|row| row.nu_error.hi)),
        nullable("nu_reconstruction", maybe(|row| row.nu_reconstruction.value)),
        nullable("nu_reconstruction_lo", maybe(|row| row.nu_reconstruction.lo)),
        nullable("nu_reconstruction_hi", maybe(|row| row.nu_reconstruction.hi)),
        column("template_share", real(|row| row.template_share)),
        column("first_share", real(|row| row.first_share)),
    ]);
    table::write(path, &batch)
}
