//! An image as the vision tower reads it: one or several views, which are divided into patches, and the positions that
//! they occupy in the decoder's sequence, each with its rectangle in the original image.

use super::geometry;
use crate::model::{Image, ImageLayout, Moment, Source};
use crate::resample::{Filter, Rgb, resize};

/// An image as the vision tower reads it, before its bytes are converted to numbers.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Width of the upright original image in pixels.
    pub width: u32,
    /// Height of the upright original image in pixels.
    pub height: u32,
    /// The positions that it occupies, in order.
    pub positions: Vec<ImagePosition>,
    /// Rows and columns of its positions, if the model distinguishes them; of its tiles, if these stand apart in the text.
    grid: [usize; 2],
    views: Vec<Rgb>,
    /// Which of the views shows the whole image.
    whole: usize,
    /// The frames of a video that follow in the same patch. Where there are fewer than a patch has, the last frame is repeated.
    later: Vec<Rgb>,
    /// When it is shown, if it is a part of a video that the model follows on the axis of time.
    moment: Option<Moment>,
}

/// One position of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImagePosition {
    /// What it shows of the tower's output.
    pub source: Source,
    /// The part of the original that it shows: `[x0, y0, x1, y1]`, each from 0 to 1. A position that shows only padding
    /// has no area.
    pub rect: [f32; 4],
    /// Whether it has no content of its own, like the class token or a newline.
    pub special: bool,
    /// The view to which it belongs: 0 for the whole image, 1 for its tiles.
    pub view: u8,
}

/// Where the pixels of a view come from: the original was resized to `resized`, and the first pixel of the view is the
/// pixel at `offset` of the result (both `[x, y]`).
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub resized: [f64; 2],
    pub offset: [f64; 2],
}

/// How a square view is divided into positions.
#[derive(Clone, Copy)]
pub(super) struct SquareView {
    /// Side in pixels.
    pub side: usize,
    /// Side in positions.
    pub grid: usize,
    /// Pixels of a side that its positions cover. The tower does not read the others.
    pub covered: usize,
    /// Rows of the tower's output before those of its patches.
    pub prefix: usize,
}

impl SquareView {
    /// The positions of the view, row by row.
    fn positions(self, origin: Origin) -> impl Iterator<Item = ImagePosition> {
        let Self { grid, covered, prefix, .. } = self;
        (0..grid * grid).map(move |n| ImagePosition {
            source: Source::Row((prefix + n) as u32),
            rect: origin.cell([covered; 2], [grid; 2], n % grid, n / grid),
            special: false,
            view: 0,
        })
    }

    /// The pixels of a line of such views that the positions in a range show. Positions are counted across views.
    fn pixels(self, [from, to]: [f64; 2]) -> [f64; 2] {
        let [side, grid, covered] = [self.side, self.grid, self.covered].map(|n| n as f64);
        let pixel = |position: f64, view: f64| view * side + (position - view * grid) * covered / grid;
        [pixel(from, (from / grid).floor()), pixel(to, (to / grid).ceil() - 1.0)]
    }
}

impl Origin {
    /// The part of the original that the pixels from `from` to `to` of the view show.
    fn rect(self, from: [f64; 2], to: [f64; 2]) -> [f32; 4] {
        let edge = |axis: usize, pixel: f64| ((pixel + self.offset[axis]) / self.resized[axis]).clamp(0.0, 1.0) as f32;
        [edge(0, from[0]), edge(1, from[1]), edge(0, to[0]), edge(1, to[1])]
    }

    /// The part of the original that one cell shows, at column `x` and row `y` of a view that is divided into cells.
    fn cell(self, [width, height]: [usize; 2], [columns, rows]: [usize; 2], x: usize, y: usize) -> [f32; 4] {
        let at = |x: usize, y: usize| [(x * width) as f64 / columns as f64, (y * height) as f64 / rows as f64];
        self.rect(at(x, y), at(x + 1, y + 1))
    }
}

