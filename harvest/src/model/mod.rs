//! The model: token ids and images in, hidden states behind chosen decoder blocks out, or the log-likelihood of
//! tokens, also with other states in place of those behind a block. All families are one decoder and one vision tower,
//! configured. Knows nothing of data sets, prompts or files of images.

mod block;
pub mod config;
mod decoder;
pub mod flops;
mod head;
mod logprobs;
mod ops;
mod positions;
mod projector;
mod tower;
mod vq_tokenizer;
mod weights;

pub use crate::kernel::pointwise::Activation;
pub use config::{ModelConfig, TextConfig, VisionConfig};
pub use head::Head;
pub use logprobs::Prediction;
pub use ops::Compute;
pub use weights::{Size, Weights};

use crate::{Error, Result};
use config::VisionEncoder;
use decoder::{Decoder, Sequence};
use ops::Matrix;
use projector::Projector;
use std::ops::Range;
use vq_tokenizer::ImageTokenizer;

/// One sample as the model takes it.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Token ids; an image position has the placeholder's.
    pub ids: Vec<u32>,
    /// Its images, in the order of their positions.
    pub images: Vec<Image>,
}

/// An image as the model takes it.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Numbers of its patches, view by view.
    pub patches: Vec<f32>,
    /// Rows and columns of patches of each view.
    pub views: Vec<[usize; 2]>,
    /// For each of its positions the row of what its views become; nothing for a newline.
    pub sources: Vec<Option<u32>>,
    /// Rows and columns of its positions, where the model tells them apart.
    pub grid: [usize; 2],
}

/// A model, or the first part of one.
pub struct Model {
    config: ModelConfig,
    vision: Option<Vision>,
    decoder: Decoder,
}

enum Vision {
    Projector(Box<Projector>),
    VqTokenizerConfig(Box<ImageTokenizer>),
}

/// What left the decoder blocks that were asked for; or what is to leave one of them ([`Model::compare`]).
#[derive(Clone, Debug)]
pub struct Hidden {
    width: usize,
    lengths: Vec<usize>,
    /// For every layer the rows of all samples, one behind the other.
    layers: Vec<Vec<f32>>,
}

impl Hidden {
    /// The hidden states of all samples behind the `layer`-th of the layers asked for, one sample behind the other.
    pub fn layer(&self, layer: usize) -> &[f32] {
        &self.layers[layer]
    }

    /// The hidden states of a sample behind the `layer`-th of the layers asked for, `[positions, width]` row-major.
    pub fn rows(&self, layer: usize, sample: usize) -> &[f32] {
        &self.layers[layer][self.place(sample)]
    }

    /// The same, to be changed.
    pub fn rows_mut(&mut self, layer: usize, sample: usize) -> &mut [f32] {
        let place = self.place(sample);
        &mut self.layers[layer][place]
    }

    fn place(&self, sample: usize) -> std::ops::Range<usize> {
        let start = self.lengths[..sample].iter().sum::<usize>() * self.width;
        start..start + self.lengths[sample] * self.width
    }
}

impl Model {
    /// Loads what is needed for the hidden states behind block `last`, counted from 0; the whole model with its output
    /// head if there is no `last`.
    ///
    /// # Errors
    /// The model has no such block; or everything that is missing, misshapen or left over in the checkpoint, at once.
    pub fn load(config: &ModelConfig, weights: &Weights, last: Option<usize>, compute: &Compute) -> Result<Self> {
        if let Some(last) = last {
            check_layers(config, &[last])?;
        }
        weights.load(compute, |loader| Self::build(config, loader, last))
    }

    /// How large the weights are that [`Model::load`] would read. Reads headers alone.
    pub fn size(config: &ModelConfig, weights: &Weights, last: Option<usize>) -> Size {
        weights.size(|loader| Self::build(config, loader, last))
    }

    fn build(config: &ModelConfig, loader: &mut weights::Loader, last: Option<usize>) -> Self {
        let vision = config.vision.as_ref().map(|vision| match &vision.kind {
            VisionEncoder::Tower(tower, join) => {
                Vision::Projector(Box::new(Projector::load(loader, tower, join, config.text.hidden_size)))
            }
            VisionEncoder::VqTokenizer(codes) => {
                Vision::VqTokenizerConfig(Box::new(ImageTokenizer::load(loader, codes)))
            }
        });
        let decoder = Decoder::load(loader, &config.text, last.map(|n| n + 1));
        Self { config: config.clone(), vision, decoder }
    }

    /// What the checkpoint says about the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Hidden states behind `layers`, counted from 0 and ascending; nothing is computed behind the last of them.
    ///
    /// # Errors
    /// A layer that is not loaded, an id outside the vocabulary, images that do not fit the placeholders, or a device
    /// that failed.
    pub fn hidden(&self, inputs: &[&Input], layers: &[usize]) -> Result<Hidden> {
        self.check_loaded(layers)?;
        let (x, sequence) = self.embed(inputs)?;
        let left = self.decoder.forward(x, &sequence, layers);
        let layers = left.into_iter().map(Matrix::into_values).collect::<Result<_>>()?;
        Ok(Hidden { width: self.config.text.hidden_size, lengths: sequence.lengths, layers })
    }

