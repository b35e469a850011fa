//! Converts columns of JSON values to columns of a table: the type of each, and its Arrow array. If rows have different types,
//! the column becomes text. Also names the types as Hugging Face does, for the metadata from which `datasets` reads them.

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, StringArray, StructArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use serde_json::{Map, Value, json};
use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Maximum number of fields of an object that becomes a structure.
const FIELDS: usize = 64;
/// Maximum depth of nested lists and structures.
const DEPTH: usize = 8;

/// The type of a column. Every value may be missing.
#[derive(Clone, Debug, PartialEq)]
enum ValueKind {
    /// Only missing values so far.
    Null,
    Bool,
    Int,
    Float,
    /// Text. Other values are written as JSON.
    Text,
    List(Box<ValueKind>),
    Struct(Vec<(String, ValueKind)>),
}

/// The types of columns, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnKinds(Vec<(String, ValueKind)>);

impl ColumnKinds {
    /// The types of all columns of these rows. The columns are in the order in which they first occur.
    pub fn new(rows: impl IntoIterator<Item = impl Borrow<Map<String, Value>>>) -> Self {
        let mut kinds = Vec::new();
        rows.into_iter().for_each(|row| join_fields(&mut kinds, fields_of(row.borrow(), 0)));
        Self(kinds)
    }

    /// The names of the columns.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The field, the array, and Hugging Face's type of every column, for rows of these columns.
    pub(super) fn columns(&self, rows: &[&Map<String, Value>]) -> Vec<(Field, ArrayRef, Value)> {
        let column = |(name, kind): &(String, ValueKind)| {
            let values: Vec<_> = rows.iter().map(|row| row.get(name)).collect();
            (Field::new(name, kind.data_type(), true), kind.array(&values), kind.feature())
        };
        self.0.iter().map(column).collect()
    }
}

fn fields_of(object: &Map<String, Value>, depth: usize) -> Vec<(String, ValueKind)> {
    object.iter().map(|(name, value)| (name.clone(), ValueKind::new(value, depth))).collect()
}

fn join_fields(fields: &mut Vec<(String, ValueKind)>, more: Vec<(String, ValueKind)>) {
    for (name, kind) in more {
        match fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => known.join(kind),
            None => fields.push((name, kind)),
        }
    }
}

impl ValueKind {
    fn new(value: &Value, depth: usize) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Number(n) if n.is_i64() => Self::Int,
            Value::Number(n) if n.is_f64() => Self::Float,
            // Integers beyond 64 signed bits keep their digits as text.
            Value::Number(_) | Value::String(_) => Self::Text,
            _ if depth >= DEPTH => Self::Text,
            Value::Array(items) => {
                let mut kind = Self::Null;
                items.iter().for_each(|item| kind.join(Self::new(item, depth + 1)));
                Self::List(Box::new(kind))
            }
            Value::Object(object) if object.is_empty() || object.len() > FIELDS => Self::Text,
            Value::Object(object) => Self::Struct(fields_of(object, depth + 1)),
        }
    }

    /// Widens the type to the narrowest one that holds both.
    fn join(&mut self, other: Self) {
        match (&mut *self, other) {
            (_, Self::Null) => {}
            (Self::Null, other) => *self = other,
            (Self::Int, Self::Float) => *self = Self::Float,
            (Self::Float, Self::Int) => {}
            (Self::List(own), Self::List(other)) => own.join(*other),
            (Self::Struct(own), Self::Struct(other)) => {
                join_fields(own, other);
                if own.len() > FIELDS {
                    *self = Self::Text;
                }
            }
            (own, other) if *own == other => {}
            _ => *self = Self::Text,
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Null | Self::Text => DataType::Utf8,
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::List(kind) => DataType::List(item(kind.data_type())),
            Self::Struct(fields) => DataType::Struct(struct_fields(fields)),
        }
    }

    fn feature(&self) -> Value {
        match self {
            Self::Null | Self::Text => text_feature(),
            Self::Bool => json!({ "dtype": "bool", "_type": "Value" }),
            Self::Int => json!({ "dtype": "int64", "_type": "Value" }),
            Self::Float => json!({ "dtype": "float64", "_type": "Value" }),
            Self::List(kind) => list_feature(kind.feature()),
            Self::Struct(fields) => fields.iter().map(|(name, kind)| (name.clone(), kind.feature())).collect(),
        }
    }

    fn array(&self, values: &[Option<&Value>]) -> ArrayRef {
        let is_present = |value: &Option<&Value>| value.is_some_and(|value| !value.is_null());
        match self {
            Self::Null => new_null_array(&DataType::Utf8, values.len()),
            Self::Bool => Arc::new(values.iter().map(|v| v.and_then(Value::as_bool)).collect::<BooleanArray>()),
            Self::Int => Arc::new(values.iter().map(|v| v.and_then(Value::as_i64)).collect::<Int64Array>()),
            Self::Float => Arc::new(values.iter().map(|v| v.and_then(Value::as_f64)).collect::<Float64Array>()),
            Self::Text => {
                let text = |value: &Option<&Value>| match value {
                    None | Some(Value::Null) => None,
                    Some(Value::String(text)) => Some(text.clone()),
                    Some(other) => Some(other.to_string()),
                };
                Arc::new(values.iter().map(text).collect::<StringArray>())
            }
            Self::List(kind) => {
                let lists: Vec<&[Value]> =
                    values.iter().map(|v| v.and_then(Value::as_array).map_or(&[][..], Vec::as_slice)).collect();
                let items: Vec<Option<&Value>> = lists.iter().flat_map(|list| list.iter()).map(Some).collect();
                let nulls: NullBuffer = values.iter().map(is_present).collect();
                list(lists.iter().map(|list| list.len()), kind.array(&items), Some(nulls))
            }
            Self::Struct(fields) => {
                let column = |(name, kind): &(String, ValueKind)| {
                    kind.array(&values.iter().map(|v| v.and_then(|v| v.get(name))).collect::<Vec<_>>())
                };
                let nulls: NullBuffer = values.iter().map(is_present).collect();
                let columns = fields.iter().map(column).collect();
                Arc::new(StructArray::new(struct_fields(fields), columns, Some(nulls)))
            }
        }
    }
}