impl Frame {
    /// The image as the vision tower reads it, before its bytes are converted to numbers: the whole of it, if there are several
    /// views, and the first frame of a patch of a video.
    pub fn whole(&self) -> Option<&Rgb> {
        self.views.get(self.whole)
    }

    /// How much of a text it takes.
    pub fn layout(&self) -> ImageLayout {
        ImageLayout { positions: self.positions.len(), grid: self.grid }
    }

    /// A single view, a square, in which the class token of the tower may come first.
    pub(super) fn square(original: [usize; 2], view: Rgb, origin: Origin, square: SquareView, class: bool) -> Self {
        let SquareView { grid, covered, .. } = square;
        let mut positions = Vec::with_capacity(grid * grid + 1);
        // The class token stands for everything that the tower reads.
        positions.extend(class.then(|| ImagePosition {
            source: Source::Row(0),
            rect: origin.cell([covered; 2], [1, 1], 0, 0),
            special: true,
            view: 0,
        }));
        positions.extend(square.positions(origin));
        Self::new(original, positions, [grid, grid], vec![view])
    }

    /// The whole image in the middle of a square of one color, with a newline after its positions (LLaVA-OneVision).
    pub(super) fn padded(rgb: &Rgb, filter: Filter, square: SquareView, background: [u8; 3]) -> Self {
        let (original, side) = ([rgb.width, rgb.height], square.side);
        let longest = rgb.width.max(rgb.height);
        let offset = original.map(|n| -(((longest - n) / 2) as i64));
        let view = resize(window(rgb, offset, [longest; 2], background), side, side, filter);
        let scale = side as f64 / longest as f64;
        let origin = Origin { resized: original.map(|n| n as f64 * scale), offset: offset.map(|n| n as f64 * scale) };
        let mut frame = Self::square(original, view, origin, square, false);
        let rect = [0.0, 0.0, 1.0, 1.0];
        frame.positions.push(ImagePosition { source: Source::Newline, rect, special: true, view: 0 });
        frame
    }

    /// The whole image in a square, then tiles of the pinpoint that fits best (LLaVA-NeXT). The positions of more tiles than
    /// `most_tiles` are interpolated (LLaVA-OneVision).
    pub(super) fn any_resolution(
        rgb: Rgb,
        filter: Filter,
        square: SquareView,
        pinpoints: &[[usize; 2]],
        most_tiles: Option<usize>,
    ) -> Self {
        let SquareView { side, grid, prefix, .. } = square;
        let original = [rgb.width, rgb.height];
        let size = [rgb.height, rgb.width];
        let target = geometry::best_resolution(size, pinpoints);
        let [height, width] = geometry::inside(size, target);
        let whole = resize(rgb.clone(), side, side, filter);
        let fitted = resize(rgb, width, height, filter);
        let offset = [(target[1] - width) / 2, (target[0] - height) / 2].map(|n| -(n as i64));
        let tiles = target.map(|n| n / side);
        let mut views = vec![whole];
        for row in 0..tiles[0] {
            for column in 0..tiles[1] {
                let corner = [offset[0] + (column * side) as i64, offset[1] + (row * side) as i64];
                views.push(window(&fitted, corner, [side, side], [0; 3]));
            }
        }

        let whole = Origin { resized: [side as f64; 2], offset: [0.0; 2] };
        let mut positions: Vec<_> = square.positions(whole).collect();
        let origin = Origin { resized: [width as f64, height as f64], offset: offset.map(|n| n as f64) };
        let all = tiles.map(|n| n * grid);
        let padding = geometry::padding(size, all);
        let shown = [0, 1].map(|axis| all[axis] - 2 * padding[axis]);
        let [rows, columns] = most_tiles.map_or(shown, |most| geometry::at_most(shown, most * grid * grid));
        // The row of the tower's output for a position of the tiles.
        let row_at = |[y, x]: [usize; 2]| {
            let [y, x] = [padding[0] + y, padding[1] + x];
            let (tile, within) = (1 + y / grid * tiles[1] + x / grid, y % grid * grid + x % grid);
            (tile * (prefix + grid * grid) + prefix + within) as u32
        };
        let pixels = |axis: usize, n: usize, count: usize| {
            let at = |n: usize| padding[axis] as f64 + (n * shown[axis]) as f64 / count as f64;
            square.pixels([at(n), at(n + 1)])
        };
        for y in 0..rows {
            let [top, bottom] = pixels(0, y, rows);
            for x in 0..columns {
                let [left, right] = pixels(1, x, columns);
                let source = if [rows, columns] == shown {
                    Source::Row(row_at([y, x]))
                } else {
                    let ([upper, lower], down) = geometry::between(y, shown[0], rows);
                    let ([before, after], across) = geometry::between(x, shown[1], columns);
                    let corners = [[upper, before], [upper, after], [lower, before], [lower, after]];
                    let (up, back) = (1.0 - down, 1.0 - across);
                    let weights = [up * back, up * across, down * back, down * across];
                    Source::Between { rows: corners.map(row_at), weights }
                };
                positions.push(ImagePosition {
                    source,
                    rect: origin.rect([left, top], [right, bottom]),
                    special: false,
                    view: 1,
                });
            }
            // A newline shows the row that it ends.
            let rect = origin.rect([0.0, top], [target[1] as f64, bottom]);
            positions.push(ImagePosition { source: Source::Newline, rect, special: true, view: 1 });
        }
        Self::new(original, positions, [rows, columns + 1], views)
    }

