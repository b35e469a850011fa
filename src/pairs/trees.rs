//! The answers of a run whose samples are pieces of trees: where they are, what two of them have in common, who speaks, and how many
//! tokens there are to read and were generated.

use super::PairsError;
use crate::Result;
use filters::pairs::PairSpace;
use sae_core::analysis::between::Part;
use sae_core::store::sample::{Modality, Role};
use sae_core::store::{Paths, Store};
use std::collections::BTreeSet;

/// Pieces, and the answers that some of them end.
pub(super) struct Trees {
    paths: Paths,
    pieces: Vec<Piece>,
    /// The last piece of every answer, in ascending order.
    pub answers: Vec<u32>,
}

/// What is known of a piece.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Whose turn it ends with.
    pub role: Role,
    /// Whether it shows a video.
    pub shows_video: bool,
    /// Its text tokens with content.
    read: u64,
    /// Those of the model.
    generated: u64,
}

impl Trees {
    /// Reads the pieces of a store. `has_content` says which samples have positions that count; of them, those that end a path with a
    /// turn of the model are answers.
    ///
    /// # Errors
    /// Samples that are no pieces; no tree with two answers, or only one tree with answers; a token table that cannot be read.
    pub fn read(store: &Store, has_content: impl Fn(usize) -> bool) -> Result<Self> {
        let paths = store.paths().clone();
        if !paths.are_pieces() {
            return Err(PairsError::NoPieces { run: store.run().root().to_path_buf() }.into());
        }
        let none = Piece { role: Role::Template, shows_video: false, read: 0, generated: 0 };
        let mut pieces = vec![none; paths.parents().len()];
        for shard in 0..store.shards() {
            let tokens = store.tokens(shard)?;
            for row in 0..tokens.rows() {
                let (modality, role, special) = (tokens.modality[row], tokens.role[row], tokens.special[row]);
                let piece = &mut pieces[tokens.sample[row] as usize];
                let is_text = modality == Modality::Text;
                piece.read += u64::from(is_text && Part::All.contains(modality, role, special));
                piece.generated += u64::from(Part::Answer.contains(modality, role, special));
                piece.shows_video |= modality == Modality::Video;
                // Of a node with several turns, the last one counts: a question with its answer is an answer.
                if role != Role::Template {
                    piece.role = role;
                }
            }
        }
        for sample in 0..pieces.len() {
            if pieces[sample].role == Role::Template {
                let before = paths.parent(sample as u32).map(|parent| pieces[parent as usize].role);
                pieces[sample].role = if before == Some(Role::User) { Role::Assistant } else { Role::User };
            }
        }
        let is_answer = |sample: &u32| {
            let n = *sample as usize;
            paths.is_whole(*sample) && pieces[n].role == Role::Assistant && has_content(n)
        };
        let answers: Vec<u32> = (0..pieces.len() as u32).filter(is_answer).collect();
        let trees = Self { paths, pieces, answers };
        trees.check()?;
        Ok(trees)
    }

    fn check(&self) -> Result<(), PairsError> {
        let answers = self.answers.len();
        if self.of_one_tree().is_empty() {
            let trees = self.paths.parents().iter().filter(|parent| parent.is_none()).count();
            return Err(PairsError::NoPairs { answers, trees });
        }
        if self.unrelated().is_empty() {
            return Err(PairsError::OneTree { answers });
        }
        Ok(())
    }

    /// The tree of every answer, by its first piece.
    fn roots(&self) -> Vec<Option<u32>> {
        self.answers.iter().map(|answer| Some(self.paths.root(*answer))).collect()
    }

    /// How many trees have answers.
    pub fn count(&self) -> usize {
        self.roots().into_iter().collect::<BTreeSet<_>>().len()
    }

    /// Pairs of answers of one tree.
    pub fn of_one_tree(&self) -> PairSpace {
        PairSpace::within(&self.roots())
    }

    /// Pairs of answers of different trees.
    pub fn unrelated(&self) -> PairSpace {
        PairSpace::across(&self.roots())
    }

    /// Pairs of answers that continue the same piece.
    pub fn siblings(&self) -> PairSpace {
        let parents: Vec<Option<u32>> = self.answers.iter().map(|answer| self.paths.parent(*answer)).collect();
        PairSpace::within(&parents)
    }

    /// What is known of a piece.
    pub fn piece(&self, sample: u32) -> &Piece {
        &self.pieces[sample as usize]
    }

    /// The piece that a piece continues.
    pub fn parent(&self, sample: u32) -> Option<u32> {
        self.paths.parent(sample)
    }

    /// The pieces that two answers have in common, and those of each alone, in the order of their paths.
    pub fn divide(&self, pair: [usize; 2]) -> Divided {
        let [mut first, mut second] = pair.map(|answer| {
            let mut path = vec![self.answers[answer]];
            while let Some(parent) = self.paths.parent(path[path.len() - 1]) {
                path.push(parent);
            }
            path.reverse();
            path
        });
        let common = first.iter().zip(&second).take_while(|(a, b)| a == b).count();
        let (first_own, second_own) = (first.split_off(common), second.split_off(common));
        Divided { common: first, own: [first_own, second_own] }
    }
}

/// The pieces of two answers.
pub(super) struct Divided {
    pub common: Vec<u32>,
    pub own: [Vec<u32>; 2],
}

impl Divided {
    /// The depth of the last piece that both have: 0 if it begins the tree, nothing if there is none.
    pub fn depth(&self) -> Option<usize> {
        self.common.len().checked_sub(1)
    }

    /// All of them, those that both have once.
    pub fn pieces(&self) -> impl Iterator<Item = u32> + '_ {
        self.common.iter().chain(self.own.iter().flatten()).copied()
    }
}

/// What comparisons cost so far.
#[derive(Default)]
pub(super) struct Costs {
    pub tokens_read: u64,
    pub tokens_generated: u64,
    generated: BTreeSet<u32>,
}

impl Costs {
    /// Adds a comparison: all its pieces are read, those that both answers have once, and those that no earlier comparison needed were
    /// generated for it.
    pub fn add(&mut self, trees: &Trees, divided: &Divided) {
        for sample in divided.pieces() {
            let piece = trees.piece(sample);
            self.tokens_read += piece.read;
            if self.generated.insert(sample) {
                self.tokens_generated += piece.generated;
            }
        }
    }
}
