//! The rules of the image processors for the size of a resized image and the location of its parts. Only numbers.

/// The pinpoint `[height, width]` that preserves most pixels of an image of `[height, width]`, and among several of
/// these the one that wastes the least area (LLaVA-NeXT).
pub(super) fn best_resolution([height, width]: [usize; 2], pinpoints: &[[usize; 2]]) -> [usize; 2] {
    let fit = |pinpoint: &[usize; 2]| {
        let scale = (pinpoint[1] as f64 / width as f64).min(pinpoint[0] as f64 / height as f64);
        let [w, h] = [width, height].map(|side| (side as f64 * scale) as usize);
        let shown = (w * h).min(width * height);
        (shown, pinpoint[0] * pinpoint[1] - shown)
    };
    let mut best = pinpoints[0];
    for pinpoint in &pinpoints[1..] {
        let ((shown, wasted), (most, least)) = (fit(pinpoint), fit(&best));
        if shown > most || shown == most && wasted < least {
            best = *pinpoint;
        }
    }
    best
}

/// The largest size inside `target` that has an image's proportions; all sizes are `[height, width]`.
pub(super) fn inside([height, width]: [usize; 2], target: [usize; 2]) -> [usize; 2] {
    let [by_height, by_width] = [target[0] as f64 / height as f64, target[1] as f64 / width as f64];
    if by_width < by_height {
        [((height as f64 * by_width).ceil() as usize).clamp(1, target[0]), target[1]]
    } else {
        [target[0], ((width as f64 * by_height).ceil() as usize).clamp(1, target[1])]
    }
}

/// The number of rows and columns to remove on either side of a grid of `[rows, columns]` over a padded image, because
/// they show padding (LLaVA-NeXT).
pub(super) fn padding([height, width]: [usize; 2], [rows, columns]: [usize; 2]) -> [usize; 2] {
    // Rounded to 7 digits like the reference implementation, which thereby removes noise of the division.
    let fitted = |side: usize, scale: f64| ((side as f64 * scale * 1e7).round_ties_even() / 1e7) as usize;
    if width as f64 / height as f64 > columns as f64 / rows as f64 {
        [(rows - fitted(height, columns as f64 / width as f64).min(rows)) / 2, 0]
    } else {
        [0, (columns - fitted(width, rows as f64 / height as f64).min(columns)) / 2]
    }
}

/// The rows and columns to which a grid is interpolated that has clearly more than `most` positions (LLaVA-OneVision).
pub(super) fn at_most(grid: [usize; 2], most: usize) -> [usize; 2] {
    let ratio = ((grid[0] * grid[1]) as f64 / most as f64).sqrt();
    if ratio <= 1.1 {
        return grid;
    }
    // The floor division of the reference implementation removes the remainder before it divides.
    grid.map(|side| ((side as f64 - side as f64 % ratio) / ratio).round().max(1.0) as usize)
}

/// The two of `from` points on a line between which the `n`-th of `to` points is if both cover the line evenly, and how far it
/// is from the first to the second.
pub(super) fn between(n: usize, from: usize, to: usize) -> ([usize; 2], f32) {
    let at = ((n as f32 + 0.5) * (from as f32 / to as f32) - 0.5).max(0.0);
    let low = (at as usize).min(from - 1);
    ([low, (low + 1).min(from - 1)], at - low as f32)
}

/// The size closest to an image's `[height, width]` whose sides are multiples of `factor` and whose area is within the
/// bounds (Qwen2-VL).
pub(super) fn smart([height, width]: [usize; 2], factor: usize, [least, most]: [usize; 2]) -> [usize; 2] {
    let (sides, factor_f) = ([height as f64, width as f64], factor as f64);
    let near = sides.map(|side| (side / factor_f).round_ties_even() as usize * factor);
    let area = near[0] * near[1];
    let scale = |ratio: f64| ratio.sqrt();
    if area > most {
        let beta = scale((height * width) as f64 / most as f64);
        sides.map(|side| factor.max((side / beta / factor_f).floor() as usize * factor))
    } else if area < least {
        let beta = scale(least as f64 / (height * width) as f64);
        sides.map(|side| (side * beta / factor_f).ceil() as usize * factor)
    } else {
        near
    }
}

