//! The columns of a written row other than its conversation: the data set's own columns, the sample's id, and the score by
//! which it was selected. A column of the data set whose name is already used is renamed, never dropped.

use sae_core::store::sample::Sample;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The column of the sample's id, which is `id` in the tables of a run.
pub const SAMPLE_ID: &str = "sample_id";

/// Columns that readers of conversations, including this program, interpret. A column of the data set with such a name would
/// be misinterpreted.
const RESERVED: [&str; 9] =
    ["image", "images", "file_name", "messages", "conversations", "prompt", "completion", "chosen", "rejected"];

/// Columns in which data sets store their keys.
const KEYS: [&str; 5] = ["key", "id", "question_id", "image_id", "__key__"];

/// The names under which the rows of a data set are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    score: Option<String>,
    renamed: BTreeMap<String, String>,
}

impl Names {
    /// The names for the rows of these samples, with a column for the score with this name.
    pub fn new(samples: &[Sample], score: Option<&str>) -> Self {
        let metas = || samples.iter().filter_map(|sample| sample.meta.as_object());
        let own: BTreeSet<&str> = metas().flatten().map(|(name, _)| name.as_str()).collect();
        // Rows of an earlier filter already have their ids.
        let same_ids = samples.iter().all(|s| s.meta.get(SAMPLE_ID).is_none_or(|id| *id == s.id));
        let taken = |name: &&str| RESERVED.contains(name) || Some(*name) == score || (*name == SAMPLE_ID && !same_ids);
        let free = |name: &str| {
            let mut new = format!("original_{name}");
            while own.contains(new.as_str()) {
                new.insert_str(0, "original_");
            }
            (name.to_owned(), new)
        };
        Self { score: score.map(str::to_owned), renamed: own.iter().copied().filter(taken).map(free).collect() }
    }

    /// The columns of the data set that are renamed, with their new names.
    pub fn renamed(&self) -> &BTreeMap<String, String> {
        &self.renamed
    }

    /// The name under which a column of the data set is written.
    pub(super) fn written<'a>(&'a self, name: &'a str) -> &'a str {
        self.renamed.get(name).map_or(name, String::as_str)
    }

    /// All columns of a row other than its conversation, in order: the sample's id, the data set's columns, the score.
    pub(super) fn columns(&self, id: &str, own: &Map<String, Value>, score: Option<f64>) -> Map<String, Value> {
        let mut columns = Map::from_iter([(SAMPLE_ID.to_owned(), Value::from(id))]);
        let own = own.iter().filter(|(name, _)| self.written(name) != SAMPLE_ID);
        columns.extend(own.map(|(name, value)| (self.written(name).to_owned(), value.clone())));
        columns.extend(self.score.iter().map(|name| (name.clone(), Value::from(score))));
        columns
    }

    /// The columns that identify a row, and its score. The data set's key is text.
    pub(super) fn identity(&self, columns: &Map<String, Value>) -> Map<String, Value> {
        let known = |name: &str| name == SAMPLE_ID || Some(name) == self.score.as_deref();
        let column = |(name, value): (&String, &Value)| match value {
            value if known(name) => Some((name.clone(), value.clone())),
            Value::String(_) if KEYS.contains(&name.as_str()) => Some((name.clone(), value.clone())),
            Value::Number(key) if KEYS.contains(&name.as_str()) => Some((name.clone(), key.to_string().into())),
            _ => None,
        };
        columns.iter().filter_map(column).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample(id: &str, meta: Value) -> Sample {
        let [key, text, source] = Default::default();
        Sample { id: id.into(), key, text, images: vec![], source, meta, piece: None }
    }

    #[test]
    fn a_column_whose_name_is_used_is_renamed() {
        let own = json!({"id": 7, "images": 3, "pmi": 0.5, "original_pmi": 1, "b": null});
        let names = Names::new(&[sample("x", own.clone())], Some("pmi"));
        let found = names.columns("x", own.as_object().unwrap(), Some(2.0));
        let expected = json!({"sample_id": "x", "id": 7, "original_images": 3, "original_original_pmi": 0.5,
            "original_pmi": 1, "b": null, "pmi": 2.0});
        assert_eq!(Value::Object(found.clone()).to_string(), expected.to_string());
        assert_eq!(Value::Object(names.identity(&found)), json!({"sample_id": "x", "id": "7", "pmi": 2.0}));
        assert_eq!(names.renamed().len(), 2);
    }

    #[test]
    fn ids_of_an_earlier_filter_are_replaced_unless_they_differ() {
        let again = sample("x", json!({"sample_id": "x"}));
        assert!(Names::new(std::slice::from_ref(&again), None).renamed().is_empty());
        let other = sample("y", json!({"sample_id": "mine"}));
        let names = Names::new(&[again, other], None);
        assert_eq!(names.columns("y", json!({"sample_id": "mine"}).as_object().unwrap(), None).len(), 2);
    }
}
