//! A vision transformer up to the last block that is used: from the patches of one or several views of each image to
//! the hidden states behind chosen blocks. Views do not attend to each other. Knows nothing about text.

use super::block::{Attending, Block};
use super::compute::Compute;
use super::config::{Positions, TowerConfig, TowerRope};
use super::input::Image;
use super::matrix::Matrix;
use super::ops::{Linear, Norm, Rotary, VisibleKeys};
use super::weights::Loader;

/// A vision tower.
pub(super) struct Tower {
    patches: Linear,
    /// Rows that come before the patches of every view, `[rows, width]`; nothing if there are none.
    leading: Option<Matrix>,
    /// `[positions, width]`, row-major.
    positions: Vec<f32>,
    first_norm: Option<Norm>,
    blocks: Vec<Block>,
    last_norm: Option<Norm>,
    config: TowerConfig,
    compute: Compute,
    /// Side of a position in patches. It determines the order of patches.
    merge: usize,
}

/// The size of a view in patches: rows, columns.
pub(super) type Grid = [usize; 2];

impl Tower {
    pub fn load(loader: &mut Loader, config: &TowerConfig, merge: usize) -> Self {
        let (d, names) = (config.block.width, config.names);
        let prefix = loader.prefix(&format!("{}.weight", names.patch), names.prefixes);
        let name = |part: &str| format!("{prefix}{part}");
        // A convolution whose stride equals its size is a single product over the patches.
        let (side, frames) = (config.patches.side, config.patches.frames);
        let shape = if frames == 1 { vec![d, 3, side, side] } else { vec![d, 3, frames, side, side] };
        let patches = if config.patches.by_pixel {
            by_pixel(loader, &name(names.patch), d, side * side)
        } else {
            Linear::load_reshaped(loader, &name(names.patch), &shape, config.patches.bias)
        };
        let prefix_rows = config.prefix_rows();
        let leading = config.prefix.iter().flat_map(|part| {
            let shape: Vec<usize> = part.shape.iter().copied().chain([d]).collect();
            loader.values(&name(part.name), &shape)
        });
        let leading: Vec<f32> = leading.collect();
        let leading = (prefix_rows > 0).then(|| Matrix::new(leading, d, loader.compute()));
        let positions = match config.positions {
            Positions::None => Vec::new(),
            Positions::Table(side) => {
                let table = loader.values(&name(names.positions), &[side * side + prefix_rows, d]);
                in_order(table, prefix_rows, [side; 2], merge, d)
            }
            Positions::Stacked(side) => {
                let table = loader.values(&name(names.positions), &[1, side * side + prefix_rows, d]);
                in_order(table, prefix_rows, [side; 2], merge, d)
            }
            Positions::Patches(side) => {
                let patches = loader.values(&name(names.positions), &[1, side * side, d]);
                // The rows before the patches have no position.
                [vec![0.0; prefix_rows * d], patches].concat()
            }
            Positions::Axes(length) => loader.values(&name(names.positions), &[2, length, d]),
            Positions::Interpolated(side) => loader.values(&name(names.positions), &[side * side, d]),
        };
        let mut norm =
            |part: Option<&str>| part.map(|part| Norm::load(loader, &name(part), d, None, config.block.norm));
        let (first_norm, last_norm) = (norm(config.first_norm), norm(config.last_norm));
        let blocks = 0..config.layers;
        let blocks = blocks.map(|n| Block::load(loader, &format!("{prefix}{}{n}.", names.blocks), &config.block));
        Self {
            patches,
            leading,
            positions,
            first_norm,
            blocks: blocks.collect(),
            last_norm,
            config: config.clone(),
            compute: loader.compute().clone(),
            merge,
        }
    }

    /// The number of rows before the patches of each view.
    pub fn prefix_rows(&self) -> usize {
        self.config.prefix_rows()
    }

