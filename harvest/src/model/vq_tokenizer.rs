//! Chameleon's image tokenizer (VQGAN): a convolutional encoder turns pixels into a grid of vectors, and each vector is
//! replaced by the nearest entry of a codebook, which is a token of the vocabulary. The convolutions are Burn's and
//! always in `f32`, because a different code would change all later hidden states.

use super::compute::Compute;
use super::config::VqTokenizerConfig;
use super::input::Image;
use super::weights::Loader;
use crate::Result;
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{DType, Device, Int, Tensor, TensorData, module};
use sae_core::device::failed;

/// Number of groups in which channels are normalized.
const GROUPS: usize = 32;

/// Added to the variance of a group.
const EPS: f64 = 1e-6;

/// The encoder and its codebook.
pub(super) struct ImageTokenizer {
    first: Conv,
    stages: Vec<Stage>,
    middle: (Residual, Option<Attention>, Residual),
    norm: GroupNorm,
    last: Conv,
    quant: Conv,
    /// `[codes, width]`.
    codebook: Tensor<2>,
    config: VqTokenizerConfig,
    device: Device,
}

/// The blocks of one resolution, and the convolution to the next lower one.
struct Stage {
    blocks: Vec<(Residual, Option<Attention>)>,
    down: Option<Conv>,
}

impl ImageTokenizer {
    pub fn load(loader: &mut Loader, config: &VqTokenizerConfig) -> Self {
        let device = match loader.compute() {
            Compute::Host { .. } => Device::flex(),
            Compute::Device(device, _) => device.clone(),
        };
        let prefix = loader.prefix("quant_conv.weight", &["model.vqmodel.", "vqmodel."]);
        let mut parts = Parts { loader, device: &device };
        let name = |part: &str| format!("{prefix}encoder.{part}");
        let mut channels = config.base_channels;
        let first = parts.conv(&name("conv_in"), [3, channels], 3);
        let mut resolution = config.resolution;
        let mut stages = Vec::new();
        for (level, multiplier) in config.multipliers.iter().enumerate() {
            let attends = config.attends && config.attention.contains(&resolution);
            let mut blocks = Vec::new();
            for n in 0..config.res_blocks {
                let out = config.base_channels * multiplier;
                let residual = parts.residual(&name(&format!("down.{level}.block.{n}")), [channels, out]);
                channels = out;
                let attention = attends.then(|| parts.attention(&name(&format!("down.{level}.attn.{n}")), channels));
                blocks.push((residual, attention));
            }
            let down = (level + 1 < config.multipliers.len()).then(|| {
                resolution /= 2;
                parts.conv(&name(&format!("down.{level}.downsample.conv")), [channels; 2], 3)
            });
            stages.push(Stage { blocks, down });
        }
        let middle = (
            parts.residual(&name("mid.block_1"), [channels; 2]),
            config.attends.then(|| parts.attention(&name("mid.attn_1"), channels)),
            parts.residual(&name("mid.block_2"), [channels; 2]),
        );
        let norm = parts.norm(&name("norm_out"), channels);
        let last = parts.conv(&name("conv_out"), [channels, config.latent_channels], 3);
        let quant = parts.conv(&format!("{prefix}quant_conv"), [config.latent_channels, config.embed_dim], 1);
        let codebook =
            parts.tensor(&format!("{prefix}quantize.embedding.weight"), [config.embeddings, config.embed_dim]);
        Self { first, stages, middle, norm, last, quant, codebook, config: config.clone(), device }
    }

    /// The tokens of an image, row by row.
    ///
    /// # Errors
    /// The device failed.
    pub fn tokens(&self, image: &Image) -> Result<Vec<u32>> {
        let side = self.config.resolution;
        let pixels = TensorData::new(image.patches.clone(), [1, 3, side, side]);
        let x = self.encode(Tensor::from_data(pixels, (&self.device, DType::F32)));
        let [_, width, height, columns] = x.dims();
        let x: Tensor<2> = x.permute([0, 2, 3, 1]).reshape([height * columns, width]);
        let squares = |x: Tensor<2>| x.square().sum_dim(1);
        let products = x.clone().matmul(self.codebook.clone().transpose());
        let distances = squares(x) + squares(self.codebook.clone()).transpose() - products * 2.0;
        let nearest: Tensor<2, Int> = distances.argmin(1);
        let nearest = nearest.try_into_data().map_err(failed)?.convert::<i64>();
        let nearest = nearest.try_into_vec::<i64>().map_err(failed)?;
        Ok(nearest.into_iter().map(|code| self.config.tokens[code as usize]).collect())
    }

