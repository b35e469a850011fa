//! Examples of a feature: the strongest positions, and some from each interval of activation, at most one per sample.
//!
//! The strongest alone mislead, because they show only the clearest cases. So there are also examples of each octave below the
//! maximum: those whose (sample, position) has the lowest hash, an unbiased draw that does not depend on the order of the store.

use super::lists::{Row, place, ranks};
use crate::random::SplitMix64;
use crate::store::sample::Modality;
use crate::table::{self, Column};
use crate::{Error, Result};
use arrow::array::{Float32Array, RecordBatch, UInt8Array, UInt32Array};
use std::cmp::Ordering;
use std::path::Path;

/// Examples in group 0.
pub const STRONGEST: usize = 10;
/// Octaves below the maximum; groups 1 to this.
pub const INTERVALS: usize = 5;
/// Examples of each octave.
pub const PER_INTERVAL: usize = 4;

/// A position where a feature fires.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Example {
    /// The activation.
    pub activation: f32,
    /// Number of the sample.
    pub sample: u32,
    /// Position in the sample.
    pub position: u32,
    /// Kind of input at the position.
    pub modality: Modality,
}

impl Example {
    /// Stronger first; ties are broken by sample and position, so that the order of the store does not matter.
    pub fn rank(&self, other: &Self) -> Ordering {
        let position = |e: &Self| (e.sample, e.position);
        other.activation.total_cmp(&self.activation).then_with(|| position(self).cmp(&position(other)))
    }

    /// The octave of the activation.
    fn octave(&self) -> i32 {
        self.activation.log2().floor() as i32
    }
}

/// A hash of a position, the same in every pass.
pub fn draw(sample: u32, position: u32) -> u64 {
    SplitMix64::nth(u64::from(sample) << 32 | u64::from(position), 1)
}

/// Examples of one feature.
#[derive(Clone, Default)]
pub(super) struct Slots {
    strongest: Vec<Example>,
    /// The highest octaves seen, highest first.
    octaves: Vec<(i32, Vec<Example>)>,
}

impl Slots {
    /// Considers a position.
    pub fn offer(&mut self, example: Example) {
        keep(&mut self.strongest, example, STRONGEST, Example::rank);
        let octave = example.octave();
        let at = self.octaves.partition_point(|(o, _)| *o > octave);
        let top = self.octaves.first().map_or(octave, |(highest, _)| octave.max(*highest));
        if octave <= top - INTERVALS as i32 {
            return;
        }
        if self.octaves.get(at).is_none_or(|(o, _)| *o != octave) {
            self.octaves.insert(at, (octave, Vec::new()));
            self.octaves.retain(|(o, _)| *o > top - INTERVALS as i32);
        }
        let draw = |e: &Example| draw(e.sample, e.position);
        keep(&mut self.octaves[at].1, example, PER_INTERVAL, |a, b| draw(a).cmp(&draw(b)));
    }

    /// All that are kept, some of them twice.
    pub fn all(&self) -> impl Iterator<Item = &Example> {
        self.strongest.iter().chain(self.octaves.iter().flat_map(|(_, examples)| examples))
    }
}

/// Examples of all features.
pub struct Examples {
    slots: Vec<Slots>,
}

impl Examples {
    /// Empty lists of examples for `d_sae` features.
    pub fn new(d_sae: usize) -> Self {
        Self { slots: vec![Slots::default(); d_sae] }
    }

    /// Considers a position.
    pub fn offer(&mut self, feature: u32, example: Example) {
        self.slots[feature as usize].offer(example);
    }

    /// The slots of each feature.
    pub(super) fn slots(&mut self) -> &mut [Slots] {
        &mut self.slots
    }

    /// All that are kept for a feature, some of them twice.
    pub(super) fn all(&self, feature: usize) -> impl Iterator<Item = &Example> {
        self.slots[feature].all()
    }

    /// Examples of a feature with their group: 0 the strongest, then octave by octave below the maximum.
    pub fn groups(&self, feature: usize) -> impl Iterator<Item = (u8, &Example)> {
        let slots = &self.slots[feature];
        let top = slots.octaves.first().map_or(0, |(octave, _)| *octave);
        let intervals = slots.octaves.iter().map(move |(octave, examples)| ((top - octave + 1) as u8, examples));
        std::iter::once((0, &slots.strongest))
            .chain(intervals)
            .flat_map(|(group, list)| list.iter().map(move |e| (group, e)))
    }
}

