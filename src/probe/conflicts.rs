//! Labels of safety that contradict each other: an answer that is called safe with a negative rate of harmlessness, or unsafe with
//! a positive one. Which of the two is right cannot be known.

use super::ProbeError;
use super::labels::yes_or_no;
use filters::select::{field_value, number};
use sae_core::store::sample::Sample;
use serde::{Deserialize, Serialize};

/// Names of the field that says whether an answer is safe, and of its rate of harmlessness, in data sets with both.
const SAFE: [&str; 2] = ["is_safe", "is_response_safe"];
const RATE: [&str; 1] = ["harmless_rate"];
/// Largest share of labels that may contradict the other field.
const MOST: f64 = 0.05;
/// Samples that are named.
const NAMED: usize = 20;

/// Labels that contradict another field of the same object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conflicts {
    /// The other field.
    pub field: String,
    /// Samples with both.
    pub compared: usize,
    /// Samples whose fields contradict each other.
    pub count: usize,
    /// The keys of the first 20 of them.
    pub keys: Vec<String>,
    /// Whether their labels are used nevertheless.
    pub used: bool,
}

impl Conflicts {
    /// Looks for contradictions, and removes the labels in `values` that have one unless they are to be used. `None` if `label` is
    /// no field of safety, or rows do not have the other one.
    ///
    /// # Errors
    /// More than one label in twenty has a contradiction, and they are not to be used.
    pub fn resolve(
        label: &str,
        samples: &[Sample],
        values: &mut [Option<f64>],
        used: bool,
    ) -> Result<Option<Self>, ProbeError> {
        let (object, name) = label.rsplit_once('.').map_or(("", label), |(object, name)| (object, name));
        let others: &[&str] = match name {
            name if RATE.contains(&name) => &SAFE,
            name if SAFE.contains(&name) => &RATE,
            _ => return Ok(None),
        };
        let path = |name: &str| if object.is_empty() { name.to_owned() } else { format!("{object}.{name}") };
        let has = |field: &String| samples.iter().any(|sample| field_value(&sample.meta, field).is_some());
        let Some(field) = others.iter().map(|name| path(name)).find(has) else { return Ok(None) };
        let (rate, safe) = if RATE.contains(&name) { (label, field.as_str()) } else { (field.as_str(), label) };
        let mut found = Self { field: field.clone(), compared: 0, count: 0, keys: Vec::new(), used };
        for (sample, value) in samples.iter().zip(values) {
            let rate = field_value(&sample.meta, rate).and_then(number);
            let safe = field_value(&sample.meta, safe).and_then(yes_or_no);
            let (Some(rate), Some(safe), Some(_)) = (rate, safe, &value) else { continue };
            found.compared += 1;
            if (safe && rate < 0.0) || (!safe && rate > 0.0) {
                found.count += 1;
                if found.keys.len() < NAMED {
                    found.keys.push(sample.key.clone());
                }
                if !used {
                    *value = None;
                }
            }
        }
        if !used && found.count as f64 > MOST * found.compared as f64 {
            let Self { field: other, compared, count, mut keys, .. } = found;
            keys.truncate(5);
            return Err(ProbeError::Conflicts { field: label.into(), other, count, compared, keys });
        }
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn samples(answers: Vec<Value>) -> Vec<Sample> {
        let sample = |(n, answer): (usize, Value)| {
            let [text, source] = Default::default();
            Sample {
                id: n.to_string(),
                key: format!("k{n}"),
                text,
                images: vec![],
                source,
                meta: json!({"answer": answer}),
                piece: None,
            }
        };
        answers.into_iter().enumerate().map(sample).collect()
    }

    /// One answer of 40 is called safe and has a negative rate; 0 contradicts nothing.
    fn few() -> Vec<Sample> {
        let mut answers: Vec<Value> = (0..38).map(|n| json!({"is_safe": "yes", "harmless_rate": n % 4})).collect();
        answers.push(json!({"is_safe": "yes", "harmless_rate": -1}));
        answers.push(json!({"is_safe": "no", "harmless_rate": 0}));
        samples(answers)
    }

    #[test]
    fn few_contradictions_are_left_out_and_named() {
        let samples = few();
        for label in ["answer.harmless_rate", "answer.is_safe"] {
            let mut values = vec![Some(1.0); samples.len()];
            let found = Conflicts::resolve(label, &samples, &mut values, false).unwrap().unwrap();
            assert_eq!((found.compared, found.count, &found.keys[..]), (40, 1, &["k38".to_string()][..]));
            assert_eq!(values.iter().position(Option::is_none), Some(38));
            let mut values = vec![Some(1.0); samples.len()];
            assert!(Conflicts::resolve(label, &samples, &mut values, true).unwrap().unwrap().used);
            assert!(values.iter().all(Option::is_some));
        }
        assert_eq!(Conflicts::resolve("answer.helpful_rate", &samples, &mut [], false).unwrap(), None);
    }

    #[test]
    fn many_contradictions_are_rejected_unless_they_are_to_be_used() {
        let answer = |n: i32| json!({"is_safe": n % 10 != 0, "harmless_rate": 2});
        let samples = samples((0..30).map(answer).collect());
        let mut values = vec![Some(1.0); 30];
        let error = Conflicts::resolve("answer.harmless_rate", &samples, &mut values.clone(), false).unwrap_err();
        let expected =
            "answer.harmless_rate and answer.is_safe contradict each other in 3 of 30 samples (k0, k10, k20)";
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(Conflicts::resolve("answer.harmless_rate", &samples, &mut values, true).unwrap().unwrap().count, 3);
    }
}
