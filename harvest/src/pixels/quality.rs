//! Three numbers about the quality of an image: how sharp it is, how noisy, and how much it looks put together of two. All look at
//! neighboring pixels alone, and know nothing of what the image shows.

use crate::resample::Rgb;

/// Number of lines on each side with which a seam is compared.
const BESIDE: usize = 3;
/// Change in an even area, in levels.
const EVEN: f64 = 4.0;

/// Sharpness: the variance of the Laplacian of the luma over all inner pixels (Pech-Pacheco et al. 2000), in squared levels of
/// 0 to 255. The Laplacian is the sum of the four neighbors less four times the pixel. A blurred image has little of it. Noise
/// raises it, so look at [`noise`] as well. Nothing for an image below 3 x 3 pixels.
pub fn sharpness(image: &Rgb) -> Option<f64> {
    let laplacian = filtered(image, |[_, n, _, w, here, e, _, s, _]| n + w + e + s - 4.0 * here)?;
    let count = laplacian.len() as f64;
    let mean = laplacian.iter().sum::<f64>() / count;
    Some(laplacian.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count)
}

/// The estimated standard deviation of normal noise on the luma, in levels of 0 to 255 (Immerkaer 1996): `sqrt(pi / 2) / 6` times
/// the mean absolute value of the difference of two Laplacians, which is zero where brightness changes evenly. Fine texture
/// counts as noise to some extent. Nothing for an image below 3 x 3 pixels.
pub fn noise(image: &Rgb) -> Option<f64> {
    let difference =
        filtered(image, |[nw, n, ne, w, here, e, sw, s, se]| nw + ne + sw + se - 2.0 * (n + w + e + s) + 4.0 * here)?;
    let mean = difference.iter().map(|v| v.abs()).sum::<f64>() / difference.len() as f64;
    Some((std::f64::consts::PI / 2.0).sqrt() / 6.0 * mean)
}

/// How clear the clearest seam is: a straight line through the whole image at which the colors change more than beside it. The
/// change at a line is the mean over its pixels of the sum of the absolute differences of the three colors to the next line, in
/// levels of 0 to 255. The seam is the largest quotient, of all vertical and horizontal lines, of this change and the mean change
/// at the six lines next to it plus 4 levels, so that there is no seam in an even area. A line that belongs to the picture, such as
/// a frame, counts as well. Nothing for an image that has fewer than 8 pixels both ways.
pub fn seam(image: &Rgb) -> Option<f64> {
    let Rgb { width, height, data } = image;
    let pixel = |x: usize, y: usize| &data[3 * (y * width + x)..][..3];
    let difference = |a: &[u8], b: &[u8]| -> u64 { a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum() };
    let columns = (1..*width).map(|x| {
        let along = (0..*height).map(|y| difference(pixel(x - 1, y), pixel(x, y)));
        along.sum::<u64>() as f64 / *height as f64
    });
    let rows = (1..*height).map(|y| {
        let along = (0..*width).map(|x| difference(pixel(x, y - 1), pixel(x, y)));
        along.sum::<u64>() as f64 / *width as f64
    });
    let clearest = |changes: Vec<f64>| {
        let quotient = |around: &[f64]| {
            let beside = around.iter().sum::<f64>() - around[BESIDE];
            around[BESIDE] / (beside / (2 * BESIDE) as f64 + EVEN)
        };
        changes.windows(2 * BESIDE + 1).map(quotient).max_by(f64::total_cmp)
    };
    [clearest(columns.collect()), clearest(rows.collect())].into_iter().flatten().max_by(f64::total_cmp)
}

/// Applies `filter` to the 3 x 3 pixels around each inner pixel, row by row.
fn filtered(image: &Rgb, filter: impl Fn([f64; 9]) -> f64) -> Option<Vec<f64>> {
    let Rgb { width, height, data } = image;
    if *width < 3 || *height < 3 {
        return None;
    }
    // ITU-R BT.601
    let luma: Vec<f64> = data
        .chunks_exact(3)
        .map(|rgb| 0.299 * f64::from(rgb[0]) + 0.587 * f64::from(rgb[1]) + 0.114 * f64::from(rgb[2]))
        .collect();
    let at = |x: usize, y: usize| std::array::from_fn(|n| luma[(y + n / 3) * width + x + n % 3]);
    Some((0..height - 2).flat_map(|y| (0..width - 2).map(move |x| (x, y))).map(|(x, y)| filter(at(x, y))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: usize, height: usize, level: impl Fn(usize, usize) -> u8) -> Rgb {
        let data = (0..width * height).flat_map(|n| [level(n % width, n / width); 3]).collect();
        Rgb { width, height, data }
    }

    #[test]
    fn even_changes_of_brightness_are_neither_sharp_nor_noisy() {
        let ramp = gray(20, 10, |x, y| (5 * x + 3 * y) as u8);
        for found in [sharpness(&ramp), noise(&ramp)] {
            assert!(found.unwrap().abs() < 1e-9, "{found:?}");
        }
        assert_eq!((sharpness(&gray(2, 9, |_, _| 0)), noise(&gray(9, 2, |_, _| 0))), (None, None));
    }

    #[test]
    fn sharpness_is_the_variance_of_the_laplacian() {
        // A single bright pixel: of the nine Laplacians, one is -400, four are 100, and four are 0.
        let point = gray(5, 5, |x, y| if (x, y) == (2, 2) { 100 } else { 0 });
        let expected = (400.0f64.powi(2) + 4.0 * 100.0f64.powi(2)) / 9.0;
        assert!((sharpness(&point).unwrap() - expected).abs() < 1e-6);
    }

    #[test]
    fn a_seam_is_a_change_along_a_whole_line_and_no_change_is_none() {
        assert_eq!(seam(&gray(20, 10, |_, _| 7)), Some(0.0));
        assert_eq!(seam(&gray(7, 7, |x, _| 30 * x as u8)), None);
        // Brightness that changes evenly by 5 levels of three colors: 15 / (15 + 4).
        let ramp = seam(&gray(20, 10, |x, _| 5 * x as u8)).unwrap();
        assert!((ramp - 15.0 / 19.0).abs() < 1e-12, "{ramp}");
        // Two halves, upright and lying: 3 * 100 / 4. A line of half the length is half as clear.
        for found in [
            seam(&gray(20, 12, |x, _| if x < 9 { 0 } else { 100 })),
            seam(&gray(12, 20, |_, y| if y < 9 { 0 } else { 100 })),
        ] {
            assert_eq!(found, Some(75.0));
        }
        let short = seam(&gray(20, 12, |x, y| if x < 9 && y < 6 { 0 } else { 100 })).unwrap();
        assert!((short - 37.5).abs() < 1e-12, "{short}");
    }

    #[test]
    fn noise_of_a_known_deviation_is_estimated() {
        // Sums of twelve uniform numbers are close to normal, with a deviation of 1.
        let mut random = sae_core::random::SplitMix64::new(7);
        let mut normal = || (0..12).map(|_| random.next_f64()).sum::<f64>() - 6.0;
        let levels: Vec<u8> = (0..10_000).map(|_| (128.0 + 20.0 * normal()).round() as u8).collect();
        let noisy = gray(100, 100, |x, y| levels[y * 100 + x]);
        let found = noise(&noisy).unwrap();
        assert!((found - 20.0).abs() < 0.7, "{found}");
    }
}
