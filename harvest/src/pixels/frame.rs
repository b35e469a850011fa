//! An image as the vision tower sees it: one or several views, cut into patches, and the positions they take in the
//! decoder's sequence, each with its rectangle in the original.

use super::geometry;
use crate::model::Image;
use crate::model::config::Tiling;
use crate::resample::{Filter, Rgb, resize};

/// An image as the vision tower sees it, before its bytes become numbers.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Pixels of the original image, upright.
    pub width: u32,
    /// Pixels of the original image, upright.
    pub height: u32,
    /// The positions it takes, in order.
    pub places: Vec<ImagePosition>,
    /// Rows and columns of its positions, where the model tells them apart.
    grid: [usize; 2],
    views: Vec<Rgb>,
}

/// A position of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImagePosition {
    /// The row of what the views become; nothing for a newline.
    pub source: Option<u32>,
    /// What it shows of the original: `[x0, y0, x1, y1]`, each 0 to 1. One that shows padding alone has no area.
    pub rect: [f32; 4],
    /// Without content of its own: the class position, a newline.
    pub special: bool,
    /// Which view it belongs to: 0 the whole, 1 its tiles.
    pub view: u8,
}

/// Where a view's pixels come from: the original was resized to `resized`, and the view's first pixel is its pixel at
/// `offset` (both `[x, y]`).
#[derive(Clone, Copy)]
struct Origin {
    resized: [usize; 2],
    offset: [i64; 2],
}

impl Origin {
    /// What the pixels from `from` to `to` of the view show of the original.
    fn rect(self, from: [f64; 2], to: [f64; 2]) -> [f32; 4] {
        let edge = |axis: usize, pixel: f64| {
            ((pixel + self.offset[axis] as f64) / self.resized[axis] as f64).clamp(0.0, 1.0) as f32
        };
        [edge(0, from[0]), edge(1, from[1]), edge(0, to[0]), edge(1, to[1])]
    }

    /// What the square at column `x` and row `y` of a partition of a view shows.
    fn cell(self, [width, height]: [usize; 2], [columns, rows]: [usize; 2], x: usize, y: usize) -> [f32; 4] {
        let at = |x: usize, y: usize| [(x * width) as f64 / columns as f64, (y * height) as f64 / rows as f64];
        self.rect(at(x, y), at(x + 1, y + 1))
    }
}

impl Frame {
    /// One view, a square of `side` pixels: the window at `offset` of an image that was resized to `resized`.
    /// `head` rows stand in front of its patches.
    pub(super) fn square(
        original: [usize; 2],
        view: Rgb,
        resized: [usize; 2],
        offset: [i64; 2],
        tiling: &Tiling,
        head: usize,
    ) -> Self {
        let (grid, class) = match tiling {
            Tiling::Square { grid, class, .. } => (*grid, *class),
            _ => (1, false),
        };
        let origin = Origin { resized, offset };
        let size = [view.width, view.height];
        let mut places = Vec::with_capacity(grid * grid + 1);
        // The class position stands for all that the tower sees.
        places.extend(class.then(|| ImagePosition {
            source: Some(0),
            rect: origin.cell(size, [1, 1], 0, 0),
            special: true,
            view: 0,
        }));
        places.extend((0..grid * grid).map(|n| ImagePosition {
            source: Some((head + n) as u32),
            rect: origin.cell(size, [grid, grid], n % grid, n / grid),
            special: false,
            view: 0,
        }));
        Self::new(original, places, [grid, grid], vec![view])
    }

    /// The whole in a square, then tiles of the pinpoint that fits best (LLaVA-NeXT). A view has `side` pixels and `grid`
    /// patches a side, and `head` rows in front of its patches.
    pub(super) fn any_resolution(
        rgb: Rgb,
        filter: Filter,
        [side, grid, head]: [usize; 3],
        pinpoints: &[[usize; 2]],
    ) -> Self {
        let original = [rgb.width, rgb.height];
        let size = [rgb.height, rgb.width];
        let target = geometry::best_resolution(size, pinpoints);
        let [height, width] = geometry::inside(size, target);
        let whole = resize(rgb.clone(), side, side, filter);
        let fitted = resize(rgb, width, height, filter);
        let offset = [(target[1] - width) / 2, (target[0] - height) / 2].map(|n| -(n as i64));
        let [rows, columns] = target.map(|n| n / side);
        let mut views = vec![whole];
        for row in 0..rows {
            for column in 0..columns {
                let corner = [offset[0] + (column * side) as i64, offset[1] + (row * side) as i64];
                views.push(window(&fitted, corner, [side, side]));
            }
        }

        let whole = Origin { resized: [side, side], offset: [0, 0] };
        let mut places: Vec<_> = (0..grid * grid)
            .map(|n| ImagePosition {
                source: Some((head + n) as u32),
                rect: whole.cell([side, side], [grid, grid], n % grid, n / grid),
                special: false,
                view: 0,
            })
            .collect();
        let origin = Origin { resized: [width, height], offset };
        let ([tall, wide], canvas) = ([rows * grid, columns * grid], [target[1], target[0]]);
        let [top, left] = geometry::padding(size, [tall, wide]);
        for y in top..tall - top {
            for x in left..wide - left {
                let tile = 1 + y / grid * columns + x / grid;
                let within = y % grid * grid + x % grid;
                let source = Some((tile * (head + grid * grid) + head + within) as u32);
                places.push(ImagePosition {
                    source,
                    rect: origin.cell(canvas, [wide, tall], x, y),
                    special: false,
                    view: 1,
                });
            }
            // A newline stands for the row that it ends.
            let rect = origin.cell(canvas, [1, tall], 0, y);
            places.push(ImagePosition { source: None, rect, special: true, view: 1 });
        }
        Self::new(original, places, [tall - 2 * top, wide - 2 * left + 1], views)
    }