    fn encode(&self, pixels: Tensor<4>) -> Tensor<4> {
        let mut x = self.first.forward(pixels, 1);
        let attend = |x: Tensor<4>, attention: &Option<Attention>| match attention {
            Some(attention) => attention.forward(x),
            None => x,
        };
        for Stage { blocks, down } in &self.stages {
            for (residual, attention) in blocks {
                x = attend(residual.forward(x), attention);
            }
            if let Some(down) = down {
                // The input is padded with one row at the bottom and one column on the right.
                x = down.forward(x.pad((0, 1, 0, 1), PadMode::Constant(0.0)), 2);
            }
        }
        let (first, attention, second) = &self.middle;
        let x = second.forward(attend(first.forward(x), attention));
        self.quant.forward(self.last.forward(swish(self.norm.forward(x)), 1), 1)
    }
}

fn swish(x: Tensor<4>) -> Tensor<4> {
    x.clone() * sigmoid(x)
}

/// Loads parts of the encoder.
struct Parts<'a, 'b> {
    loader: &'a mut Loader<'b>,
    device: &'a Device,
}

impl Parts<'_, '_> {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Tensor<D> {
        let values = self.loader.values(name, &shape);
        if values.is_empty() {
            Tensor::zeros([1; D], self.device)
        } else {
            Tensor::from_data(TensorData::new(values, shape), (self.device, DType::F32))
        }
    }

    fn conv(&mut self, name: &str, [d_in, d_out]: [usize; 2], side: usize) -> Conv {
        let weight = self.tensor(&format!("{name}.weight"), [d_out, d_in, side, side]);
        Conv { weight, bias: self.tensor(&format!("{name}.bias"), [d_out]), side }
    }

    fn norm(&mut self, name: &str, channels: usize) -> GroupNorm {
        let [scale, shift] = ["weight", "bias"].map(|part| {
            let values: Tensor<1> = self.tensor(&format!("{name}.{part}"), [channels]);
            let channels = values.dims()[0];
            values.reshape([1, channels, 1, 1])
        });
        GroupNorm { scale, shift }
    }

    fn residual(&mut self, name: &str, [d_in, d_out]: [usize; 2]) -> Residual {
        let part = |part: &str| format!("{name}.{part}");
        Residual {
            norms: [self.norm(&part("norm1"), d_in), self.norm(&part("norm2"), d_out)],
            convs: [self.conv(&part("conv1"), [d_in, d_out], 3), self.conv(&part("conv2"), [d_out, d_out], 3)],
            shortcut: (d_in != d_out).then(|| self.conv(&part("nin_shortcut"), [d_in, d_out], 1)),
        }
    }

    fn attention(&mut self, name: &str, channels: usize) -> Attention {
        let convs = ["q", "k", "v", "proj_out"].map(|part| self.conv(&format!("{name}.{part}"), [channels; 2], 1));
        Attention { norm: self.norm(&format!("{name}.norm"), channels), convs }
    }
}

struct Conv {
    weight: Tensor<4>,
    bias: Tensor<1>,
    side: usize,
}

impl Conv {
    /// With a stride of 1, the input is padded so that its size does not change. With another stride it is not padded.
    fn forward(&self, x: Tensor<4>, stride: usize) -> Tensor<4> {
        let padding = if stride == 1 { self.side / 2 } else { 0 };
        let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
        module::conv2d(x, self.weight.clone(), Some(self.bias.clone()), options)
    }
}

struct GroupNorm {
    /// `[1, channels, 1, 1]`.
    scale: Tensor<4>,
    shift: Tensor<4>,
}

impl GroupNorm {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shape = x.dims();
        let groups = x.reshape([GROUPS, shape.iter().product::<usize>() / GROUPS]);
        let centered = groups.clone() - groups.mean_dim(1);
        let inverse = (centered.clone().square().mean_dim(1) + EPS).sqrt().recip();
        (centered * inverse).reshape(shape) * self.scale.clone() + self.shift.clone()
    }
}

struct Residual {
    norms: [GroupNorm; 2],
    convs: [Conv; 2],
    shortcut: Option<Conv>,
}

impl Residual {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut y = x.clone();
        for (norm, conv) in self.norms.iter().zip(&self.convs) {
            y = conv.forward(swish(norm.forward(y)), 1);
        }
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x, 1) + y,
            None => x + y,
        }
    }
}

/// Attention with one head between all points of the grid.
struct Attention {
    norm: GroupNorm,
    /// Queries, keys, values, output.
    convs: [Conv; 4],
}

impl Attention {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, channels, height, width] = x.dims();
        let y = self.norm.forward(x.clone());
        let [query, key, value, out] = &self.convs;
        let rows = |conv: &Conv| conv.forward(y.clone(), 1).reshape([channels, height * width]);
        let scores = rows(query).transpose().matmul(rows(key)) * (channels as f64).powf(-0.5);
        let mixed = rows(value).matmul(softmax(scores, 1).transpose());
        x + out.forward(mixed.reshape([1, channels, height, width]), 1)
    }
}
