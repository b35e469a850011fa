//! The strongest samples of every feature in each group or bin, so that a difference can be looked at: `examples.parquet`.

use crate::analysis::index::{Example, keep};
use crate::analysis::summary::{Peak, SampleSummary, SummaryObserver};
use crate::store::sample::Modality;
use crate::table::{self, column};
use crate::{Error, Result};
use arrow::array::{Float32Array, StringArray, UInt8Array, UInt32Array};
use std::path::Path;

/// Examples of a feature in a group.
pub const EXAMPLES: usize = 4;
/// Examples of all features in all groups, at most: with more groups, each has fewer, or none.
const MOST: usize = 1 << 24;

/// Collects the strongest positions of every feature in each group from summaries of samples, at most one per sample.
pub struct ExampleCollector {
    /// The group of each sample, if it takes part.
    groups: Vec<Option<u32>>,
    /// Number of groups.
    count: usize,
    threshold: f32,
    /// Examples of a feature in a group.
    room: usize,
    /// The examples of each feature in each group: `[d_sae, count]`.
    strongest: Vec<Vec<Example>>,
}

impl ExampleCollector {
    /// No examples yet of `d_sae` features in `count` groups. `groups` has the group of each sample, if it takes part. A feature is
    /// active above `threshold`.
    pub fn new(groups: Vec<Option<u32>>, count: usize, d_sae: usize, threshold: f32) -> Self {
        let room = EXAMPLES.min(MOST / (d_sae * count).max(1));
        let lists = if room > 0 { d_sae * count } else { 0 };
        Self { groups, count, threshold, room, strongest: vec![Vec::new(); lists] }
    }

    /// The examples of some features, by feature and group, strongest first. `names` are the groups.
    pub fn finish(&self, features: impl Iterator<Item = u32>, names: &[String]) -> Vec<GroupExample> {
        let of_feature = |feature: u32| {
            let lists = self.strongest.chunks_exact(self.count.max(1)).nth(feature as usize);
            lists.into_iter().flatten().zip(names).flat_map(move |(examples, group)| {
                examples.iter().map(move |example| GroupExample { group: group.clone(), feature, example: *example })
            })
        };
        features.flat_map(of_feature).collect()
    }
}

impl SummaryObserver for ExampleCollector {
    fn observe_sample(&mut self, summary: &SampleSummary) -> Result<()> {
        let sample = summary.sample;
        let Some(group) = self.groups[sample as usize].filter(|_| self.room > 0) else { return Ok(()) };
        for peak in summary.peaks.iter().filter(|peak| peak.activation > self.threshold) {
            let Peak { activation, position, modality, .. } = *peak;
            let list = &mut self.strongest[peak.feature as usize * self.count + group as usize];
            keep(list, Example { activation, sample, position, modality }, self.room, Example::rank);
        }
        Ok(())
    }
}

/// One of the strongest samples of a feature in a group or bin.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupExample {
    /// The group or bin.
    pub group: String,
    /// The feature.
    pub feature: u32,
    /// The sample, and the position where the feature is strongest.
    pub example: Example,
}

/// Writes a row for each example.
///
/// # Errors
/// The file cannot be written.
pub fn write_examples(path: &Path, rows: &[GroupExample]) -> Result<()> {
    let number = |field: fn(&GroupExample) -> u32| UInt32Array::from_iter_values(rows.iter().map(field));
    let batch = table::batch(vec![
        column("group", StringArray::from_iter_values(rows.iter().map(|row| &row.group))),
        column("feature", number(|row| row.feature)),
        column("sample", number(|row| row.example.sample)),
        column("position", number(|row| row.example.position)),
        column("modality", UInt8Array::from_iter_values(rows.iter().map(|row| row.example.modality as u8))),
        column("activation", Float32Array::from_iter_values(rows.iter().map(|row| row.example.activation))),
    ]);
    table::write(path, &batch)
}

/// Reads what [`write_examples`] has written.
///
/// # Errors
/// The file does not exist, is damaged, or lacks a column.
pub fn read_examples(path: &Path) -> Result<Vec<GroupExample>> {
    let batch = table::read(path, &[])?;
    let number = |name| Ok::<_, Error>(table::get::<UInt32Array>(path, &batch, name)?.values());
    let (feature, sample, position) = (number("feature")?, number("sample")?, number("position")?);
    let group = table::get::<StringArray>(path, &batch, "group")?;
    let modality = table::get::<UInt8Array>(path, &batch, "modality")?.values();
    let activation = table::get::<Float32Array>(path, &batch, "activation")?.values();
    let row = |n: usize| {
        let modality = Modality::try_from(modality[n]).map_err(Error::format(path))?;
        let example = Example { activation: activation[n], sample: sample[n], position: position[n], modality };
        Ok(GroupExample { group: group.value(n).to_owned(), feature: feature[n], example })
    };
    (0..batch.num_rows()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(collector: &mut ExampleCollector) {
        let peak = |feature, activation, position, modality| Peak { feature, activation, position, modality };
        // Sample 2 takes no part.
        let samples = [
            vec![peak(0, 3.0, 1, Modality::Image), peak(1, 0.2, 1, Modality::Image)],
            vec![peak(0, 1.0, 0, Modality::Text), peak(1, 5.0, 0, Modality::Text)],
            vec![peak(0, 9.0, 0, Modality::Text), peak(1, 9.0, 0, Modality::Text)],
        ];
        for (sample, peaks) in (0..).zip(&samples) {
            collector.observe_sample(&SampleSummary { sample, peaks, mean: &[] }).unwrap();
        }
    }

    #[test]
    fn each_group_has_its_own_strongest_samples() {
        let names = ["a", "b"].map(String::from);
        let groups = vec![Some(0), Some(1), None];
        let mut collector = ExampleCollector::new(groups, 2, 2, 0.5);
        collect(&mut collector);
        let found = collector.finish([0, 1].into_iter(), &names);
        let example = |group: &str, feature, activation, sample, position, modality| GroupExample {
            group: group.into(),
            feature,
            example: Example { activation, sample, position, modality },
        };
        let expected = [
            example("a", 0, 3.0, 0, 1, Modality::Image),
            example("b", 0, 1.0, 1, 0, Modality::Text),
            example("b", 1, 5.0, 1, 0, Modality::Text),
        ];
        assert_eq!(found, expected);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("examples.parquet");
        write_examples(&path, &found).unwrap();
        assert_eq!(read_examples(&path).unwrap(), expected);
    }

    #[test]
    fn too_many_groups_have_no_examples() {
        let mut collector = ExampleCollector::new(vec![Some(0); 3], MOST, 2, 0.5);
        collect(&mut collector);
        assert!(collector.finish([0, 1].into_iter(), &["a".into()]).is_empty());
    }
}