/// The same for the frames of a video, whose area is that of all frames together (Qwen3-VL). `per_patch` frames make a patch.
pub(super) fn smart_video(
    frames: usize,
    per_patch: usize,
    [height, width]: [usize; 2],
    factor: usize,
    [least, most]: [usize; 2],
) -> [usize; 2] {
    let (factor_f, smallest) = (factor as f64, height.min(width));
    let grown = |side: usize| (side as f64 * (factor_f / smallest as f64)) as usize;
    let sides = if smallest < factor { [grown(height), grown(width)] } else { [height, width] };
    let near = sides.map(|side| (side as f64 / factor_f).round_ties_even() as usize * factor);
    let counted = (frames as f64 / per_patch as f64).round_ties_even() as usize * per_patch;
    let area = (frames * sides[0] * sides[1]) as f64;
    let sides = sides.map(|side| side as f64);
    if counted * near[0] * near[1] > most {
        let beta = (area / most as f64).sqrt();
        sides.map(|side| factor.max((side / beta / factor_f).floor() as usize * factor))
    } else if counted * near[0] * near[1] < least {
        let beta = (least as f64 / area).sqrt();
        sides.map(|side| (side * beta / factor_f).ceil() as usize * factor)
    } else {
        near
    }
}

/// The size of an image of `[height, width]` whose longest edge becomes `edge`, and at most 4,096 (Idefics3).
pub(super) fn longest_edge([height, width]: [usize; 2], edge: usize) -> [usize; 2] {
    const MOST: usize = 4_096;
    // As in the reference implementation, which divides by width / height or multiplies with it.
    let fitted = |[height, width]: [usize; 2], edge: usize| {
        let ratio = width as f64 / height as f64;
        if width >= height { [(edge as f64 / ratio) as usize, edge] } else { [edge, (edge as f64 * ratio) as usize] }
    };
    let is_wide = width >= height;
    let [height, width] = fitted([height, width], edge);
    // The shorter edge becomes even. That of a square may thereby become the longer one.
    let even = if is_wide { [height + height % 2, width] } else { [height, width + width % 2] }.map(|side| side.max(1));
    let fits = even[0].max(even[1]) <= MOST;
    if fits { even } else { fitted(even, MOST).map(|side| side.max(1)) }
}

/// The size to which an image of `[height, width]` is enlarged so that squares of `side` pixels divide it (Idefics3).
pub(super) fn whole_tiles([height, width]: [usize; 2], side: usize) -> [usize; 2] {
    let ratio = width as f64 / height as f64;
    let up = |edge: usize| edge.max(1).div_ceil(side) * side;
    if width >= height {
        let width = up(width);
        [up((width as f64 / ratio) as usize), width]
    } else {
        let height = up(height);
        [height, up((height as f64 * ratio) as usize)]
    }
}

/// The rows and columns of tiles of `side` pixels whose proportions are closest to those of an image of `[height, width]`; of
/// equally close ones with least area first, a later one if the image has more than half as many pixels (InternVL).
pub(super) fn canvas([height, width]: [usize; 2], side: usize, [least, most]: [usize; 2]) -> [usize; 2] {
    let ratio = width as f64 / height as f64;
    let rows = |columns: usize| (1..=most / columns).map(move |rows| [rows, columns]);
    let mut grids: Vec<[usize; 2]> =
        (1..=most).flat_map(rows).filter(|[rows, columns]| rows * columns >= least).collect();
    grids.sort_by_key(|[rows, columns]| rows * columns);
    let (mut best, mut closest) = ([1, 1], f64::INFINITY);
    for [rows, columns] in grids {
        let distance = (ratio - columns as f64 / rows as f64).abs();
        let is_small = (height * width) as f64 <= 0.5 * (side * side * rows * columns) as f64;
        if distance < closest || distance == closest && !is_small {
            (best, closest) = ([rows, columns], distance);
        }
    }
    best
}

