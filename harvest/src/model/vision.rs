//! CLIP's vision tower, up to the last block whose output is asked for, and LLaVA's two-layer projector behind it.
//! Turns pixel values into vectors of the decoder's width; knows nothing of text.

use super::config::VisionConfig;
use super::ops::{Activation, Heads, LayerNorm, Linear, attention};
use super::weights::{Loader, Weights};
use burn::tensor::{Tensor, TensorData};

/// A vision tower with its projector.
pub(super) struct Vision {
    patches: Linear,
    /// `[1, width]`.
    class: Tensor<2>,
    /// `[1, positions, width]`.
    positions: Tensor<3>,
    norm: LayerNorm,
    blocks: Vec<Block>,
    projector: [Linear; 2],
    config: VisionConfig,
}

struct Block {
    norms: [LayerNorm; 2],
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    mlp: [Linear; 2],
    activation: Activation,
}

impl Vision {
    pub fn load(weights: &Weights, loader: &mut Loader, config: &VisionConfig, d_out: usize) -> Self {
        let (d, patch) = (config.hidden_size, config.patch_size);
        let tower = weights.prefix(
            "embeddings.class_embedding",
            &["model.vision_tower.", "model.vision_tower.vision_model.", "vision_tower.vision_model.", "vision_tower."],
        );
        let projector = weights.prefix("linear_1.weight", &["model.multi_modal_projector.", "multi_modal_projector."]);
        let embedding = |name: &str| format!("{tower}embeddings.{name}");
        // A convolution whose stride is its size is one product over the patches.
        let kernel = loader.tensor(&embedding("patch_embedding.weight"), [d, 3, patch, patch]);
        let kernel = kernel.flatten(1, 3);
        let positions = config.grid().pow(2) + 1;
        let used = config.features.iter().max().copied().unwrap_or(0);
        let mut project = |name: &str, d_in| {
            Linear::load(loader, &format!("{projector}{name}"), [d_in, d_out], config.projector_bias)
        };
        let projector = [project("linear_1", d * config.features.len()), project("linear_2", d_out)];
        Self {
            patches: Linear::new(kernel, None),
            class: loader.tensor::<1>(&embedding("class_embedding"), [d]).unsqueeze(),
            positions: loader.tensor::<2>(&embedding("position_embedding.weight"), [positions, d]).unsqueeze(),
            // The checkpoints spell it so.
            norm: LayerNorm::load(loader, &format!("{tower}pre_layrnorm"), d, config.norm_eps),
            blocks: (0..used).map(|n| Block::load(loader, &format!("{tower}encoder.layers.{n}."), config)).collect(),
            projector,
            config: config.clone(),
        }
    }

    /// # Shapes
    /// Pixel values `[images, 3, image_size, image_size]` to `[images * positions, d_out]`, the positions of an image
    /// row by row, the class position in front if it is kept.
    pub fn forward(&self, pixel_values: TensorData, like: &Tensor<2>) -> Tensor<2> {
        let (d, side, grid) = (self.config.hidden_size, self.config.patch_size, self.config.grid());
        let images = pixel_values.num_elements() / (3 * (grid * side).pow(2));
        let (length, patches) = (grid * grid + 1, grid * grid);
        let x: Tensor<6> = Tensor::<4>::from_data(pixel_values, (&like.device(), like.dtype()))
            .reshape([images, 3, grid, side, grid, side])
            .permute([0, 2, 4, 1, 3, 5]);
        let x = self.patches.forward(x.reshape([images * patches, 3 * side * side])).reshape([images, patches, d]);
        let class = self.class.clone().unsqueeze::<3>().expand([images, 1, d]);
        let x = Tensor::cat(vec![class, x], 1) + self.positions.clone();
        let mut x = self.norm.forward(x.reshape([images * length, d]));

        let heads = Heads { batch: images, length, head_dim: d / self.config.heads };
        let kept = |state: usize, x: &Tensor<2>| self.config.features.contains(&state).then(|| x.clone());
        let mut states = vec![kept(0, &x)];
        for (n, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, heads);
            states.push(kept(n + 1, &x));
        }
        let features = self.config.features.iter();
        let features = features.map(|state| states[*state].clone().expect("every feature layer was kept")).collect();
        let mut x = Tensor::cat(features, 1);
        if !self.config.keep_class {
            let width = x.dims()[1];
            x = x.reshape([images, length, width]).narrow(1, 1, patches).reshape([images * patches, width]);
        }
        let [first, second] = &self.projector;
        second.forward(self.config.projector_activation.apply(first.forward(x)))
    }
}

impl Block {
    fn load(loader: &mut Loader, prefix: &str, config: &VisionConfig) -> Self {
        let (d, inner) = (config.hidden_size, config.intermediate_size);
        let mut linear = |name: &str, shape| Linear::load(loader, &format!("{prefix}{name}"), shape, true);
        let [query, key, value, out] =
            ["q_proj", "k_proj", "v_proj", "out_proj"].map(|name| linear(&format!("self_attn.{name}"), [d, d]));
        let mlp = [linear("mlp.fc1", [d, inner]), linear("mlp.fc2", [inner, d])];
        let norms = ["layer_norm1", "layer_norm2"]
            .map(|name| LayerNorm::load(loader, &format!("{prefix}{name}"), d, config.norm_eps));
        Self { norms, query, key, value, out, mlp, activation: config.activation }
    }

    fn forward(&self, x: Tensor<2>, heads: Heads) -> Tensor<2> {
        let y = self.norms[0].forward(x.clone());
        let (q, k) = (self.query.forward(y.clone()), self.key.forward(y.clone()));
        let x = x + self.out.forward(attention(q, k, self.value.forward(y), heads, false));
        let y = self.mlp[0].forward(self.norms[1].forward(x.clone()));
        x + self.mlp[1].forward(self.activation.apply(y))
    }
}