    /// The tiles of an image of which each side is a multiple of a tile's, row by row, and then the `whole` of it in one square;
    /// only the latter if it is a single tile, or is not divided (Idefics3, InternVL).
    pub(super) fn split(original: [usize; 2], divided: Option<&Rgb>, whole: Rgb, square: SquareView) -> Self {
        let SquareView { side, grid, .. } = square;
        let rgb = divided.unwrap_or(&whole);
        let size = [rgb.width, rgb.height];
        let [columns, rows] = size.map(|n| n / side);
        let tiles = if rows * columns > 1 { [rows, columns] } else { [0, 0] };
        let (mut views, mut positions) = (Vec::new(), Vec::new());
        let mut add = |view: Rgb, origin: Origin, number: u8| {
            let square = SquareView { prefix: views.len() * grid * grid, ..square };
            positions.extend(square.positions(origin).map(|position| ImagePosition { view: number, ..position }));
            views.push(view);
        };
        for row in 0..tiles[0] {
            for column in 0..tiles[1] {
                let corner = [column * side, row * side];
                let origin = Origin { resized: size.map(|n| n as f64), offset: corner.map(|n| n as f64) };
                add(window(rgb, corner.map(|n| n as i64), [side; 2], [0; 3]), origin, 1);
            }
        }
        add(whole, Origin { resized: [side as f64; 2], offset: [0.0; 2] }, 0);
        Self { whole: tiles[0] * tiles[1], ..Self::new(original, positions, tiles, views) }
    }

    /// A single view with the proportions of the original, with `cell` pixels per side of a position (Qwen).
    pub(super) fn native(original: [usize; 2], view: Rgb, cell: usize) -> Self {
        let (columns, rows) = (view.width / cell, view.height / cell);
        let origin = Origin { resized: [view.width as f64, view.height as f64], offset: [0.0; 2] };
        let positions = (0..rows * columns).map(|n| ImagePosition {
            source: Source::Row(n as u32),
            rect: origin.cell([view.width, view.height], [columns, rows], n % columns, n / columns),
            special: false,
            view: 0,
        });
        Self::new(original, positions.collect(), [rows, columns], vec![view])
    }

    fn new([width, height]: [usize; 2], positions: Vec<ImagePosition>, grid: [usize; 2], views: Vec<Rgb>) -> Self {
        let (width, height) = (width as u32, height as u32);
        Self { width, height, positions, grid, views, whole: 0, later: Vec::new(), moment: None }
    }

