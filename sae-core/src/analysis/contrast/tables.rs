//! The tables of a contrast: `features.parquet`, `shuffled.parquet` and `groups.parquet`.

use super::{Estimate, Forecast, TestedFeature, Trajectory};
use crate::Result;
use crate::table::{self, column, nullable};
use arrow::array::{BooleanArray, Float64Array, StringArray, UInt32Array};
use std::path::Path;

/// What else is known about the feature of a test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureNote {
    /// Whether the prediction of the column uses it.
    pub is_selected: bool,
    /// Its cross-modal weight.
    pub weight: Option<f64>,
    /// Its label.
    pub label: Option<String>,
}

/// Features in groups, or in bins of an order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupSeries {
    /// The names of the groups.
    pub names: Vec<String>,
    /// Their participants.
    pub sizes: Vec<u32>,
    /// The features.
    pub trajectories: Vec<Trajectory>,
    /// The forecast of the next bin, if there is one.
    pub forecast: Option<Forecast>,
}

/// Writes a row for each tested feature and column.
///
/// # Errors
/// The file cannot be written.
///
/// # Panics
/// If there is not a note for each row.
pub fn write_features(path: &Path, columns: &[String], rows: &[TestedFeature], notes: &[FeatureNote]) -> Result<()> {
    assert_eq!(rows.len(), notes.len(), "each row has a note");
    let real = |value: fn(&TestedFeature) -> f64| Float64Array::from_iter_values(rows.iter().map(value));
    let maybe = |value: fn(&TestedFeature) -> Option<f64>| Float64Array::from_iter(rows.iter().map(value));
    let count = |value: fn(&TestedFeature) -> u32| UInt32Array::from_iter_values(rows.iter().map(value));
    let bound = |value: fn(&Estimate) -> f64| {
        Float64Array::from_iter(rows.iter().map(|row| row.confirmation.as_ref().map(value)))
    };
    let batch = table::batch(vec![
        column("feature", count(|row| row.feature)),
        column("column", StringArray::from_iter_values(rows.iter().map(|row| &columns[row.column]))),
        column("n", count(|row| row.samples)),
        column("clusters", count(|row| row.clusters)),
        column("prevalence", real(|row| row.prevalence)),
        nullable("prevalence_rest", maybe(|row| row.prevalence_rest)),
        column("effect", real(|row| row.estimate.effect)),
        column("lo", real(|row| row.estimate.lo)),
        column("hi", real(|row| row.estimate.hi)),
        column("z", real(|row| row.z)),
        nullable("p", maybe(|row| row.p)),
        nullable("q", maybe(|row| row.q)),
        column("found", BooleanArray::from_iter(rows.iter().map(|row| Some(row.is_found)))),
        nullable("confirmed", BooleanArray::from_iter(rows.iter().map(|row| row.is_confirmed))),
        nullable("effect_confirm", bound(|estimate| estimate.effect)),
        nullable("lo_confirm", bound(|estimate| estimate.lo)),
        nullable("hi_confirm", bound(|estimate| estimate.hi)),
        nullable("odds_ratio", maybe(|row| row.odds_ratio)),
        column("selected", BooleanArray::from_iter(notes.iter().map(|note| Some(note.is_selected)))),
        nullable("weight", Float64Array::from_iter(notes.iter().map(|note| note.weight))),
        nullable("label", StringArray::from_iter(notes.iter().map(|note| note.label.as_deref()))),
    ]);
    table::write(path, &batch)
}

/// Writes the tests of one shuffle, for plots.
///
/// # Errors
/// The file cannot be written.
pub fn write_chance(path: &Path, columns: &[String], rows: &[TestedFeature]) -> Result<()> {
    let batch = table::batch(vec![
        column("feature", UInt32Array::from_iter_values(rows.iter().map(|row| row.feature))),
        column("column", StringArray::from_iter_values(rows.iter().map(|row| &columns[row.column]))),
        column("effect", Float64Array::from_iter_values(rows.iter().map(|row| row.estimate.effect))),
        nullable("p", Float64Array::from_iter(rows.iter().map(|row| row.p))),
    ]);
    table::write(path, &batch)
}

/// Writes a row for each differing feature and group or bin, and one for its forecast, if there is one.
///
/// # Errors
/// The file cannot be written.
pub fn write_groups(path: &Path, series: &GroupSeries) -> Result<()> {
    /// A row of the table.
    struct Row<'a> {
        group: &'a str,
        feature: u32,
        samples: Option<u32>,
        prevalence: Option<f64>,
        adjusted: Estimate,
        is_forecast: bool,
    }

    let mut rows: Vec<Row> = Vec::new();
    for (n, trajectory) in series.trajectories.iter().enumerate() {
        let feature = trajectory.feature;
        rows.extend(series.names.iter().enumerate().map(|(bin, group)| Row {
            group,
            feature,
            samples: Some(series.sizes[bin]),
            prevalence: Some(trajectory.prevalence[bin]),
            adjusted: trajectory.adjusted[bin],
            is_forecast: false,
        }));
        rows.extend(series.forecast.iter().map(|forecast| Row {
            group: "next",
            feature,
            samples: None,
            prevalence: None,
            adjusted: Estimate { effect: forecast.next[n], lo: f64::NAN, hi: f64::NAN },
            is_forecast: true,
        }));
    }
    let bound = |value: fn(&Estimate) -> f64| {
        Float64Array::from_iter(rows.iter().map(|row| Some(value(&row.adjusted)).filter(|bound| bound.is_finite())))
    };
    let batch = table::batch(vec![
        column("group", StringArray::from_iter_values(rows.iter().map(|row| row.group))),
        column("feature", UInt32Array::from_iter_values(rows.iter().map(|row| row.feature))),
        nullable("samples", UInt32Array::from_iter(rows.iter().map(|row| row.samples))),
        nullable("prevalence", Float64Array::from_iter(rows.iter().map(|row| row.prevalence))),
        column("adjusted", Float64Array::from_iter_values(rows.iter().map(|row| row.adjusted.effect))),
        nullable("lo", bound(|estimate| estimate.lo)),
        nullable("hi", bound(|estimate| estimate.hi)),
        column("forecast", BooleanArray::from_iter(rows.iter().map(|row| Some(row.is_forecast)))),
    ]);
    table::write(path, &batch)
}
