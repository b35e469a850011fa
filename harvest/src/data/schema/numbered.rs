//! What numbered columns say about each of two answers: `response_1_harmless_rate` and `response_2_harmless_rate`, or
//! `safer_response_id`, whose value is the number of an answer. Dual preferences therefore need no names of their own.

use crate::data::fields::Fields;
use serde_json::Value;

/// Parts of a name that only say that a number is that of an answer.
const ANSWER: [&str; 3] = ["response", "res", "answer"];

/// Endings of the names of columns whose value is the number of an answer.
const NAMES_ANSWER: [&str; 2] = ["_response", "_response_id"];

/// The properties of the answers with these numbers. A pair of columns whose names differ in the numbers alone gives both answers
/// a property, named without the number; a column that names one of them gives both a property that is true for that one.
pub(super) fn properties(fields: &Fields, numbers: [i64; 2]) -> [Fields; 2] {
    let mut found = [Fields::new(), Fields::new()];
    for (name, value) in fields {
        if let Some(property) = NAMES_ANSWER.iter().find_map(|ending| name.strip_suffix(ending)) {
            if let Some(named) = number(value).filter(|named| numbers.contains(named)) {
                for (found, number) in found.iter_mut().zip(numbers) {
                    found.entry(property.to_owned()).or_insert(Value::Bool(named == number));
                }
            }
            continue;
        }
        let parts: Vec<&str> = name.split('_').collect();
        let Some(place) = parts.iter().position(|part| *part == numbers[0].to_string()) else { continue };
        let other_number = numbers[1].to_string();
        let mut other = parts.clone();
        other[place] = &other_number;
        if let Some(other) = fields.get(&other.join("_")) {
            let before = place.checked_sub(1).filter(|before| ANSWER.contains(&parts[*before]));
            let kept = parts.iter().enumerate().filter(|(n, _)| *n != place && Some(*n) != before);
            let property = kept.map(|(_, part)| *part).collect::<Vec<_>>().join("_");
            if !property.is_empty() {
                found[0].insert(property.clone(), value.clone());
                found[1].insert(property, other.clone());
            }
        }
    }
    found
}

/// A whole number, or a text that is one.
fn number(value: &Value) -> Option<i64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (number.fract() == 0.0 && number.abs() < 1e6).then_some(number as i64)
}
