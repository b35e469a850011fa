//! Converts values of Arrow arrays of any type to JSON. Dates, times and decimals become text. Floats are written with the
//! fewest digits that identify them in their own width. Values that JSON cannot express become null and are reported.

use arrow::array::{
    Array, AsArray, StructArray, downcast_dictionary_array, downcast_integer_array, downcast_run_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use half::f16;
use serde_json::{Map, Number, Value};

/// The kinds of values that became null although they were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Bytes that are not text.
    pub bytes: bool,
    /// NaN and infinity.
    pub not_finite: bool,
    /// Values of unsupported types.
    pub unknown: bool,
}

/// The value in a row of an array. Adds to `lost` if it cannot be expressed.
pub(super) fn json(array: &dyn Array, row: usize, lost: &mut Lost) -> Value {
    use DataType as D;
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        D::Null => Value::Null,
        D::Boolean => array.as_boolean().value(row).into(),
        D::Utf8 => array.as_string::<i32>().value(row).into(),
        D::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        D::Utf8View => array.as_string_view().value(row).into(),
        D::Float16 => {
            let value = array.as_primitive::<Float16Type>().value(row);
            let decimal = (0..5).map(|digits| format!("{:.digits$e}", value.to_f32()));
            let shortest = decimal.map(|text| text.parse()).find(|near| near.clone().map(f16::from_f64) == Ok(value));
            float(shortest.and_then(Result::ok).unwrap_or(value.to_f64()), lost)
        }
        D::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            float(value.to_string().parse().unwrap_or(f64::from(value)), lost)
        }
        D::Float64 => float(array.as_primitive::<Float64Type>().value(row), lost),
        D::List(_) => list(&array.as_list::<i32>().value(row), lost),
        D::LargeList(_) => list(&array.as_list::<i64>().value(row), lost),
        D::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row), lost),
        D::ListView(_) => list(&array.as_list_view::<i32>().value(row), lost),
        D::LargeListView(_) => list(&array.as_list_view::<i64>().value(row), lost),
        D::Struct(_) => Value::Object(fields(array.as_struct(), row, lost)),
        D::Map(..) => map(&array.as_map().value(row), lost),
        D::Union(..) => json(&array.as_union().value(row), 0, lost),
        _ => downcast_integer_array! {
            array => array.value(row).into(),
            D::Dictionary(..) => downcast_dictionary_array! {
                array => array.key(row).map_or(Value::Null, |key| json(array.values(), key, lost)),
                _ => Value::Null
            },
            D::RunEndEncoded(..) => downcast_run_array! {
                array => json(array.values(), array.get_physical_index(row), lost),
                _ => Value::Null
            },
            _ => match bytes(array, row) {
                Some(bytes) => text(bytes).map_or_else(|| { lost.bytes = true; Value::Null }, Value::from),
                None => printed(array, row, lost),
            },
        },
    }
}

/// The bytes of a value of one of the binary types, directly or in a dictionary.
pub(super) fn bytes(array: &dyn Array, row: usize) -> Option<&[u8]> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Binary => Some(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Some(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => Some(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => Some(array.as_fixed_size_binary().value(row)),
        DataType::Dictionary(..) => downcast_dictionary_array! {
            array => bytes(array.values(), array.key(row)?),
            _ => None
        },
        _ => None,
    }
}

/// The text of bytes that are UTF-8 without control characters other than white space.
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.chars().all(|c| !c.is_control() || c.is_whitespace()).then_some(text)
}

fn float(value: f64, lost: &mut Lost) -> Value {
    let number = Number::from_f64(value);
    lost.not_finite |= number.is_none();
    number.map_or(Value::Null, Value::Number)
}

fn list(items: &dyn Array, lost: &mut Lost) -> Value {
    (0..items.len()).map(|n| json(items, n, lost)).collect()
}

fn fields(structure: &StructArray, row: usize, lost: &mut Lost) -> Map<String, Value> {
    let fields = structure.fields().iter().zip(structure.columns());
    fields.map(|(field, column)| (field.name().clone(), json(column, row, lost))).collect()
}

