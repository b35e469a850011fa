//! Ranks of values, and the correlation of two rankings.

/// Spearman's rank correlation (1904), where ties have their mean rank. Nothing with fewer than two values or if all are
/// equal.
///
/// # Panics
/// If the lengths differ.
pub fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "a pair of values a sample");
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    (scale > 0.0).then(|| product(&a, &b) / scale)
}

/// The ranks of values, counted from 1. Equal values have the mean of their ranks.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let (mut ranks, mut before) = (vec![0.0; values.len()], 0);
    for ties in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = before as f64 + (ties.len() as f64 + 1.0) / 2.0;
        ties.iter().for_each(|n| ranks[*n] = rank);
        before += ties.len();
    }
    ranks
}

/// The mean of a sample's ranks by several scores, among the samples that have all of them, as a share of these samples; 1 is the
/// best. Combines scores on different scales without labels.
///
/// # Panics
/// If the lengths differ.
pub fn mean_ranks(scores: &[&[Option<f64>]]) -> Vec<Option<f64>> {
    let samples = scores.first().map_or(0, |values| values.len());
    let complete: Vec<usize> = (0..samples).filter(|n| scores.iter().all(|values| values[*n].is_some())).collect();
    let mut joined = vec![None; samples];
    for values in scores {
        let values: Vec<f64> = complete.iter().filter_map(|n| values[*n]).collect();
        for (n, rank) in complete.iter().zip(ranks(&values)) {
            *joined[*n].get_or_insert(0.0) += rank / (complete.len() * scores.len()) as f64;
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranks_are_compared() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 9.0]), [2.5, 1.0, 2.5, 4.0]);
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[1.0, 10.0, 1e6]), Some(1.0));
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[7.0, 2.0, -3.0]), Some(-1.0));
        assert_eq!(correlation(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn ranks_are_combined_if_a_sample_has_all_scores() {
        let (a, b) = ([Some(10.0), None, Some(-3.0), Some(0.0)], [Some(1.0), Some(2.0), Some(3.0), None]);
        assert_eq!(mean_ranks(&[&a, &b]), [Some(0.75), None, Some(0.75), None]);
    }
}
