//! Which sample continues which, in a run whose samples are pieces: what is found along the path from the first piece to the last
//! one belongs to a whole sample. Reads only the column of parents; pools nothing itself.
//!
//! Pieces come depth first: a piece follows the piece that it continues, with nothing in between but what continues that piece as
//! well. A pass can then keep what it found along the path in a stack.

use crate::error::PieceError;
use crate::store::run::Run;
use crate::{Error, Result, table};
use arrow::array::UInt32Array;

/// The most pieces that follow one another on a path.
pub const DEEPEST: usize = 64;

/// The parents of all samples of a run; of none, if the samples are not pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    parents: Vec<Option<u32>>,
    /// The first piece of the path to each sample.
    roots: Vec<u32>,
    /// Whether other samples continue each sample.
    continued: Vec<bool>,
}

impl Paths {
    /// Paths from the parent of each sample.
    ///
    /// # Errors
    /// Pieces that are not in an order in which a pass can read them, or a path of more than [`DEEPEST`] pieces.
    pub fn new(parents: Vec<Option<u32>>) -> Result<Self, PieceError> {
        let (mut continued, mut roots) = (vec![false; parents.len()], Vec::with_capacity(parents.len()));
        // The path to the last sample.
        let mut path: Vec<u32> = Vec::new();
        for (sample, parent) in (0..).zip(&parents) {
            let end = match *parent {
                None => 0,
                Some(parent) if parent >= sample => return Err(PieceError::Order { sample, parent }),
                Some(parent) => match path.iter().position(|on_path| *on_path == parent) {
                    Some(place) => place + 1,
                    None => return Err(PieceError::Interleaved { sample, parent, between: end_of(parent, &parents) }),
                },
            };
            path.truncate(end);
            path.push(sample);
            if path.len() > DEEPEST {
                return Err(PieceError::Depth { sample, most: DEEPEST });
            }
            if let Some(parent) = parent {
                continued[*parent as usize] = true;
            }
            roots.push(path[0]);
        }
        Ok(Self { parents, roots, continued })
    }

    /// Reads the paths of a run with pieces.
    pub(super) fn read(run: &Run) -> Result<Self> {
        let path = run.samples();
        let mut parents = Vec::new();
        for batch in table::scan(&path, &["parent"])? {
            let batch = batch?;
            parents.extend(table::get::<UInt32Array>(&path, &batch, "parent")?.iter());
        }
        Self::new(parents).map_err(Error::format(&path))
    }

    /// Whether the samples are pieces.
    pub fn are_pieces(&self) -> bool {
        !self.parents.is_empty()
    }

    /// The sample that a sample continues.
    pub fn parent(&self, sample: u32) -> Option<u32> {
        self.parents.get(sample as usize).copied().flatten()
    }

    /// The first piece of the path to a sample, which all pieces of a row of the data share; a whole sample itself.
    pub fn root(&self, sample: u32) -> u32 {
        self.roots.get(sample as usize).copied().unwrap_or(sample)
    }

    /// Whether others continue the sample, so that it is no whole sample itself.
    pub fn is_continued(&self, sample: u32) -> bool {
        self.continued.get(sample as usize).is_some_and(|continued| *continued)
    }

    /// The parent of each sample.
    pub fn parents(&self) -> &[Option<u32>] {
        &self.parents
    }

    /// Counts of each piece become counts along the path that it ends. Pieces that others continue count nothing.
    pub fn pool_counts(&self, counts: &mut [u32]) {
        self.pool(counts, |count, parent| *count += *parent);
    }

    /// Combines the entry of each piece with that of its parent, in the order of the path. Entries of pieces that others continue
    /// are then emptied.
    pub fn pool<T: Default>(&self, entries: &mut [T], combine: impl Fn(&mut T, &T)) {
        for sample in 0..entries.len() {
            if let Some(parent) = self.parent(sample as u32) {
                let (before, rest) = entries.split_at_mut(sample);
                combine(&mut rest[0], &before[parent as usize]);
            }
        }
        for (sample, entry) in entries.iter_mut().enumerate() {
            if self.is_continued(sample as u32) {
                *entry = T::default();
            }
        }
    }
}

/// The first sample behind `sample` that does not continue it, directly or not.
fn end_of(sample: u32, parents: &[Option<u32>]) -> u32 {
    let mut behind = (sample + 1..).zip(&parents[sample as usize + 1..]);
    let end = behind.find(|(_, parent)| parent.is_none_or(|parent| parent < sample));
    end.map_or(sample, |(end, _)| end)
}

