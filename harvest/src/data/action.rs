//! The action of an agent in a row: ids of the vocabulary in the column `action_ids`, or numbers in the column `action`.
//! Knows no vocabulary and no statistics.

use super::fields::{self, Fields};
use super::lenient::json_type;
use serde_json::Value;

/// The column of ids of the vocabulary.
const IDS: &str = "action_ids";
/// The column of numbers.
const VALUES: &str = "action";

/// What an agent does in a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ids of the vocabulary, which follow the text unchanged.
    Ids(Vec<u32>),
    /// A number for each dimension of the action, which become one id each.
    Values(Vec<f32>),
}

/// The action in the columns of a row, which stay in the metadata. `None` if there is none: a column `action` that is
/// not a list, such as the name of a class, is metadata alone.
///
/// # Errors
/// An id that is not a whole number from 0, a number that is not finite, or both columns.
pub(super) fn read(columns: &Fields) -> Result<Option<Action>, String> {
    let ids = fields::get(columns, IDS);
    let values = fields::get(columns, VALUES).and_then(Value::as_array);
    match (ids, values) {
        (Some(_), Some(_)) => Err(format!("the row has both columns {IDS} and {VALUES}: expected one of them")),
        (Some(Value::Array(ids)), None) => {
            ids.iter().map(id).collect::<Result<_, _>>().map(|ids| Some(Action::Ids(ids)))
        }
        (Some(one), None) => Ok(Some(Action::Ids(vec![id(one)?]))),
        (None, Some(values)) => {
            let values = values.iter().enumerate().map(|(dimension, number)| value(dimension, number));
            values.collect::<Result<_, _>>().map(|values| Some(Action::Values(values)))
        }
        (None, None) => Ok(None),
    }
}

fn id(found: &Value) -> Result<u32, String> {
    let id = found.as_u64().or_else(|| found.as_f64().filter(|id| id.fract() == 0.0 && *id >= 0.0).map(|id| id as u64));
    id.and_then(|id| u32::try_from(id).ok()).filter(|id| *id <= i32::MAX as u32).ok_or_else(|| {
        let found = if found.is_number() { found.to_string() } else { json_type(found).to_owned() };
        format!("the column {IDS}: expected ids of the vocabulary, found {found}")
    })
}

fn value(dimension: usize, found: &Value) -> Result<f32, String> {
    // Readers turn numbers that are not finite into null.
    let value = found.as_f64().map(|value| value as f32).filter(|value| value.is_finite());
    value.ok_or_else(|| {
        let found = if found.is_null() { "a number that is not finite" } else { json_type(found) };
        format!("the column {VALUES}: expected finite numbers, found {found} in dimension {dimension}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn action(row: Value) -> Result<Option<Action>, String> {
        let Value::Object(columns) = row else { panic!("a row is an object") };
        read(&columns)
    }

    #[test]
    fn ids_and_numbers_are_told_apart_by_their_columns() {
        assert_eq!(action(json!({"action_ids": [7, 8.0]})), Ok(Some(Action::Ids(vec![7, 8]))));
        assert_eq!(action(json!({"action_ids": 7})), Ok(Some(Action::Ids(vec![7]))));
        assert_eq!(action(json!({"action": [1, -0.5]})), Ok(Some(Action::Values(vec![1.0, -0.5]))));
        for metadata in [json!({"action": "open"}), json!({"action": 3}), json!({"action": []}), json!({"a": 1})] {
            assert_eq!(action(metadata), Ok(None));
        }
    }

    #[test]
    fn values_that_are_no_actions_are_named() {
        for (row, named) in [
            (json!({"action_ids": [3, -1]}), "found -1"),
            (json!({"action_ids": [0.5]}), "found 0.5"),
            (json!({"action_ids": "left"}), "found a string"),
            (json!({"action_ids": [5_000_000_000_u64]}), "found 5000000000"),
            (json!({"action": [0.5, null]}), "not finite in dimension 1"),
            (json!({"action": [[0.5]]}), "found a list in dimension 0"),
            (json!({"action": [1e300]}), "found a number in dimension 0"),
            (json!({"action": [0.5], "action_ids": [1]}), "both columns"),
        ] {
            let error = action(row).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