/// Keeps the first `room` examples by `order`, at most one per sample.
pub(in crate::analysis) fn keep(
    list: &mut Vec<Example>,
    new: Example,
    room: usize,
    order: impl Fn(&Example, &Example) -> Ordering,
) {
    if list.len() == room && list.last().is_some_and(|last| order(last, &new).is_le()) {
        return;
    }
    if let Some(same) = list.iter().position(|e| e.sample == new.sample) {
        if order(&list[same], &new).is_le() {
            return;
        }
        list.remove(same);
    }
    place(list, new, room, order);
}

/// An example with its group.
impl Row for (u8, Example) {
    const FILE: &'static str = "examples.parquet";

    fn columns(rows: &[(u32, Self)]) -> Vec<Column> {
        let number =
            |field: fn(&Example) -> u32| UInt32Array::from_iter_values(rows.iter().map(|(_, (_, e))| field(e)));
        let small = |field: fn(&Self) -> u8| UInt8Array::from_iter_values(rows.iter().map(|(_, row)| field(row)));
        let activations = rows.iter().map(|(_, (_, e))| e.activation);
        vec![
            table::column("group", small(|row| row.0)),
            table::column("rank", ranks(rows, |a, b| a.0 == b.0)),
            table::column("sample", number(|e| e.sample)),
            table::column("position", number(|e| e.position)),
            table::column("modality", small(|row| row.1.modality as u8)),
            table::column("activation", Float32Array::from_iter_values(activations)),
        ]
    }

    fn read(path: &Path, batch: &RecordBatch, _: usize) -> Result<Vec<Self>> {
        let number = |name| Ok::<_, Error>(table::get::<UInt32Array>(path, batch, name)?.values());
        let small = |name| Ok::<_, Error>(table::get::<UInt8Array>(path, batch, name)?.values());
        let (sample, position) = (number("sample")?, number("position")?);
        let (group, modality) = (small("group")?, small("modality")?);
        let activation = table::get::<Float32Array>(path, batch, "activation")?.values();
        let row = |n: usize| {
            let modality = Modality::try_from(modality[n]).map_err(Error::format(path))?;
            let example = Example { activation: activation[n], sample: sample[n], position: position[n], modality };
            Ok((group[n], example))
        };
        (0..batch.num_rows()).map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn examples() -> impl Strategy<Value = Vec<Example>> {
        let example = (0.01f32..100.0, 0u32..30, 0u32..8).prop_map(|(activation, sample, position)| Example {
            activation,
            sample,
            position,
            modality: Modality::Text,
        });
        prop::collection::vec(example, 1..120).prop_map(|mut list| {
            list.sort_by_key(|e| (e.sample, e.position));
            list.dedup_by_key(|e| (e.sample, e.position));
            list
        })
    }

    fn chosen<'a>(list: impl Iterator<Item = &'a Example>) -> Vec<(u8, Example)> {
        let mut index = Examples::new(1);
        list.for_each(|e| index.offer(0, *e));
        index.groups(0).map(|(g, e)| (g, *e)).collect()
    }

    proptest! {
        #[test]
        fn the_order_of_the_store_does_not_matter(list in examples()) {
            prop_assert_eq!(chosen(list.iter()), chosen(list.iter().rev()));
        }

        #[test]
        fn the_strongest_are_the_best_of_their_samples(list in examples()) {
            let mut best: BTreeMap<u32, Example> = BTreeMap::new();
            for e in &list {
                let slot = best.entry(e.sample).or_insert(*e);
                if e.rank(slot).is_lt() { *slot = *e; }
            }
            let mut best: Vec<_> = best.into_values().collect();
            best.sort_by(Example::rank);
            best.truncate(STRONGEST);
            let found: Vec<_> = chosen(list.iter()).into_iter().filter(|(g, _)| *g == 0).map(|(_, e)| e).collect();
            prop_assert_eq!(found, best);
        }

        #[test]
        fn every_octave_near_the_maximum_is_shown(list in examples()) {
            let top = list.iter().map(Example::octave).max().unwrap();
            let found = chosen(list.iter());
            for octave in top - INTERVALS as i32 + 1..=top {
                let occurs = list.iter().any(|e| e.octave() == octave);
                let shown = found.iter().any(|(g, e)| *g == (top - octave + 1) as u8 && e.octave() == octave);
                prop_assert_eq!(occurs, shown, "octave {}", octave);
            }
        }
    }
}
