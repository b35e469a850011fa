//! The positions that a label is made from, and those that it is tested on. Every second example of a feature is held out, in the
//! order of the index, so that both halves have strong and weak ones. Positions where the feature is silent have the same
//! modalities as the held-out ones.

use super::{HELD_OUT, POOL, SHOWN};
use crate::analysis::context::Context;
use crate::analysis::index::{Example, draw};
use crate::store::sample::Modality;
use std::collections::{BTreeMap, BTreeSet};

/// A position in a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Number of the sample.
    pub sample: u32,
    /// Position in the sample.
    pub position: u32,
    /// Whether the feature fires at it.
    pub fires: bool,
}

/// The positions that the label of one feature is made from and tested on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DetectionTask {
    /// Positions that the label is made from, the strongest first.
    pub shown: Vec<Item>,
    /// Positions that it is tested on, firing and silent ones mixed; empty if there are not enough of both.
    pub held_out: Vec<Item>,
}

/// The samples, out of `samples`, in which silent positions are looked for: those whose numbers have the lowest hashes.
pub fn pool(samples: u32) -> BTreeSet<u32> {
    let mut all: Vec<u32> = (0..samples).collect();
    if all.len() > POOL {
        all.select_nth_unstable_by_key(POOL, |sample| draw(*sample, u32::MAX));
        all.truncate(POOL);
    }
    all.into_iter().collect()
}

impl DetectionTask {
    /// Divides the examples of a feature, in the order of the index, and finds silent positions in the samples of `pool`.
    pub fn new(
        feature: u32,
        examples: &[(u8, Example)],
        pool: &BTreeSet<u32>,
        contexts: &BTreeMap<u32, Context>,
    ) -> Self {
        let (shown, mut held_out) = Self::divide(examples);
        let modality_of = |item: &Item| {
            let example = examples.iter().find(|(_, e)| (e.sample, e.position) == (item.sample, item.position));
            example.map_or(Modality::Text, |(_, example)| example.modality)
        };
        let mut silent: Vec<&u32> =
            pool.iter().filter(|n| contexts.get(n).is_some_and(|c| !c.fires(feature))).collect();
        // A different order for each feature, so that features do not all get the same samples.
        silent.sort_by_key(|sample| draw(**sample, feature));
        let mut silent = silent.into_iter();
        let mut quiet = Vec::new();
        for item in &held_out {
            let modality = modality_of(item);
            let position = silent.by_ref().find_map(|sample| {
                let tokens = &contexts.get(sample)?.tokens;
                let candidates = tokens.iter().filter(|token| token.modality == modality && !token.special);
                let token = candidates.min_by_key(|token| draw(*sample, token.position ^ feature))?;
                Some(Item { sample: *sample, position: token.position, fires: false })
            });
            quiet.extend(position);
        }
        held_out.truncate(quiet.len());
        held_out.extend(quiet);
        // The hash that chose the silent positions would put all of them first, so this is another one.
        held_out.sort_by_key(|item| draw(item.position, item.sample ^ feature));
        Self { shown, held_out }
    }

    /// Shown and held-out positions of examples, one per sample.
    fn divide(examples: &[(u8, Example)]) -> (Vec<Item>, Vec<Item>) {
        let mut seen = BTreeSet::new();
        let positions = examples.iter().filter(|(_, example)| seen.insert(example.sample)).map(|(_, example)| Item {
            sample: example.sample,
            position: example.position,
            fires: true,
        });
        let (mut shown, mut held_out) = (Vec::new(), Vec::new());
        for (n, item) in positions.enumerate() {
            let (list, room) = if n % 2 == 0 { (&mut shown, SHOWN) } else { (&mut held_out, HELD_OUT) };
            if list.len() < room {
                list.push(item);
            }
        }
        (shown, held_out)
    }

    /// The number of text and image positions that the two questions about a feature will show: `[[text, image]; 2]`, shown
    /// and held out, as if a silent position is found for each held-out one.
    pub fn token_counts(examples: &[(u8, Example)]) -> [[usize; 2]; 2] {
        let (shown, held_out) = Self::divide(examples);
        let image = |item: &Item| {
            let is_item = |e: &Example| (e.sample, e.position) == (item.sample, item.position);
            examples.iter().any(|(_, e)| is_item(e) && e.modality == Modality::Image)
        };
        let count = |items: &[Item], times: usize| {
            let images = items.iter().filter(|item| image(item)).count();
            [(items.len() - images) * times, images * times]
        };
        [count(&shown, 1), count(&held_out, 2)]
    }
}
