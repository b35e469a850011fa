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

/// Bytes of the longest identifier.
const IDENTIFIER_LIMIT: usize = 1024;

/// What the first of these columns that is not absent says in order to name something: a text, or a whole number. Tables in
/// which some numbers are missing store all of them as floats, so 3.0 is 3.
///
/// # Errors
/// It is something else, or a text that is too long. The error says what it is.
pub(super) fn identifier(fields: &Fields, names: &[&str]) -> Result<Option<String>, String> {
    /// Whole numbers below it are exact as floats.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let Some((name, value)) = first(fields, names) else { return Ok(None) };
    let found = match value {
        Value::String(text) if text.len() <= IDENTIFIER_LIMIT => return Ok(Some(text.clone())),
        Value::String(text) => format!("a text of {} bytes", text.len()),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            None => return Ok(Some(number.to_string())),
            Some(whole) if whole.fract() == 0.0 && whole.abs() < EXACT => return Ok(Some((whole as i64).to_string())),
            Some(_) => number.to_string(),
        },
        other => json_type(other).to_owned(),
    };
    Err(format!("its {name} is {found}: expected a text of at most {IDENTIFIER_LIMIT} bytes or a whole number"))
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
    fn whole_numbers_name_the_same_as_integers_and_as_floats() {
        let name = |value: Value| identifier(&Fields::from_iter([("id".to_owned(), value)]), &["other", "id"]);
        for (value, expected) in [(json!(3), "3"), (json!(3.0), "3"), (json!(-0.0), "0"), (json!("3.5"), "3.5")] {
            assert_eq!(name(value).unwrap().as_deref(), Some(expected));
        }
        assert_eq!((name(json!(null)), name(json!(""))), (Ok(None), Ok(None)));
        for value in [json!(3.5), json!(1e300), json!(true), json!([1]), json!("x".repeat(2000))] {
            assert!(name(value).unwrap_err().contains("expected a text of at most"));
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
