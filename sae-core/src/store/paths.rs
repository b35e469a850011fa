//! Which sample continues which, in a run whose samples are pieces: what is found along the path from the first piece to the last
//! one belongs to a whole sample. Reads only the column of parents; pools nothing itself.
//!
//! Pieces come depth first: a piece follows the piece that it continues, with nothing in between but what continues that piece as
//! well. A pass can then keep what it found along the path in a stack.

use crate::error::PieceError;
use crate::store::run::Run;
use crate::store::sample::{FEEDBACK, Sample, continues_turn};
use crate::{Error, Result, table};
use arrow::array::{StringArray, UInt32Array};
use std::ops::Range;

/// The most pieces that follow one another on a path.
pub const DEEPEST: usize = 64;

/// The beginning of the branches of sentences, before their numbers.
pub const SENTENCE: &str = "sentence_";

/// The parents of all samples of a run; of none, if the samples are not pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    parents: Vec<Option<u32>>,
    /// The first piece of the path to each sample.
    roots: Vec<u32>,
    /// Whether other samples continue each sample. Critiques do not count.
    continued: Vec<bool>,
    /// Whether each sample is a critique; empty if none is.
    critiques: Vec<bool>,
}

impl Paths {
    /// Paths from the parent of each sample.
    ///
    /// # Errors
    /// Pieces that are not in an order in which a pass can read them, or a path of more than [`DEEPEST`] pieces.
    pub fn new(parents: Vec<Option<u32>>) -> Result<Self, PieceError> {
        Self::with_critiques(parents, Vec::new())
    }

