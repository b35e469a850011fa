//! Reads single fields of a JSON configuration: a missing field gets its default, and an invalid field is reported by
//! name.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Larger sizes than any model has are considered damage.
pub(crate) const SIZE_LIMIT: usize = 1 << 22;

/// An object of a configuration. An object that does not exist has no fields.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub &'a Value);

impl<'a> Fields<'a> {
    /// The object under a name.
    pub fn under(self, name: &str) -> Fields<'a> {
        Fields(&self.0[name])
    }

    /// Whether the object exists.
    pub fn is_object(self) -> bool {
        self.0.is_object()
    }

    /// Whether the object exists and is not empty.
    pub fn has_fields(self) -> bool {
        self.0.as_object().is_some_and(|fields| !fields.is_empty())
    }

    /// Whether a field exists, even if it is null.
    pub fn names(self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    /// A field, or nothing if it is missing or null.
    pub fn get<T: DeserializeOwned>(self, name: &str) -> Result<Option<T>, String> {
        match &self.0[name] {
            Value::Null => Ok(None),
            value => T::deserialize(value).map(Some).map_err(|e| format!("invalid {name} {} ({e})", short(value))),
        }
    }

    /// A field, or a default if it is missing or null.
    pub fn or<T: DeserializeOwned>(self, name: &str, default: T) -> Result<T, String> {
        Ok(self.get(name)?.unwrap_or(default))
    }

    /// A size: an integer from 1 to [`SIZE_LIMIT`].
    pub fn size(self, name: &str, default: usize) -> Result<usize, String> {
        let size = self.or(name, default)?;
        if (1..=SIZE_LIMIT).contains(&size) {
            Ok(size)
        } else {
            Err(format!("invalid {name} {size}: expected an integer from 1 to {SIZE_LIMIT}"))
        }
    }

    /// The side of a square, which newer files may write as a pair of equal numbers.
    pub fn side(self, name: &str, default: usize) -> Result<usize, String> {
        match self.0[name].as_array().map(Vec::as_slice) {
            Some([height, width]) if height == width => {
                Fields(&serde_json::json!({ name: height })).size(name, default)
            }
            Some(_) => Err(format!("invalid {name} {}: expected one number or two equal ones", short(&self.0[name]))),
            None => self.size(name, default),
        }
    }
}

/// A value, shortened so that a message can show it.
pub(crate) fn short(value: &Value) -> String {
    const LIMIT: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
