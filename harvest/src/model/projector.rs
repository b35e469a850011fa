//! What stands between a vision tower and the decoder: turns the tower's hidden states into vectors of the decoder's
//! width, one for every position of an image.

use super::Image;
use super::config::{NormConfig, ProjectorConfig as Config, TowerConfig};
use super::ops::{Linear, Matrix, Norm};
use super::tower::Tower;
use super::weights::Loader;
use crate::kernel::pointwise::Activation;

/// A tower, joined.
pub(super) struct Projector {
    tower: Tower,
    kind: ProjectorKind,
    /// States that are asked of the tower.
    keep: Vec<usize>,
}

#[expect(clippy::large_enum_variant, reason = "there are a few of them, and what they hold is large")]
enum ProjectorKind {
    Mlp { layers: [Linear; 2], activation: Activation, newline: Option<Matrix> },
    Merge { patches: usize, last: Merger, deep: Vec<Merger> },
    Pool { norm: Norm, out: Linear, grid: usize },
}

/// Joins neighboring patches.
struct Merger {
    norm: Norm,
    /// Whether patches are normalized after they are side by side.
    behind: bool,
    layers: [Linear; 2],
}

/// What an image's positions get.
pub(super) struct Joined {
    /// For the positions of all images, one behind the other, `[positions, d_out]`.
    pub positions: Matrix,
    /// To be added to the same positions behind each of the decoder's first blocks.
    pub deep: Vec<Matrix>,
}

impl Projector {
    pub fn load(loader: &mut Loader, tower: &TowerConfig, config: &Config, d_out: usize) -> Self {
        let d = tower.block.width;
        let prefixes = ["model.multi_modal_projector.", "multi_modal_projector."];
        let (kind, keep, merge) = match config {
            Config::Mlp { features, activation, bias, newline } => {
                let prefix = loader.prefix("linear_1.weight", &prefixes);
                let mut layer =
                    |name: &str, d_in| Linear::load(loader, &format!("{prefix}{name}"), [d_in, d_out], *bias);
                let layers = [layer("linear_1", d * features.len()), layer("linear_2", d_out)];
                let newline = newline.then(|| {
                    let prefix = loader.prefix("image_newline", &["model.", "", "language_model.model."]);
                    let values = loader.values(&format!("{prefix}image_newline"), &[d_out]);
                    Matrix::new(values, d_out, loader.compute())
                });
                (ProjectorKind::Mlp { layers, activation: *activation, newline }, features.clone(), 1)
            }
            Config::Merge { patches, norm, names: [norm_name, first, second], deep } => {
                let first_name = format!("{first}.weight");
                let prefix = loader.prefix(&first_name, tower.names.prefixes);
                let width = d * patches;
                let mut merger = |names: [String; 3], behind: bool| {
                    let norm = Norm::load(loader, &names[0], if behind { width } else { d }, None, *norm);
                    let first = Linear::load(loader, &names[1], [width, width], true);
                    Merger { norm, behind, layers: [first, Linear::load(loader, &names[2], [width, d_out], true)] }
                };
                let last = merger([norm_name, first, second].map(|name| format!("{prefix}{name}")), false);
                let deeper = (0..deep.len()).map(|n| {
                    let names = [norm_name, first, second];
                    let list = format!("{prefix}deepstack_merger_list.{n}");
                    merger(names.map(|name| name.replacen("merger", &list, 1)), true)
                });
                let deeper = deeper.collect();
                let keep = deep.iter().map(|block| block + 1).collect();
                (ProjectorKind::Merge { patches: *patches, last, deep: deeper }, keep, patches.isqrt())
            }
            Config::Pool { grid, eps } => {
                let prefix = loader.prefix("mm_input_projection_weight", &prefixes);
                let norm = NormConfig::Rms { eps: *eps, offset: 1.0 };
                let norm = Norm::load(loader, &format!("{prefix}mm_soft_emb_norm"), d, None, norm);
                // Stored the other way round than all other weights.
                let stored = loader.values(&format!("{prefix}mm_input_projection_weight"), &[d, d_out]);
                let mut turned = vec![0.0; stored.len()];
                for (n, value) in stored.iter().enumerate() {
                    turned[n % d_out * d + n / d_out] = *value;
                }
                let weight = loader.weight(&turned, [d_out, d]);
                let out = Linear::new(weight, None, loader.compute());
                (ProjectorKind::Pool { norm, out, grid: *grid }, Vec::new(), 1)
            }
        };
        Self { tower: Tower::load(loader, tower, merge), kind, keep }
    }

    /// # Shapes
    /// [`Joined`]; the positions of each image are as many as its [`Image::sources`].
    pub fn forward(&self, images: &[&Image]) -> Joined {
        let (kept, last) = self.tower.forward(images, &self.keep);
        match &self.kind {
            ProjectorKind::Mlp { layers: [first, second], activation, newline } => {
                let rows = second.forward(&first.forward(&Matrix::beside(kept)).activate(*activation));
                let per_image = |image: &Image| {
                    let class = usize::from(self.tower.has_class());
                    image.views.iter().map(|[height, width]| height * width + class).sum()
                };
                let end = rows.rows() as u32;
                let rows = match newline {
                    Some(newline) => Matrix::stack(vec![rows, newline.clone()]),
                    None => rows,
                };
                Joined { positions: rows.gather(&sources(images, per_image, end)), deep: Vec::new() }
            }
            ProjectorKind::Merge { patches, last: merger, deep } => Joined {
                positions: merger.forward(last, *patches),
                deep: deep.iter().zip(kept).map(|(merger, x)| merger.forward(x, *patches)).collect(),
            },
            ProjectorKind::Pool { norm, out, grid } => {
                let [height, width] = images.first().map_or([0, 0], |image| image.views[0]);
                let side = (height / grid).max(1);
                let square = |image: usize, y: usize, x: usize| {
                    let first = image * height * width + y * side * width + x * side;
                    (0..side * side).map(move |n| (first + n / side * width + n % side) as u32)
                };
                let rows = (0..images.len()).flat_map(|n| (0..grid * grid).map(move |p| (n, p / grid, p % grid)));
                let rows: Vec<u32> = rows.flat_map(|(n, y, x)| square(n, y, x)).collect();
                let pooled = last.gather(&rows).mean_of(side * side);
                Joined { positions: out.forward(&norm.forward(pooled)), deep: Vec::new() }
            }
        }
    }
}

/// Rows of the joined states for all positions of all images; newlines have the row `end`.
fn sources(images: &[&Image], rows: impl Fn(&Image) -> usize, end: u32) -> Vec<u32> {
    let mut start = 0;
    let mut all = Vec::new();
    for image in images {
        all.extend(image.sources.iter().map(|source| source.map_or(end, |row| start + row)));
        start += rows(image) as u32;
    }
    all
}

impl Merger {
    fn forward(&self, x: Matrix, patches: usize) -> Matrix {
        let width = x.width() * patches;
        let x = match self.behind {
            true => self.norm.forward(x.reshape(width)),
            false => self.norm.forward(x).reshape(width),
        };
        let [first, second] = &self.layers;
        second.forward(&first.forward(&x).activate(Activation::Gelu))
    }
}