    /// Paths with pieces that are critiques. A critique ends the tree of its row: what follows it continues nothing before it.
    fn with_critiques(parents: Vec<Option<u32>>, critiques: Vec<bool>) -> Result<Self, PieceError> {
        let is_critique = |sample: u32| critiques.get(sample as usize).is_some_and(|critique| *critique);
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
            if let (Some(parent), true) = (parent, sample.checked_sub(1).is_some_and(is_critique)) {
                return Err(PieceError::AfterCritique { sample, parent: *parent });
            }
            path.truncate(end);
            path.push(sample);
            if path.len() > DEEPEST {
                return Err(PieceError::Depth { sample, most: DEEPEST });
            }
            if let Some(parent) = parent.filter(|_| !is_critique(sample)) {
                continued[parent as usize] = true;
            }
            roots.push(path[0]);
        }
        Ok(Self { parents, roots, continued, critiques })
    }

    /// Reads the paths of a run with pieces, some of which may be critiques.
    pub(super) fn read(run: &Run, has_critiques: bool) -> Result<Self> {
        let path = run.samples();
        let (mut parents, mut critiques) = (Vec::new(), Vec::new());
        for batch in table::scan(&path, &["parent", "branch"])? {
            let batch = batch?;
            parents.extend(table::get::<UInt32Array>(&path, &batch, "parent")?.iter());
            if has_critiques {
                let branches = table::get::<StringArray>(&path, &batch, "branch")?;
                critiques.extend(branches.iter().map(|branch| branch == Some(FEEDBACK)));
            }
        }
        Self::with_critiques(parents, critiques).map_err(Error::format(&path))
    }

    /// The paths of these samples, which are all samples of a run.
    ///
    /// # Errors
    /// As [`Paths::new`].
    pub fn from_samples(samples: &[Sample]) -> Result<Self, PieceError> {
        if samples.iter().all(|sample| sample.piece.is_none()) {
            return Ok(Self::default());
        }
        let pieces = || samples.iter().map(|sample| sample.piece.as_ref());
        let critiques: Vec<bool> = pieces().map(|piece| piece.is_some_and(|piece| piece.is_critique)).collect();
        let critiques = if critiques.contains(&true) { critiques } else { Vec::new() };
        Self::with_critiques(pieces().map(|piece| piece?.parent).collect(), critiques)
    }

    /// Whether the samples are pieces.
    pub fn are_pieces(&self) -> bool {
        !self.parents.is_empty()
    }

    /// The sample that a sample continues.
    pub fn parent(&self, sample: u32) -> Option<u32> {
        self.parents.get(sample as usize).copied().flatten()
    }

    /// Whether the sample is a critique of the answer that it continues.
    pub fn is_critique(&self, sample: u32) -> bool {
        self.critiques.get(sample as usize).is_some_and(|critique| *critique)
    }

    /// Whether any sample is a critique.
    pub fn have_critiques(&self) -> bool {
        !self.critiques.is_empty()
    }

    /// Whether the sample is a whole one: no piece, or the last one of a path, and no critique.
    pub fn is_whole(&self, sample: u32) -> bool {
        !self.is_continued(sample) && !self.is_critique(sample)
    }

    /// The sample with which the findings of a sample go on: its parent. Those of a critique are its own.
    pub fn goes_on_from(&self, sample: u32) -> Option<u32> {
        self.parent(sample).filter(|_| !self.is_critique(sample))
    }

    /// The first piece of the path to a sample, which all pieces of a row of the data share; a whole sample itself.
    pub fn root(&self, sample: u32) -> u32 {
        self.roots.get(sample as usize).copied().unwrap_or(sample)
    }

    /// The path to a sample: its pieces from the first one to the sample itself. A whole sample is its own path.
    ///
    /// ```
    /// use sae_core::store::Paths;
    ///
    /// // A prompt with two answers.
    /// let paths = Paths::new(vec![None, Some(0), Some(0)])?;
    /// assert_eq!((paths.path(2), paths.path(0)), (vec![0, 2], vec![0]));
    /// # Ok::<(), sae_core::error::PieceError>(())
    /// ```
    pub fn path(&self, sample: u32) -> Vec<u32> {
        let mut path = vec![sample];
        while let Some(parent) = self.parent(path[path.len() - 1]) {
            path.push(parent);
        }
        path.reverse();
        path
    }

    /// The text of the path to a sample: the texts of its turns, separated by newlines, as a whole sample has them. `samples` are
    /// all samples of the run.
    pub fn text(&self, samples: &[Sample], sample: u32) -> String {
        let mut text = String::new();
        let mut before: Option<&Sample> = None;
        for piece in self.path(sample).into_iter().filter_map(|piece| samples.get(piece as usize)) {
            if before.is_some_and(|before| !goes_on(piece, before)) {
                text.push('\n');
            }
            text += &piece.text;
            before = Some(piece);
        }
        text
    }

    /// The sample and all pieces that continue it, directly or not.
    pub fn continuations(&self, sample: u32) -> Range<u32> {
        let end = if self.is_continued(sample) { end_of(sample, &self.parents) } else { sample + 1 };
        sample..end
    }

    /// The piece on the path to a sample that brings an image, and which of the images that this piece adds it is. `None` if the
    /// sample has no such image. The images of a piece are those of its path.
    pub fn image(&self, samples: &[Sample], sample: u32, image: usize) -> Option<(u32, usize)> {
        let mut before = 0;
        for piece in self.path(sample) {
            let shown = samples.get(piece as usize)?.images.len();
            if image < shown {
                return Some((piece, image - before));
            }
            before = shown;
        }
        None
    }

    /// Whether others continue the sample, so that it is no whole sample itself.
    pub fn is_continued(&self, sample: u32) -> bool {
        self.continued.get(sample as usize).is_some_and(|continued| *continued)
    }

    /// The parent of each sample.
    pub fn parents(&self) -> &[Option<u32>] {
        &self.parents
    }

    /// Counts of each piece become counts along the path that it ends. Pieces that others continue and critiques count nothing.
    pub fn pool_counts(&self, counts: &mut [u32]) {
        self.pool(counts, |count, parent| *count += *parent);
    }

    /// Combines the entry of each piece with that of its parent, in the order of the path. Entries of samples that are not whole are
    /// then emptied.
    pub fn pool<T: Default>(&self, entries: &mut [T], combine: impl Fn(&mut T, &T)) {
        for sample in 0..entries.len() {
            if let Some(parent) = self.goes_on_from(sample as u32) {
                let (before, rest) = entries.split_at_mut(sample);
                combine(&mut rest[0], &before[parent as usize]);
            }
        }
        for (sample, entry) in entries.iter_mut().enumerate() {
            if !self.is_whole(sample as u32) {
                *entry = T::default();
            }
        }
    }
}

