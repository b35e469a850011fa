//! Reading single fields of a JSON configuration: a default where one is left out, the field's name where it is wrong.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Larger sizes than any model has are taken for damage.
const SIZE_LIMIT: usize = 1 << 22;

/// An object of a configuration; one that is not there has no fields.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub &'a Value);

impl<'a> Fields<'a> {
    /// The object under a name.
    pub fn under(self, name: &str) -> Fields<'a> {
        Fields(&self.0[name])
    }

    /// Whether there is such an object.
    pub fn is_object(self) -> bool {
        self.0.is_object()
    }

    /// Whether the field is there at all, be it null.
    pub fn names(self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    /// A field, or nothing if it is left out or null.
    pub fn get<T: DeserializeOwned>(self, name: &str) -> Result<Option<T>, String> {
        match &self.0[name] {
            Value::Null => Ok(None),
            value => T::deserialize(value).map(Some).map_err(|e| format!("{name} is {value} ({e})")),
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

    /// Refuses a switch that is on.
    pub fn off(self, name: &str) -> Result<(), String> {
        match self.or(name, false)? {
            true => Err(format!("{name} is not supported")),
            false => Ok(()),
        }
    }
}
