//! Which samples two open runs share: all, if they are the same run; else those with the same content. Reads no file.

use super::open_run::OpenRun;
use std::collections::HashMap;

/// The samples of a second run that are samples of a first one as well.
#[derive(Clone, Debug, PartialEq)]
pub enum SharedSamples {
    /// All, under the same numbers.
    All,
    /// Those with the same content.
    Pairs {
        /// The number in the second run, by the number in the first one.
        to_second: HashMap<u32, u32>,
        /// The number in the first run, by the number in the second one.
        to_first: HashMap<u32, u32>,
    },
}

impl SharedSamples {
    /// The samples that two runs share. The score tables have the ids of samples; `None` while they are being read. Runs without
    /// scores share nothing.
    pub fn new(first: &OpenRun, second: &OpenRun) -> Option<Self> {
        if first.info.root == second.info.root {
            return Some(Self::All);
        }
        let ids = |run: &OpenRun| {
            let filter = run.filter.as_ref()?.as_ref();
            Some(filter.map(|filter| filter.scores().ids.clone()).unwrap_or_default())
        };
        Some(Self::from_ids(&ids(first)?, &ids(second)?))
    }

    /// The pairs of samples with equal ids, which are hashes of content. Of samples that say the same, the first one counts.
    fn from_ids(first: &[String], second: &[String]) -> Self {
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        for (id, number) in second.iter().zip(0..) {
            numbers.entry(id).or_insert(number);
        }
        let (mut to_second, mut to_first) = (HashMap::new(), HashMap::new());
        for (id, own) in first.iter().zip(0..) {
            if let Some(other) = numbers.get(id.as_str()) {
                to_second.insert(own, *other);
                to_first.entry(*other).or_insert(own);
            }
        }
        Self::Pairs { to_second, to_first }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Pairs { to_second, .. } if to_second.is_empty())
    }

    /// The number in the second run of a sample of the first one.
    pub fn in_second(&self, sample: u32) -> Option<u32> {
        match self {
            Self::All => Some(sample),
            Self::Pairs { to_second, .. } => to_second.get(&sample).copied(),
        }
    }

    /// The number in the first run of a sample of the second one.
    pub fn in_first(&self, sample: u32) -> Option<u32> {
        match self {
            Self::All => Some(sample),
            Self::Pairs { to_first, .. } => to_first.get(&sample).copied(),
        }
    }

    /// The strongest samples of the features of both runs that both runs have, each once: its numbers in the first and the second.
    pub fn strongest(&self, first: &OpenRun, second: &OpenRun) -> Vec<[u32; 2]> {
        let own = first.strongest_samples().into_iter().filter_map(|sample| Some([sample, self.in_second(sample)?]));
        let others = second.strongest_samples().into_iter().filter_map(|sample| Some([self.in_first(sample)?, sample]));
        let mut pairs: Vec<[u32; 2]> = own.chain(others).collect();
        pairs.sort_unstable();
        pairs.dedup();
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_with_the_same_content_are_shared() {
        let ids = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let shared = SharedSamples::from_ids(&ids(&["a", "b", "c", "b"]), &ids(&["c", "x", "b", "b"]));
        assert_eq!([0, 1, 2, 3].map(|n| shared.in_second(n)), [None, Some(2), Some(0), Some(2)]);
        assert_eq!([0, 1, 2, 3].map(|n| shared.in_first(n)), [Some(2), None, Some(1), None]);
        assert!(!shared.is_empty() && !SharedSamples::All.is_empty());
        assert!(SharedSamples::from_ids(&ids(&["a"]), &[]).is_empty());
        assert_eq!((SharedSamples::All.in_second(7), SharedSamples::All.in_first(7)), (Some(7), Some(7)));
    }
}
