//! A decoder: embedding, blocks and output head. Neither loads nor runs blocks after the last one that is needed. Of
//! images it knows only which rows belong to them.

use super::block::{Attending, Block, Partial};
use super::cache::KvCache;
use super::compute::Compute;
use super::config::{AXES, Layer, TextConfig};
use super::head::{Head, Names};
use super::matrix::Matrix;
use super::ops::{Rotary, VisibleKeys};
use super::weights::{Loader, Mapped};
use crate::Result;
use sae_core::store::{Hook, Site};
use std::ops::Range;

/// The first blocks of a decoder, or the whole decoder.
pub(super) struct Decoder {
    /// `[vocab_size, hidden_size]`.
    embedding: Mapped,
    blocks: Vec<Block>,
    head: Option<Head>,
    config: TextConfig,
    compute: Compute,
}

/// A description of a batch, which contains the positions of its samples one after the other. All of them are rows, except
/// those whose keys and values are kept.
#[derive(Clone, Default)]
pub(super) struct Sequence {
    /// The number of positions of each sample.
    pub lengths: Vec<usize>,
    /// How many of the first positions of each sample are kept.
    pub starts: Vec<usize>,
    /// Each position on the axes time, row and column.
    pub axes: Vec<[u32; AXES]>,
    /// The positions of each image, ascending.
    pub images: Vec<Range<usize>>,
    /// The positions of each sample's prefix, which may be empty.
    pub prefixes: Vec<Range<usize>>,
    /// Vectors that are added to the rows of images behind each of the first blocks (DeepStack).
    pub deep: Vec<Matrix>,
}

impl Sequence {
    /// The positions of each sample, and how many of them are kept.
    pub fn samples(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        self.lengths.iter().zip(&self.starts).scan(0, |at, (length, start)| {
            let positions = *at..*at + length;
            *at = positions.end;
            Some((positions, *start))
        })
    }

    /// The number of rows of each sample.
    pub fn rows(&self) -> Vec<usize> {
        self.samples().map(|(positions, start)| positions.len() - start).collect()
    }

    /// The entries of the rows, of a list that has one for each position.
    pub fn of_rows<T: Copy>(&self, entries: &[T]) -> Vec<T> {
        self.samples().flat_map(|(positions, start)| &entries[positions][start..]).copied().collect()
    }

    /// The rows of each image; none of an image whose keys and values are kept.
    pub fn image_rows(&self) -> Vec<Range<usize>> {
        let mut images = self.images.iter().peekable();
        let mut rows = Vec::with_capacity(self.images.len());
        let mut kept = 0;
        for (positions, start) in self.samples() {
            kept += start;
            while let Some(image) = images.next_if(|image| image.end <= positions.end) {
                let is_kept = image.end <= positions.start + start;
                rows.push(if is_kept { 0..0 } else { image.start - kept..image.end - kept });
            }
        }
        rows
    }
}

impl Decoder {
    /// Loads `depth` blocks. Without `depth`, loads all blocks and the output head.
    pub fn load(loader: &mut Loader, config: &TextConfig, depth: Option<usize>) -> Self {
        let Names { prefix, embedding, .. } = Names::find(loader, config.tied_head);
        let embedding = loader.mapped(&embedding, [config.vocab_size, config.hidden_size]);
        let head = depth.is_none().then(|| Head::load(loader, config));
        let blocks = 0..depth.unwrap_or(config.layers.len());
        let blocks = blocks.map(|n| Block::load(loader, &format!("{prefix}layers.{n}."), &config.block(n))).collect();
        Self { embedding, blocks, head, config: config.clone(), compute: loader.compute().clone() }
    }

    /// Embeds tokens.
    ///
    /// # Shapes
    /// `[rows]` to `[rows, hidden_size]`.
    ///
    /// # Errors
    /// The embedding matrix does not hold floats.
    pub fn embed(&self, ids: &[u32]) -> Result<Matrix> {
        let embedded = Matrix::new(self.embedding.rows(ids)?, self.config.hidden_size, &self.compute);
        Ok(if self.config.embedding_scale == 1.0 { embedded } else { embedded.scale(self.config.embedding_scale) })
    }

    /// Number of loaded blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Where the decoder computes.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The states at `hooks`, which are ascending, and the residual stream to which that at the last one, or what follows from
    /// it, is added within its block. Nothing after the last hook is computed. `caches` are empty, or have one cache for each
    /// sample, to which its rows are added.
    ///
    /// # Shapes
    /// `[rows, hidden_size]`, in and out.
    pub fn forward(
        &self,
        x: Matrix,
        sequence: &Sequence,
        hooks: &[Hook],
        caches: &mut [&mut KvCache],
    ) -> (Vec<Matrix>, Option<Matrix>) {
        let Some(last) = hooks.last().copied() else { return (Vec::new(), None) };
        let mut states = Vec::with_capacity(hooks.len());
        let start = (0, self.blocks[0].enter(x));
        let end = self.run(start, sequence, last, caches, |hook, state| {
            if hook != last && hooks.contains(&hook) {
                states.push(state.clone());
            }
        });
        states.push(end.state);
        (states, end.residual)
    }

