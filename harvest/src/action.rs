//! Actions of a robot as tokens, the way OpenVLA makes them: the range of each dimension between two quantiles is
//! divided into bins, and the bins are the last tokens of the vocabulary, counted back from its end. Reads the files
//! that hold the quantiles; knows no model.

use crate::data::RowError;
use crate::{Error, Result};
use sae_core::error::{Hint, Setting};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// Edges of bins between -1 and 1. A number above the last edge is in a bin of its own, so that there are as many bins.
const BINS: usize = 256;
/// Size of the largest file of statistics, in bytes.
const LIMIT: u64 = 1 << 26;
/// Dimensions of the largest action.
const DIMENSIONS: usize = 4096;

/// The statistics of the actions of a data set, one entry for each dimension. They bring numbers into -1 to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActionStatistics {
    /// The 1 % quantiles, which become -1.
    low: Vec<f32>,
    /// The 99 % quantiles, which become 1.
    high: Vec<f32>,
    /// Dimensions that are normalized. The others, such as a gripper that opens from 0 to 1, are used as they are.
    normalized: Vec<bool>,
    /// Dimensions that never vary in the data set. They become 0.
    constant: Vec<bool>,
}

impl ActionStatistics {
    /// Reads a file of statistics: `dataset_statistics.json` of OpenVLA or `meta/stats.json` of LeRobot. `name` says
    /// which of several data sets is meant.
    ///
    /// # Errors
    /// The file cannot be read, or does not have the statistics of that data set.
    pub fn open(path: &Path, name: Option<&str>) -> Result<Self> {
        let content: Value = sae_core::file::read_json(path, LIMIT)?;
        match Self::find(&content, name) {
            Ok(Some(statistics)) => Ok(statistics),
            Ok(None) => Err(Error::data(path)("the file has no statistics of actions (action with q01 and q99)")),
            Err((cause, hint)) => {
                let error = Error::data(path)(cause);
                Err(hint.into_iter().fold(error, Error::with_hint))
            }
        }
    }

    /// The statistics in the `norm_stats` of a checkpoint's configuration, if it has any.
    ///
    /// # Errors
    /// They are those of several data sets and `name` does not say which is meant, or they are not valid.
    pub(crate) fn of_checkpoint(config: &Value, name: Option<&str>) -> Result<Option<Self>, RowError> {
        Self::find(&config["norm_stats"], name).map_err(|(cause, hint)| {
            let error = RowError::from(format!("norm_stats of config.json: {cause}"));
            hint.into_iter().fold(error, RowError::with_hint)
        })
    }

    /// The statistics under `action`, or under `action` of one of several data sets.
    fn find(content: &Value, name: Option<&str>) -> Result<Option<Self>, (String, Option<Hint>)> {
        let Some(sets) = content.as_object() else { return Ok(None) };
        if let (Some(action), None) = (sets.get("action"), name) {
            return Self::parse(action).map(Some).map_err(|cause| (cause, None));
        }
        let known: Vec<&String> =
            sets.iter().filter(|(_, set)| set["action"].is_object()).map(|(name, _)| name).collect();
        let chosen = match (name, &known[..]) {
            (_, []) => return Ok(None),
            (None, [only]) => only.as_str(),
            (Some(name), _) if known.iter().any(|known| *known == name) => name,
            (asked, known) => {
                let known = known.iter().take(20).map(|name| (*name).clone()).collect::<Vec<_>>();
                let cause = match asked {
                    Some(asked) => format!("there are no statistics of {asked}: expected one of {}", known.join(", ")),
                    None => format!("there are statistics of several data sets: {}", known.join(", ")),
                };
                return Err((cause, Some(Hint::Set(Setting::ActionStatisticsOf, vec![known[0].clone()]))));
            }
        };
        Self::parse(&sets[chosen]["action"]).map(Some).map_err(|cause| (format!("{chosen}: {cause}"), None))
    }

