//! The model: from token ids and images to the hidden states at chosen hooks of the decoder, or to the log-likelihood of
//! tokens, optionally with other hidden states in place of those at a hook. All families are one decoder and one
//! vision tower with different configurations. Knows nothing about data sets, prompts or image files.

mod block;
mod cache;
mod compute;
pub mod config;
mod decoder;
pub mod flops;
#[cfg(feature = "gpu")]
pub mod gpu_attention;
mod head;
mod input;
mod logprobs;
mod matrix;
mod ops;
mod positions;
mod projector;
mod tower;
mod vq_tokenizer;
mod weights;

pub use crate::kernel::pointwise::Activation;
pub use cache::KvCache;
pub use compute::Compute;
pub use config::{ModelConfig, TextConfig, VisionConfig};
pub use head::Head;
pub use input::{Image, ImageLayout, Input, Moment, Source, check_input};
pub use logprobs::{Prediction, log_sum_exp};
pub use weights::{Size, Weights};

use crate::kernel::attention::Heads;
use crate::{Error, Result};
use config::VisionEncoder;
use decoder::{Decoder, Sequence};
use matrix::Matrix;
use projector::Projector;
use sae_core::store::{Hook, Site};
use std::ops::Range;
use std::sync::Arc;
use vq_tokenizer::ImageTokenizer;

/// A model, or its first blocks.
pub struct Model {
    config: ModelConfig,
    vision: Option<Vision>,
    decoder: Decoder,
}

enum Vision {
    Projector(Box<Projector>),
    VqTokenizer(Box<ImageTokenizer>),
}

/// Hidden states at chosen hooks, for all samples of a batch.
#[derive(Clone, Debug)]
pub struct Hidden {
    width: usize,
    lengths: Vec<usize>,
    /// For every hook the rows of all samples, one after the other.
    hooks: Vec<Vec<f32>>,
    /// The residual stream to which the state at the last hook is added within its block, or what follows from the state; if the
    /// model is to continue from there ([`Model::pause`]), and the hook is not the output of a block.
    residual: Option<Arc<Vec<f32>>>,
}

impl Hidden {
    /// Hidden states of samples of these lengths, at each hook.
    pub(crate) fn new(width: usize, lengths: Vec<usize>, hooks: Vec<Vec<f32>>) -> Self {
        Self { width, lengths, hooks, residual: None }
    }

    /// The hidden states of all samples, one after the other, at the `hook`-th of the chosen hooks.
    pub fn hook(&self, hook: usize) -> &[f32] {
        &self.hooks[hook]
    }

    /// The hidden states of a sample at the `hook`-th of the chosen hooks, `[positions, width]`, row-major.
    pub fn rows(&self, hook: usize, sample: usize) -> &[f32] {
        &self.hooks[hook][self.range(sample)]
    }

    /// The hidden states of all samples, one after the other, at each of the chosen hooks.
    pub fn hooks(&self) -> Vec<&[f32]> {
        self.hooks.iter().map(Vec::as_slice).collect()
    }

    /// The same samples with other hidden states at the last hook, those of all samples one after the other, and none at others.
    ///
    /// # Shapes
    /// `rows`: `[positions of all samples, width]`, as [`Hidden::hook`] returns it.
    ///
    /// # Panics
    /// If there are more or fewer numbers.
    #[must_use]
    pub fn with_rows(&self, rows: &[f32]) -> Self {
        assert_eq!(rows.len(), self.width * self.lengths.iter().sum::<usize>(), "a row for each position");
        Self { hooks: vec![rows.to_vec()], lengths: self.lengths.clone(), residual: self.residual.clone(), ..*self }
    }

    /// The same hidden states, mutable.
    pub fn rows_mut(&mut self, hook: usize, sample: usize) -> &mut [f32] {
        let range = self.range(sample);
        &mut self.hooks[hook][range]
    }