    /// The number of blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// The hidden states `keep` (0 is the input of the first block, `n` is the output of the `n`-th block), and the
    /// output of the last block that is run, the `depth`-th, after the last norm.
    ///
    /// # Shapes
    /// Each is `[rows, width]`: the rows of all images, view by view, with what precedes them before each view's
    /// patches.
    pub fn forward(
        &self,
        images: &[&Image],
        patches: fn(&Image) -> &[f32],
        keep: &[usize],
        depth: usize,
    ) -> (Vec<Matrix>, Matrix) {
        let d = self.config.block.width;
        let grids: Vec<Grid> = images.iter().flat_map(|image| &image.views).copied().collect();
        let values: Vec<f32> = images.iter().flat_map(|image| patches(image)).copied().collect();
        let mut x = self.patches.forward(&Matrix::new(values, self.config.patches.width(), &self.compute));
        let before = self.prefix_rows();
        if let Some(leading) = &self.leading {
            let (end, mut at, mut rows) = (x.rows() as u32, 0, Vec::new());
            for [height, width] in &grids {
                let patches = (height * width) as u32;
                rows.extend(end..end + before as u32);
                rows.extend(at..at + patches);
                at += patches;
            }
            x = Matrix::stack_rows(vec![x, leading.clone()]).gather(&rows);
        }
        if let Some(positions) = self.learned_positions(&grids) {
            x = x.add(Matrix::new(positions, d, &self.compute));
        }
        if let Some(norm) = &self.first_norm {
            x = norm.forward(x);
        }

        let lengths = grids.iter().map(|[height, width]| height * width + before);
        let full = VisibleKeys::full(lengths);
        let (order, windows) = self.windows(&grids);
        let rotary = self.config.rope.map(|rope| self.rotary(rope, &grids, order.as_deref()));
        if let Some(order) = &order {
            x = x.gather(order);
        }
        let restore = |x: &Matrix| match &order {
            Some(order) => {
                let mut rows = vec![0; order.len()];
                order.iter().zip(0..).for_each(|(from, to)| rows[*from as usize] = to);
                x.gather(&rows)
            }
            None => x.clone(),
        };
        let mut kept = vec![None; keep.len()];
        let mut keep_state = |state: usize, x: &Matrix| {
            for (wanted, kept) in keep.iter().zip(&mut kept) {
                if *wanted == state {
                    *kept = Some(restore(x));
                }
            }
        };
        keep_state(0, &x);
        for (n, block) in self.blocks[..depth].iter().enumerate() {
            let is_windowed = self.config.windows.as_ref().is_some_and(|windows| !windows.full.contains(&n));
            let visible = if is_windowed { &windows } else { &full };
            x = block.forward(x, Attending { rotary: rotary.as_ref(), visible, kept: None });
            keep_state(n + 1, &x);
        }
        let last = restore(&x);
        let last = self.last_norm.as_ref().map_or_else(|| last.clone(), |norm| norm.forward(last.clone()));
        let kept = kept.into_iter().map(|x| x.expect("every requested state was computed"));
        (kept.collect(), last)
    }

    /// Row and column of each patch of a view, in the order of the patches.
    fn coordinates(&self, grid: Grid) -> impl Iterator<Item = [usize; 2]> {
        coordinates(grid, self.merge)
    }

    /// The learned positions of all rows.
    fn learned_positions(&self, grids: &[Grid]) -> Option<Vec<f32>> {
        let d = self.config.block.width;
        match self.config.positions {
            Positions::None => None,
            Positions::Table(_) | Positions::Stacked(_) | Positions::Patches(_) => {
                Some(self.positions.repeat(grids.len()))
            }
            Positions::Axes(length) => {
                let patches = grids.iter().flat_map(|grid| self.coordinates(*grid));
                let sum = |[y, x]: [usize; 2]| {
                    let [of_column, of_row] = [x, length + y].map(|n| &self.positions[n * d..(n + 1) * d]);
                    of_column.iter().zip(of_row).map(|(a, b)| a + b)
                };
                Some(patches.flat_map(sum).collect())
            }
            Positions::Interpolated(side) => {
                let mut out = Vec::new();
                for grid in grids {
                    let [rows, columns] = grid.map(|n| corners(n, side));
                    for [y, x] in self.coordinates(*grid) {
                        let at = out.len();
                        out.resize(at + d, 0.0);
                        for (row, by_row) in rows[y] {
                            for (column, by_column) in columns[x] {
                                let position = &self.positions[(row * side + column) * d..][..d];
                                let weight = by_row * by_column;
                                out[at..].iter_mut().zip(position).for_each(|(out, p)| *out += weight * p);
                            }
                        }
                    }
                }
                Some(out)
            }
        }
    }

