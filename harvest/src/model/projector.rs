//! The projector between a vision tower and the decoder. It turns hidden states of the tower into vectors of the
//! decoder's width, one for every position of an image.

use super::config::{NormConfig, ProjectorConfig as Config, TowerConfig};
use super::input::{Image, Source};
use super::matrix::Matrix;
use super::ops::{Linear, Norm};
use super::tower::Tower;
use super::weights::Loader;
use crate::kernel::pointwise::Activation;

/// A projector with its vision tower.
pub(super) struct Projector {
    tower: Tower,
    kind: ProjectorKind,
    /// The hidden states of the tower that the projector uses.
    keep: Vec<usize>,
}

#[expect(clippy::large_enum_variant, reason = "there are few instances, and their content is large anyway")]
enum ProjectorKind {
    Mlp { layers: [Linear; 2], activation: Activation, newline: Option<Matrix> },
    Fused { second: Box<Tower>, layers: [Linear; 3] },
    Merge { patches: usize, last: Merger, deep: Vec<Merger> },
    Shuffle { patches: usize, out: Linear },
    ShuffleMlp { patches: usize, norm: Norm, layers: [Linear; 2], activation: Activation },
    PatchMerger { patches: usize, norm: Norm, merge: Linear, layers: [Linear; 2], activation: Activation },
    Pool { norm: Norm, out: Linear, grid: usize },
    PoolNative { patches: usize, standard: Option<[Matrix; 2]>, norm: Norm, out: Linear },
}

/// Merges neighboring patches.
struct Merger {
    norm: Norm,
    /// Whether patches are normalized after they have been concatenated, rather than before.
    norm_after: bool,
    layers: [Linear; 2],
}

