//! The tables of a contrast: `features.parquet`, `shuffled.parquet` and `groups.parquet`.

use super::{Estimate, Forecast, TestedFeature, Trajectory};
use crate::Result;
use crate::table::{self, column, nullable};
use arrow::array::{Array, BooleanArray, Float64Array, StringArray, UInt32Array};
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

/// Every test of a contrast.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TestTable {
    /// The names of the columns, in the order in which the table has them.
    pub columns: Vec<String>,
    /// A row for each tested feature and column.
    pub rows: Vec<TestedFeature>,
    /// What else is known about the feature of each row.
    pub notes: Vec<FeatureNote>,
}

/// Reads what [`write_features`] has written.
///
/// # Errors
/// The file does not exist, is damaged, or lacks a column.
pub fn read_features(path: &Path) -> Result<TestTable> {
    let batch = table::read(path, &[])?;
    let count = |name| table::get::<UInt32Array>(path, &batch, name);
    let real = |name| table::get::<Float64Array>(path, &batch, name);
    let flag = |name| table::get::<BooleanArray>(path, &batch, name);
    let text = |name| table::get::<StringArray>(path, &batch, name);
    let (feature, samples, clusters, column) = (count("feature")?, count("n")?, count("clusters")?, text("column")?);
    let (prevalence, prevalence_rest, z) = (real("prevalence")?, real("prevalence_rest")?, real("z")?);
    let (effect, lo, hi) = (real("effect")?, real("lo")?, real("hi")?);
    let (p, q, odds_ratio) = (real("p")?, real("q")?, real("odds_ratio")?);
    let (found, confirmed, selected) = (flag("found")?, flag("confirmed")?, flag("selected")?);
    let (effect_confirm, lo_confirm, hi_confirm) = (real("effect_confirm")?, real("lo_confirm")?, real("hi_confirm")?);
    let (weight, label) = (real("weight")?, text("label")?);
    let mut read = TestTable::default();
    for row in 0..batch.num_rows() {
        let known = read.columns.iter().rposition(|name| name == column.value(row));
        let confirmation = effect_confirm.is_valid(row).then(|| Estimate {
            effect: effect_confirm.value(row),
            lo: lo_confirm.value(row),
            hi: hi_confirm.value(row),
        });
        read.rows.push(TestedFeature {
            feature: feature.value(row),
            column: known.unwrap_or(read.columns.len()),
            samples: samples.value(row),
            clusters: clusters.value(row),
            prevalence: prevalence.value(row),
            prevalence_rest: table::value(prevalence_rest, row),
            odds_ratio: table::value(odds_ratio, row),
            estimate: Estimate { effect: effect.value(row), lo: lo.value(row), hi: hi.value(row) },
            z: z.value(row),
            p: table::value(p, row),
            q: table::value(q, row),
            is_found: found.value(row),
            confirmation,
            is_confirmed: confirmed.is_valid(row).then(|| confirmed.value(row)),
        });
        read.notes.push(FeatureNote {
            is_selected: selected.value(row),
            weight: table::value(weight, row),
            label: label.is_valid(row).then(|| label.value(row).to_owned()),
        });
        if known.is_none() {
            read.columns.push(column.value(row).to_owned());
        }
    }
    Ok(read)
}

/// A test with shuffled values.
#[derive(Clone, Debug, PartialEq)]
pub struct ChanceTest {
    /// The feature.
    pub feature: u32,
    /// The name of the column.
    pub column: String,
    /// The effect.
    pub effect: f64,
    /// The p-value, if there are enough clusters.
    pub p: Option<f64>,
}

/// Reads what [`write_chance`] has written.
///
/// # Errors
/// The file does not exist, is damaged, or lacks a column.
pub fn read_chance(path: &Path) -> Result<Vec<ChanceTest>> {
    let batch = table::read(path, &[])?;
    let feature = table::get::<UInt32Array>(path, &batch, "feature")?;
    let column = table::get::<StringArray>(path, &batch, "column")?;
    let effect = table::get::<Float64Array>(path, &batch, "effect")?;
    let p = table::get::<Float64Array>(path, &batch, "p")?;
    let test = |row| ChanceTest {
        feature: feature.value(row),
        column: column.value(row).to_owned(),
        effect: effect.value(row),
        p: table::value(p, row),
    };
    Ok((0..batch.num_rows()).map(test).collect())
}

/// How often a feature is active in a group or bin.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupValue {
    /// The group or bin; `next` for the forecast.
    pub group: String,
    /// The feature.
    pub feature: u32,
    /// Participants of the group; `None` for the forecast.
    pub samples: Option<u32>,
    /// Share of them in which the feature is active; `None` for the forecast.
    pub prevalence: Option<f64>,
    /// The same as if every group had the lengths of all samples.
    pub adjusted: f64,
    /// Lower and upper bound of the adjusted share (95 %); `None` where a group has one cluster, and for the forecast.
    pub interval: Option<[f64; 2]>,
    /// Whether the value is the forecast of the next bin.
    pub is_forecast: bool,
}

impl GroupSeries {
    /// The value of each feature in each group or bin, followed by its forecast, if there is one.
    pub fn values(&self) -> Vec<GroupValue> {
        let mut values = Vec::new();
        for (n, trajectory) in self.trajectories.iter().enumerate() {
            let feature = trajectory.feature;
            values.extend(self.names.iter().enumerate().map(|(bin, group)| {
                let Estimate { effect, lo, hi } = trajectory.adjusted[bin];
                GroupValue {
                    group: group.clone(),
                    feature,
                    samples: Some(self.sizes[bin]),
                    prevalence: Some(trajectory.prevalence[bin]),
                    adjusted: effect,
                    interval: Some([lo, hi]).filter(|bounds| bounds.iter().all(|bound| bound.is_finite())),
                    is_forecast: false,
                }
            }));
            values.extend(self.forecast.iter().map(|forecast| GroupValue {
                group: "next".into(),
                feature,
                samples: None,
                prevalence: None,
                adjusted: forecast.next[n],
                interval: None,
                is_forecast: true,
            }));
        }
        values
    }
}

