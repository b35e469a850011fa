//! Columns and keys by name, with one rule for the whole schema: a value that is null or empty counts as absent,
//! wherever it is and whatever other rows have.

use super::lenient::json_type;
use serde_json::{Map, Value};

/// The named values of a row, or of an object in it.
pub(super) type Fields = Map<String, Value>;

/// Whether a value is null, an empty string, or a list or an object that holds nothing else.
pub(super) fn is_absent(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_absent),
        Value::Object(fields) => fields.values().all(is_absent),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The value with this name, unless it is absent.
pub(super) fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !is_absent(value))
}

/// Removes and returns the value with this name, unless it is absent.
pub(super) fn take(fields: &mut Fields, name: &str) -> Option<Value> {
    get(fields, name)?;
    fields.shift_remove(name)
}

/// The first of these names whose value is not absent, with the value.
pub(super) fn first<'a, 'n>(fields: &'a Fields, names: &[&'n str]) -> Option<(&'n str, &'a Value)> {
    names.iter().find_map(|name| Some((*name, get(fields, name)?)))
}

/// Removes and returns the first text with one of these names.
///
/// # Errors
/// None of them is a text, but one of them holds something else. The error says what it is.
pub(super) fn take_text(fields: &mut Fields, names: &[&str]) -> Result<Option<String>, String> {
    let text = names.iter().find(|name| get(fields, name).is_some_and(Value::is_string));
    if let Some(Value::String(text)) = text.and_then(|name| fields.shift_remove(*name)) {
        return Ok(Some(text));
    }
    match first(fields, names) {
        Some((name, value)) => Err(wrong_kind(name, value, "a string")),
        None => Ok(None),
    }
}

/// The error for a column that holds something unexpected.
pub(super) fn wrong_kind(name: &str, value: &Value, expected: &str) -> String {
    format!("the column {name} holds {}: expected {expected}", json_type(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn null_and_empty_values_are_absent_at_any_depth() {
        for absent in
            [json!(null), json!(""), json!([]), json!({}), json!([null, ""]), json!({"bytes": null, "path": ""})]
        {
            assert!(is_absent(&absent), "{absent}");
        }
        for present in [json!(0), json!(false), json!(" "), json!([0]), json!({"a": [null, "b"]})] {
            assert!(!is_absent(&present), "{present}");
        }
    }

    #[test]
    fn the_first_text_that_is_not_absent_counts() {
        let Value::Object(mut fields) = json!({"a": null, "b": "", "c": 7, "d": "text"}) else { panic!("an object") };
        assert_eq!(take_text(&mut fields, &["a", "b"]).unwrap(), None);
        assert_eq!(take_text(&mut fields, &["a", "c", "d"]).unwrap().as_deref(), Some("text"));
        assert_eq!(take_text(&mut fields, &["b", "c"]).unwrap_err(), "the column c holds a number: expected a string");
        assert_eq!((take(&mut fields, "b"), take(&mut fields, "c")), (None, Some(json!(7))));
    }
}
