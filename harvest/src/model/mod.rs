//! The model: token ids and pixel values in, hidden states behind chosen decoder blocks out, or the log-likelihood of
//! tokens, also with other states in place of those behind a block. Runs on Burn tensors without gradients; knows nothing
//! of data sets, prompts or files of images.

mod compare;
pub mod config;
mod decoder;
mod ops;
mod vision;
mod weights;

pub use compare::Prediction;
pub use config::{ModelConfig, TextConfig, VisionConfig};
pub use ops::Activation;
pub use weights::Weights;

use crate::{Error, Result};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use compare::Targets;
use decoder::Decoder;
use vision::Vision;

/// One sample as the model takes it.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Token ids; an image position has the placeholder's.
    pub ids: Vec<u32>,
    /// Pixel values of the sample's images one behind the other, each `[3, image_size, image_size]`.
    pub pixel_values: Vec<f32>,
}

/// A model, or the first part of one.
pub struct Model {
    config: ModelConfig,
    vision: Option<Vision>,
    decoder: Decoder,
}

/// What left the decoder blocks that were asked for; or what is to leave one of them ([`Model::compare`]).
#[derive(Clone, Debug)]
pub struct Hidden {
    width: usize,
    longest: usize,
    lengths: Vec<usize>,
    /// For every layer `[samples * longest, width]`.
    layers: Vec<Vec<f32>>,
}

impl Hidden {
    /// The hidden states of a sample behind the `layer`-th of the layers asked for, `[positions, width]` row-major.
    pub fn rows(&self, layer: usize, sample: usize) -> &[f32] {
        &self.layers[layer][sample * self.longest * self.width..][..self.lengths[sample] * self.width]
    }

    /// The same, to be changed.
    pub fn rows_mut(&mut self, layer: usize, sample: usize) -> &mut [f32] {
        &mut self.layers[layer][sample * self.longest * self.width..][..self.lengths[sample] * self.width]
    }
}

impl Model {
    /// Loads what is needed for the hidden states behind block `last`, counted from 0; the whole model with its output
    /// head if there is no `last`. Weights become `dtype`, computation happens in it.
    ///
    /// # Errors
    /// The model has no such block; or everything that is missing or misshapen in the checkpoint, at once.
    pub fn load(
        config: &ModelConfig,
        weights: &Weights,
        last: Option<usize>,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        if let Some(last) = last {
            check_layers(config, &[last])?;
        }
        weights.load(device, dtype, |loader| Self {
            config: config.clone(),
            vision: config.vision.as_ref().map(|v| Vision::load(weights, loader, v, config.text.hidden_size)),
            decoder: Decoder::load(weights, loader, &config.text, last.map(|n| n + 1)),
        })
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
        let lengths: Vec<_> = inputs.iter().map(|input| input.ids.len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let x = self.embed(inputs, longest)?;
        let left = self.decoder.forward(x, inputs.len(), layers);
        let layers = left.into_iter().map(values).collect::<Result<_>>()?;
        Ok(Hidden { width: self.config.text.hidden_size, longest, lengths, layers })
    }

    fn check_loaded(&self, layers: &[usize]) -> Result<()> {
        let depth = self.decoder.depth();
        match layers.iter().find(|layer| **layer >= depth) {
            Some(layer) => Err(Error::Plan(format!("layer {layer} is not among the {depth} that are loaded"))),
            None => Ok(()),
        }
    }

    /// Negative log-likelihood in nats of the tokens at `positions` of each sample (1 or more), given all before them.
    /// The model has to be loaded whole.
    ///
    /// # Errors
    /// As for [`Model::hidden`], or a position that is not behind the first token of its sample.
    pub fn nll(&self, inputs: &[&Input], positions: &[Vec<usize>]) -> Result<Vec<Vec<f32>>> {
        let longest = inputs.iter().map(|input| input.ids.len()).max().unwrap_or(0);
        let Targets { rows, ids } = Targets::new(inputs, positions, longest)?;
        if rows.is_empty() {
            return Ok(positions.iter().map(|_| Vec::new()).collect());
        }
        let x = self.embed(inputs, longest)?;
        let device = x.device();
        let layers = [self.config.text.layers - 1];
        let last = self.decoder.forward(x, inputs.len(), &layers).pop().expect("the last block was asked for");
        let logits = self.decoder.logits(last.select(0, indices(rows, &device))).cast(DType::F32);
        let targets = indices(ids, &device).unsqueeze_dim(1);
        let mut nll = values(log_softmax(logits, 1).gather(1, targets).neg())?.into_iter();
        Ok(positions.iter().map(|positions| nll.by_ref().take(positions.len()).collect()).collect())
    }

    /// Embeds tokens, padded on the right to `longest`, and puts the images' vectors in the places of their tokens.
    fn embed(&self, inputs: &[&Input], longest: usize) -> Result<Tensor<2>> {
        let image_id = self.config.vision.as_ref().map(|v| v.image_token_id);
        let mut ids = vec![0; inputs.len() * longest];
        // Rows of the table that is the embedded tokens with the images' vectors behind them.
        let mut rows: Vec<i64> = (0..ids.len() as i64).collect();
        let mut next = ids.len() as i64;
        for (sample, input) in inputs.iter().enumerate() {
            let padded = sample * longest..sample * longest + input.ids.len();
            for ((id, row), token) in ids[padded.clone()].iter_mut().zip(&mut rows[padded]).zip(&input.ids) {
                if Some(*token) == image_id {
                    *row = next;
                    next += 1;
                } else if (*token as usize) < self.config.text.vocab_size {
                    *id = i64::from(*token);
                } else {
                    let vocabulary = self.config.text.vocab_size;
                    return Err(Error::Plan(format!("token {token} is outside the vocabulary of {vocabulary}")));
                }
            }
        }
        let vectors = next as usize - ids.len();
        let device = self.decoder.like().device();
        let pixel_values: Vec<f32> = inputs.iter().flat_map(|input| &input.pixel_values).copied().collect();
        let (side, positions) = self.config.vision.as_ref().map_or((1, 0), |v| (v.image_size, v.positions()));
        let images = pixel_values.len() / (3 * side * side);
        if vectors != images * positions || pixel_values.len() != images * 3 * side * side {
            let cause = format!("{vectors} image positions for {images} images of {positions} positions each");
            return Err(Error::Plan(cause));
        }
        let text = self.decoder.embed(indices(ids, &device));
        match &self.vision {
            Some(vision) if images > 0 => {
                let pixel_values = TensorData::new(pixel_values, [images, 3, side, side]);
                let table = Tensor::cat(vec![text, vision.forward(pixel_values, self.decoder.like())], 0);
                Ok(table.select(0, indices(rows, &device)))
            }
            _ => Ok(text),
        }
    }
}

/// Refuses layers that the model does not have.
pub fn check_layers(config: &ModelConfig, layers: &[usize]) -> Result<()> {
    let blocks = config.text.layers;
    match layers.iter().find(|layer| **layer >= blocks) {
        Some(layer) => {
            let last = blocks - 1;
            Err(Error::Plan(format!("there is no layer {layer}: the model has {blocks} decoder blocks, 0 to {last}")))
        }
        None => Ok(()),
    }
}

fn indices(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn values(x: Tensor<2>) -> Result<Vec<f32>> {
    let failed = |e: String| sae_core::Error::Device(format!("the device failed: {e}"));
    let data = x.try_into_data().map_err(|e| failed(format!("{e:?}")))?;
    Ok(data.convert::<f32>().try_into_vec().map_err(|e| failed(format!("{e:?}")))?)
}