/// Writes a row for each differing feature and group or bin, and one for its forecast, if there is one.
///
/// # Errors
/// The file cannot be written.
pub fn write_groups(path: &Path, series: &GroupSeries) -> Result<()> {
    let rows = series.values();
    let bound = |side: usize| Float64Array::from_iter(rows.iter().map(|row| row.interval.map(|bounds| bounds[side])));
    let batch = table::batch(vec![
        column("group", StringArray::from_iter_values(rows.iter().map(|row| &row.group))),
        column("feature", UInt32Array::from_iter_values(rows.iter().map(|row| row.feature))),
        nullable("samples", UInt32Array::from_iter(rows.iter().map(|row| row.samples))),
        nullable("prevalence", Float64Array::from_iter(rows.iter().map(|row| row.prevalence))),
        column("adjusted", Float64Array::from_iter_values(rows.iter().map(|row| row.adjusted))),
        nullable("lo", bound(0)),
        nullable("hi", bound(1)),
        column("forecast", BooleanArray::from_iter(rows.iter().map(|row| Some(row.is_forecast)))),
    ]);
    table::write(path, &batch)
}

/// Reads what [`write_groups`] has written.
///
/// # Errors
/// The file does not exist, is damaged, or lacks a column.
pub fn read_groups(path: &Path) -> Result<Vec<GroupValue>> {
    let batch = table::read(path, &[])?;
    let real = |name| table::get::<Float64Array>(path, &batch, name);
    let group = table::get::<StringArray>(path, &batch, "group")?;
    let feature = table::get::<UInt32Array>(path, &batch, "feature")?;
    let samples = table::get::<UInt32Array>(path, &batch, "samples")?;
    let (prevalence, adjusted, lo, hi) = (real("prevalence")?, real("adjusted")?, real("lo")?, real("hi")?);
    let forecast = table::get::<BooleanArray>(path, &batch, "forecast")?;
    let read = |row| GroupValue {
        group: group.value(row).to_owned(),
        feature: feature.value(row),
        samples: samples.is_valid(row).then(|| samples.value(row)),
        prevalence: table::value(prevalence, row),
        adjusted: adjusted.value(row),
        interval: table::value(lo, row).zip(table::value(hi, row)).map(|(lo, hi)| [lo, hi]),
        is_forecast: forecast.value(row),
    };
    Ok((0..batch.num_rows()).map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::super::ForecastMethod;
    use super::*;

    #[test]
    fn tables_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let columns = ["short", "long"].map(String::from);
        let estimate = |effect: f64| Estimate { effect, lo: effect - 0.1, hi: effect + 0.1 };
        let found = TestedFeature {
            feature: 7,
            samples: 30,
            clusters: 12,
            prevalence: 0.25,
            prevalence_rest: Some(0.5),
            odds_ratio: Some(0.4),
            estimate: estimate(-0.25),
            z: -4.5,
            p: Some(1e-5),
            q: Some(1e-3),
            is_found: true,
            confirmation: Some(estimate(-0.2)),
            is_confirmed: Some(true),
            ..TestedFeature::default()
        };
        let bare = TestedFeature { feature: 9, column: 1, estimate: estimate(0.3), ..TestedFeature::default() };
        let notes = [
            FeatureNote { is_selected: true, weight: Some(0.7), label: Some("ä label".into()) },
            FeatureNote::default(),
        ];
        let rows = [found, bare];
        write_features(&path("features"), &columns, &rows, &notes).unwrap();
        let expected = TestTable { columns: columns.to_vec(), rows: rows.to_vec(), notes: notes.to_vec() };
        assert_eq!(read_features(&path("features")).unwrap(), expected);

        write_chance(&path("chance"), &columns, &rows).unwrap();
        let expected = rows.each_ref().map(|row| ChanceTest {
            feature: row.feature,
            column: columns[row.column].clone(),
            effect: row.estimate.effect,
            p: row.p,
        });
        assert_eq!(read_chance(&path("chance")).unwrap(), expected);

        let alone = Estimate { effect: 0.5, lo: f64::NAN, hi: f64::NAN };
        let series = GroupSeries {
            names: columns.to_vec(),
            sizes: vec![20, 1],
            trajectories: vec![Trajectory {
                feature: 7,
                prevalence: vec![0.25, 1.0],
                adjusted: vec![estimate(0.3), alone],
                turn: 0,
                turn_p: None,
            }],
            forecast: Some(Forecast {
                method: ForecastMethod::Persistence,
                skill: None,
                skills: Vec::new(),
                next: vec![0.75],
            }),
        };
        write_groups(&path("groups"), &series).unwrap();
        let values = read_groups(&path("groups")).unwrap();
        assert_eq!(values, series.values());
        let intervals: Vec<bool> = values.iter().map(|value| value.interval.is_some()).collect();
        assert_eq!(intervals, [true, false, false]);
        assert!(values[2].is_forecast && values[2].samples.is_none());

        assert!(read_features(&path("groups")).is_err(), "a table with other columns");
        assert!(read_groups(&path("missing")).is_err());
    }
}
