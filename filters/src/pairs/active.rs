//! The pairs that reduce the uncertainty most, chosen greedily.

use super::posterior::{Posterior, Step, differences, dot};
use crate::probe::Rows;
use rayon::prelude::*;

/// What decides about a candidate: with its difference `d`, the variance `d' S d`, and `d' S G S d`.
#[derive(Clone, Copy, Debug)]
struct Merit {
    variance: f64,
    weighed: f64,
}

/// Chooses `n` candidates one after the other, each the one whose comparison lowers the uncertainty most after those before it:
/// the largest `|G^1/2 S d|^2 q / (1 + q d' S d)`, ties are broken by position. `informativeness` has `q = p (1 - p)` of each candidate.
/// Returns the chosen candidates with their steps.
///
/// A pick changes `S` by a multiple of `s s'`, with `s = S d` of the pick. So `d' S d` and `d' S G S d` of the other candidates
/// follow from `d.s` and `d.(S G s)`: two products for each answer, however many pairs it is part of.
pub fn most_informative(
    rows: &Rows,
    candidates: &[[usize; 2]],
    informativeness: &[f64],
    prior: &Posterior,
    n: usize,
) -> Vec<(usize, Step)> {
    let mut posterior = prior.clone();
    let merit = |pair: &[usize; 2]| {
        let difference = differences(rows, *pair);
        let spread = prior.spread(&difference);
        Merit { variance: dot(&difference, &spread), weighed: dot(&spread, &prior.weigh(&spread)) }
    };
    let mut merits: Vec<Option<Merit>> = candidates.par_iter().map(|pair| Some(merit(pair))).collect();
    let mut chosen = Vec::with_capacity(n.min(candidates.len()));
    while chosen.len() < n.min(candidates.len()) {
        let gain = |candidate: usize| {
            let (q, merit) = (informativeness[candidate], merits[candidate]?);
            Some((q * merit.weighed / (1.0 + q * merit.variance), candidate))
        };
        let best =
            (0..candidates.len()).filter_map(gain).reduce(|best, next| if next.0 > best.0 { next } else { best });
        let Some((_, best)) = best else { break };
        merits[best] = None;
        let q = informativeness[best];
        let difference = differences(rows, candidates[best]);
        let spread = posterior.spread(&difference);
        let weighed = posterior.weigh(&spread);
        let ahead = posterior.spread(&weighed);
        let factor = q / (1.0 + q * dot(&difference, &spread).max(0.0));
        let own = dot(&spread, &weighed);
        let along: Vec<[f64; 2]> =
            (0..rows.len()).into_par_iter().map(|row| [rows.dot(row, &spread), rows.dot(row, &ahead)]).collect();
        for ([a, b], merit) in candidates.iter().zip(&mut merits) {
            let Some(merit) = merit else { continue };
            let [by_spread, by_ahead] = [0, 1].map(|n| along[*a][n] - along[*b][n]);
            let change = factor * by_spread;
            merit.variance = (merit.variance - change * by_spread).max(0.0);
            merit.weighed = (merit.weighed - 2.0 * change * by_ahead + change * change * own).max(0.0);
        }
        chosen.push((best, posterior.compare(&difference, q)));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::super::posterior::tests::{answers, direct};
    use super::super::{follow, informativeness};
    use super::*;

    #[test]
    fn every_choice_is_the_best_of_all_that_are_left() {
        let rows = answers(12, 6, 3);
        let targets: Vec<[usize; 2]> = (0..6).map(|n| [n, 11 - n]).collect();
        let candidates: Vec<[usize; 2]> = (0..12).flat_map(|a| (a + 1..12).map(move |b| [a, b])).collect();
        let rewards: Vec<f64> = (0..12).map(|n| f64::from(n % 5) * 0.8).collect();
        let informativeness: Vec<f64> = candidates.iter().map(|pair| informativeness(&rewards, *pair)).collect();
        let prior = Posterior::new(&rows, &targets, 1.5);
        let chosen = most_informative(&rows, &candidates, &informativeness, &prior, 20);
        let (mut pairs, mut q) = (Vec::new(), Vec::new());
        for (n, (choice, step)) in chosen.iter().enumerate() {
            let left = (0..candidates.len()).filter(|other| chosen[..n].iter().all(|(before, _)| before != other));
            let after = |other: usize| {
                let (pairs, q) =
                    ([&pairs[..], &[candidates[other]]].concat(), [&q[..], &[informativeness[other]]].concat());
                direct(&rows, &targets, 1.5, &pairs, &q)
            };
            let best = left.map(after).fold(f64::INFINITY, f64::min);
            assert!(after(*choice) <= best + 1e-9, "{n}");
            assert!((step.uncertainty_before - step.gain - best).abs() < 1e-9, "{n}");
            pairs.push(candidates[*choice]);
            q.push(informativeness[*choice]);
        }
        assert_eq!(pairs.len(), 20);
        let steps: Vec<Step> = chosen.iter().map(|(_, step)| *step).collect();
        assert_eq!(follow(&rows, &pairs, &q, &prior), steps);
    }

    #[test]
    fn no_more_are_chosen_than_there_are_and_ties_go_to_the_first() {
        let mut rows = Rows::new(1);
        [1.0, 0.0, 1.0, 0.0].iter().for_each(|value| rows.push([(0, *value)]));
        let candidates = [[0, 2], [1, 2], [0, 1], [3, 0]];
        let prior = Posterior::new(&rows, &[[0, 1]], 1.0);
        let chosen = most_informative(&rows, &candidates, &[0.25; 4], &prior, 9);
        assert_eq!(chosen.iter().map(|(candidate, _)| *candidate).collect::<Vec<_>>(), [1, 2, 3, 0]);
        assert!(most_informative(&rows, &[], &[], &prior, 9).is_empty());
    }
}
