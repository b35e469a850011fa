//! The samples that a filter chooses among, and the rows of the data set that they stand for. In a run with pieces these are whole
//! paths: the last piece of each, which has the scores. Of a row with two answers the chosen one stands for the row.

use crate::Result;
use crate::error::FilterError;
use sae_core::error::PieceError;
use sae_core::store::sample::Sample;
use sae_core::store::{Paths, load_samples};
use sae_core::{Error, Run};
use std::borrow::Cow;
use std::collections::HashMap;

/// The branch of an answer that people liked less than another one.
const REJECTED: &str = "rejected";

/// The numbers of the samples that a filter chooses among, ascending; `None` if all samples are whole rows.
///
/// # Errors
/// Pieces that no pass could read.
pub fn candidates(samples: &[Sample]) -> Result<Option<Vec<u32>>, PieceError> {
    Ok(among(samples, &Paths::from_samples(samples)?))
}

fn among(samples: &[Sample], paths: &Paths) -> Option<Vec<u32>> {
    let is_other_answer = |n: u32| {
        let branch = samples[n as usize].piece.as_ref().map(|piece| piece.branch.as_str());
        divides_row(samples, paths, n) && branch == Some(REJECTED)
    };
    let numbers = (0..samples.len() as u32).filter(|n| paths.is_whole(*n) && !is_other_answer(*n));
    paths.are_pieces().then(|| numbers.collect())
}

/// Whether a sample is a piece of the row in which its path begins. Such pieces have the key of the row, and the nodes of a tree a
/// key each.
fn divides_row(samples: &[Sample], paths: &Paths, n: u32) -> bool {
    let root = paths.root(n);
    root != n && samples[root as usize].key == samples[n as usize].key
}

/// The candidates of a filter, among all samples of a run.
pub(super) struct Candidates {
    all: Vec<Sample>,
    paths: Paths,
    /// The numbers of the candidates, ascending; `None` if all samples are.
    numbers: Option<Vec<u32>>,
    /// Whether samples are the nodes of trees, of which each may be a row of its own.
    are_trees: bool,
}

impl Candidates {
    /// Reads the samples of a run.
    ///
    /// # Errors
    /// The table of samples cannot be read.
    pub fn read(run: &Run) -> Result<Self> {
        Self::new(load_samples(run)?).map_err(|error| Error::format(&run.samples())(error).into())
    }

    fn new(all: Vec<Sample>) -> Result<Self, PieceError> {
        let paths = Paths::from_samples(&all)?;
        let numbers = among(&all, &paths);
        let are_trees = (0..all.len() as u32).any(|n| paths.root(n) != n && !divides_row(&all, &paths, n));
        Ok(Self { all, paths, numbers, are_trees })
    }

    /// All samples of the run.
    pub fn all(&self) -> &[Sample] {
        &self.all
    }

    /// Whether the candidates are the paths of trees.
    pub fn are_trees(&self) -> bool {
        self.are_trees
    }