    /// Two-dimensional rotary positions: one half of a head is rotated by the row of a patch, the other half by its
    /// column.
    fn rotary(&self, rope: TowerRope, grids: &[Grid], order: Option<&[u32]>) -> Rotary {
        let head_dim = self.config.block.head_dim;
        // Of all frequencies of a head, those of rows are every other one.
        let frequency = |n: usize| 1.0 / (rope.theta.powf(2.0 * n as f64 / head_dim as f64) as f32);
        let of_axis = |first: usize| (first..head_dim / 2).step_by(2).map(frequency).collect::<Vec<f32>>();
        let frequencies = [of_axis(0), of_axis(usize::from(rope.alternating))];
        let coordinates: Vec<[usize; 2]> = grids.iter().flat_map(|grid| self.coordinates(*grid)).collect();
        let ordered = |n: usize| coordinates[order.map_or(n, |order| order[n] as usize)];
        let angles = (0..coordinates.len()).flat_map(|n| {
            let axes = ordered(n).into_iter().zip(&frequencies);
            axes.flat_map(|(coordinate, frequencies)| frequencies.iter().map(move |f| coordinate as f32 * f))
        });
        Rotary::new(&angles.collect::<Vec<_>>(), head_dim, 1.0, &self.compute)
    }

    /// The rows in the order of windows, and which rows are visible inside each window.
    fn windows(&self, grids: &[Grid]) -> (Option<Vec<u32>>, VisibleKeys) {
        let Some(windows) = &self.config.windows else { return (None, VisibleKeys::full([])) };
        let (mut order, mut lengths, mut start) = (Vec::new(), Vec::new(), 0);
        for grid @ [height, width] in grids {
            let across = width.div_ceil(windows.side);
            let mut members = vec![Vec::new(); height.div_ceil(windows.side) * across];
            for ([y, x], row) in self.coordinates(*grid).zip(start..) {
                members[y / windows.side * across + x / windows.side].push(row as u32);
            }
            start += height * width;
            lengths.extend(members.iter().map(Vec::len).filter(|length| *length > 0));
            order.extend(members.into_iter().flatten());
        }
        (Some(order), VisibleKeys::full(lengths))
    }
}

/// The embedding of patches of so many pixels whose weight is stored pixel by pixel, and takes numbers between -1 and 1: `w (2 x - 1)`.
fn by_pixel(loader: &mut Loader, name: &str, d: usize, pixels: usize) -> Linear {
    let stored = loader.values(&format!("{name}.weight"), &[d, 3 * pixels]);
    let mut weight = vec![0.0; stored.len()];
    for (n, value) in stored.iter().enumerate() {
        let (row, input) = (n / (3 * pixels), n % (3 * pixels));
        weight[row * 3 * pixels + input % 3 * pixels + input / 3] = 2.0 * value;
    }
    let bias = stored.chunks_exact(3 * pixels).map(|row| -row.iter().sum::<f32>()).collect();
    let weight = loader.computed(weight, [d, 3 * pixels]);
    Linear::new(weight, Some(bias), loader.compute())
}

/// Row and column of each patch of a view, square by square of `merge` patches per side.
fn coordinates([height, width]: Grid, merge: usize) -> impl Iterator<Item = [usize; 2]> {
    let blocks = (0..height / merge).flat_map(move |y| (0..width / merge).map(move |x| [y * merge, x * merge]));
    blocks.flat_map(move |[y, x]| (0..merge * merge).map(move |n| [y + n / merge, x + n % merge]))
}

/// The rows of a table that has `before` rows of `d` numbers, and one for each patch of a view, row by row; those of the patches
/// in their order.
fn in_order(table: Vec<f32>, before: usize, grid: Grid, merge: usize, d: usize) -> Vec<f32> {
    // Nothing was read while the tensors are only checked.
    if merge == 1 || table.is_empty() {
        return table;
    }
    let (before, patches) = table.split_at(before * d);
    let row = |[y, x]: [usize; 2]| &patches[(y * grid[1] + x) * d..][..d];
    before.iter().chain(coordinates(grid, merge).flat_map(row)).copied().collect()
}

/// Linear interpolation of `n` points that are spread evenly over a line of `side` points, with the first and the last
/// on its ends. Returns for each point its two neighbors and their weights.
fn corners(n: usize, side: usize) -> Vec<[(usize, f32); 2]> {
    let corner = |i: usize| {
        let point = i as f32 * (side - 1) as f32 / (n.max(2) - 1) as f32;
        let (low, part) = (point as usize, point.fract());
        [(low, 1.0 - part), ((low + 1).min(side - 1), part)]
    };
    (0..n).map(corner).collect()
}