/// The vectors of the positions of images.
pub(super) struct Projected {
    /// For the positions of all images, one after the other, `[positions, d_out]`.
    pub positions: Matrix,
    /// Vectors that are added to the same positions behind each of the decoder's first blocks (DeepStack).
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
            Config::Fused { second } => {
                let both = d + second.block.width;
                let mut layer = |n: usize, shape| Linear::load(loader, &format!("projector.fc{n}"), shape, true);
                let layers = [layer(1, [both, 4 * both]), layer(2, [4 * both, d_out]), layer(3, [d_out, d_out])];
                (ProjectorKind::Fused { second: Box::new(Tower::load(loader, second, 1)), layers }, Vec::new(), 1)
            }
            Config::Merge { patches, norm, names: [norm_name, first, second], deep } => {
                let first_name = format!("{first}.weight");
                let prefix = loader.prefix(&first_name, tower.names.prefixes);
                let width = d * patches;
                let mut merger = |names: [String; 3], norm_after: bool| {
                    let norm = Norm::load(loader, &names[0], if norm_after { width } else { d }, None, *norm);
                    let first = Linear::load(loader, &names[1], [width, width], true);
                    Merger { norm, norm_after, layers: [first, Linear::load(loader, &names[2], [width, d_out], true)] }
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
            Config::Shuffle { patches, name, bias } => {
                let prefix = loader.prefix(&format!("{name}.weight"), &["model.", ""]);
                let out = Linear::load(loader, &format!("{prefix}{name}"), [d * patches, d_out], *bias);
                (ProjectorKind::Shuffle { patches: *patches, out }, Vec::new(), patches.isqrt())
            }
            Config::ShuffleMlp { patches, feature, activation } => {
                let prefix = loader.prefix("linear_1.weight", &prefixes);
                let width = d * patches;
                let norm = NormConfig::Layer { eps: 1e-5 };
                let norm = Norm::load(loader, &format!("{prefix}layer_norm"), width, None, norm);
                let mut layer =
                    |name: &str, d_in| Linear::load(loader, &format!("{prefix}{name}"), [d_in, d_out], true);
                let layers = [layer("linear_1", width), layer("linear_2", d_out)];
                let kind = ProjectorKind::ShuffleMlp { patches: *patches, norm, layers, activation: *activation };
                (kind, vec![*feature], patches.isqrt())
            }
            Config::PatchMerger { patches, feature, eps, activation, bias } => {
                let prefix = loader.prefix("linear_1.weight", &prefixes);
                let norm = NormConfig::Rms { eps: *eps, offset: 0.0 };
                let norm = Norm::load(loader, &format!("{prefix}norm"), d, None, norm);
                // Inputs are stored channel by channel, with the patches of a square in each.
                let stored = loader.values(&format!("{prefix}patch_merger.merging_layer.weight"), &[d, d * patches]);
                let mut by_patch = vec![0.0; stored.len()];
                for (n, value) in stored.iter().enumerate() {
                    let (row, input) = (n / (d * patches), n % (d * patches));
                    by_patch[row * d * patches + input % patches * d + input / patches] = *value;
                }
                let merge = loader.computed(by_patch, [d, d * patches]);
                let merge = Linear::new(merge, None, loader.compute());
                let mut layer =
                    |name: &str, d_in| Linear::load(loader, &format!("{prefix}{name}"), [d_in, d_out], *bias);
                let layers = [layer("linear_1", d), layer("linear_2", d_out)];
                let kind =
                    ProjectorKind::PatchMerger { patches: *patches, norm, merge, layers, activation: *activation };
                (kind, vec![*feature], patches.isqrt())
            }
            Config::PoolNative { patches, eps, standardized } => {
                const OUT: &str = "embed_vision.embedding_projection";
                let prefix = loader.prefix(&format!("{OUT}.weight"), &["model.", ""]);
                let out = Linear::load(loader, &format!("{prefix}{OUT}"), [d, d_out], false);
                let standard = standardized.then(|| {
                    let prefix = loader.prefix("std_bias", tower.names.prefixes);
                    ["std_bias", "std_scale"].map(|part| {
                        let values = loader.values(&format!("{prefix}{part}"), &[d]);
                        Matrix::new(values, d, loader.compute())
                    })
                });
                let norm = Norm::without_weights(loader, d, NormConfig::Rms { eps: *eps, offset: 0.0 });
                let kind = ProjectorKind::PoolNative { patches: *patches, standard, norm, out };
                (kind, Vec::new(), patches.isqrt())
            }
            Config::Pool { grid, eps } => {
                let prefix = loader.prefix("mm_input_projection_weight", &prefixes);
                let norm = NormConfig::Rms { eps: *eps, offset: 1.0 };
                let norm = Norm::load(loader, &format!("{prefix}mm_soft_emb_norm"), d, None, norm);
                // This weight is stored in transposed form, unlike all others.
                let stored = loader.values(&format!("{prefix}mm_input_projection_weight"), &[d, d_out]);
                let mut transposed = vec![0.0; stored.len()];
                for (n, value) in stored.iter().enumerate() {
                    transposed[n % d_out * d + n / d_out] = *value;
                }
                let weight = loader.computed(transposed, [d_out, d]);
                let out = Linear::new(weight, None, loader.compute());
                (ProjectorKind::Pool { norm, out, grid: *grid }, Vec::new(), 1)
            }
        };
        Self { tower: Tower::load(loader, tower, merge), kind, keep }
    }

    /// The output of block `layer` of the tower, of the first one where there are two, at the patches that the positions of images
    /// show, in the order of these positions; several patches of one position are row by row.
    ///
    /// # Shapes
    /// `[patches, width of the tower]`.
    pub fn tower_block(&self, images: &[&Image], layer: usize) -> Matrix {
        let (mut kept, _) = self.tower.forward(images, |image| &image.patches, &[layer + 1], layer + 1);
        let (before, mut start, mut rows) = (self.tower.prefix_rows(), 0, Vec::new());
        for image in images {
            for source in image.sources.iter().filter_map(|source| source.row()) {
                self.patches_of(source, image, &mut |row| rows.push(start + row));
            }
            start += image.views.iter().map(|[height, width]| (height * width + before) as u32).sum::<u32>();
        }
        kept.pop().expect("the state was requested").gather(&rows)
    }