/// An object if all keys are strings, numbers or booleans and no key repeats; otherwise a list of pairs.
fn map(entries: &StructArray, lost: &mut Lost) -> Value {
    let mut pair = |n| (json(entries.column(0), n, lost), json(entries.column(1), n, lost));
    let pairs: Vec<_> = (0..entries.len()).map(&mut pair).collect();
    let key = |key: &Value| match key {
        Value::String(key) => Some(key.clone()),
        Value::Number(_) | Value::Bool(_) => Some(key.to_string()),
        _ => None,
    };
    let object: Option<Map<_, _>> = pairs.iter().map(|(name, value)| Some((key(name)?, value.clone()))).collect();
    match object.filter(|object| object.len() == pairs.len()) {
        Some(object) => Value::Object(object),
        None => pairs.into_iter().map(|(name, value)| Value::Array(vec![name, value])).collect(),
    }
}

/// Dates, times, durations and decimals as text. An instant in an unknown time zone is written in UTC, and an instant
/// outside of the calendar as the number that stores it.
fn printed(array: &dyn Array, row: usize, lost: &mut Lost) -> Value {
    let options = FormatOptions::new();
    let print = |array: &dyn Array, row: usize| {
        let printer = ArrayFormatter::try_new(array, &options).ok()?;
        printer.value(row).try_to_string().ok()
    };
    let value = array.slice(row, 1);
    let utc = || match array.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            let utc =
                cast(&cast(&value, &DataType::Int64).ok()?, &DataType::Timestamp(*unit, Some("UTC".into()))).ok()?;
            print(&utc, 0)
        }
        _ => None,
    };
    let stored = || print(&cast(&value, &DataType::Int64).ok()?, 0)?.parse::<i64>().ok();
    let text = print(array, row).or_else(utc).map(Value::from);
    text.or_else(|| stored().map(Value::from)).unwrap_or_else(|| {
        lost.unknown = true;
        Value::Null
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;
    use arrow::buffer::{OffsetBuffer, ScalarBuffer};
    use arrow::datatypes::{Field, Int8Type, Int32Type, UnionFields};
    use serde_json::json;
    use std::sync::Arc;

    /// All values of an array. Asserts that none is lost.
    fn all(array: &dyn Array) -> Value {
        let mut lost = Lost::default();
        let values = (0..array.len()).map(|row| json(array, row, &mut lost)).collect();
        assert_eq!(lost, Lost::default());
        values
    }

    #[test]
    fn floats_are_printed_in_their_own_width() {
        let numbers = [0.1, 1.0, 3.4e38, 1e-45, -2.5, 16_777_216.0];
        let singles = Float32Array::from(numbers.map(|n| n as f32).to_vec());
        assert_eq!(all(&singles), json!([0.1, 1.0, 3.4e38, 1e-45, -2.5, 16777216.0]));
        let halves = [0.1, 1.0, 65504.0, 6e-8, -2.5, 0.3333];
        let halves = Float16Array::from(halves.map(f16::from_f64).to_vec());
        assert_eq!(all(&halves), json!([0.1, 1.0, 65500.0, 6e-8, -2.5, 0.3333]));
        assert_eq!(all(&Float64Array::from(vec![0.1, 1e300])), json!([0.1, 1e300]));
        let mut lost = Lost::default();
        let nan = Float32Array::from(vec![f32::NAN, f32::INFINITY]);
        assert_eq!((json(&nan, 0, &mut lost), json(&nan, 1, &mut lost)), (Value::Null, Value::Null));
        assert!(lost.not_finite && !lost.bytes);
    }

    #[test]
    fn times_are_printed_with_their_offset() {
        // 2024-01-01T12:00:00 UTC.
        let seconds = 1_704_110_400;
        let at = |zone: Option<&str>| TimestampSecondArray::from(vec![seconds]).with_timezone_opt(zone.map(Arc::from));
        assert_eq!(all(&at(None)), json!(["2024-01-01T12:00:00"]));
        for (zone, text) in [("UTC", "2024-01-01T12:00:00Z"), ("Europe/Berlin", "2024-01-01T13:00:00+01:00")] {
            assert_eq!(all(&at(Some(zone))), json!([text]));
        }
        assert_eq!(all(&at(Some("+05:30"))), json!(["2024-01-01T17:30:00+05:30"]));
        assert_eq!(all(&at(Some("Atlantis/Nowhere"))), json!(["2024-01-01T12:00:00Z"]));
        assert_eq!(all(&TimestampMicrosecondArray::from(vec![1_500_000])), json!(["1970-01-01T00:00:01.500"]));
        assert_eq!(all(&TimestampSecondArray::from(vec![i64::MAX])), json!([i64::MAX]));
        assert_eq!(all(&Date32Array::from(vec![1])), json!(["1970-01-02"]));
        assert_eq!(all(&Time64MicrosecondArray::from(vec![3_600_000_000])), json!(["01:00:00"]));
        assert_eq!(all(&DurationSecondArray::from(vec![90])), json!(["PT90S"]));
        let decimal = Decimal128Array::from(vec![-12345]).with_precision_and_scale(9, 2).unwrap();
        assert_eq!(all(&decimal), json!(["-123.45"]));
    }

    #[test]
    fn lists_maps_and_dictionaries_of_any_layout_are_read() {
        let item = || Arc::new(Field::new("item", DataType::Int32, true));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4]));
        let expected = json!([[1, 2], [3, 4]]);
        assert_eq!(all(&FixedSizeListArray::new(item(), 2, numbers.clone(), None)), expected);
        assert_eq!(
            all(&LargeListArray::new(item(), OffsetBuffer::from_lengths([2, 2]), numbers.clone(), None)),
            expected
        );
        let view = |first: Vec<i32>| ScalarBuffer::from(first);
        assert_eq!(
            all(&ListViewArray::new(item(), view(vec![2, 0]), view(vec![2, 2]), numbers.clone(), None)),
            json!([[3, 4], [1, 2]])
        );
        let names: DictionaryArray<Int8Type> = vec![Some("a"), None, Some("b"), Some("a")].into_iter().collect();
        assert_eq!(all(&names), json!(["a", null, "b", "a"]));
        let runs = RunArray::try_new(&Int32Array::from(vec![2, 3]), &StringArray::from(vec!["a", "b"])).unwrap();
        assert_eq!(all(&runs), json!(["a", "a", "b"]));
        let kinds = UnionFields::try_new([0], [Field::new("n", DataType::Int32, true)]).unwrap();
        let union = UnionArray::try_new(kinds, vec![0i8; 4].into(), None, vec![numbers]).unwrap();
        assert_eq!(all(&union), json!([1, 2, 3, 4]));
        let mut map = MapBuilder::new(None, StringBuilder::new(), PrimitiveBuilder::<Int32Type>::new());
        map.keys().append_value("a");
        map.values().append_value(1);
        map.append(true).unwrap();
        map.append(true).unwrap();
        map.append(false).unwrap();
        assert_eq!(all(&map.finish()), json!([{"a": 1}, {}, null]));
        let mut map = MapBuilder::new(None, PrimitiveBuilder::<Int32Type>::new(), StringBuilder::new());
        map.keys().append_value(7);
        map.values().append_null();
        map.append(true).unwrap();
        assert_eq!(all(&map.finish()), json!([{"7": null}]));
        assert_eq!(all(&NullArray::new(1)), json!([null]));
    }

    #[test]
    fn bytes_that_are_not_text_are_lost() {
        let hashes = FixedSizeBinaryArray::try_from_iter([b"abcd", b"\0\x01\xff\xfe"].into_iter()).unwrap();
        let mut lost = Lost::default();
        assert_eq!(json(&hashes, 0, &mut lost), json!("abcd"));
        assert_eq!(lost, Lost::default());
        assert_eq!(json(&hashes, 1, &mut lost), Value::Null);
        assert!(lost.bytes);
        let keys = Int8Array::from(vec![Some(0), None]);
        let values = BinaryArray::from(vec![&b"a\ntext"[..]]);
        assert_eq!(all(&DictionaryArray::new(keys, Arc::new(values))), json!(["a\ntext", null]));
    }
}