/// What was found so far on the path to the current sample of a pass: one entry for each piece that others continue. Pieces come
/// depth first, so that a stack suffices.
#[derive(Clone, Debug)]
pub struct PathStack<T> {
    entries: Vec<(u32, T)>,
}

impl<T> Default for PathStack<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> PathStack<T> {
    /// What was found up to `parent`, which the next sample continues; nothing if the next sample begins a path.
    ///
    /// # Errors
    /// The parent has not been pushed, or a sample that does not continue it was in between.
    pub fn begin(&mut self, parent: Option<u32>) -> Result<Option<&T>> {
        let Some(parent) = parent else {
            self.entries.clear();
            return Ok(None);
        };
        while self.entries.last().is_some_and(|(sample, _)| *sample != parent) {
            self.entries.pop();
        }
        let last = self.entries.last().map(|(_, found)| found);
        let missing =
            || Error::config(format!("the pieces of a path do not follow sample {parent}, which they continue"));
        last.ok_or_else(missing).map(Some)
    }

    /// Keeps what was found up to a sample that others continue.
    pub fn push(&mut self, sample: u32, found: T) {
        self.entries.push((sample, found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two trees: 0 is continued by 1 and 4, and 1 by 2 and 3; 5 is continued by 6.
    fn paths() -> Paths {
        Paths::new(vec![None, Some(0), Some(1), Some(1), Some(0), None, Some(5)]).unwrap()
    }

    #[test]
    fn counts_are_pooled_to_the_ends_of_paths() {
        let mut counts = vec![100, 10, 1, 2, 3, 50, 5];
        paths().pool_counts(&mut counts);
        assert_eq!(counts, [0, 0, 111, 112, 103, 0, 55]);
        assert_eq!((paths().root(3), paths().root(6), Paths::default().root(7)), (0, 5, 7));
        let mut whole = vec![1, 2];
        Paths::default().pool_counts(&mut whole);
        assert_eq!(whole, [1, 2]);
    }

    #[test]
    fn a_stack_has_what_precedes_every_sample() {
        let (paths, mut stack) = (paths(), PathStack::default());
        let mut found = Vec::new();
        for sample in 0..7 {
            let before = stack.begin(paths.parent(sample)).unwrap().cloned().unwrap_or_default();
            let path: Vec<u32> = [before, vec![sample]].concat();
            if paths.is_continued(sample) {
                stack.push(sample, path);
            } else {
                found.push(path);
            }
        }
        assert_eq!(found, [vec![0, 1, 2], vec![0, 1, 3], vec![0, 4], vec![5, 6]]);
        assert!(stack.begin(Some(0)).unwrap_err().to_string().contains("do not follow sample 0"));
    }

    #[test]
    fn parents_come_before_their_samples_and_paths_end() {
        let wrong = |parents: &[Option<u32>]| Paths::new(parents.to_vec()).unwrap_err();
        assert_eq!(wrong(&[Some(0)]), PieceError::Order { sample: 0, parent: 0 });
        assert_eq!(wrong(&[None, Some(2), Some(1)]), PieceError::Order { sample: 1, parent: 2 });
        let chain = |length: u32| Paths::new((0..length).map(|n| n.checked_sub(1)).collect());
        assert!(chain(64).is_ok());
        assert_eq!(chain(65).unwrap_err(), PieceError::Depth { sample: 64, most: 64 });
    }

    #[test]
    fn pieces_come_depth_first() {
        let wrong = |parents: &[Option<u32>]| Paths::new(parents.to_vec()).unwrap_err();
        // Two paths in turns.
        let found = wrong(&[None, None, Some(0), Some(1)]);
        assert_eq!(found, PieceError::Interleaved { sample: 2, parent: 0, between: 1 });
        assert!(found.to_string().contains("sample 2 continues sample 0, whose paths end before sample 1"), "{found}");
        // Breadth first: 1 and 2 continue 0, and then 3 continues 1.
        assert_eq!(
            wrong(&[None, Some(0), Some(0), Some(1)]),
            PieceError::Interleaved { sample: 3, parent: 1, between: 2 }
        );
    }

    proptest! {
        /// Orders are accepted if and only if a stack finds what precedes every sample.
        #[test]
        fn accepted_orders_are_those_that_a_stack_can_follow(parents in prop::collection::vec(prop::option::of(0u32..8), 0..10)) {
            let accepted = Paths::new(parents.clone()).is_ok();
            let mut stack = PathStack::default();
            let follows = (0..).zip(&parents).all(|(sample, parent)| {
                let found = stack.begin(*parent).is_ok();
                stack.push(sample, ());
                found
            });
            prop_assert_eq!(accepted, follows);
        }
    }
}