    /// The width of a hidden state.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The hidden states of several batches, one after the other, at each of as many `hooks` as were chosen. Memory is freed as
    /// fast as it is used.
    pub fn join(mut batches: Vec<Self>, hooks: usize) -> Vec<Vec<f32>> {
        let joined = (0..hooks).map(|hook| {
            let mut all = Vec::with_capacity(batches.iter().map(|batch| batch.hooks[hook].len()).sum());
            for batch in &mut batches {
                all.extend_from_slice(&std::mem::take(&mut batch.hooks[hook]));
            }
            all
        });
        joined.collect()
    }

    fn range(&self, sample: usize) -> std::ops::Range<usize> {
        let start = self.lengths[..sample].iter().sum::<usize>() * self.width;
        start..start + self.lengths[sample] * self.width
    }
}

impl Model {
    /// Loads what is needed for the hidden states in block `last`, counted from 0, and behind it. Without `last`, loads the whole
    /// model with its output head.
    ///
    /// # Errors
    /// The model has no such block, or tensors of the checkpoint are missing, have an unexpected shape, or are left
    /// over. All of these tensors are counted, and the first few are named.
    pub fn load(config: &ModelConfig, weights: &Weights, last: Option<usize>, compute: &Compute) -> Result<Self> {
        if let Some(last) = last {
            check_hooks(config, &[Hook::block(last)])?;
        }
        compute.check()?;
        weights.load(compute, |loader| Self::build(config, loader, last.map(|last| last + 1)))
    }

    /// Loads what is needed for the hidden states at a hook.
    ///
    /// # Errors
    /// As for [`Model::load`].
    pub fn load_to(config: &ModelConfig, weights: &Weights, last: Hook, compute: &Compute) -> Result<Self> {
        check_hooks(config, &[last])?;
        compute.check()?;
        weights.load(compute, |loader| Self::build(config, loader, Some(depth(last))))
    }

    /// The size of the weights that [`Model::load_to`] would read. Reads only headers.
    pub fn size(config: &ModelConfig, weights: &Weights, last: Hook) -> Size {
        weights.size(|loader| Self::build(config, loader, Some(depth(last))))
    }

    /// `depth` is the number of decoder blocks; without it, all of them and the output head.
    fn build(config: &ModelConfig, loader: &mut weights::Loader, depth: Option<usize>) -> Self {
        let vision = config.vision.as_ref().map(|vision| match &vision.kind {
            VisionEncoder::Tower(tower, projector) => {
                Vision::Projector(Box::new(Projector::load(loader, tower, projector, config.text.hidden_size)))
            }
            VisionEncoder::VqTokenizer(tokenizer) => {
                Vision::VqTokenizer(Box::new(ImageTokenizer::load(loader, tokenizer)))
            }
        });
        let decoder = Decoder::load(loader, &config.text, depth);
        Self { config: config.clone(), vision, decoder }
    }

    /// The configuration of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Computes the hidden states at `hooks`, which are ascending. Nothing after the last of them is computed.
    ///
    /// A hook before the decoder has to be the only one. The rows of a sample are then those of its images: of the projector the
    /// positions of its images, of the vision tower the patches that these positions show.
    ///
    /// # Errors
    /// A block is not loaded, an id is outside the vocabulary, the images do not fit the placeholders, or the device
    /// failed.
    pub fn hidden(&self, inputs: &[&Input], hooks: &[Hook]) -> Result<Hidden> {
        match hooks {
            [hook] if hook.site().is_before_decoder() => self.images(inputs, *hook),
            _ => Ok(self.forward(inputs, hooks, &mut [])?.0),
        }
    }

    /// The states of images at a hook before the decoder.
    fn images(&self, inputs: &[&Input], hook: Hook) -> Result<Hidden> {
        check_hooks(&self.config, &[hook])?;
        let Some(Vision::Projector(projector)) = &self.vision else { return Err(Error::NoTower { hook }) };
        let images: Vec<&Image> = inputs.iter().flat_map(|input| &input.images).collect();
        let width = self.config.width_at(hook);
        if images.is_empty() {
            return Ok(Hidden::new(width, vec![0; inputs.len()], vec![Vec::new()]));
        }
        let (states, rows): (Matrix, fn(&Projector, &Image) -> usize) = match hook.site() {
            Site::Vision => (projector.tower_block(&images, hook.layer()), Projector::patches),
            _ => (projector.forward(&images).positions, |_, image| image.sources.len()),
        };
        let rows = |input: &&Input| input.images.iter().map(|image| rows(projector, image)).sum();
        Ok(Hidden::new(width, inputs.iter().map(rows).collect(), vec![states.into_values()?]))
    }

