//! What labels would teach if they followed rewards that are known: simulated, fitted, and tested on pairs that were not compared.

use filters::probe::{Penalty, Problem, Rows, Solution, Targets, sigmoid};
use sae_core::random::{SplitMix64, unit};
use serde::Serialize;
use std::collections::BTreeSet;

/// The number of labels of the first fit.
const FEW: usize = 100;
/// How exactly the weights are fitted.
const STEP: f64 = 1e-9;

/// How well a reward fitted to some labels orders answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Revealed {
    /// Labels that were simulated.
    pub labels: usize,
    /// The share of unrelated pairs, none of which was compared, whose answers the fitted reward orders as the known one does; nothing
    /// without such pairs.
    pub accuracy: Option<f64>,
}

/// Fits the reward to labels of the first hundred pairs and of all, and tests it on `targets`. A label follows the known rewards: the
/// first answer wins with the probability `sigma(r_1 - r_2)`, by a draw that depends on the seed and the pair alone. `scale` is the
/// standard deviation of weights before any label.
pub(super) fn reveal(
    rows: &Rows,
    known: &[Option<f64>],
    pairs: &[[usize; 2]],
    targets: &[[usize; 2]],
    scale: f64,
    seed: u64,
) -> Vec<Revealed> {
    let sorted = |[a, b]: [usize; 2]| [a.min(b), a.max(b)];
    let compared: BTreeSet<[usize; 2]> = pairs.iter().copied().map(sorted).collect();
    let labels: Vec<[usize; 2]> = pairs.iter().filter_map(|pair| label(sorted(*pair), known, seed)).collect();
    let tested: Vec<([usize; 2], bool)> = targets
        .iter()
        .filter(|pair| !compared.contains(&sorted(**pair)))
        .filter_map(|pair| {
            let (a, b) = known[pair[0]].zip(known[pair[1]])?;
            (a != b).then_some((*pair, a > b))
        })
        .collect();
    let mut counts = vec![FEW.min(labels.len()), labels.len()];
    counts.dedup();
    let fitted = |count: usize| {
        let weights = fit(rows, &labels[..count], scale);
        let is_right = |([a, b], first): &&([usize; 2], bool)| {
            let difference = rows.dot(*a, &weights) - rows.dot(*b, &weights);
            (difference > 0.0) == *first && difference != 0.0
        };
        let right = tested.iter().filter(is_right).count() as f64;
        Revealed { labels: count, accuracy: (!tested.is_empty()).then(|| right / tested.len() as f64) }
    };
    counts.into_iter().filter(|count| *count > 0).map(fitted).collect()
}

/// A pair, the preferred answer first; nothing if a reward is not known.
fn label([a, b]: [usize; 2], known: &[Option<f64>], seed: u64) -> Option<[usize; 2]> {
    let (first, second) = known[a].zip(known[b])?;
    let number = (a * known.len() + b) as u64;
    let draw = unit(SplitMix64::nth(SplitMix64::nth(seed, 7), number));
    Some(if draw < sigmoid(first - second) { [a, b] } else { [b, a] })
}

/// The most probable weights.
fn fit(rows: &Rows, labels: &[[usize; 2]], scale: f64) -> Vec<f64> {
    let members: Vec<usize> = labels.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let place = |answer: usize| members.partition_point(|member| *member < answer);
    let targets = Targets::Pair(labels.iter().map(|pair| pair.map(place)).collect());
    let (rows, examples) = (rows.pick(&members), (0..labels.len()).collect::<Vec<_>>());
    let penalty = Penalty { l1: 0.0, l2: 1.0 / (scale * scale * labels.len() as f64) };
    let problem = Problem { rows: &rows, targets: &targets, examples: &examples };
    problem.minimize(&Solution::start(&rows, &targets), 0.0, penalty, STEP).weights
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 60 answers whose reward is four times their first feature, less twice their second.
    fn answers() -> (Rows, Vec<Option<f64>>) {
        let mut random = SplitMix64::new(4);
        let (mut rows, mut known) = (Rows::new(3), Vec::new());
        for _ in 0..60 {
            let [a, b, c] = [0; 3].map(|_| random.next_f64() as f32 * 3.0);
            rows.push([(0, a), (1, b), (2, c)]);
            known.push(Some(4.0 * f64::from(a) - 2.0 * f64::from(b)));
        }
        (rows, known)
    }

    #[test]
    fn a_known_reward_is_found_from_its_labels() {
        let (rows, known) = answers();
        let pairs: Vec<[usize; 2]> = (0..300).map(|n| [n % 30, (n * 7 + n / 30 + 1) % 30]).collect();
        let targets: Vec<[usize; 2]> = (30..59).map(|n| [n, n + 1]).collect();
        let found = reveal(&rows, &known, &pairs, &targets, 3.0, 1);
        assert_eq!(found.iter().map(|revealed| revealed.labels).collect::<Vec<_>>(), [100, 300]);
        assert!(found.iter().all(|revealed| revealed.accuracy.is_some_and(|accuracy| accuracy > 0.85)), "{found:?}");
        assert_eq!(reveal(&rows, &known, &pairs, &targets, 3.0, 1), found);
    }

    #[test]
    fn unknown_rewards_give_no_labels_and_compared_pairs_are_not_tested() {
        let (rows, mut known) = answers();
        known[0] = None;
        let found = reveal(&rows, &known, &[[0, 1], [2, 1], [1, 3]], &[[1, 2], [0, 5]], 1.0, 0);
        assert_eq!(found, [Revealed { labels: 2, accuracy: None }]);
        assert!(reveal(&rows, &[None; 60], &[[0, 1]], &[[1, 2]], 1.0, 0).is_empty());
    }
}