    fn check_loaded(&self, layers: &[usize]) -> Result<()> {
        let depth = self.decoder.depth();
        match layers.iter().find(|layer| **layer >= depth) {
            Some(layer) => Err(Error::Plan(format!("layer {layer} is not among the {depth} that are loaded"))),
            None => Ok(()),
        }
    }

    /// What the rows of a batch are, images' vectors aside; with what is added to them further on, if there is such.
    fn sequence(&self, inputs: &[&Input]) -> Result<Sequence> {
        let deep = matches!(&self.config.vision, Some(VisionConfig { kind: VisionEncoder::Tower(_, join), .. }) if join.is_deep());
        if deep { Ok(self.embed(inputs)?.1) } else { self.rows(inputs) }
    }

    /// What the rows of a batch are.
    fn rows(&self, inputs: &[&Input]) -> Result<Sequence> {
        let mut sequence = Sequence::default();
        for input in inputs {
            let start = sequence.positions.len();
            let lengths: Vec<usize> = input.images.iter().map(|image| image.sources.len()).collect();
            let images = check_input(&self.config, &input.ids, &lengths, |id| id.to_string()).map_err(Error::Plan)?;
            let image_id = self.config.vision.as_ref().map(|v| v.image_token_id);
            let image: Vec<bool> = input.ids.iter().map(|id| Some(*id) == image_id).collect();
            sequence.images.extend(images.into_iter().map(|rows| start + rows.start..start + rows.end));
            sequence.positions.extend(positions::positions(&image, &input.images, &self.config.text));
            sequence.lengths.push(input.ids.len());
        }
        Ok(sequence)
    }

    /// Embeds tokens and puts the images' vectors in the places of their tokens.
    fn embed(&self, inputs: &[&Input]) -> Result<(Matrix, Sequence)> {
        let mut sequence = self.rows(inputs)?;
        let image_id = self.config.vision.as_ref().map(|v| v.image_token_id);
        let ids = inputs.iter().flat_map(|input| &input.ids).copied();
        // The placeholder itself may lie outside the vocabulary; its embedding is never used.
        let mut ids: Vec<u32> = ids.map(|id| if Some(id) == image_id { 0 } else { id }).collect();
        let images: Vec<&Image> = inputs.iter().flat_map(|input| &input.images).collect();
        match &self.vision {
            Some(Vision::VqTokenizerConfig(tokenizer)) => {
                for (image, rows) in images.iter().zip(&sequence.images) {
                    ids[rows.clone()].copy_from_slice(&tokenizer.tokens(image)?);
                }
                Ok((self.decoder.embed(&ids)?, sequence))
            }
            Some(Vision::Projector(join)) if !images.is_empty() => {
                let joined = join.forward(&images);
                // Rows of the table that is the embedded tokens with the images' vectors behind them.
                let mut rows: Vec<u32> = (0..ids.len() as u32).collect();
                let mut next = ids.len() as u32;
                for image in &sequence.images {
                    rows[image.clone()].iter_mut().zip(next..).for_each(|(row, next)| *row = next);
                    next += image.len() as u32;
                }
                sequence.deep = joined.deep;
                let table = Matrix::stack(vec![self.decoder.embed(&ids)?, joined.positions]);
                Ok((table.gather(&rows), sequence))
            }
            _ => Ok((self.decoder.embed(&ids)?, sequence)),
        }
    }
}

/// Whether a model can read a sample: the rows of each of its images, which have `images` positions. `name` says how a
/// token is called.
///
/// # Errors
/// There is no token, a token has no row in the embedding, or the tokens do not show the images one behind the other.
pub fn check_input(
    config: &ModelConfig,
    ids: &[u32],
    images: &[usize],
    name: impl Fn(u32) -> String,
) -> Result<Vec<Range<usize>>, String> {
    if ids.is_empty() {
        return Err("the text has no tokens".into());
    }
    let vocabulary = config.text.vocab_size;
    let image_id = config.vision.as_ref().map(|vision| vision.image_token_id);
    // The placeholder itself may lie outside the vocabulary; its embedding is never used.
    if let Some(token) = ids.iter().find(|id| **id as usize >= vocabulary && Some(**id) != image_id) {
        return Err(format!("token {} is outside the vocabulary of {vocabulary}", name(*token)));
    }
    let mut places = (0..ids.len()).filter(|row| Some(ids[*row]) == image_id);
    let (wanted, given) = (places.clone().count(), images.iter().sum::<usize>());
    if wanted != given {
        return Err(format!("{wanted} image positions for {} images of {given} in all", images.len()));
    }
    let rows = images.iter().map(|length| {
        let mut rows = places.by_ref().take(*length);
        let first = rows.next().unwrap_or_default();
        let end = rows.last().unwrap_or(first) + 1;
        if end - first == *length {
            Ok(first..end)
        } else {
            Err("the positions of an image do not follow each other".into())
        }
    });
    rows.collect()
}

/// Refuses layers that the model does not have.
pub fn check_layers(config: &ModelConfig, layers: &[usize]) -> Result<()> {
    let blocks = config.text.layers.len();
    match layers.iter().find(|layer| **layer >= blocks) {
        Some(layer) => {
            let last = blocks - 1;
            Err(Error::Plan(format!("there is no layer {layer}: the model has {blocks} decoder blocks, 0 to {last}")))
        }
        None => Ok(()),
    }
}