    /// The same with further frames of a video, which have the size of the first.
    pub(super) fn followed_by(self, later: Vec<Rgb>) -> Self {
        Self { later, ..self }
    }

    /// The same at a moment of a video.
    pub(crate) fn at(self, moment: Moment) -> Self {
        Self { moment: Some(moment), ..self }
    }

    /// The input of the model: the numbers of the patches, in the order in which patches are merged into positions.
    /// `values` has the number of every byte for red, green and blue.
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
                        for frame in 0..frames {
                            let shown = frame.min(self.later.len()).checked_sub(1).map_or(view, |n| &self.later[n]);
                            for row in y..y + side {
                                let pixels = shown.data[(row * view.width + x) * 3..].as_chunks::<3>().0;
                                numbers.extend(pixels[..side].iter().map(|pixel| values[usize::from(pixel[channel])]));
                            }
                        }
                    }
                }
            }
        }
        let sources = self.positions.iter().map(|position| position.source).collect();
        Image { patches: numbers, fused: Vec::new(), views, sources, grid: self.grid, moment: self.moment }
    }
}

/// How a view is divided into patches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patches {
    /// Side of a patch in pixels.
    pub side: usize,
    /// Side of a position in patches.
    pub merge: usize,
    /// Number of frames of a video in each patch. A still image is repeated.
    pub frames: usize,
}