    /// The output of the last loaded block if block `layer` is as far as `at`. `caches` as for [`Decoder::forward`].
    ///
    /// # Shapes
    /// `[rows, hidden_size]`, in and out.
    pub fn resume(&self, at: Partial, sequence: &Sequence, layer: usize, caches: &mut [&mut KvCache]) -> Matrix {
        self.run((layer, at), sequence, Hook::block(self.depth() - 1), caches, |_, _| ()).state
    }

    /// Runs the blocks from within one of them to the hook `last`. Calls `visit` with the state at each hook, before anything is
    /// added to it.
    fn run(
        &self,
        (first, mut at): (usize, Partial),
        sequence: &Sequence,
        last: Hook,
        caches: &mut [&mut KvCache],
        mut visit: impl FnMut(Hook, &Matrix),
    ) -> Partial {
        let (layers, blocks) = (&self.config.layers, first..last.layer() + 1);
        let rotaries: Vec<_> = (0..self.config.ropes.len()).map(|rope| self.rotary(rope, sequence)).collect();
        // What is visible through a window, with images whose positions attend to each other or without.
        let mut windows: Vec<((Option<usize>, bool), VisibleKeys)> = Vec::new();
        let view = |layer: Layer| (layer.window, layer.bidirectional_images);
        for layer in &layers[blocks.clone()] {
            if !windows.iter().any(|(window, _)| *window == view(*layer)) {
                let groups = if layer.bidirectional_images { &sequence.images[..] } else { &[] };
                let visible = VisibleKeys::causal(sequence.lengths.iter().copied(), layer.window, groups);
                let visible = visible.with_prefixes(&sequence.prefixes);
                let visible = if caches.is_empty() { visible } else { visible.continued(sequence.samples()) };
                windows.push((view(*layer), visible));
            }
        }
        for n in blocks {
            if n > first {
                at = self.blocks[n].enter(add_deep(at.state, sequence, n - 1));
            }
            let layer = layers[n];
            let visible = windows.iter().find(|(window, _)| *window == view(layer));
            let (_, visible) = visible.expect("the keys that are visible through every window were prepared");
            // Nothing is kept of a block whose attention is not run.
            let attends = at.site == Site::AttnIn && last > Hook::new(n, Site::AttnIn);
            let attends = attends && !caches.is_empty();
            let kept = caches.iter_mut().zip(sequence.samples());
            let kept = kept.map(|(cache, (positions, start))| cache.continued(n, start, positions.len() - start));
            let kept = attends.then(|| kept.collect());
            let attending = Attending { rotary: Some(&rotaries[layer.rope]), visible, kept };
            at = self.blocks[n].run(at, attending, &mut |at| {
                let hook = Hook::new(n, at.site);
                visit(hook, &at.state);
                hook == last
            });
        }
        at
    }

    /// The rotations of the rows of a batch by one of the decoder's rotary embeddings. Every sample gets the
    /// frequencies for its own length, whatever else is in the batch.
    fn rotary(&self, rope: usize, sequence: &Sequence) -> Rotary {
        let rope = &self.config.ropes[rope];
        let head_dim = rope.head_dim;
        let mut angles = Vec::with_capacity(sequence.axes.len() * head_dim / 2);
        for (positions, start) in sequence.samples() {
            let axes = &sequence.axes[positions];
            let frequencies = rope.frequencies(length(axes));
            for position in &axes[start..] {
                angles.extend(frequencies.iter().map(|(frequency, axis)| position[*axis] as f32 * frequency));
            }
        }
        Rotary::new(&angles, head_dim, rope.scaling.magnitude(), &self.compute)
    }

    /// The frequencies of each rotary embedding in a sample with these positions.
    pub fn frequencies(&self, axes: &[[u32; AXES]]) -> Vec<Vec<(f32, usize)>> {
        self.config.ropes.iter().map(|rope| rope.frequencies(length(axes))).collect()
    }

    /// The logits of the token that follows each row; `x` is the output of the last block.
    ///
    /// # Shapes
    /// `[rows, hidden_size]` to `[rows, vocab_size]`.
    ///
    /// # Panics
    /// If the decoder was loaded without its output head.
    pub fn logits(&self, x: Matrix) -> Matrix {
        let head = self.head.as_ref().expect("the whole decoder was loaded");
        let logits = head.forward(x);
        let logits = match self.config.logit_cap {
            Some(cap) => logits.cap(cap as f32),
            None => logits,
        };
        let never = &self.config.never_predicted;
        if never.is_empty() { logits } else { logits.mask_columns(never) }
    }
}

/// One more than the largest position of a sample.
fn length(axes: &[[u32; AXES]]) -> usize {
    axes.iter().flatten().max().map_or(0, |last| *last as usize + 1)
}

/// The input of the block after `layer`: the output of `layer`, plus the vectors that the vision tower adds to images
/// there.
fn add_deep(x: Matrix, sequence: &Sequence, layer: usize) -> Matrix {
    match sequence.deep.get(layer) {
        Some(deep) => {
            let images = sequence.image_rows();
            let rows: Vec<u32> = images.iter().flat_map(|rows| rows.start as u32..rows.end as u32).collect();
            x.add_at(&rows, deep)
        }
        None => x,
    }
}
