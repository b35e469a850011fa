//! What a label is made from and tried on: places in samples. Every second of a feature's example samples is held out, in the
//! order of the index, so that both halves have strong and weak ones; silent places are of the same kinds of input.

use super::{HELD_OUT, POOL, SHOWN};
use crate::analysis::context::Context;
use crate::analysis::index::{Example, draw};
use crate::store::sample::Modality;
use std::collections::{BTreeMap, BTreeSet};

/// A place in a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Number of the sample.
    pub sample: u32,
    /// Position in the sample.
    pub position: u32,
    /// Whether the feature fires there.
    pub fires: bool,
}

/// What one feature's label is made from and tried on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DetectionTask {
    /// Places that the label is made from, the strongest first.
    pub shown: Vec<Item>,
    /// Places that it is tried on, firing and silent ones mixed; nothing if there are not enough of both.
    pub held_out: Vec<Item>,
}

/// Numbers of samples, of `samples`, among which silent ones are looked for: those whose numbers hash lowest.
pub fn pool(samples: u32) -> BTreeSet<u32> {
    let mut all: Vec<u32> = (0..samples).collect();
    if all.len() > POOL {
        all.select_nth_unstable_by_key(POOL, |sample| draw(*sample, u32::MAX));
        all.truncate(POOL);
    }
    all.into_iter().collect()
}

impl DetectionTask {
    /// Divides a feature's examples, in the order of the index, and finds silent places in `pool` of `contexts`.
    pub fn new(
        feature: u32,
        examples: &[(u8, Example)],
        pool: &BTreeSet<u32>,
        contexts: &BTreeMap<u32, Context>,
    ) -> Self {
        let (shown, mut held_out) = Self::divide(examples);
        let kind = |item: &Item| {
            let example = examples.iter().find(|(_, e)| (e.sample, e.position) == (item.sample, item.position));
            example.map_or(Modality::Text, |(_, example)| example.modality)
        };
        let mut silent: Vec<&u32> =
            pool.iter().filter(|n| contexts.get(n).is_some_and(|c| !c.fires(feature))).collect();
        // Another order for each feature, so that no sample is every feature's.
        silent.sort_by_key(|sample| draw(**sample, feature));
        let mut silent = silent.into_iter();
        let mut quiet = Vec::new();
        for item in &held_out {
            let modality = kind(item);
            let place = silent.by_ref().find_map(|sample| {
                let tokens = &contexts.get(sample)?.tokens;
                let alike = tokens.iter().filter(|token| token.modality == modality && !token.special);
                let token = alike.min_by_key(|token| draw(*sample, token.position ^ feature))?;
                Some(Item { sample: *sample, position: token.position, fires: false })
            });
            quiet.extend(place);
        }
        held_out.truncate(quiet.len());
        held_out.extend(quiet);
        // Not by the draw that chose silent places: they would all come first.
        held_out.sort_by_key(|item| draw(item.position, item.sample ^ feature));
        Self { shown, held_out }
    }

    /// Shown and held-out places of examples, one a sample.
    fn divide(examples: &[(u8, Example)]) -> (Vec<Item>, Vec<Item>) {
        let mut seen = BTreeSet::new();
        let places = examples.iter().filter(|(_, example)| seen.insert(example.sample)).map(|(_, example)| Item {
            sample: example.sample,
            position: example.position,
            fires: true,
        });
        let (mut shown, mut held_out) = (Vec::new(), Vec::new());
        for (n, item) in places.enumerate() {
            let (list, room) = if n % 2 == 0 { (&mut shown, SHOWN) } else { (&mut held_out, HELD_OUT) };
            if list.len() < room {
                list.push(item);
            }
        }
        (shown, held_out)
    }

    /// How many places of text and of images the two questions about a feature will show: `[shown, held out]`, silent ones
    /// counted as if all were found.
    pub fn token_counts(examples: &[(u8, Example)]) -> [[usize; 2]; 2] {
        let (shown, held_out) = Self::divide(examples);
        let image = |item: &Item| {
            let of = |e: &Example| (e.sample, e.position) == (item.sample, item.position);
            examples.iter().any(|(_, e)| of(e) && e.modality == Modality::Image)
        };
        let count = |items: &[Item], times: usize| {
            let images = items.iter().filter(|item| image(item)).count();
            [(items.len() - images) * times, images * times]
        };
        [count(&shown, 1), count(&held_out, 2)]
    }
}
