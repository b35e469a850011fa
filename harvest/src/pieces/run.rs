//! The hidden states of pieces: depth first along each tree, with one stack of keys and values, which is cut back to where the next
//! piece branches off. Several trees go through the model together.

use crate::Result;
use crate::model::{Hidden, Input, KvCache, Model};
use sae_core::store::Hook;
use std::ops::Range;

/// The pieces of a tree in a batch, and the path to the last piece that was computed.
struct Tree {
    pieces: Range<usize>,
    /// The pieces of the path, each with the number of positions up to its end.
    path: Vec<(usize, usize)>,
    cache: KvCache,
}

/// The hidden states at `hooks` of the positions of each piece. `parents` has the number of the piece that each continues,
/// counted from the first piece of its tree, and none for the first one.
///
/// # Errors
/// As [`Model::hidden`].
pub(crate) fn hidden(model: &Model, inputs: &[Input], parents: &[Option<u32>], hooks: &[Hook]) -> Result<Hidden> {
    let mut trees: Vec<Tree> = Vec::new();
    for (piece, parent) in parents.iter().enumerate() {
        match trees.last_mut() {
            Some(tree) if parent.is_some() => tree.pieces.end = piece + 1,
            _ => trees.push(Tree { pieces: piece..piece + 1, path: Vec::new(), cache: KvCache::default() }),
        }
    }
    let mut states: Vec<Vec<Vec<f32>>> = vec![Vec::new(); inputs.len()];
    for step in 0..trees.iter().map(|tree| tree.pieces.len()).max().unwrap_or(0) {
        let (mut pieces, mut paths, mut caches) = (Vec::new(), Vec::new(), Vec::new());
        for tree in trees.iter_mut().filter(|tree| step < tree.pieces.len()) {
            let piece = tree.pieces.start + step;
            let parent = parents[piece].map(|parent| tree.pieces.start + parent as usize);
            while tree.path.last().is_some_and(|(last, _)| Some(*last) != parent) {
                tree.path.pop();
            }
            let start = tree.path.last().map_or(0, |(_, end)| *end);
            tree.path.push((piece, start + inputs[piece].ids.len()));
            tree.cache.truncate(start);
            // Only the first piece of a tree has a prefix.
            let mut path = Input { prefix: inputs[tree.pieces.start].prefix, ..Input::default() };
            for (piece, _) in &tree.path {
                path.ids.extend(&inputs[*piece].ids);
                path.images.extend(inputs[*piece].images.iter().cloned());
            }
            pieces.push(piece);
            paths.push(path);
            caches.push(&mut tree.cache);
        }
        let computed = model.hidden_after(&mut caches, &paths.iter().collect::<Vec<_>>(), hooks)?;
        for (n, piece) in pieces.into_iter().enumerate() {
            // Where nothing could be kept, the whole path was computed.
            let own = |hook: usize| {
                let rows = computed.rows(hook, n);
                rows[rows.len() - inputs[piece].ids.len() * computed.width()..].to_vec()
            };
            states[piece] = (0..hooks.len()).map(own).collect();
        }
    }
    let lengths = inputs.iter().map(|input| input.ids.len()).collect();
    let hooks = (0..hooks.len()).map(|hook| states.iter().flat_map(|state| &state[hook]).copied().collect());
    Ok(Hidden::new(model.config().text.hidden_size, lengths, hooks.collect()))
}
