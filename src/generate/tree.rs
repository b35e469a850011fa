//! A tree of answers under way: depth first, with one stack of keys and values that is cut back to where the next piece branches off.
//! Says what the model should read next; runs nothing.

use super::branches::{Branch, Grown};
use super::report::End;
use super::rules::Rules;
use super::shape::TreeShape;
use super::work::{Drafts, Task};
use crate::Result;
use harvest::generation::{Draft, Reading, nll};

/// A place at which pieces branch off: the prompt, or the end of a piece.
struct Fork {
    /// The piece, and its number in a whole tree. The prompt has the number 0.
    branch: Option<usize>,
    number: u32,
    /// The position at which pieces begin, and the logits there.
    start: usize,
    logits: Vec<f32>,
    /// Pieces that were begun.
    begun: u32,
}

/// A piece under way.
struct Piece {
    number: u32,
    start: usize,
    nll: f64,
}

/// A tree under way.
pub(super) struct Grower {
    grown: Grown,
    shape: TreeShape,
    /// The position at which answers begin.
    answer: usize,
    /// The forks of the path.
    forks: Vec<Fork>,
    piece: Option<Piece>,
    drawn: u64,
}

/// What comes after a token.
enum Step {
    /// The model reads it.
    Read,
    /// The path ends, for this reason, and its text at this byte, if a stop text cuts it.
    End(End, Option<usize>),
    /// Pieces branch off.
    Fork,
}

impl Grower {
    pub fn new(shape: TreeShape, grown: Grown, answer: usize) -> Self {
        Self { grown, shape, answer, forks: Vec::new(), piece: None, drawn: 0 }
    }

    fn fork(&mut self, branch: Option<usize>, number: u32, draft: &Draft, logits: Vec<f32>) {
        self.forks.push(Fork { branch, number, start: draft.ids().len(), logits, begun: 0 });
    }

    /// Begins the next piece of the last fork, or of the last one that lacks one. Returns the logits there, or nothing if the tree is
    /// complete.
    fn begin(&mut self, draft: &mut Draft) -> Option<Vec<f32>> {
        while self.forks.last().is_some_and(|fork| fork.begun == self.shape.branches) {
            self.forks.pop();
        }
        let fork = self.forks.last_mut()?;
        fork.begun += 1;
        draft.truncate(fork.start);
        self.piece =
            Some(Piece { number: fork.number * self.shape.branches + fork.begun, start: fork.start, nll: 0.0 });
        Some(fork.logits.clone())
    }

    /// Chooses the next token of the piece, or finds that the piece or the path is complete.
    fn extend(&mut self, rules: &Rules, draft: &mut Draft, piece: &mut Piece, logits: &[f32]) -> Step {
        let (generator, length) = (rules.generator, draft.ids().len());
        let token = length - piece.start;
        if token == rules.tokens {
            return Step::Fork;
        }
        let next = rules.choose(logits, draft.ids(), [self.grown.sample, piece.number], token);
        let id = match next {
            _ if length >= generator.context() => return Step::End(End::Context, None),
            None => return Step::End(End::NotFinite, None),
            Some(id) if generator.is_end(id) => return Step::End(End::Finished, None),
            Some(id) => id,
        };
        if !rules.stop.is_empty()
            && let Some(cut) = rules.stopped_at(&generator.text(&[draft.answer(), &[id]].concat()), 0)
        {
            return Step::End(End::Stop, Some(cut));
        }
        piece.nll += nll(logits, id);
        self.drawn += 1;
        draft.push(id);
        // What ends every path need not be read.
        let is_last = token + 1 == rules.tokens && self.forks.len() == self.shape.depth as usize;
        if is_last { Step::End(End::Tokens, None) } else { Step::Read }
    }

    /// Adds a complete piece to the tree, unless the model said nothing. Returns its number among the branches. `end` says why the path
    /// ends, if it does, and where a stop text cuts its text.
    fn close(
        &mut self,
        rules: &Rules,
        draft: &Draft,
        piece: &Piece,
        end: Option<(End, Option<usize>)>,
    ) -> Option<usize> {
        let ids = draft.ids()[piece.start..].to_vec();
        let (parent, place) = self.forks.last().map(|fork| (fork.branch, fork.begun)).unwrap_or_default();
        let (end, cut) = end.map_or((None, None), |(end, cut)| (Some(end), cut));
        if ids.is_empty() {
            self.grown.silence(parent, end);
            return None;
        }
        let mut text = rules.generator.text(draft.answer());
        if let Some(cut) = cut {
            text.truncate(text.floor_char_boundary(cut.min(text.len())));
        }
        Some(self.grown.add(Branch { parent, place, ids, text, nll: Some(piece.nll), end }))
    }
}

impl Task for Grower {
    type Done = Grown;

    fn last(&self, _: &Drafts) -> usize {
        1
    }

    fn count(&mut self, positions: usize) {
        self.grown.computed += positions as u64;
    }

    fn observe(&mut self, rules: &Rules, _: usize, first: usize, states: &mut [f32]) -> Result<()> {
        rules.steer_always(self.answer, first, states)
    }

    fn advance(&mut self, rules: &Rules, drafts: &mut Drafts, reading: Reading) -> Option<Grown> {
        let (draft, mut logits) = (&mut drafts.main, reading.next);
        if self.forks.is_empty() {
            self.fork(None, 0, draft, std::mem::take(&mut logits));
        }
        loop {
            let mut piece = match self.piece.take() {
                Some(piece) => piece,
                None => {
                    let Some(there) = self.begin(draft) else { return Some(self.grown.clone()) };
                    logits = there;
                    continue;
                }
            };
            match self.extend(rules, draft, &mut piece, &logits) {
                Step::Read => {
                    self.piece = Some(piece);
                    return None;
                }
                Step::End(end, cut) => {
                    self.close(rules, draft, &piece, Some((end, cut)));
                }
                Step::Fork => {
                    let branch = self.close(rules, draft, &piece, None);
                    self.fork(branch, piece.number, draft, std::mem::take(&mut logits));
                }
            }
        }
    }

    fn drawn(&self) -> u64 {
        self.drawn
    }
}