fn struct_fields(fields: &[(String, ValueKind)]) -> Fields {
    fields.iter().map(|(name, kind)| Field::new(name, kind.data_type(), true)).collect()
}

/// Hugging Face's type of text.
pub(super) fn text_feature() -> Value {
    json!({ "dtype": "string", "_type": "Value" })
}

/// Hugging Face's type of a list: a list for structures, and a sequence for other items.
pub(super) fn list_feature(items: Value) -> Value {
    match items.get("_type") {
        Some(_) => json!({ "feature": items, "_type": "Sequence" }),
        None => json!([items]),
    }
}

/// The field of the items of a list.
pub(super) fn item(kind: DataType) -> FieldRef {
    Arc::new(Field::new("item", kind, true))
}

/// Lists with the given numbers of items.
pub(super) fn list(lengths: impl Iterator<Item = usize>, items: ArrayRef, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(ListArray::new(item(items.data_type().clone()), OffsetBuffer::from_lengths(lengths), items, nulls))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(rows: &[Value]) -> ColumnKinds {
        ColumnKinds::new(rows.iter().map(|row| row.as_object().unwrap()))
    }

    #[test]
    fn columns_have_the_common_type_of_all_rows() {
        let rows = [
            json!({"a": 1, "b": "x", "c": [1, 2], "d": {"e": true}, "big": 18446744073709551615u64}),
            json!({"a": 2.5, "b": 7, "c": null, "d": {"f": [{}]}, "n": null}),
        ];
        let found = kinds(&rows);
        let rows: Vec<_> = rows.iter().map(|row| row.as_object().unwrap()).collect();
        let columns = found.columns(&rows);
        let types: Vec<_> =
            columns.iter().map(|(field, array, _)| (field.name().as_str(), array.data_type())).collect();
        assert_eq!(types.iter().map(|t| t.0).collect::<String>(), "abcdbign");
        assert_eq!((types[0].1, types[1].1, types[4].1), (&DataType::Float64, &DataType::Utf8, &DataType::Utf8));
        let text = |n: usize| columns[n].1.as_any().downcast_ref::<StringArray>().unwrap().clone();
        assert_eq!(text(1), StringArray::from(vec!["x", "7"]));
        assert_eq!(text(4), StringArray::from(vec![Some("18446744073709551615"), None]));
        assert_eq!((columns[2].1.null_count(), columns[5].1.null_count()), (1, 2));
        let features: Vec<_> = columns.iter().map(|(_, _, feature)| feature.to_string()).collect();
        assert!(features[2].contains("Sequence") && features[2].contains("int64"), "{}", features[2]);
        assert!(features[3].starts_with(r#"{"e":{"dtype":"bool""#), "{}", features[3]);
    }

    #[test]
    fn columns_of_different_types_are_text() {
        for other in [json!({"a": [1]}), json!({"a": {"b": 1}}), json!({"a": true}), json!({"a": "x"})] {
            assert_eq!(kinds(&[json!({"a": 1}), other]).0[0].1, ValueKind::Text);
        }
        let wide: Map<String, Value> = (0..100).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(kinds(&[json!({ "a": wide })]).0[0].1, ValueKind::Text);
        assert_eq!(kinds(&[json!({"a": {}})]).0[0].1, ValueKind::Text);
    }
}
