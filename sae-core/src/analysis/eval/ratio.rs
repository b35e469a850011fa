//! Ratios of sums over samples, such as losses per token, with their errors. Samples, not tokens, are independent draws, so that the
//! error of a ratio is that of the delta method: with `r = N / D` for sums `N` and `D` of `n_i` and `d_i` over `n` samples,
//! `se^2 = n / (n - 1) sum_i (n_i - r d_i)^2 / D^2`.

use crate::analysis::contrast::student_bound;
use crate::analysis::latent_scaling::Ratio;
use serde::{Deserialize, Serialize};

/// A mean with its standard error; `None` if there is only one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Its standard error.
    pub se: Option<f64>,
}

/// `sum numerator / sum denominator` over samples, each given as `[numerator, denominator]`, with its standard error.
///
/// ```
/// use sae_core::analysis::eval::ratio_of_sums;
///
/// let bits_per_byte = ratio_of_sums(&[[2.0, 4.0], [6.0, 4.0]]);
/// assert_eq!((bits_per_byte.value, bits_per_byte.se), (1.0, Some(0.5)));
/// ```
pub fn ratio_of_sums(samples: &[[f64; 2]]) -> Estimate {
    let (value, influences) = influences(samples);
    Estimate { value, se: error(&influences) }
}

/// The difference of two ratios over the same samples, `a` minus `b`. What both share in a sample cancels.
///
/// # Panics
/// If the numbers of samples differ.
pub fn difference_of_ratios(a: &[[f64; 2]], b: &[[f64; 2]]) -> Estimate {
    assert_eq!(a.len(), b.len(), "ratios over the same samples");
    let ((a, of_a), (b, of_b)) = (influences(a), influences(b));
    let influences: Vec<f64> = of_a.iter().zip(&of_b).map(|(a, b)| a - b).collect();
    Estimate { value: a - b, se: error(&influences) }
}

/// A ratio, and by how much each sample moves it.
fn influences(samples: &[[f64; 2]]) -> (f64, Vec<f64>) {
    let total: f64 = samples.iter().map(|[_, denominator]| denominator).sum();
    let value = samples.iter().map(|[numerator, _]| numerator).sum::<f64>() / total;
    (value, samples.iter().map(|[numerator, denominator]| (numerator - value * denominator) / total.abs()).collect())
}

fn error(influences: &[f64]) -> Option<f64> {
    let n = influences.len() as f64;
    let squares: f64 = influences.iter().map(|influence| influence.powi(2)).sum();
    (n > 1.0).then(|| (squares * n / (n - 1.0)).sqrt())
}

impl Estimate {
    /// The estimate from this many samples with its 95 % interval, by Student's t.
    pub fn interval(self, samples: usize) -> Ratio {
        let reach = self.se.map_or(f64::NAN, |se| student_bound(samples as f64 - 1.0) * se);
        Ratio { value: self.value, lo: self.value - reach, hi: self.value + reach }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_ratios_of_sums() {
        let samples = [[1.0, 2.0], [3.0, 2.0], [2.0, 4.0]];
        let found = ratio_of_sums(&samples);
        // Residuals -0.5, 1.5, -1 around the ratio 0.75 of sums 6 and 8.
        assert_eq!(found.value, 0.75);
        assert!((found.se.unwrap() - (3.5_f64 * 1.5).sqrt() / 8.0).abs() < 1e-12);
        assert_eq!(ratio_of_sums(&samples[..1]), Estimate { value: 0.5, se: None });
        let interval = found.interval(3);
        assert!((interval.hi - interval.value - 4.302_652_73 * found.se.unwrap()).abs() < 1e-6, "{interval:?}");
    }

    #[test]
    fn what_two_ratios_share_cancels_in_their_difference() {
        let a = [[1.0, 2.0], [3.0, 2.0], [2.0, 4.0]];
        let more = a.map(|[numerator, denominator]| [numerator + 0.5 * denominator, denominator]);
        let found = difference_of_ratios(&more, &a);
        assert!((found.value - 0.5).abs() < 1e-12 && found.se.unwrap() < 1e-12, "{found:?}");
        let zeros = a.map(|[_, denominator]| [0.0, denominator]);
        let against_zero = difference_of_ratios(&a, &zeros);
        assert_eq!(against_zero, ratio_of_sums(&a));
    }
}
