//! `models.parquet`: which features belong to one of several models; written and read.

use super::{Ratio, ScaledFeature};
use crate::Result;
use crate::table::{self, column, nullable};
use arrow::array::{Float64Array, StringArray, UInt32Array, UInt64Array};
use std::collections::BTreeMap;
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

/// Reads the rows that [`write_ownership`] wrote, and the names of the models by their numbers.
///
/// # Errors
/// The file cannot be read, or is not such a table.
pub fn read_ownership(path: &Path) -> Result<(BTreeMap<usize, String>, Vec<ScaledFeature>)> {
    let batch = table::read(path, &[])?;
    let real = |name: &'static str| table::get::<Float64Array>(path, &batch, name);
    let number = |name: &'static str| table::get::<UInt32Array>(path, &batch, name);
    let text = |name| table::get::<StringArray>(path, &batch, name);
    let firings = table::get::<UInt64Array>(path, &batch, "firings")?;
    let (feature, model, reference) = (number("feature")?, number("model")?, number("reference")?);
    let (model_name, reference_name) = (text("model_name")?, text("reference_name")?);
    let ratio = |[value, lo, hi]: [&'static str; 3]| -> Result<_> { Ok([real(value)?, real(lo)?, real(hi)?]) };
    let nu_error = ratio(["nu_error", "nu_error_lo", "nu_error_hi"])?;
    let nu_reconstruction = ratio(["nu_reconstruction", "nu_reconstruction_lo", "nu_reconstruction_hi"])?;
    let (delta, template_share, first_share) = (real("delta")?, real("template_share")?, real("first_share")?);
    let at = |columns: [&Float64Array; 3], row: usize| {
        let [value, lo, hi] = columns.map(|column| table::value(column, row).unwrap_or(f64::NAN));
        Ratio { value, lo, hi }
    };
    let mut names = BTreeMap::new();
    let rows = (0..batch.num_rows()).map(|row| {
        let (model, reference) = (model.value(row) as usize, reference.value(row) as usize);
        names.entry(model).or_insert_with(|| model_name.value(row).to_owned());
        names.entry(reference).or_insert_with(|| reference_name.value(row).to_owned());
        ScaledFeature {
            feature: feature.value(row),
            model,
            reference,
            delta: delta.value(row),
            firings: firings.value(row),
            nu_error: at(nu_error, row),
            nu_reconstruction: at(nu_reconstruction, row),
            template_share: template_share.value(row),
            first_share: first_share.value(row),
        }
    });
    let rows = rows.collect();
    Ok((names, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("models.parquet");
        let ratio = |value: f64| Ratio { value, lo: value - 0.1, hi: value + 0.1 };
        let row = |feature, model, nu_error| ScaledFeature {
            feature,
            model,
            reference: 1 - model,
            delta: 0.75,
            firings: 12,
            nu_error,
            nu_reconstruction: ratio(0.5),
            template_share: 0.25,
            first_share: 0.0,
        };
        let unknown = Ratio { value: f64::NAN, lo: f64::NAN, hi: f64::NAN };
        let rows = [row(3, 0, ratio(0.1)), row(3, 1, ratio(0.9)), row(9, 1, unknown)];
        write_ownership(&path, &["base".into(), "chat".into()], &rows).unwrap();
        let (names, read) = read_ownership(&path).unwrap();
        assert_eq!(names.into_values().collect::<Vec<_>>(), ["base", "chat"]);
        assert_eq!(read[..2], rows[..2]);
        assert!(read[2].nu_error.value.is_nan() && read[2].nu_error.hi.is_nan() && read.len() == 3);
        std::fs::write(&path, "PAR1").unwrap();
        assert!(read_ownership(&path).is_err());
    }
}
