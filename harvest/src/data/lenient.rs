//! JSON as other programs write it. A byte order mark is ignored. Python's `NaN` and `Infinity`, and numbers beyond a
//! 64-bit float, become null. Half of a UTF-16 pair (`\ud83d`), which remains where a text was cut inside of a
//! character, becomes U+FFFD. Everything else is as strict as `serde_json`, which limits the depth.

use serde_json::{Map, Value};
use std::borrow::Cow;

/// Parses one JSON value.
///
/// # Errors
/// The text is not JSON. The error says where.
pub(super) fn value(text: &[u8]) -> Result<Value, String> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let parsed = serde_json::from_slice(text);
    let parsed = parsed.or_else(|error| match repaired(text) {
        Cow::Owned(text) => serde_json::from_slice(&text),
        Cow::Borrowed(_) => Err(error),
    });
    parsed.map_err(|error| format!("invalid JSON ({error})"))
}

/// Parses a JSON object.
///
/// # Errors
/// The text is not JSON, or is a value of another type, which the error names.
pub(super) fn object(text: &[u8]) -> Result<Map<String, Value>, String> {
    into_object(value(text)?)
}

/// The object in a value.
///
/// # Errors
/// The value has another type, which the error names.
pub(super) fn into_object(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err(format!("expected a JSON object, found {}", json_type(&other))),
    }
}

/// The type of a value, for messages.
pub(super) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The text with `null` in place of every number outside of strings that is not finite in 64 bits, and with `\ufffd` in
/// place of every escape in a string that is half of a pair.
fn repaired(text: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Cow::Borrowed(&text[..0]);
    let (mut copied, mut at, mut quoted) = (0, 0, false);
    while at < text.len() {
        let (length, replacement): (usize, Option<&[u8]>) = match text[at] {
            b'\\' if quoted => escape(&text[at..]),
            b'"' => {
                quoted = !quoted;
                (1, None)
            }
            b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' if !quoted => {
                let word = text[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
                let word = &text[at..at + word.count()];
                (word.len(), is_non_finite(word).then_some(b"null"))
            }
            _ => (1, None),
        };
        if let Some(replacement) = replacement {
            let out = out.to_mut();
            out.extend_from_slice(&text[copied..at]);
            out.extend_from_slice(replacement);
            copied = at + length;
        }
        at += length;
    }
    match out {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(mut out) => {
            out.extend_from_slice(&text[copied..]);
            Cow::Owned(out)
        }
    }
}

/// The length of the escape sequence at the beginning of a text (a pair counts as one), and its replacement if it is
/// half of a pair.
fn escape(text: &[u8]) -> (usize, Option<&'static [u8]>) {
    let unit = |at: usize| {
        let hex = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
    };
    match (unit(0), unit(6)) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, None),
        (Some(0xd800..=0xdfff), _) => (6, Some(b"\\ufffd")),
        _ => (2, None),
    }
}

fn is_non_finite(word: &[u8]) -> bool {
    let number = || std::str::from_utf8(word).ok()?.parse::<f64>().ok();
    match word {
        b"NaN" | b"Infinity" | b"-Infinity" => true,
        // Rust also parses words such as `inf`, which no program writes into JSON.
        [b'-' | b'0'..=b'9', ..] if word.last().is_some_and(u8::is_ascii_digit) => {
            number().is_some_and(f64::is_infinite)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_that_are_not_finite_become_null() {
        let text =
            br#"{"a": NaN, "b": [Infinity,-Infinity , 1e400, -2E+999, 1.5e3], "c": "NaN, \"Infinity", "1e400": null}"#;
        let expected = json!({"a": null, "b": [null, null, null, null, 1500.0], "c": "NaN, \"Infinity", "1e400": null});
        assert_eq!(value(text).unwrap(), expected);
        assert_eq!(value(b"NaN").unwrap(), Value::Null);
        let digits = format!("[{}]", "9".repeat(400));
        assert_eq!(value(digits.as_bytes()).unwrap(), json!([null]));
    }

    #[test]
    fn half_of_a_utf16_pair_becomes_the_replacement_character() {
        let text =
            br#"{"a": "cut \ud83d", "b": "\udc00\ud83d\ude42\\ud83d", "\uDBFFc": NaN, "d": "\ud83d\ud83d\ude42"}"#;
        let expected =
            json!({"a": "cut \u{fffd}", "b": "\u{fffd}\u{1f642}\\ud83d", "\u{fffd}c": null, "d": "\u{fffd}\u{1f642}"});
        assert_eq!(value(text).unwrap(), expected);
        for bad in [r#""\ud83"#, r#""\ud83d"#, r#""\ud8zz""#, r#""\x""#] {
            assert!(value(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_ignored_and_everything_else_is_strict() {
        assert_eq!(value("\u{feff}{\"a\": 1}".as_bytes()).unwrap(), json!({"a": 1}));
        for bad in
            ["", "{a: 1}", "nan", "inf", "-NaN", "+Infinity", "[NaNs]", "[1e400x]", "{'a': NaN}", "[NaN", "\"NaN"]
        {
            assert!(value(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(value(("[".repeat(100_000) + "NaN").as_bytes()).is_err());
        assert_eq!(object(b"[1]").unwrap_err(), "expected a JSON object, found a list");
    }
}