    /// How many patches the positions of an image show.
    pub fn patches(&self, image: &Image) -> usize {
        let mut count = 0;
        let rows = image.sources.iter().filter_map(|source| source.row());
        rows.for_each(|source| self.patches_of(source, image, &mut |_| count += 1));
        count
    }

    /// The rows in the tower's output of an image that its position with this source shows.
    fn patches_of(&self, source: u32, image: &Image, add: &mut dyn FnMut(u32)) {
        match &self.kind {
            ProjectorKind::Mlp { .. } => add(source),
            // Sources of positions are counted without the rows before the patches of each view.
            ProjectorKind::Fused { .. } => add(self.behind_prefix(source as usize, image)),
            ProjectorKind::ShuffleMlp { patches, .. } => {
                let first = source as usize * patches;
                (first..first + patches).for_each(|patch| add(self.behind_prefix(patch, image)));
            }
            ProjectorKind::Merge { patches, .. }
            | ProjectorKind::Shuffle { patches, .. }
            | ProjectorKind::PatchMerger { patches, .. }
            | ProjectorKind::PoolNative { patches, .. } => {
                (0..*patches as u32).for_each(|n| add(source * *patches as u32 + n))
            }
            ProjectorKind::Pool { grid, .. } => {
                let [height, width] = image.views[0];
                let (side, source) = ((height / grid).max(1), source as usize);
                let first = source / grid * side * width + source % grid * side;
                (0..side * side).for_each(|n| add((first + n / side * width + n % side) as u32));
            }
        }
    }

    /// The row in the tower's output of an image that one of its patches has, all of which are counted.
    fn behind_prefix(&self, patch: usize, image: &Image) -> u32 {
        let [height, width] = image.views[0];
        (patch + (patch / (height * width).max(1) + 1) * self.tower.prefix_rows()) as u32
    }

    /// Runs the tower and the projector on images. Each image has as many positions as [`Image::sources`].
    pub fn forward(&self, images: &[&Image]) -> Projected {
        let (kept, last) = self.tower.forward(images, |image| &image.patches, &self.keep, self.tower.depth());
        match &self.kind {
            ProjectorKind::Mlp { layers: [first, second], activation, newline } => {
                let rows = second.forward(&first.forward(&Matrix::concat_columns(kept)).activate(*activation));
                let per_image = |image: &Image| {
                    let before = self.tower.prefix_rows();
                    image.views.iter().map(|[height, width]| height * width + before).sum()
                };
                Projected { positions: positions(images, per_image, rows, newline.as_ref()), deep: Vec::new() }
            }
            ProjectorKind::Fused { second, layers: [first, middle, out] } => {
                let (_, other) = second.forward(images, |image| &image.fused, &[], second.depth());
                let both = vec![patches(images, &self.tower, &last), patches(images, second, &other)];
                let hidden = first.forward(&Matrix::concat_columns(both)).activate(Activation::Gelu);
                let rows = out.forward(&middle.forward(&hidden).activate(Activation::Gelu));
                let per_image = |image: &Image| image.views.iter().map(|[height, width]| height * width).sum();
                Projected { positions: positions(images, per_image, rows, None), deep: Vec::new() }
            }
            ProjectorKind::Merge { patches, last: merger, deep } => Projected {
                positions: merger.forward(last, *patches),
                deep: deep.iter().zip(kept).map(|(merger, x)| merger.forward(x, *patches)).collect(),
            },
            ProjectorKind::Shuffle { patches, out } => {
                let width = last.width() * patches;
                let per_image =
                    |image: &Image| image.views.iter().map(|[height, width]| height * width / patches).sum();
                let rows = out.forward(&last.reshape(width));
                Projected { positions: positions(images, per_image, rows, None), deep: Vec::new() }
            }
            ProjectorKind::ShuffleMlp { patches: merged, norm, layers: [first, second], activation } => {
                let feature = kept.into_iter().next().expect("the state was requested");
                let width = feature.width() * merged;
                let squares = norm.forward(patches(images, &self.tower, &feature).reshape(width));
                let rows = second.forward(&first.forward(&squares).activate(*activation));
                let per_image = |image: &Image| image.views.iter().map(|[height, width]| height * width / merged).sum();
                Projected { positions: positions(images, per_image, rows, None), deep: Vec::new() }
            }
            ProjectorKind::PatchMerger { patches, norm, merge, layers: [first, second], activation } => {
                let feature = kept.into_iter().next().expect("the state was requested");
                let width = feature.width() * patches;
                let merged = merge.forward(&norm.forward(feature).reshape(width));
                let positions = second.forward(&first.forward(&merged).activate(*activation));
                Projected { positions, deep: Vec::new() }
            }
            ProjectorKind::PoolNative { patches, standard, norm, out } => {
                let root = (last.width() as f32).sqrt();
                let mut pooled = last.mean_of_groups(*patches).scale(root);
                if let Some([shift, factor]) = standard {
                    pooled = pooled.standardize(shift, factor);
                }
                Projected { positions: out.forward(&norm.forward(pooled)), deep: Vec::new() }
            }
            ProjectorKind::Pool { norm, out, grid } => {
                let [height, width] = images.first().map_or([0, 0], |image| image.views[0]);
                let side = (height / grid).max(1);
                let square = |image: usize, y: usize, x: usize| {
                    let first = image * height * width + y * side * width + x * side;
                    (0..side * side).map(move |n| (first + n / side * width + n % side) as u32)
                };
                let rows = (0..images.len()).flat_map(|n| (0..grid * grid).map(move |p| (n, p / grid, p % grid)));
                let rows: Vec<u32> = rows.flat_map(|(n, y, x)| square(n, y, x)).collect();
                let pooled = last.gather(&rows).mean_of_groups(side * side);
                Projected { positions: out.forward(&norm.forward(pooled)), deep: Vec::new() }
            }
        }
    }
}

