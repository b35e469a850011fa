//! A decoder: embedding, blocks, output head. Loads and runs no block behind the last one asked for. Knows nothing of
//! images but which rows are theirs.

use super::block::Block;
use super::config::{AXES, TextConfig};
use super::head::{Head, Names};
use super::ops::{Compute, Matrix, Rotary, VisibleKeys};
use super::weights::{Loader, Mapped};
use crate::Result;
use std::ops::Range;

/// The first blocks of a decoder, or all of it.
pub(super) struct Decoder {
    /// `[vocab_size, hidden_size]`.
    embedding: Mapped,
    blocks: Vec<Block>,
    head: Option<Head>,
    config: TextConfig,
    compute: Compute,
}

/// The rows of a batch: its samples one behind the other.
#[derive(Clone, Default)]
pub(super) struct Sequence {
    /// Of each sample.
    pub lengths: Vec<usize>,
    /// Of each row, on the axes time, row, column.
    pub positions: Vec<[u32; AXES]>,
    /// Rows of each image, ascending.
    pub images: Vec<Range<usize>>,
    /// What is added to the rows of images behind each of the first blocks.
    pub deep: Vec<Matrix>,
}

impl Decoder {
    /// Loads `depth` blocks; all of them and the output head if there is no `depth`.
    pub fn load(loader: &mut Loader, config: &TextConfig, depth: Option<usize>) -> Self {
        let Names { prefix, embedding, .. } = Names::find(loader, config.tied_head);
        let embedding = loader.mapped(&embedding, [config.vocab_size, config.hidden_size]);
        let head = depth.is_none().then(|| Head::load(loader, config));
        let blocks = 0..depth.unwrap_or(config.layers.len());
        let blocks = blocks.map(|n| Block::load(loader, &format!("{prefix}layers.{n}."), &config.block)).collect();
        Self { embedding, blocks, head, config: config.clone(), compute: loader.compute().clone() }
    }

    /// # Shapes
    /// `[rows]` to `[rows, hidden_size]`.
    ///
    /// # Errors
    /// The embedding holds no floats.
    pub fn embed(&self, ids: &[u32]) -> Result<Matrix> {
        let embedded = Matrix::new(self.embedding.rows(ids)?, self.config.hidden_size, &self.compute);
        Ok(if self.config.embedding_scale == 1.0 { embedded } else { embedded.scale(self.config.embedding_scale) })
    }

    /// Blocks that are loaded.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Where it computes.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// What leaves each of `layers`, which ascend.
    ///
    /// # Shapes
    /// `[rows, hidden_size]`, in and out.
    pub fn forward(&self, x: Matrix, sequence: &Sequence, layers: &[usize]) -> Vec<Matrix> {
        let mut left = Vec::with_capacity(layers.len());
        self.run(x, sequence, 0..layers.last().map_or(0, |layer| layer + 1), |n, x| {
            if layers.contains(&n) {
                left.push(x.clone());
            }
        });
        left
    }

    /// What leaves the last loaded block when `x` leaves block `layer`.
    ///
    /// # Shapes
    /// `[rows, hidden_size]`, in and out.
    pub fn resume(&self, x: Matrix, sequence: &Sequence, layer: usize) -> Matrix {
        let x = deepened(x, sequence, layer);
        self.run(x, sequence, layer + 1..self.depth(), |_, _| ())
    }

    /// Runs `blocks` on what enters the first of them; `see` is shown what leaves each, before anything is added to it.
    fn run(
        &self,
        mut x: Matrix,
        sequence: &Sequence,
        blocks: Range<usize>,
        mut see: impl FnMut(usize, &Matrix),
    ) -> Matrix {
        let layers = &self.config.layers;
        let rotaries: Vec<_> = (0..self.config.ropes.len()).map(|rope| self.rotary(rope, sequence)).collect();
        let mut windows: Vec<(Option<usize>, VisibleKeys)> = Vec::new();
        for layer in &layers[blocks.clone()] {
            if !windows.iter().any(|(window, _)| *window == layer.window) {
                let groups = if self.config.bidirectional_images { &sequence.images[..] } else { &[] };
                let visible = VisibleKeys::causal(sequence.lengths.iter().copied(), layer.window, groups);
                windows.push((layer.window, visible));
            }
        }
        let last = blocks.end.saturating_sub(1);
        for n in blocks {
            let layer = layers[n];
            let visible = windows.iter().find(|(window, _)| *window == layer.window);
            let (_, visible) = visible.expect("every window was prepared");
            x = self.blocks[n].forward(x, Some(&rotaries[layer.rope]), visible);
            see(n, &x);
            if n < last {
                x = deepened(x, sequence, n);
            }
        }
        x
    }

    /// The rotations of a batch's rows by one of the decoder's ropes. Each sample has the frequencies of its own length,
    /// whatever else is in the batch.
    fn rotary(&self, rope: usize, sequence: &Sequence) -> Rotary {
        let (rope, head_dim) = (&self.config.ropes[rope], self.config.block.head_dim);
        let mut angles = Vec::with_capacity(sequence.positions.len() * head_dim / 2);
        let mut rest = &sequence.positions[..];
        for length in &sequence.lengths {
            let (positions, behind) = rest.split_at(*length);
            let reach = positions.iter().flatten().max().map_or(0, |last| *last as usize + 1);
            let frequencies = rope.frequencies(head_dim, reach);
            for position in positions {
                angles.extend(frequencies.iter().map(|(frequency, axis)| position[*axis] as f32 * frequency));
            }
            rest = behind;
        }
        Rotary::new(&angles, head_dim, rope.scaling.magnitude(), &self.compute)
    }

    /// Logits of the token that follows each row; `x` is what left the last block.
    ///
    /// # Shapes
    /// `[rows, hidden_size]` to `[rows, vocab_size]`.
    ///
    /// # Panics
    /// If the decoder was loaded without its head.
    pub fn logits(&self, x: Matrix) -> Matrix {
        let head = self.head.as_ref().expect("the decoder was loaded whole");
        let logits = head.forward(x);
        let logits = match self.config.logit_cap {
            Some(cap) => logits.cap(cap as f32),
            None => logits,
        };
        if self.config.unspoken.is_empty() { logits } else { logits.silence(&self.config.unspoken) }
    }
}

/// What enters the block behind `layer`: what left it, with what the vision tower adds to the images there.
fn deepened(x: Matrix, sequence: &Sequence, layer: usize) -> Matrix {
    match sequence.deep.get(layer) {
        Some(deep) => {
            let rows: Vec<u32> = sequence.images.iter().flat_map(|rows| rows.start as u32..rows.end as u32).collect();
            x.add_at(&rows, deep)
        }
        None => x,
    }
}
