//! The pairs of a topology, drawn among those that nobody has compared before.

use super::Topology;
use super::trees::Trees;
use filters::pairs::PairSpace;
use sae_core::random::SplitMix64;
use std::collections::BTreeSet;

/// Pairs among which the active topology chooses, if there are so many.
const CANDIDATES: usize = 20_000;

/// Draws pairs.
pub(super) struct Draw<'a> {
    /// The answers.
    pub trees: &'a Trees,
    /// Pairs that were compared before, [`sorted`].
    pub earlier: BTreeSet<[usize; 2]>,
    /// How many pairs of a topology are drawn.
    pub n: usize,
    /// The seed.
    pub seed: u64,
}

/// Random numbers for a purpose.
pub(super) fn random(seed: u64, purpose: u64) -> SplitMix64 {
    SplitMix64::new(SplitMix64::nth(seed, purpose + 1))
}

/// A pair, whichever answer comes first.
pub(super) fn sorted([a, b]: [usize; 2]) -> [usize; 2] {
    [a.min(b), a.max(b)]
}

impl Draw<'_> {
    /// Those among which the active topology chooses.
    pub fn candidates(&self) -> Vec<[usize; 2]> {
        self.unseen(&self.trees.of_one_tree(), CANDIDATES, 1)
    }

    /// How many pairs of a kind exist, and those that are drawn.
    pub fn pairs(&self, topology: Topology) -> (usize, Vec<[usize; 2]>) {
        let purpose = 2 + topology as u64;
        let space = match topology {
            Topology::Chain => self.trees.unrelated(),
            Topology::Siblings => self.trees.siblings(),
            Topology::Random | Topology::Mixed | Topology::Active => self.trees.of_one_tree(),
        };
        if topology != Topology::Mixed {
            return (space.len(), self.unseen(&space, self.n, purpose));
        }
        let siblings = self.unseen(&self.trees.siblings(), self.n.div_ceil(2), purpose);
        let taken: BTreeSet<[usize; 2]> = siblings.iter().copied().collect();
        let others = self.unseen(&space, self.n, purpose + 8).into_iter();
        let mut others = others.filter(|pair| !taken.contains(pair));
        let mut pairs = Vec::with_capacity(self.n.min(space.len()));
        for pair in siblings {
            pairs.push(pair);
            pairs.extend(others.next());
        }
        pairs.extend(others);
        pairs.truncate(self.n);
        (space.len(), pairs)
    }

    /// `n` different pairs that were not compared before, or all of them.
    fn unseen(&self, space: &PairSpace, n: usize, purpose: u64) -> Vec<[usize; 2]> {
        let mut pairs = space.draw(n + self.earlier.len(), &mut random(self.seed, purpose));
        pairs.retain(|pair| !self.earlier.contains(&sorted(*pair)));
        pairs.truncate(n);
        pairs
    }
}