    /// Interprets `{q01, q99, mask, min, max}`, lists with an entry for each dimension, of which the last three may be
    /// absent.
    fn parse(action: &Value) -> Result<Self, String> {
        let numbers = |name: &str| match &action[name] {
            Value::Null => Ok(None),
            Value::Array(list) if (1..=DIMENSIONS).contains(&list.len()) => {
                let number = |value: &Value| value.as_f64().map(|value| value as f32).filter(|value| value.is_finite());
                let numbers: Option<Vec<f32>> = list.iter().map(number).collect();
                numbers
                    .map(Some)
                    .ok_or_else(|| format!("the statistic {name} of action has entries that are not finite numbers"))
            }
            _ => Err(format!("the statistic {name} of action is not a list of 1 to {DIMENSIONS} numbers")),
        };
        let (Some(low), Some(high)) = (numbers("q01")?, numbers("q99")?) else {
            let found = action.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>().join(", "));
            let found = found.filter(|found| !found.is_empty()).unwrap_or_else(|| "nothing".into());
            return Err(format!("the statistics of action lack the quantiles q01 and q99: found {found}"));
        };
        let constant = match (numbers("min")?, numbers("max")?) {
            (Some(min), Some(max)) if min.len() == max.len() => min.iter().zip(&max).map(|(a, b)| a == b).collect(),
            _ => vec![false; low.len()],
        };
        let normalized = match action["mask"].as_array() {
            Some(mask) => mask.iter().map(|entry| entry.as_bool().unwrap_or(true)).collect(),
            None => vec![true; low.len()],
        };
        let lengths = [low.len(), high.len(), normalized.len(), constant.len()];
        if lengths.iter().any(|length| *length != low.len()) {
            return Err(format!("the statistics of action have different lengths (q01, q99, mask, min): {lengths:?}"));
        }
        Ok(Self { low, high, normalized, constant })
    }

    /// The ids of an action for a vocabulary whose last ids stand for bins. `end` is the number of tokens of the
    /// vocabulary without those that were added to it (32,000 for Llama): the lowest bin has the id `end - 1`.
    ///
    /// `2 (x - low) / (high - low + 1e-8) - 1` in `f32`, limited to -1 to 1, then the number of the edges of
    /// `numpy.linspace(-1, 1, 256)` that are not above it (`ActionTokenizer` and `normalize_action_and_proprio` of
    /// [OpenVLA](https://github.com/openvla/openvla)).
    ///
    /// # Errors
    /// The action has another number of dimensions than the statistics, or the vocabulary is smaller than the bins.
    pub fn ids(&self, values: &[f32], end: usize) -> Result<Vec<u32>, RowError> {
        if values.len() != self.low.len() {
            let (found, expected) = (values.len(), self.low.len());
            return Err(
                format!("the action has {found} dimensions: expected {expected}, as its statistics have").into()
            );
        }
        if end < BINS {
            return Err(
                format!("the vocabulary has {end} tokens: expected {BINS} or more for the bins of actions").into()
            );
        }
        let id = |(n, value): (usize, &f32)| {
            let value = match (self.constant[n], self.normalized[n]) {
                (true, _) => 0.0,
                (false, true) => 2.0 * (value - self.low[n]) / (self.high[n] - self.low[n] + 1e-8) - 1.0,
                (false, false) => *value,
            };
            (end - bin(value)) as u32
        };
        Ok(values.iter().enumerate().map(id).collect())
    }
}

/// The number of edges that are not above a value that is limited to -1 to 1: 1 to [`BINS`].
fn bin(value: f32) -> usize {
    let value = f64::from(value.clamp(-1.0, 1.0));
    let step = 2.0 / (BINS - 1) as f64;
    // As numpy.linspace computes it, which sets the last edge to 1 exactly.
    let edge = |n: usize| if n + 1 == BINS { 1.0 } else { n as f64 * step - 1.0 };
    (0..BINS).take_while(|n| edge(*n) <= value).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn statistics() -> ActionStatistics {
        let action = json!({"q01": [-1.0, 0.0, -2.0, 0.0], "q99": [1.0, 10.0, 2.0, 1.0], "mask": [true, true, true, false],
            "min": [-3.0, 0.0, 5.0, 0.0], "max": [3.0, 12.0, 5.0, 1.0]});
        ActionStatistics::parse(&action).unwrap()
    }

    #[test]
    fn bins_are_counted_back_from_the_end_of_the_vocabulary() {
        // numpy: 32000 - np.digitize(np.clip(x, -1, 1), np.linspace(-1, 1, 256))
        for (value, id) in [
            (-1.0, 31_999),
            (-7.0, 31_999),
            (1.0, 31_744),
            (7.0, 31_744),
            (0.0, 31_872),
            (0.004, 31_871),
            (0.999, 31_745),
        ] {
            assert_eq!(32_000 - bin(value), id, "{value}");
        }
        let end = |values: &[f32]| statistics().ids(values, 32_000).unwrap();
        // The second dimension is 0 to 10, the third never varies, the fourth is not normalized.
        assert_eq!(end(&[-1.0, 10.0, 5.0, 1.0]), [31_999, 31_744, 31_872, 31_744]);
        assert_eq!(end(&[1.0, 5.0, -9.0, 0.0]), [31_744, 31_872, 31_872, 31_872]);
    }

    #[test]
    fn other_dimensions_and_small_vocabularies_are_reasons() {
        let error = statistics().ids(&[0.0], 32_000).unwrap_err().cause;
        assert!(error.contains("1 dimensions: expected 4"), "{error}");
        assert!(statistics().ids(&[0.0; 4], 100).unwrap_err().cause.contains("256 or more"));
    }

    #[test]
    fn statistics_are_found_by_the_name_of_their_data_set() {
        let action = json!({"q01": [0.0], "q99": [1.0]});
        let of =
            |content: Value, name: Option<&str>| ActionStatistics::find(&content, name).map_err(|(cause, _)| cause);
        let expected = ActionStatistics::parse(&action).unwrap();
        assert_eq!(of(json!({"action": action, "state": {}}), None), Ok(Some(expected.clone())));
        assert_eq!(of(json!({"bridge": {"action": action}}), None), Ok(Some(expected.clone())));
        let two = json!({"bridge": {"action": action}, "rt1": {"action": {"q01": [5.0], "q99": [9.0]}}});
        assert_eq!(of(two.clone(), Some("bridge")), Ok(Some(expected)));
        assert!(of(two.clone(), None).unwrap_err().contains("several data sets: bridge, rt1"));
        assert!(of(two, Some("droid")).unwrap_err().contains("expected one of bridge, rt1"));
        assert_eq!(of(json!({"a": 1}), None), Ok(None));
        assert!(of(json!({"action": {"min": [0], "max": [1]}}), None).unwrap_err().contains("found min, max"));
        assert!(of(json!({"action": {"q01": [0], "q99": [1, 2]}}), None).unwrap_err().contains("different lengths"));
        assert!(of(json!({"action": {"q01": [null], "q99": [1]}}), None).unwrap_err().contains("not finite"));
    }
}
