//! Pillow's `Image.resize`, bit for bit (8-bit RGB; Pillow 13): the same filters, fixed-point coefficients and order of
//! passes. Knows nothing about models, and decodes nothing.

use std::f64::consts::PI;

/// Fraction bits of a coefficient: 32, minus 8 for the pixel and 2 for the overshoot of the filters.
const PRECISION: u32 = 32 - 8 - 2;

/// An image with 8 bits each of red, green and blue.
#[derive(Clone, Debug, PartialEq)]
pub struct Rgb {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// `[height, width, 3]`, row-major.
    pub data: Vec<u8>,
}

impl Rgb {
    /// Makes the rectangle `[x0, y0, x1, y1]` black; each coordinate is from 0 to 1.
    pub(crate) fn blacken(&mut self, rect: [f32; 4]) {
        let Self { width, height, data } = self;
        let edge = |part: f32, side: usize| ((part.clamp(0.0, 1.0) * side as f32).round() as usize).min(side);
        let [left, right] = [edge(rect[0], *width), edge(rect[2], *width)];
        for y in edge(rect[1], *height)..edge(rect[3], *height) {
            data[(y * *width + left) * 3..(y * *width + right) * 3].fill(0);
        }
    }
}

/// A resampling filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Triangle.
    Bilinear,
    /// Cubic with a = -0.5.
    Bicubic,
    /// Sinc, truncated at 3.
    Lanczos,
}

impl Filter {
    /// The filter with a Pillow code, as image processors store it in `resample`.
    pub fn from_code(code: u64) -> Option<Self> {
        match code {
            1 => Some(Self::Lanczos),
            2 => Some(Self::Bilinear),
            3 => Some(Self::Bicubic),
            _ => None,
        }
    }

    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        match (self, x.abs()) {
            (Self::Bilinear, x) if x < 1.0 => 1.0 - x,
            (Self::Bicubic, x) if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            (Self::Bicubic, x) if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            (Self::Lanczos, _) if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

/// Resizes as `Image.resize((width, height), filter)` does.
pub fn resize(image: Rgb, width: usize, height: usize, filter: Filter) -> Rgb {
    // Pillow 13 shrinks images vertically first if that saves work. Each pass rounds to 8 bits, so the order matters.
    let shrinkage = image.height.saturating_sub(height) as i64;
    if shrinkage > 0 && shrinkage > 2 * (image.width as i64 - width as i64) {
        horizontal(vertical(image, height, filter), width, filter)
    } else {
        vertical(horizontal(image, width, filter), height, filter)
    }
}

/// The source pixels of one destination pixel, with their weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let taps = (0..to).map(|target| {
        let center = (target as f64 + 0.5) * scale;
        let first = ((center - support + 0.5) as i64).max(0) as usize;
        let last = ((center + support + 0.5) as usize).min(from);
        let reciprocal = 1.0 / stretch;
        let weights = (first..last).map(|x| filter.weight((x as f64 - center + 0.5) * reciprocal));
        let weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |w: f64| {
            let w = if sum == 0.0 { w } else { w / sum } * f64::from(1u32 << PRECISION);
            (w + if w < 0.0 { -0.5 } else { 0.5 }) as i32
        };
        Taps { first, weights: weights.into_iter().map(fixed).collect() }
    });
    taps.collect()
}

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

fn horizontal(image: Rgb, width: usize, filter: Filter) -> Rgb {
    if width == image.width {
        return image;
    }
    let taps = taps(image.width, width, filter);
    let mut data = Vec::with_capacity(width * image.height * 3);
    for row in image.data.chunks_exact(image.width * 3) {
        for Taps { first, weights } in &taps {
            let mut sum = [HALF; 3];
            for (pixel, weight) in row[first * 3..].as_chunks::<3>().0.iter().zip(weights) {
                for (sum, value) in sum.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            data.extend(sum.map(to_byte));
        }
    }
    Rgb { width, height: image.height, data }
}

fn vertical(image: Rgb, height: usize, filter: Filter) -> Rgb {
    if height == image.height {
        return image;
    }
    let stride = image.width * 3;
    let mut data = Vec::with_capacity(stride * height);
    let mut sums = vec![0; stride];
    for Taps { first, weights } in taps(image.height, height, filter) {
        sums.fill(HALF);
        for (row, weight) in image.data[first * stride..].chunks_exact(stride).zip(weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        data.extend(sums.iter().map(|sum| to_byte(*sum)));
    }
    Rgb { width: image.width, height, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: usize, height: usize) -> Rgb {
        let data = (0..width * height).flat_map(|i| [(i * 7) as u8, (i * 13 + 5) as u8, (i * i) as u8]).collect();
        Rgb { width, height, data }
    }

    #[test]
    fn a_uniform_image_stays_uniform_at_any_size() {
        let uniform = Rgb { width: 7, height: 5, data: vec![200; 105] };
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for (width, height) in [(1, 1), (3, 11), (14, 14)] {
                assert!(resize(uniform.clone(), width, height, filter).data.iter().all(|v| *v == 200));
            }
        }
    }

    #[test]
    fn resizing_to_the_same_size_changes_nothing() {
        let image = gradient(6, 4);
        assert_eq!(resize(image.clone(), 6, 4, Filter::Bicubic), image);
    }
}