/// The size of an image of `[height, width]` that is reduced to fit into `most`, and enlarged to whole cells of `cell` pixels
/// (Pixtral). Nothing if it is so elongated that no pixel is left on one side.
pub(super) fn whole_cells(size: [usize; 2], most: [usize; 2], cell: usize) -> Option<[usize; 2]> {
    let [by_height, by_width] = [0, 1].map(|axis| size[axis] as f64 / most[axis] as f64);
    let ratio = by_height.max(by_width);
    let fitted = if ratio > 1.0 { size.map(|side| (side as f64 / ratio).floor() as usize) } else { size };
    fitted.iter().all(|side| *side > 0).then(|| fitted.map(|side| side.div_ceil(cell) * cell))
}

/// The height and width to which Gemma 4's processor resizes an image: as large as possible with at most `positions` squares of `cell`
/// pixels, in whole ones. Nothing if it would have none.
pub(super) fn budget([height, width]: [usize; 2], cell: usize, positions: usize) -> Option<[usize; 2]> {
    let pixels = (positions * cell * cell) as f64;
    let factor = (pixels / (height as f64 * width as f64)).sqrt();
    let cells = |edge: usize| (factor * edge as f64 / cell as f64).floor() as usize;
    let along = |long: usize, short: usize| (long / short).min(positions);
    let [rows, columns] = match [cells(height), cells(width)] {
        [0, 0] => return None,
        [0, _] => [1, along(width, height)],
        [_, 0] => [along(height, width), 1],
        both => both,
    };
    Some([rows * cell, columns * cell])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_pinpoint_preserves_most_pixels_and_then_wastes_the_least() {
        let pinpoints = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]];
        assert_eq!(best_resolution([500, 1000], &pinpoints), [336, 672]);
        assert_eq!(best_resolution([2000, 400], &pinpoints), [1008, 336]);
        assert_eq!(best_resolution([800, 800], &pinpoints), [672, 672]);
        assert_eq!(best_resolution([100, 100], &pinpoints), [336, 672]);
    }

    #[test]
    fn removed_rows_are_those_that_a_wide_image_leaves_empty() {
        assert_eq!(inside([100, 400], [672, 672]), [168, 672]);
        // Of 48 rows, 12 show the image.
        assert_eq!(padding([100, 400], [48, 48]), [18, 0]);
        assert_eq!(padding([400, 100], [48, 48]), [0, 18]);
        assert_eq!(padding([300, 300], [48, 48]), [0, 0]);
        assert_eq!(inside([1, 5000], [336, 672]), [1, 672]);
    }

    #[test]
    fn a_grid_shrinks_in_proportion_if_it_has_clearly_more_positions() {
        // Tiles of 27 x 27, as many as `anyres_max_9` has: what `_get_unpadded_features` of `transformers` 5.23 returns.
        let most = 9 * 27 * 27;
        for (grid, expected) in [
            ([81, 81], [81, 81]),
            ([81, 97], [81, 97]),
            ([91, 162], [60, 108]),
            ([162, 162], [81, 81]),
            ([108, 135], [72, 90]),
            ([75, 135], [60, 108]),
        ] {
            assert_eq!(at_most(grid, most), expected, "{grid:?}");
        }
    }

    #[test]
    fn tiles_divide_an_image_whose_longest_edge_is_set() {
        // What the `resize` and the `resize_for_vision_encoder` of Idefics3's processor of `transformers` 5.23 choose.
        for (size, edge, resized, divided) in [
            ([480, 640], 2048, [1536, 2048], [1536, 2048]),
            ([481, 640], 1456, [1094, 1456], [1456, 1456]),
            ([1080, 1920], 1456, [820, 1456], [1092, 1456]),
            ([70, 33], 40, [40, 18], [364, 364]),
            ([1, 9000], 5000, [1, 4096], [364, 4368]),
            ([9000, 7], 5000, [4096, 3], [4368, 364]),
            ([300, 300], 4097, [4096, 4095], [4368, 4368]),
        ] {
            assert_eq!(longest_edge(size, edge), resized, "{size:?}");
            assert_eq!(whole_tiles(resized, if edge == 2048 { 512 } else { 364 }), divided, "{size:?}");
        }
    }

    #[test]
    fn the_canvas_has_the_proportions_of_the_image() {
        // What `get_optimal_tiled_canvas` of GotOcr2's processor of `transformers` 5.23 returns.
        for (size, bounds, expected) in [
            ([480, 640], [1, 12], [3, 4]),
            ([300, 300], [1, 12], [1, 1]),
            ([900, 900], [1, 12], [2, 2]),
            ([2000, 2000], [1, 12], [3, 3]),
            ([100, 4000], [1, 12], [1, 12]),
            ([4000, 1500], [2, 6], [3, 1]),
            ([640, 480], [3, 3], [3, 1]),
        ] {
            assert_eq!(canvas(size, 448, bounds), expected, "{size:?} {bounds:?}");
        }
    }

    #[test]
    fn whole_cells_cover_an_image_inside_the_bounds() {
        // What `get_resize_output_image_size` of Pixtral's processor of `transformers` 5.23 returns.
        for (size, most, expected) in [
            ([480, 640], [1540, 1540], [504, 644]),
            ([3000, 2000], [1540, 1540], [1540, 1036]),
            ([28, 29], [1540, 1540], [28, 56]),
            ([10, 5000], [1540, 700], [28, 700]),
        ] {
            assert_eq!(whole_cells(size, most, 28), Some(expected), "{size:?}");
        }
        assert_eq!(whole_cells([1, 5000], [1540, 1540], 28), None);
    }

    #[test]
    fn interpolated_points_are_those_of_torch_without_aligned_corners() {
        // `torch.nn.functional.interpolate(torch.arange(5.), size=3, mode="linear")` is [0.3333, 2, 3.6667].
        let points = [0, 1, 2].map(|n| between(n, 5, 3));
        let at = points.map(|([low, high], part)| low as f32 + part * (high - low) as f32);
        for (found, expected) in at.into_iter().zip([1.0 / 3.0, 2.0, 11.0 / 3.0]) {
            assert!((found - expected).abs() < 1e-6, "{at:?}");
        }
        // Points beyond the ends are those at the ends, and an equal number of points stays.
        assert_eq!((between(0, 2, 5), between(4, 2, 5).0), (([0, 1], 0.0), [1, 1]));
        assert_eq!([0, 1, 2].map(|n| between(n, 3, 3)), [([0, 1], 0.0), ([1, 2], 0.0), ([2, 2], 0.0)]);
    }

    #[test]
    fn native_sizes_are_multiples_of_the_factor_within_the_bounds() {
        let bounds = [56 * 56, 28 * 28 * 1280];
        assert_eq!(smart([300, 500], 28, bounds), [308, 504]);
        assert_eq!(smart([10, 10], 28, bounds), [56, 56]);
        let [height, width] = smart([4000, 3000], 28, bounds);
        assert!(height * width <= bounds[1] && height % 28 == 0 && width % 28 == 0);
        // Halves are rounded to the even neighbor: 70 / 28 = 2.5.
        assert_eq!(smart([70, 280], 28, [1, 1 << 20]), [56, 280]);
    }

    #[test]
    fn the_bounds_of_a_video_hold_for_all_frames_together() {
        // What `smart_resize` of `transformers` 5.23 (Qwen3-VL) returns.
        for (frames, size, expected) in [
            (2, [480, 640], [480, 640]),
            (3, [480, 640], [512, 672]),
            (9, [480, 640], [288, 384]),
            (200, [1080, 1920], [32, 96]),
            (2, [20, 90], [32, 128]),
            (4, [16, 16], [32, 32]),
        ] {
            assert_eq!(smart_video(frames, 2, size, 32, [4096, 1 << 20]), expected, "{frames} frames of {size:?}");
        }
    }

    #[test]
    fn a_budget_of_positions_is_used_as_far_as_the_proportions_allow() {
        // `get_aspect_ratio_preserving_size` of transformers.
        for (size, cell, positions, expected) in [
            ([480, 640], 48, 280, [672, 912]),
            ([37, 61], 6, 70, [36, 60]),
            ([1, 4000], 48, 70, [48, 3360]),
            ([4000, 1], 48, 70, [3360, 48]),
            ([5000, 17], 48, 280, [13440, 48]),
            ([48, 48], 48, 280, [768, 768]),
            ([1080, 1920], 48, 1120, [1200, 2112]),
            ([30, 7], 6, 70, [102, 24]),
        ] {
            assert_eq!(budget(size, cell, positions), Some(expected), "{size:?}");
        }
        assert_eq!(budget([10, 10], 48, 0), None);
    }
}
