//! Numbers of reports that may not be known. JSON has no NaN: Serde writes null in its place, and here it is read as NaN again.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// A field of a report with numbers that may be NaN.
pub(crate) trait Unknown: Sized {
    /// The same with nothing in place of NaN.
    type Json: DeserializeOwned;

    /// Puts NaN in place of nothing.
    fn from_json(json: Self::Json) -> Self;
}

impl Unknown for f64 {
    type Json = Option<f64>;

    fn from_json(json: Self::Json) -> Self {
        json.unwrap_or(f64::NAN)
    }
}

impl Unknown for [f64; 3] {
    type Json = [Option<f64>; 3];

    fn from_json(json: Self::Json) -> Self {
        json.map(f64::from_json)
    }
}

impl Unknown for Option<[f64; 3]> {
    type Json = Option<[Option<f64>; 3]>;

    fn from_json(json: Self::Json) -> Self {
        json.map(<[f64; 3]>::from_json)
    }
}

/// Deserializes numbers, for `#[serde(deserialize_with = "...")]`.
///
/// # Errors
/// Those of the deserializer.
pub(crate) fn deserialize<'de, T: Unknown, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::Json::deserialize(deserializer).map(T::from_json)
}