    /// Computes the hidden states at `hooks` of the positions that `caches` lack, one cache for each sample, and adds the
    /// keys and values of these positions to the caches. On a CPU they equal those of [`Model::hidden`] to the bit, on a GPU up to
    /// rounding. Images whose positions are all kept are not read.
    ///
    /// The result has all positions where the rotary frequencies of the model depend on the length of the sample (dynamic and
    /// LongRoPE scaling), and this length changed them; and where a cache ends within the prefix of a sample.
    ///
    /// ```no_run
    /// use harvest::Checkpoint;
    /// use harvest::model::{Compute, Input, KvCache};
    /// use sae_core::store::Hook;
    ///
    /// let checkpoint = Checkpoint::open("checkpoints/llama".as_ref())?;
    /// let model = checkpoint.load(Some(4), &Compute::Host { bf16: false })?;
    /// let input = |ids: &[u32]| Input { ids: ids.to_vec(), ..Input::default() };
    /// let mut cache = KvCache::default();
    /// model.hidden_after(&mut [&mut cache], &[&input(&[1, 15, 92])], &[Hook::block(4)])?;
    /// // Only the last token is computed.
    /// let last = model.hidden_after(&mut [&mut cache], &[&input(&[1, 15, 92, 65])], &[Hook::block(4)])?;
    /// // Another third token.
    /// cache.truncate(2);
    /// let other = model.hidden_after(&mut [&mut cache], &[&input(&[1, 15, 35])], &[Hook::block(4)])?;
    /// # Ok::<(), harvest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Model::hidden`]; or a sample does not begin with the tokens of its cache, has no others, or the cache ends
    /// within one of its images.
    ///
    /// # Panics
    /// If there are more or fewer caches than samples.
    pub fn hidden_after(&self, caches: &mut [&mut KvCache], inputs: &[&Input], hooks: &[Hook]) -> Result<Hidden> {
        assert_eq!(caches.len(), inputs.len(), "a cache for each sample");
        Ok(self.forward(inputs, hooks, caches)?.0)
    }

    /// Computes the hidden states at `hooks`, which are ascending, with what the model needs to continue from the last of them,
    /// whatever takes their place there ([`Model::compare`], [`Model::logits_after`]). `caches` are empty, or have one cache for
    /// each sample, as for [`Model::hidden_after`]. Nothing after the last hook is computed.
    ///
    /// # Errors
    /// As for [`Model::hidden_after`].
    ///
    /// # Panics
    /// If there are caches, but more or fewer than samples.
    pub fn pause(&self, caches: &mut [&mut KvCache], inputs: &[&Input], hooks: &[Hook]) -> Result<Hidden> {
        assert!(caches.is_empty() || caches.len() == inputs.len(), "a cache for each sample");
        let (hidden, residual) = self.forward(inputs, hooks, caches)?;
        Ok(Hidden { residual: residual.map(Matrix::into_values).transpose()?.map(Arc::new), ..hidden })
    }

