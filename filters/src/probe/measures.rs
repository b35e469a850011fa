//! How good predictions are.

/// Cohen's quadratically weighted kappa (1968) between levels and predicted levels from 0 to `levels - 1`: 1 if all agree, 0 if they
/// agree as often as by chance. Nothing if one side has a single level.
pub fn quadratic_kappa(pairs: &[(u32, u32)], levels: usize) -> Option<f64> {
    let n = pairs.len() as f64;
    let share = |of: &dyn Fn(&(u32, u32)) -> u32| -> Vec<f64> {
        let mut counts = vec![0.0; levels];
        pairs.iter().for_each(|pair| counts[of(pair) as usize] += 1.0 / n);
        counts
    };
    let (known, predicted) = (share(&|pair| pair.0), share(&|pair| pair.1));
    let square = |a: u32, b: u32| (f64::from(a) - f64::from(b)).powi(2);
    let observed: f64 = pairs.iter().map(|(a, b)| square(*a, *b)).sum::<f64>() / n;
    let product = |a: usize, b: usize| known[a] * predicted[b] * square(a as u32, b as u32);
    let expected: f64 = (0..levels).flat_map(|a| (0..levels).map(move |b| (a, b))).map(|(a, b)| product(a, b)).sum();
    (expected > 0.0).then(|| 1.0 - observed / expected)
}

/// The mean squared difference of predicted probabilities from outcomes of 0 or 1 (Brier 1950).
pub fn brier(pairs: &[(f64, f64)]) -> Option<f64> {
    let sum: f64 = pairs.iter().map(|(probability, outcome)| (probability - outcome).powi(2)).sum();
    (!pairs.is_empty()).then(|| sum / pairs.len() as f64)
}

/// The share of the variance of known values that predictions explain, from pairs of predictions and values.
pub fn explained(pairs: &[(f64, f64)]) -> Option<f64> {
    let mean = pairs.iter().map(|(_, value)| value).sum::<f64>() / pairs.len().max(1) as f64;
    let left: f64 = pairs.iter().map(|(predicted, value)| (value - predicted).powi(2)).sum();
    let all: f64 = pairs.iter().map(|(_, value)| (value - mean).powi(2)).sum();
    (all > 0.0).then(|| 1.0 - left / all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kappa_is_that_of_the_published_example() {
        // Two raters with three levels; by hand: observed 0.5, expected (shares 1/2, 1/4, 1/4 and 1/4, 1/2, 1/4) 1.375.
        let pairs = [(0, 0), (0, 1), (1, 1), (2, 1), (0, 0), (0, 1), (1, 2), (2, 2)];
        let known = quadratic_kappa(&pairs, 3).unwrap();
        let observed = 4.0 / 8.0;
        let expected: f64 = [(0, 0.5), (1, 0.25), (2, 0.25)]
            .iter()
            .flat_map(|(a, p)| [(0, 0.25), (1, 0.5), (2, 0.25)].map(|(b, q)| p * q * f64::from((a - b) * (a - b))))
            .sum();
        assert!((known - (1.0 - observed / expected)).abs() < 1e-12);
        assert_eq!(quadratic_kappa(&[(0, 0), (1, 1)], 2), Some(1.0));
        assert_eq!(quadratic_kappa(&[(1, 1), (1, 1)], 2), None);
    }

    #[test]
    fn probabilities_and_numbers_are_compared_with_outcomes() {
        assert_eq!(brier(&[(1.0, 1.0), (0.5, 0.0)]), Some(0.125));
        assert_eq!(brier(&[]), None);
        assert_eq!(explained(&[(1.0, 1.0), (3.0, 3.0)]), Some(1.0));
        assert_eq!(explained(&[(2.0, 1.0), (2.0, 3.0)]), Some(0.0));
        assert_eq!(explained(&[(2.0, 1.0)]), None);
    }
}