/// Whether a piece goes on with the turn in which the piece before it ends: the next sentence of an answer, or a message that says
/// so. Sentences have the key of their row, messages of trees a key each.
fn goes_on(piece: &Sample, before: &Sample) -> bool {
    let number = |sample: &Sample| sample.piece.as_ref()?.branch.strip_prefix(SENTENCE)?.parse::<u32>().ok();
    let is_next = number(before).is_some_and(|n| number(piece) == n.checked_add(1));
    continues_turn(&piece.meta) || (is_next && piece.key == before.key)
}

/// The first sample behind `sample` that does not continue it, directly or not.
fn end_of(sample: u32, parents: &[Option<u32>]) -> u32 {
    let mut behind = (sample + 1..).zip(&parents[sample as usize + 1..]);
    let end = behind.find(|(_, parent)| parent.is_none_or(|parent| parent < sample));
    end.map_or(parents.len() as u32, |(end, _)| end)
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
    use crate::store::sample::{ImageRef, Piece};
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
        assert_eq!([0, 1, 3, 5].map(|n| paths().continuations(n)), [0..5, 1..4, 3..4, 5..7]);
        assert_eq!(Paths::default().continuations(7), 7..8);
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
    fn a_critique_is_no_part_of_the_answer_that_it_continues() {
        let parents = vec![None, Some(0), Some(0), Some(2), None];
        let critiques = vec![false, false, false, true, false];
        let paths = Paths::with_critiques(parents, critiques).unwrap();
        assert_eq!([0, 1, 2, 3].map(|n| paths.is_whole(n)), [false, true, true, false]);
        assert_eq!((paths.path(3), paths.parent(3), paths.goes_on_from(3)), (vec![0, 2, 3], Some(2), None));
        let mut counts = vec![100, 10, 1, 7, 5];
        paths.pool_counts(&mut counts);
        assert_eq!(counts, [0, 110, 101, 0, 5]);
        // A pass could no longer find what precedes the other answer.
        let parents = vec![None, Some(0), Some(1), Some(0)];
        let refused = Paths::with_critiques(parents, vec![false, false, true, false]).unwrap_err();
        assert_eq!(refused, PieceError::AfterCritique { sample: 3, parent: 0 });
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

    fn sample(key: &str, branch: &str, text: &str, images: usize) -> Sample {
        let image = ImageRef { path: String::new(), width: 1, height: 1, sha256: String::new() };
        Sample {
            id: String::new(),
            key: key.into(),
            text: text.into(),
            images: vec![image; images],
            source: String::new(),
            meta: serde_json::Value::Null,
            piece: Some(Piece { parent: None, branch: branch.into(), is_critique: false }),
        }
    }

    #[test]
    fn a_path_has_the_text_of_a_whole_sample() {
        let mut samples = vec![
            sample("a", "prompt", "What is it?", 1),
            sample("a", "sentence_1", "A cat. ", 1),
            sample("a", "sentence_2", "It sleeps.", 1),
            sample("b", "sentence_1", "Hello", 0),
            sample("c", "sentence_2", "there", 2),
            sample("d", "d", " again", 3),
        ];
        samples[5].meta = serde_json::json!({ "continues": true });
        let parents = [None, Some(0), Some(1), None, Some(3), Some(4)];
        samples.iter_mut().zip(parents).for_each(|(sample, parent)| sample.piece.as_mut().unwrap().parent = parent);
        let paths = Paths::from_samples(&samples).unwrap();
        assert_eq!(paths.path(2), [0, 1, 2]);
        assert_eq!(paths.text(&samples, 2), "What is it?\nA cat. It sleeps.");
        // Messages whose ids look like sentences are turns, unless they say that they go on.
        assert_eq!(paths.text(&samples, 5), "Hello\nthere again");
        // Images belong to the piece that brings them.
        assert_eq!([0, 1].map(|image| paths.image(&samples, 2, image)), [Some((0, 0)), None]);
        assert_eq!([0, 1, 2, 3].map(|n| paths.image(&samples, 5, n)), [Some((4, 0)), Some((4, 1)), Some((5, 0)), None]);
        for whole in &mut samples {
            whole.piece = None;
        }
        let whole = Paths::from_samples(&samples).unwrap();
        assert_eq!(
            (whole.path(2), whole.text(&samples, 2), whole.image(&samples, 2, 0)),
            (vec![2], "It sleeps.".into(), Some((2, 0)))
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