/// The rows of patches in the output of a tower, without those that precede them in each view.
fn patches(images: &[&Image], tower: &Tower, output: &Matrix) -> Matrix {
    let (before, mut at, mut rows) = (tower.prefix_rows() as u32, 0, Vec::new());
    for [height, width] in images.iter().flat_map(|image| &image.views) {
        let end = at + before + (height * width) as u32;
        rows.extend(at + before..end);
        at = end;
    }
    output.gather(&rows)
}

/// The vectors of all positions of all images, from the `projected` states of which each image has `rows`.
fn positions(images: &[&Image], rows: impl Fn(&Image) -> usize, projected: Matrix, newline: Option<&Matrix>) -> Matrix {
    // Row numbers in a table that consists of the projected states, the newline, and what is between the states.
    let end = projected.rows() as u32;
    let mixed = end + u32::from(newline.is_some());
    let (mut all, mut between, mut start) = (Vec::new(), Vec::new(), 0_u32);
    for image in images {
        all.extend(image.sources.iter().map(|source| match source {
            Source::Row(row) => start + row,
            Source::Newline => end,
            Source::Between { rows, weights } => {
                between.push((rows.map(|row| start + row), *weights));
                mixed + between.len() as u32 - 1
            }
        }));
        start += rows(image) as u32;
    }
    let corner = |n: usize| {
        let rows: Vec<u32> = between.iter().map(|(rows, _)| rows[n]).collect();
        projected.gather(&rows).scale_rows(between.iter().map(|(_, weights)| weights[n]).collect())
    };
    let mixed = (!between.is_empty()).then(|| (1..4).fold(corner(0), |sum, n| sum.add(corner(n))));
    let table = [Some(projected), newline.cloned(), mixed];
    Matrix::stack_rows(table.into_iter().flatten().collect()).gather(&all)
}

impl Merger {
    fn forward(&self, x: Matrix, patches: usize) -> Matrix {
        let width = x.width() * patches;
        let x = if self.norm_after { self.norm.forward(x.reshape(width)) } else { self.norm.forward(x).reshape(width) };
        let [first, second] = &self.layers;
        second.forward(&first.forward(&x).activate(Activation::Gelu))
    }
}
