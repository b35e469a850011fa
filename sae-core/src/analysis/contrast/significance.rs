//! P-values, and their correction for many tests.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The probability that a variable with Student's distribution exceeds `z`.
///
/// ```
/// use sae_core::analysis::contrast::student;
///
/// assert!((2.0 * student(2.0, 60.0) - 0.0500).abs() < 1e-3);
/// ```
pub fn student(z: f64, degrees_of_freedom: f64) -> f64 {
    let distribution =
        StudentsT::new(0.0, 1.0, degrees_of_freedom.max(1.0)).expect("the scale and the freedom are positive");
    distribution.sf(z)
}

/// The value that a variable with Student's distribution exceeds with probability 0.025.
pub fn student_bound(degrees_of_freedom: f64) -> f64 {
    let distribution =
        StudentsT::new(0.0, 1.0, degrees_of_freedom.max(1.0)).expect("the scale and the freedom are positive");
    distribution.inverse_cdf(0.975)
}

/// P-values corrected by the procedure of Benjamini and Hochberg (1995): the tests whose corrected value is at most `q` have
/// an expected share of at most `q` false ones.
///
/// ```
/// use sae_core::analysis::contrast::adjust;
///
/// assert_eq!(adjust(&[0.01, 0.5, 0.02]), [0.03, 0.5, 0.03]);
/// ```
pub fn adjust(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*b].total_cmp(&p_values[*a]));
    let (mut adjusted, mut least) = (vec![1.0; p_values.len()], 1.0f64);
    for (n, test) in order.into_iter().enumerate() {
        let rank = p_values.len() - n;
        least = least.min(p_values[test] * p_values.len() as f64 / rank as f64);
        adjusted[test] = least;
    }
    adjusted
}
