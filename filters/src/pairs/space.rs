//! All pairs of answers of a kind, counted and drawn without listing them.

use sae_core::random::SplitMix64;
use std::collections::HashMap;
use std::ops::Range;

/// The pairs of answers within groups, or of different groups.
#[derive(Clone, Debug, PartialEq)]
pub struct PairSpace {
    /// The answers, group after group.
    members: Vec<usize>,
    /// For each of them, the places of the later answers that it is paired with.
    partners: Vec<Range<usize>>,
    /// How many pairs there are up to each of them, its own included.
    ends: Vec<usize>,
}

impl PairSpace {
    /// Pairs of answers of the same group. `groups` has the group of every answer; answers without one are in no pair.
    ///
    /// ```
    /// use filters::pairs::PairSpace;
    /// use sae_core::random::SplitMix64;
    ///
    /// let groups = [Some(7), Some(7), None, Some(7), Some(9)];
    /// let mut pairs = PairSpace::within(&groups).draw(9, &mut SplitMix64::new(1));
    /// pairs.sort();
    /// assert_eq!(pairs, [[0, 1], [0, 3], [1, 3]]);
    /// ```
    pub fn within(groups: &[Option<u32>]) -> Self {
        Self::new(groups, |place, end, _| place + 1..end)
    }

    /// Pairs of answers of different groups.
    pub fn across(groups: &[Option<u32>]) -> Self {
        Self::new(groups, |_, end, all| end..all)
    }

    /// `partners` of the member at a place: from that place, the end of its group, and the number of members.
    fn new(groups: &[Option<u32>], partners: impl Fn(usize, usize, usize) -> Range<usize>) -> Self {
        let mut members: Vec<usize> = (0..groups.len()).filter(|answer| groups[*answer].is_some()).collect();
        members.sort_by_key(|answer| (groups[*answer], *answer));
        let mut ends_of_groups = vec![members.len(); members.len()];
        for place in (1..members.len()).rev() {
            let is_same = groups[members[place]] == groups[members[place - 1]];
            ends_of_groups[place - 1] = if is_same { ends_of_groups[place] } else { place };
        }
        let partners: Vec<Range<usize>> =
            (0..members.len()).map(|place| partners(place, ends_of_groups[place], members.len())).collect();
        let mut pairs = 0;
        let ends = partners.iter().map(|partners| {
            pairs += partners.len();
            pairs
        });
        Self { ends: ends.collect(), members, partners }
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pair of a number below [`PairSpace::len`].
    fn pair(&self, number: usize) -> [usize; 2] {
        let place = self.ends.partition_point(|end| *end <= number);
        let before = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        [self.members[place], self.members[self.partners[place].start + number - before]]
    }

    /// Draws `n` different pairs in random order, or all if there are fewer. Memory: a few words per drawn pair (Fisher and Yates,
    /// of whose list only what has moved is held).
    pub fn draw(&self, n: usize, random: &mut SplitMix64) -> Vec<[usize; 2]> {
        let all = self.len();
        let mut moved: HashMap<usize, usize> = HashMap::new();
        let mut draw = |place: usize| {
            let other = place + random.below(all - place);
            let found = moved.get(&other).copied().unwrap_or(other);
            let displaced = moved.get(&place).copied().unwrap_or(place);
            moved.insert(other, displaced);
            self.pair(found)
        };
        (0..n.min(all)).map(&mut draw).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_pair_is_drawn_once() {
        let groups = [Some(3), Some(1), Some(3), None, Some(1), Some(2), Some(3)];
        let expected = |fits: &dyn Fn(u32, u32) -> bool| -> BTreeSet<[usize; 2]> {
            let pairs = (0..groups.len()).flat_map(|a| (a + 1..groups.len()).map(move |b| [a, b]));
            pairs.filter(|[a, b]| groups[*a].zip(groups[*b]).is_some_and(|(a, b)| fits(a, b))).collect()
        };
        let sorted = |[a, b]: [usize; 2]| [a.min(b), a.max(b)];
        for (space, expected) in [
            (PairSpace::within(&groups), expected(&|a, b| a == b)),
            (PairSpace::across(&groups), expected(&|a, b| a != b)),
        ] {
            assert_eq!(space.len(), expected.len());
            let all = space.draw(100, &mut SplitMix64::new(5));
            assert_eq!(all.len(), expected.len());
            assert_eq!(all.iter().copied().map(sorted).collect::<BTreeSet<_>>(), expected);
            assert_eq!(space.draw(3, &mut SplitMix64::new(5)), all[..3], "fewer are the first of more");
        }
        for empty in
            [PairSpace::within(&[]), PairSpace::within(&[Some(1), Some(2), None]), PairSpace::across(&[Some(1)])]
        {
            assert!(empty.is_empty() && empty.draw(2, &mut SplitMix64::new(0)).is_empty());
        }
    }

    #[test]
    fn pairs_are_drawn_equally_often() {
        let space = PairSpace::within(&[Some(0); 4]);
        let mut counts = HashMap::new();
        for seed in 0..3_000 {
            *counts.entry(space.draw(1, &mut SplitMix64::new(seed))[0]).or_insert(0) += 1;
        }
        assert!(counts.len() == 6 && counts.values().all(|count| (400..600).contains(count)), "{counts:?}");
    }
}