/// The window of `[width, height]` pixels whose first pixel is the image's pixel at `[x, y]`. It has the color `outside` where
/// there is no image.
pub(super) fn window(image: &Rgb, [x, y]: [i64; 2], [width, height]: [usize; 2], outside: [u8; 3]) -> Rgb {
    let mut data = outside.repeat(width * height);
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

    fn sample_image(width: usize, height: usize) -> Rgb {
        Rgb { width, height, data: (0..width * height * 3).map(|n| n as u8).collect() }
    }

    #[test]
    fn tiles_follow_the_whole_image_row_by_row_without_padding() {
        // 16 x 4 in a pinpoint of 8 x 16: the size stays the same, with two rows of padding above and below.
        let square = SquareView { side: 8, grid: 4, covered: 8, prefix: 0 };
        let pinpoints = [[8, 16], [16, 8]];
        let frame = Frame::any_resolution(sample_image(16, 4), Filter::Bicubic, square, &pinpoints, None);
        assert_eq!(frame.views.len(), 3);
        // 16 positions for the whole image. Of 4 rows with 8 positions, the middle two remain, each with a newline.
        assert_eq!(frame.positions.len(), 16 + 2 * 9);
        assert_eq!(frame.positions[15].rect, [0.75, 0.75, 1.0, 1.0]);
        assert_eq!(
            frame.positions[16],
            ImagePosition { source: Source::Row(16 + 4), rect: [0.0, 0.0, 0.125, 0.5], special: false, view: 1 }
        );
        assert_eq!(frame.positions[16 + 4].source, Source::Row(32 + 4));
        assert_eq!(
            frame.positions[24],
            ImagePosition { source: Source::Newline, rect: [0.0, 0.0, 1.0, 0.5], special: true, view: 1 }
        );
        // The first tile begins with two black rows, then the image follows.
        assert_eq!(frame.views[1].data[..2 * 8 * 3], [0; 48]);
        assert_eq!(frame.views[1].data[2 * 8 * 3..3 * 8 * 3], sample_image(16, 4).data[..24]);
    }

    #[test]
    fn pixels_that_fill_no_patch_belong_to_no_position() {
        // Tiles of 9 pixels, of which 2 x 4 are read.
        let square = SquareView { side: 9, grid: 2, covered: 8, prefix: 0 };
        assert_eq!(
            [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]].map(|range| square.pixels(range)),
            [[0.0, 4.0], [4.0, 8.0], [9.0, 13.0]]
        );
        let frame = Frame::any_resolution(sample_image(18, 18), Filter::Bicubic, square, &[[18, 18]], None);
        assert_eq!(frame.positions[3].rect, [4.0 / 9.0, 4.0 / 9.0, 8.0 / 9.0, 8.0 / 9.0]);
        assert_eq!(frame.positions[4 + 3].rect, [13.0 / 18.0, 0.0, 17.0 / 18.0, 4.0 / 18.0]);
    }

    #[test]
    fn positions_of_too_many_tiles_are_between_rows() {
        let square = SquareView { side: 8, grid: 2, covered: 8, prefix: 0 };
        let frame = Frame::any_resolution(sample_image(16, 16), Filter::Bicubic, square, &[[16, 16]], Some(1));
        // 4 x 4 positions become 2 x 2, each in the middle of four.
        assert_eq!((frame.positions.len(), frame.grid), (4 + 2 * 3, [2, 3]));
        let expected = Source::Between { rows: [4, 5, 6, 7], weights: [0.25; 4] };
        assert_eq!((frame.positions[4].source, frame.positions[4].rect), (expected, [0.0, 0.0, 0.5, 0.5]));
        let expected = Source::Between { rows: [16, 17, 18, 19], weights: [0.25; 4] };
        assert_eq!((frame.positions[4 + 4].source, frame.positions[4 + 4].rect), (expected, [0.5, 0.5, 1.0, 1.0]));
    }

    #[test]
    fn the_sides_of_a_padded_image_show_nothing_and_a_newline_ends_it() {
        let square = SquareView { side: 8, grid: 4, covered: 8, prefix: 0 };
        let frame = Frame::padded(&sample_image(8, 4), Filter::Bicubic, square, [7, 8, 9]);
        assert_eq!(frame.views[0].data[..3], [7, 8, 9]);
        let height = |n: usize| frame.positions[n].rect[3] - frame.positions[n].rect[1];
        assert_eq!([0, 4, 8, 12].map(height), [0.0, 0.5, 0.5, 0.0]);
        assert_eq!((frame.positions.len(), frame.positions[16].source), (17, Source::Newline));
    }

    #[test]
    fn tiles_that_stand_apart_come_before_the_whole_image() {
        let square = SquareView { side: 8, grid: 2, covered: 8, prefix: 0 };
        let frame = Frame::split([4, 4], Some(&sample_image(16, 8)), sample_image(8, 8), square);
        assert_eq!((frame.grid, frame.views.len(), frame.positions.len()), ([1, 2], 3, 12));
        assert_eq!(frame.views[1].data[..24], sample_image(16, 8).data[24..48]);
        let at = |n: usize| (frame.positions[n].source, frame.positions[n].rect, frame.positions[n].view);
        assert_eq!(at(5), (Source::Row(5), [0.75, 0.0, 1.0, 0.5], 1));
        assert_eq!(at(9), (Source::Row(9), [0.5, 0.0, 1.0, 0.5], 0));
        assert_eq!(frame.whole(), frame.views.last());
        for divided in [Some(&sample_image(8, 8)), None] {
            let frame = Frame::split([16, 8], divided, sample_image(8, 8), square);
            assert_eq!((frame.grid, frame.views.len(), frame.positions.len()), ([0, 0], 1, 4));
        }
    }

    #[test]
    fn patches_of_the_same_position_are_adjacent() {
        let frame = Frame::native([8, 4], sample_image(8, 4), 4);
        let values = [std::array::from_fn(|n| n as f32); 3];
        let image = frame.image(&values, Patches { side: 2, merge: 2, frames: 2 });
        assert_eq!((image.views, image.sources.len(), image.grid), (vec![[2, 4]], 2, [1, 2]));
        // The third patch is the first one in the second row of patches.
        let third = &image.patches[2 * 24..][..4];
        assert_eq!(third, [48.0, 51.0, 72.0, 75.0]);
        assert_eq!(third, &image.patches[2 * 24 + 4..][..4], "every patch is repeated");
    }
}
