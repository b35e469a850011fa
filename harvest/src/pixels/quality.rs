//! Two numbers about the quality of an image: how sharp it is, and how noisy. Both look at neighboring pixels alone, and know
//! nothing of what the image shows.

use crate::resample::Rgb;

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
