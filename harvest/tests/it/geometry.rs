//! The rectangles of an image's positions: painting a part of an image changes the input of the vision tower exactly for
//! the positions whose rectangles it touches.

use crate::golden::Golden;
use harvest::Checkpoint;
use harvest::model::Source;
use harvest::model::config::Tiling;
use harvest::pixels::Frame;
use image::{ImageFormat, Rgb, RgbImage};
use std::collections::BTreeSet;
use std::io::Cursor;

/// A gray image of `[width, height]` with a painted rectangle `[x0, y0, x1, y1]` of pixels.
fn image([width, height]: [u32; 2], paint: Option<[u32; 4]>) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, y| match paint {
        Some([x0, y0, x1, y1]) if (x0..x1).contains(&x) && (y0..y1).contains(&y) => Rgb([255, 0, 0]),
        _ => Rgb([128; 3]),
    });
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

/// Rows of the tower's output whose pixels differ between the frames.
fn changed(checkpoint: &Checkpoint, before: &Frame, after: &Frame) -> BTreeSet<u32> {
    let vision = checkpoint.config().vision.as_ref().unwrap();
    let (tower, _) = vision.tower().expect("a tower");
    let images = checkpoint.images().unwrap();
    let [before, after] = [before, after].map(|frame| images.image(frame));
    let width = tower.patches.width();
    // With native tiling, several patches become one position. Otherwise a class token may come before each view.
    let (merged, prefix) = match vision.tiling {
        Tiling::Native { merge, .. } | Tiling::Split { merge, .. } => (merge * merge, 0),
        _ => (1, tower.prefix_rows()),
    };
    let (mut rows, mut start, mut at) = (BTreeSet::new(), 0, 0);
    for [height, columns] in &before.views {
        for patch in 0..height * columns {
            let range = at * width..(at + 1) * width;
            if before.patches[range.clone()] != after.patches[range] {
                rows.insert((start + prefix + patch / merged) as u32);
            }
            at += 1;
        }
        start += prefix + height * columns / merged;
    }
    rows
}

/// Paints squares in an image, and compares the positions whose input changes with their rectangles.
fn check(name: &str, size: [u32; 2]) {
    let checkpoint = Checkpoint::open(&Golden::open(name).folder).unwrap();
    let images = checkpoint.images().unwrap();
    let plain = images.frame(&image(size, None)).unwrap();
    let mut count = 0;
    for (x, y) in [(0, 0), (1, 2), (2, 1), (3, 3)] {
        let [w, h] = [size[0] / 4, size[1] / 4];
        let pixels = [x * w + w / 4, y * h + h / 4, (x + 1) * w - w / 4, (y + 1) * h - h / 4];
        let frame = images.frame(&image(size, Some(pixels))).unwrap();
        let changed = changed(&checkpoint, &plain, &frame);
        let paint = [0, 1, 2, 3].map(|n| pixels[n] as f32 / size[n % 2] as f32);
        for position in frame.positions.iter().filter(|position| !position.special) {
            let [x0, y0, x1, y1] = position.rect;
            let changed = match position.source {
                Source::Row(row) => changed.contains(&row),
                Source::Between { rows, weights } => {
                    rows.iter().zip(weights).any(|(row, weight)| weight > 0.0 && changed.contains(row))
                }
                Source::Newline => false,
            };
            // Resizing spreads the paint over a few pixels, which is at most half a position in these tiny towers.
            let (wide, high) = ((x1 - x0) / 2.0, (y1 - y0) / 2.0);
            let touches = |by: [f32; 2]| {
                x0 - by[0] < paint[2] && paint[0] < x1 + by[0] && y0 - by[1] < paint[3] && paint[1] < y1 + by[1]
            };
            let has_area = x1 > x0 && y1 > y0;
            let center = [(x0 + x1) / 2.0, (y0 + y1) / 2.0];
            let inside = (paint[0]..paint[2]).contains(&center[0]) && (paint[1]..paint[3]).contains(&center[1]);
            if changed {
                assert!(touches([wide.max(0.13), high.max(0.13)]), "{name}: {paint:?} changes {:?}", position.rect);
                count += 1;
            }
            assert!(changed || !(has_area && inside), "{name}: {paint:?} does not change {:?}", position.rect);
        }
    }
    assert!(count >= 4, "{name}: {count} positions changed");
}

#[test]
fn paint_changes_the_positions_whose_rectangles_contain_it() {
    for name in [
        "llava-a",
        "llava-b",
        "llava-c",
        "llava-next-a",
        "llava-next-b",
        "llava_onevision-a",
        "llava_onevision-b",
        "idefics3-a",
        "smolvlm-a",
        "smolvlm-b",
        "mistral3-a",
        "mistral3-e",
        "internvl-a",
        "internvl-b",
        "qwen2_5_vl-a",
        "qwen3_vl-a",
        "gemma4-a",
        "gemma4-b",
        "paligemma-a",
        "paligemma-b",
    ] {
        for size in [[200, 200], [320, 160], [120, 300]] {
            check(name, size);
        }
    }
}

#[test]
fn newlines_end_the_rows_of_tiles_and_have_no_content() {
    for name in ["llava-next-a", "llava-next-b", "llava_onevision-a", "llava_onevision-b"] {
        let checkpoint = Checkpoint::open(&Golden::open(name).folder).unwrap();
        let frame = checkpoint.images().unwrap().frame(&image([320, 120], None)).unwrap();
        let Tiling::AnyResolution { side, grid, .. } = checkpoint.config().vision.as_ref().unwrap().tiling else {
            panic!("tiles")
        };
        let (whole, tiles) = frame.positions.split_at(grid * grid);
        assert!(whole.iter().all(|position| !position.special));
        let mut row_end = 0.0;
        let mut rows = 0;
        for position in tiles {
            assert_eq!(position.special, position.source == Source::Newline);
            if position.special {
                // The newline shows the whole row that it ends.
                assert!(
                    position.rect[0] == 0.0 && position.rect[2] == 1.0 && position.rect[3] >= row_end,
                    "{:?}",
                    position.rect
                );
                row_end = position.rect[3];
                rows += 1;
            }
        }
        // The last row shows the lower edge, unless the tower does not read it because it fills no patch.
        let (tower, _) = checkpoint.config().vision.as_ref().unwrap().tower().expect("a tower");
        let is_whole = side % tower.patches.side == 0;
        let reaches = if is_whole { row_end == 1.0 } else { (0.9..1.0).contains(&row_end) };
        assert!(rows > 1 && tiles.last().unwrap().special && reaches, "{name}: {rows} rows, {row_end}");
    }
}
