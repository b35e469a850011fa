//! How large a picture becomes and where its parts come to lie, by the rules of the image processors. Numbers only.

/// The pinpoint `[height, width]` that shows most of a picture of `[height, width]`, and of those the one that wastes
/// least (LLaVA-NeXT).
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

/// The largest size of a picture's proportions inside `target`, all `[height, width]`.
pub(super) fn inside([height, width]: [usize; 2], target: [usize; 2]) -> [usize; 2] {
    let [by_height, by_width] = [target[0] as f64 / height as f64, target[1] as f64 / width as f64];
    match by_width < by_height {
        true => [((height as f64 * by_width).ceil() as usize).clamp(1, target[0]), target[1]],
        false => [target[0], ((width as f64 * by_height).ceil() as usize).clamp(1, target[1])],
    }
}

/// Of a grid of `[rows, columns]` over a padded picture, the rows and columns that are cut off at either end because they
/// show padding (LLaVA-NeXT).
pub(super) fn padding([height, width]: [usize; 2], [rows, columns]: [usize; 2]) -> [usize; 2] {
    // Rounded to 7 digits, as the reference does against noise of the division.
    let fitted = |side: usize, scale: f64| ((side as f64 * scale * 1e7).round_ties_even() / 1e7) as usize;
    match width as f64 / height as f64 > columns as f64 / rows as f64 {
        true => [(rows - fitted(height, columns as f64 / width as f64).min(rows)) / 2, 0],
        false => [0, (columns - fitted(width, rows as f64 / height as f64).min(columns)) / 2],
    }
}

/// The size nearest to a picture's `[height, width]` whose sides are multiples of `factor` and whose area lies between
/// the bounds (Qwen2-VL).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinpoint_that_shows_most_wins_and_then_the_one_that_wastes_least() {
        let pinpoints = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]];
        assert_eq!(best_resolution([500, 1000], &pinpoints), [336, 672]);
        assert_eq!(best_resolution([2000, 400], &pinpoints), [1008, 336]);
        assert_eq!(best_resolution([800, 800], &pinpoints), [672, 672]);
        assert_eq!(best_resolution([100, 100], &pinpoints), [336, 672]);
    }

    #[test]
    fn padded_rows_are_those_that_a_wide_picture_leaves() {
        assert_eq!(inside([100, 400], [672, 672]), [168, 672]);
        // Of 48 rows 12 show the picture.
        assert_eq!(padding([100, 400], [48, 48]), [18, 0]);
        assert_eq!(padding([400, 100], [48, 48]), [0, 18]);
        assert_eq!(padding([300, 300], [48, 48]), [0, 0]);
        assert_eq!(inside([1, 5000], [336, 672]), [1, 672]);
    }

    #[test]
    fn native_sizes_are_whole_factors_within_the_bounds() {
        let bounds = [56 * 56, 28 * 28 * 1280];
        assert_eq!(smart([300, 500], 28, bounds), [308, 504]);
        assert_eq!(smart([10, 10], 28, bounds), [56, 56]);
        let [height, width] = smart([4000, 3000], 28, bounds);
        assert!(height * width <= bounds[1] && height % 28 == 0 && width % 28 == 0);
        // Halves go to the even neighbor: 70 / 28 = 2.5.
        assert_eq!(smart([70, 280], 28, [1, 1 << 20]), [56, 280]);
    }
}