    /// The hidden states at `hooks`, and the residual stream at the last one ([`Decoder::forward`]).
    fn forward(
        &self,
        inputs: &[&Input],
        hooks: &[Hook],
        caches: &mut [&mut KvCache],
    ) -> Result<(Hidden, Option<Matrix>)> {
        self.check_loaded(hooks)?;
        let mut sequence = self.positions(inputs)?;
        let blocks = 0..hooks.last().map_or(0, |hook| attending_blocks(*hook));
        let samples: Vec<_> = sequence.samples().collect();
        for (n, (cache, (positions, _))) in caches.iter_mut().zip(samples).enumerate() {
            cache.rotate_by(self.decoder.frequencies(&sequence.axes[positions]));
            cache.begin_with(inputs[n].prefix);
            sequence.starts[n] = cache.kept(blocks.clone());
            if !inputs[n].ids.starts_with(cache.ids()) || inputs[n].ids.len() == sequence.starts[n] {
                return Err(Error::NotContinued { kept: cache.ids().len(), length: inputs[n].ids.len() });
            }
        }
        let (x, sequence) = self.embed(inputs, sequence)?;
        caches.iter_mut().zip(inputs).for_each(|(cache, input)| cache.read(&input.ids));
        let (states, residual) = self.decoder.forward(x, &sequence, hooks, caches);
        let hooks = states.into_iter().map(Matrix::into_values).collect::<Result<_>>()?;
        Ok((Hidden::new(self.config.text.hidden_size, sequence.rows(), hooks), residual))
    }

    fn check_loaded(&self, hooks: &[Hook]) -> Result<()> {
        check_decoder(hooks)?;
        let loaded = self.decoder.depth();
        match hooks.iter().find(|hook| hook.layer() >= loaded) {
            Some(asked) => Err(Error::LayerNotLoaded { asked: asked.layer(), loaded }),
            None => Ok(()),
        }
    }

    /// Describes a batch, of whose samples the first `starts` positions are kept. The vision tower is run only if it adds
    /// vectors to later blocks.
    fn sequence(&self, inputs: &[&Input], starts: Vec<usize>) -> Result<Sequence> {
        let kind = self.config.vision.as_ref().map(|vision| &vision.kind);
        let is_deep = matches!(kind, Some(VisionEncoder::Tower(_, projector)) if projector.is_deep());
        let sequence = Sequence { starts, ..self.positions(inputs)? };
        if is_deep { Ok(self.embed(inputs, sequence)?.1) } else { Ok(sequence) }
    }

    /// Describes a batch, without vectors of images. Nothing is kept.
    fn positions(&self, inputs: &[&Input]) -> Result<Sequence> {
        let mut sequence = Sequence::default();
        for input in inputs {
            let start = sequence.axes.len();
            let lengths: Vec<usize> = input.images.iter().map(|image| image.sources.len()).collect();
            let images =
                check_input(&self.config, &input.ids, &lengths, |id| id.to_string()).map_err(Error::InvalidInput)?;
            let is_image: Vec<bool> = input.ids.iter().map(|id| self.is_placeholder(*id)).collect();
            sequence.images.extend(images.into_iter().map(|rows| start + rows.start..start + rows.end));
            sequence.axes.extend(positions::positions(&is_image, &input.images, &self.config.text));
            if input.prefix > input.ids.len() {
                let (prefix, length) = (input.prefix, input.ids.len());
                return Err(Error::InvalidInput(format!(
                    "the prefix has {prefix} positions, but the text has {length}"
                )));
            }
            sequence.prefixes.push(start..start + input.prefix);
            sequence.lengths.push(input.ids.len());
            sequence.starts.push(0);
        }
        Ok(sequence)
    }

    fn is_placeholder(&self, id: u32) -> bool {
        self.config.vision.as_ref().is_some_and(|vision| vision.is_placeholder(id))
    }

