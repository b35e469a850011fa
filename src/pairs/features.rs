//! The features by which a reward may tell answers apart, and what a probe says about the answers.

use super::{MOST_FEATURES, PairsError};
use crate::probe::SavedProbe;
use filters::probe::{Kind, Rows};

/// A feature that is active in a larger share of the answers does not distinguish them.
const NEARLY_ALL: f64 = 0.9;

/// What a reward reads of the answers.
pub(super) struct Features {
    /// `ln(1 + max)` of the chosen features, divided by its standard deviation, `[answers, features]`.
    pub rows: Rows,
    /// The reward of every answer by the probe; 0 without one.
    pub rewards: Vec<f64>,
}

impl Features {
    /// Chooses at most `most` features of `rows`, the answers: those of the probe with the largest weights, or else those that are
    /// active in the most answers but not in nearly all.
    ///
    /// # Errors
    /// No feature distinguishes the answers.
    pub fn choose(rows: &Rows, most: usize, probe: Option<&SavedProbe>) -> Result<Self, PairsError> {
        let (counts, deviations) = (rows.counts(), rows.deviations());
        let limit = NEARLY_ALL * rows.len() as f64;
        let importance = |feature: u32| match probe {
            Some(saved) => (saved.probe.weight(feature) * deviations[feature as usize]).abs(),
            None => {
                let count = counts[feature as usize];
                if count > 1 && f64::from(count) <= limit { f64::from(count) } else { 0.0 }
            }
        };
        let varies = |feature: &u32| deviations[*feature as usize] > 0.0 && importance(*feature) > 0.0;
        let mut chosen: Vec<u32> = (0..rows.width() as u32).filter(varies).collect();
        chosen.sort_by(|a, b| importance(*b).total_cmp(&importance(*a)).then(a.cmp(b)));
        chosen.truncate(most.min(MOST_FEATURES));
        chosen.sort_unstable();
        if chosen.is_empty() {
            return Err(PairsError::NoFeatures { answers: rows.len() });
        }
        let reward = |answer| probe.map_or(0.0, |saved| saved.probe.score(Kind::Pair, rows.row(answer)));
        Ok(Self {
            rewards: (0..rows.len()).map(reward).collect(),
            rows: rows.columns(&chosen, |feature| 1.0 / deviations[feature as usize]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use filters::probe::Probe;
    use sae_core::analysis::between::Part;

    /// Features 0 in all ten answers, 1 in nine, 2 in five, 3 in two, 4 in one.
    fn rows() -> Rows {
        let mut rows = Rows::new(6);
        for answer in 0..10 {
            let has = [answer < 10, answer < 9, answer % 2 == 0, answer > 7, answer == 3];
            let values = (0..).zip(has).filter(|(_, has)| *has).map(|(feature, _)| (feature, 1.0 + answer as f32));
            rows.push(values);
        }
        rows
    }

    #[test]
    fn features_that_distinguish_answers_are_chosen_and_scaled() {
        let width = |most| Features::choose(&rows(), most, None).unwrap().rows.width();
        assert_eq!([1, 2, 9].map(width), [1, 2, 3]);
        let chosen = Features::choose(&rows(), 2, None).unwrap();
        // Features 1 and 2, each with the deviation 1.
        assert!(chosen.rows.deviations().iter().all(|deviation| (deviation - 1.0).abs() < 1e-6));
        assert_eq!(chosen.rows.counts(), [9, 5]);
        assert_eq!(chosen.rewards, [0.0; 10]);
    }

    #[test]
    fn a_probe_brings_its_own_features_and_rewards() {
        let probe = Probe { weights: vec![(0, 0.5), (3, -2.0), (5, 9.0)], offsets: Vec::new() };
        let saved = SavedProbe { kind: Kind::Pair, part: Part::Answer, probe, calibration: None };
        let chosen = Features::choose(&rows(), 9, Some(&saved)).unwrap();
        // Feature 5 is never active, so that it distinguishes nothing.
        assert_eq!(chosen.rows.counts(), [10, 2]);
        assert_eq!((chosen.rewards[0], chosen.rewards[9]), (0.5, 5.0 - 20.0));
        let none = Rows::new(4);
        assert!(matches!(Features::choose(&none, 9, None), Err(PairsError::NoFeatures { answers: 0 })));
    }
}
