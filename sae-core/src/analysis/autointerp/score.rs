//! How well a label predicts where a feature fires: the answer to the second question, compared with the truth.

use super::Item;
use serde::Serialize;

/// How well a label predicted held-out positions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DetectionScore {
    /// Positions in the question; the feature fires at half of them.
    pub places: usize,
    /// Share of them that were classified correctly; 0.5 is chance.
    pub accuracy: f64,
    /// Harmonic mean of precision and recall for positions where the feature fires; 0 if none of them was found.
    pub f1: f64,
}

impl DetectionScore {
    /// Scores an answer by the first JSON array in it: numbers of positions, counted from 1.
    ///
    /// # Errors
    /// Why the answer cannot be scored: it has no such array, or the array names a position that was not asked about.
    pub fn from_answer(answer: &str, held_out: &[Item]) -> Result<Self, String> {
        let invalid = || format!("the answer is not a list of numbers: {:.120}", answer.trim());
        let arrays = answer.match_indices('[').filter_map(|(start, _)| {
            let end = start + answer[start..].find(']')?;
            serde_json::from_str::<Vec<usize>>(&answer[start..=end]).ok()
        });
        let named = arrays.into_iter().next().ok_or_else(invalid)?;
        if let Some(number) = named.iter().find(|number| **number == 0 || **number > held_out.len()) {
            return Err(format!("the answer names place {number} of {}", held_out.len()));
        }
        let pairs: Vec<(bool, bool)> =
            held_out.iter().enumerate().map(|(n, item)| (named.contains(&(n + 1)), item.fires)).collect();
        let count = |counts: fn(&(bool, bool)) -> bool| pairs.iter().filter(|pair| counts(pair)).count() as f64;
        let (right, hits) = (count(|(said, fires)| said == fires), count(|(said, fires)| *said && *fires));
        let (named, firing) = (count(|(said, _)| *said), count(|(_, fires)| *fires));
        let f1 = if hits == 0.0 { 0.0 } else { 2.0 * hits / (named + firing) };
        Ok(Self { places: pairs.len(), accuracy: right / pairs.len().max(1) as f64, f1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_with_the_truth() {
        let items: Vec<Item> = (0..6).map(|n| Item { sample: n, position: 0, fires: n % 2 == 0 }).collect();
        let score = |answer: &str| DetectionScore::from_answer(answer, &items).unwrap();
        assert_eq!((score("[1, 3, 5]").accuracy, score("[1, 3, 5]").f1), (1.0, 1.0));
        // One hit of three, one false alarm: 3 of 6 right, precision 1/2, recall 1/3.
        let some = score("I think [none?] it is ```json\n[1, 2]\n```");
        assert_eq!((some.places, some.accuracy, some.f1), (6, 0.5, 0.4));
        assert_eq!((score("[]").accuracy, score("[]").f1), (0.5, 0.0));
        assert_eq!(score("[1, 1, 3, 5]"), score("[1, 3, 5]"));
        for bad in ["none of them", "[7]", "[0]", "[-1]", "[\"1\"]", "1, 2", "["] {
            assert!(DetectionScore::from_answer(bad, &items).is_err(), "{bad}");
        }
    }
}