    /// The samples that stand for candidates, in their order.
    pub fn samples(&self) -> Cow<'_, [Sample]> {
        match &self.numbers {
            None => Cow::Borrowed(&self.all),
            Some(numbers) => numbers.iter().map(|n| self.all[*n as usize].clone()).collect(),
        }
    }

    /// The number of the sample that stands for a candidate.
    pub fn number(&self, candidate: usize) -> u32 {
        self.numbers.as_ref().map_or(candidate as u32, |numbers| numbers[candidate])
    }

    /// The numbers of all of these samples.
    pub fn numbers(&self) -> Vec<u32> {
        self.numbers.clone().unwrap_or_else(|| (0..self.all.len() as u32).collect())
    }

    /// Of values of all samples, those of the candidates.
    pub fn pick<T: Clone>(&self, values: Vec<T>) -> Vec<T> {
        match &self.numbers {
            None => values,
            Some(numbers) => numbers.iter().map(|n| values[*n as usize].clone()).collect(),
        }
    }

    /// Of decisions about all samples, those about the candidates.
    ///
    /// # Errors
    /// A sample is to be kept that stands for no candidate, and none of those that continue it is kept.
    pub fn pick_decided(&self, decided: Vec<Option<bool>>) -> Result<Vec<Option<bool>>> {
        let picked = self.pick(decided.clone());
        let mut of_rows: HashMap<u32, bool> = HashMap::new();
        for (n, stays) in self.numbers().into_iter().zip(&picked) {
            *of_rows.entry(self.paths.root(n)).or_default() |= *stays == Some(true);
        }
        // A key names all pieces of a row.
        let is_kept = |n: u32| decided[n as usize] == Some(true);
        let lost = (0..decided.len() as u32)
            .find(|n| is_kept(*n) && !of_rows.get(&self.paths.root(*n)).is_some_and(|kept| *kept));
        match lost {
            Some(sample) => Err(FilterError::NoCandidate { sample, key: self.all[sample as usize].key.clone() }.into()),
            None => Ok(picked),
        }
    }

    /// The rows of the data set, each by a sample that came from it, and whether a kept candidate has something of it. `kept` has the
    /// decision about each candidate. What several candidates share is kept as soon as one of them is.
    pub fn rows(&self, kept: &[bool]) -> Vec<(u32, bool)> {
        if self.numbers.is_none() {
            return (0..).zip(kept.iter().copied()).collect();
        }
        let mut rows: Vec<(u32, bool)> = Vec::new();
        let mut known: HashMap<&str, usize> = HashMap::new();
        for (candidate, stays) in kept.iter().enumerate() {
            let number = self.number(candidate);
            // The last piece is that of which the decision is.
            for piece in self.paths.path(number).into_iter().rev() {
                let source = self.all[piece as usize].source.as_str();
                let row = *known.entry(source).or_insert_with(|| {
                    rows.push((piece, false));
                    rows.len() - 1
                });
                rows[row].1 |= stays;
            }
        }
        rows.sort_unstable();
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::store::sample::Piece;

    /// Samples from their keys, sources, parents and branches.
    fn candidates(samples: &[(&str, &str, Option<u32>, &str)]) -> Candidates {
        let sample = |(key, source, parent, branch): &(&str, &str, Option<u32>, &str)| Sample {
            id: String::new(),
            key: (*key).into(),
            text: String::new(),
            images: Vec::new(),
            source: (*source).into(),
            meta: serde_json::Value::Null,
            piece: Some(Piece { parent: *parent, branch: (*branch).into(), is_critique: false }),
        };
        Candidates::new(samples.iter().map(sample).collect()).unwrap()
    }

    #[test]
    fn the_chosen_answer_stands_for_its_row() {
        let found = candidates(&[
            ("a", "f:0", None, "prompt"),
            ("a", "f:0", Some(0), "chosen"),
            ("a", "f:0", Some(0), "rejected"),
            ("b", "f:1", None, "prompt"),
            ("b", "f:1", Some(3), "answer"),
        ]);
        assert_eq!((found.numbers(), found.are_trees()), (vec![1, 4], false));
        assert_eq!(found.pick(vec![0, 1, 2, 3, 4]), [1, 4]);
        assert_eq!(found.rows(&[false, true]), [(1, false), (4, true)]);
        // A key names every piece of its row; a number names one.
        let [yes, no] = [true, false].map(Some);
        assert_eq!(found.pick_decided(vec![yes, yes, yes, no, None]).unwrap(), [yes, None]);
        let refused = found.pick_decided(vec![yes, no, no, no, no]).unwrap_err().to_string();
        assert!(refused.contains("sample 0 (a)"), "{refused}");
    }

    #[test]
    fn the_paths_of_a_tree_share_rows() {
        let found = candidates(&[
            ("r", "f:0", None, "r"),
            ("x", "f:1", Some(0), "x"),
            ("rejected", "f:2", Some(0), "rejected"),
            ("y", "f:3", Some(2), "y"),
            ("z", "f:4", Some(2), "z"),
        ]);
        assert_eq!((found.numbers(), found.are_trees()), (vec![1, 3, 4], true));
        assert_eq!(found.rows(&[false, true, false]), [(0, true), (1, false), (2, true), (3, true), (4, false)]);
        // A node of that name is no other answer.
        assert_eq!(candidates(&[("r", "f:0", None, "r"), ("rejected", "f:1", Some(0), "rejected")]).numbers(), [1]);
    }
}
