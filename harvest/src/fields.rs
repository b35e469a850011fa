//! Reading single fields of a JSON configuration: a default where one is left out, the field's name where it is wrong.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Larger sizes than any model has are taken for damage.
pub(crate) const SIZE_LIMIT: usize = 1 << 22;

/// An object of a configuration; one that is not there has no fields.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub &'a Value);

impl<'a> Fields<'a> {
    /// The object under a name.
    pub fn under(self, name: &str) -> Fields<'a> {
        Fields(&self.0[name])
    }

    /// Whether there is such an object.
    pub fn is_object(self) -> bool {
        self.0.is_object()
    }

    /// Whether there is such an object, and anything in it.
    pub fn has_fields(self) -> bool {
        self.0.as_object().is_some_and(|fields| !fields.is_empty())
    }

    /// Whether the field is there at all, be it null.
    pub fn names(self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    /// A field, or nothing if it is left out or null.
    pub fn get<T: DeserializeOwned>(self, name: &str) -> Result<Option<T>, String> {
        match &self.0[name] {
            Value::Null => Ok(None),
            value => T::deserialize(value).map(Some).map_err(|e| format!("{name} is {} ({e})", short(value))),
        }
    }

    /// A field with a default.
    pub fn or<T: DeserializeOwned>(self, name: &str, default: T) -> Result<T, String> {
        Ok(self.get(name)?.unwrap_or(default))
    }

    /// A number of things, at least one.
    pub fn size(self, name: &str, default: usize) -> Result<usize, String> {
        let size = self.or(name, default)?;
        match (1..=SIZE_LIMIT).contains(&size) {
            true => Ok(size),
            false => Err(format!("{name} is {size}")),
        }
    }

    /// The length of a side, which newer files may write as a pair of equal numbers.
    pub fn side(self, name: &str, default: usize) -> Result<usize, String> {
        match self.0[name].as_array().map(Vec::as_slice) {
            Some([height, width]) if height == width => {
                Fields(&serde_json::json!({ name: height })).size(name, default)
            }
            Some(_) => Err(format!("{name} is {}: expected one number, or two equal ones", short(&self.0[name]))),
            None => self.size(name, default),
        }
    }
}

/// A value as a message may show it.
pub(crate) fn short(value: &Value) -> String {
    const LIMIT: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