    /// Embeds the tokens of the rows, and puts the vectors of images at the positions of their placeholders.
    fn embed(&self, inputs: &[&Input], mut sequence: Sequence) -> Result<(Matrix, Sequence)> {
        let ends = sequence.samples().map(|(positions, start)| positions.start + start);
        let is_cut = |end: usize| sequence.images.iter().any(|image| image.start < end && end < image.end);
        if ends.into_iter().any(is_cut) {
            return Err(Error::InvalidInput("the kept positions end within an image".into()));
        }
        let ids = inputs.iter().flat_map(|input| &input.ids).copied();
        let mut ids = sequence.of_rows(&ids.collect::<Vec<u32>>());
        let is_image: Vec<bool> = ids.iter().map(|id| self.is_placeholder(*id)).collect();
        // The placeholder itself may be outside the vocabulary, because its embedding is never used.
        ids.iter_mut().zip(&is_image).filter(|(_, is_image)| **is_image).for_each(|(id, _)| *id = 0);
        let images = inputs.iter().flat_map(|input| &input.images).zip(sequence.image_rows());
        let (images, image_rows): (Vec<&Image>, Vec<Range<usize>>) =
            images.filter(|(_, rows)| !rows.is_empty()).unzip();
        match &self.vision {
            Some(Vision::VqTokenizer(tokenizer)) => {
                for (image, rows) in images.iter().zip(&image_rows) {
                    ids[rows.clone()].copy_from_slice(&tokenizer.tokens(image)?);
                }
                Ok((self.decoder.embed(&ids)?, sequence))
            }
            Some(Vision::Projector(projector)) if !images.is_empty() => {
                let projected = projector.forward(&images);
                // Row numbers in a table that consists of the embedded tokens followed by the vectors of images.
                let mut rows: Vec<u32> = (0..ids.len() as u32).collect();
                // Between the positions of an image there may be other tokens.
                let of_images = image_rows.iter().flat_map(Range::clone).filter(|row| is_image[*row]);
                of_images.zip(ids.len() as u32..).for_each(|(row, next)| rows[row] = next);
                sequence.deep = projected.deep;
                let table = Matrix::stack_rows(vec![self.decoder.embed(&ids)?, projected.positions]);
                Ok((table.gather(&rows), sequence))
            }
            _ => Ok((self.decoder.embed(&ids)?, sequence)),
        }
    }
}

/// Attention as a model that computes there does it, for comparisons: `softmax(scale q k^T) v` over the visible keys.
///
/// # Shapes
/// `q`: `[rows, heads * head_dim]`, and so is the result. `k` and `v`: `[rows, kv_heads * head_dim]`. `visible`: `[rows]`; no
/// range is empty.
///
/// # Errors
/// The device failed.
pub fn attention(compute: &Compute, [q, k, v]: [&[f32]; 3], heads: Heads, visible: &[Range<u32>]) -> Result<Vec<f32>> {
    let matrix = |values: &[f32], heads_of: usize| Matrix::new(values.to_vec(), heads_of * heads.head_dim, compute);
    let (q, [k, v]) = (matrix(q, heads.heads), [k, v].map(|values| matrix(values, heads.kv_heads)));
    ops::attention(&q, &k, &v, heads, &ops::VisibleKeys::new(visible.to_vec())).into_values()
}

/// Rejects hooks before the decoder, for what replaces states or predicts from them.
pub fn check_decoder(hooks: &[Hook]) -> Result<()> {
    match hooks.iter().find(|hook| hook.site().is_before_decoder()) {
        Some(hook) => Err(Error::BeforeDecoder { hook: *hook }),
        None => Ok(()),
    }
}

/// The number of decoder blocks that are needed for a hook.
fn depth(hook: Hook) -> usize {
    if hook.site().is_before_decoder() { 0 } else { hook.layer() + 1 }
}

/// The number of blocks whose attention is run before a hook.
fn attending_blocks(hook: Hook) -> usize {
    hook.layer() + usize::from(hook.site() != Site::AttnIn)
}

/// Rejects hooks that the model does not have, and a hook before the decoder beside others.
pub fn check_hooks(config: &ModelConfig, hooks: &[Hook]) -> Result<()> {
    if let Some(hook) = hooks.iter().find(|hook| hook.site().is_before_decoder()) {
        let tower = config.vision.as_ref().and_then(VisionConfig::tower);
        let (tower, _) = tower.ok_or(Error::NoTower { hook: *hook })?;
        if hook.site() == Site::Vision && hook.layer() >= tower.layers {
            return Err(Error::UnknownTowerBlock { asked: hook.layer(), blocks: tower.layers });
        }
        return if hooks.len() == 1 { Ok(()) } else { Err(Error::BesideImages { hook: *hook }) };
    }
    let blocks = config.text.layers.len();
    match hooks.iter().find(|hook| hook.layer() >= blocks) {
        Some(asked) => Err(Error::UnknownLayer { asked: asked.layer(), blocks }),
        None => Ok(()),
    }
}