    /// One view in its own proportions, whole patches of `cell` pixels a position (Qwen).
    pub(super) fn native(original: [usize; 2], view: Rgb, cell: usize) -> Self {
        let (columns, rows) = (view.width / cell, view.height / cell);
        let origin = Origin { resized: [view.width, view.height], offset: [0, 0] };
        let places = (0..rows * columns).map(|n| ImagePosition {
            source: Some(n as u32),
            rect: origin.cell([view.width, view.height], [columns, rows], n % columns, n / columns),
            special: false,
            view: 0,
        });
        Self::new(original, places.collect(), [rows, columns], vec![view])
    }

    fn new([width, height]: [usize; 2], places: Vec<ImagePosition>, grid: [usize; 2], views: Vec<Rgb>) -> Self {
        Self { width: width as u32, height: height as u32, places, grid, views }
    }

    /// What the model takes: numbers of the patches, in the order of the positions they join.
    pub(super) fn image(&self, values: &[[f32; 256]; 3], patches: Patches) -> Image {
        let Patches { side, merge, frames } = patches;
        let mut numbers = Vec::new();
        let mut views = Vec::with_capacity(self.views.len());
        for view in &self.views {
            let [rows, columns] = [view.height / side, view.width / side];
            views.push([rows, columns]);
            numbers.reserve(3 * frames * view.width * view.height);
            for block in 0..rows / merge * (columns / merge) {
                let (block_y, block_x) = (block / (columns / merge) * merge, block % (columns / merge) * merge);
                for patch in 0..merge * merge {
                    let (y, x) = ((block_y + patch / merge) * side, (block_x + patch % merge) * side);
                    for (channel, values) in values.iter().enumerate() {
                        for _ in 0..frames {
                            for row in y..y + side {
                                let pixels = view.data[(row * view.width + x) * 3..].as_chunks::<3>().0;
                                numbers.extend(pixels[..side].iter().map(|pixel| values[usize::from(pixel[channel])]));
                            }
                        }
                    }
                }
            }
        }
        let sources = self.places.iter().map(|place| place.source).collect();
        Image { patches: numbers, views, sources, grid: self.grid }
    }
}

/// How a view is cut into patches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patches {
    /// Pixels along a side.
    pub side: usize,
    /// Patches along a side of what becomes one position.
    pub merge: usize,
    /// Times that each is shown.
    pub frames: usize,
}

/// The window of `[width, height]` whose first pixel is the image's at `[x, y]`, black where it leaves the image.
pub(super) fn window(image: &Rgb, [x, y]: [i64; 2], [width, height]: [usize; 2]) -> Rgb {
    let mut data = vec![0; width * height * 3];
    let (left, right) = (x.max(0), (x + width as i64).min(image.width as i64));
    for (row, from) in data.chunks_exact_mut(width * 3).zip(y..) {
        if (0..image.height as i64).contains(&from) && left < right {
            let source = &image.data[from as usize * image.width * 3..][left as usize * 3..right as usize * 3];
            row[(left - x) as usize * 3..][..source.len()].copy_from_slice(source);
        }
    }
    Rgb { width, height, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Rgb {
        Rgb { width, height, data: (0..width * height * 3).map(|n| n as u8).collect() }
    }

    #[test]
    fn tiles_without_padding_lie_row_by_row_behind_the_whole() {
        // 16 x 4 in a pinpoint of 8 x 16: as large as it is, two rows of padding above and below.
        let frame = Frame::any_resolution(picture(16, 4), Filter::Bicubic, [8, 4, 0], &[[8, 16], [16, 8]]);
        assert_eq!(frame.views.len(), 3);
        // 16 positions for the whole; of 4 rows of 8 the middle two, each with a newline.
        assert_eq!(frame.places.len(), 16 + 2 * 9);
        assert_eq!(frame.places[15].rect, [0.75, 0.75, 1.0, 1.0]);
        assert_eq!(
            frame.places[16],
            ImagePosition { source: Some(16 + 4), rect: [0.0, 0.0, 0.125, 0.5], special: false, view: 1 }
        );
        assert_eq!(frame.places[16 + 4].source, Some(32 + 4));
        assert_eq!(
            frame.places[24],
            ImagePosition { source: None, rect: [0.0, 0.0, 1.0, 0.5], special: true, view: 1 }
        );
        // The first tile: two black rows, then the picture.
        assert_eq!(frame.views[1].data[..2 * 8 * 3], [0; 48]);
        assert_eq!(frame.views[1].data[2 * 8 * 3..3 * 8 * 3], picture(16, 4).data[..24]);
    }

    #[test]
    fn patches_that_join_lie_together() {
        let frame = Frame::native([8, 4], picture(8, 4), 4);
        let values = [std::array::from_fn(|n| n as f32); 3];
        let image = frame.image(&values, Patches { side: 2, merge: 2, frames: 2 });
        assert_eq!((image.views, image.sources.len(), image.grid), (vec![[2, 4]], 2, [1, 2]));
        // The third patch is the first of the second row of patches.
        let third = &image.patches[2 * 24..][..4];
        assert_eq!(third, [48.0, 51.0, 72.0, 75.0]);
        assert_eq!(third, &image.patches[2 * 24 + 4..][..4], "shown twice");
    }
}
