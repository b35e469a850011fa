//! Rows of a Parquet file, a batch at a time. Columns of images are binary, or Hugging Face's `{bytes, path}`, or lists
//! of either; everything else becomes JSON. Knows no schema.

use super::columns::Columns;
use super::image::ImageFile;
use super::source::FileRows;
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, UInt64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Rows that are decoded at once: few, because each may hold images.
const BATCH: usize = 64;

/// The rows of a file.
pub(super) fn rows(path: &Path) -> Result<FileRows> {
    read(path, |reader| reader.with_batch_size(BATCH))
}

/// One row of a file, or none.
pub(super) fn row(path: &Path, number: usize) -> Result<FileRows> {
    read(path, |reader| reader.with_batch_size(1).with_offset(number).with_limit(1))
}

type Reader = ParquetRecordBatchReaderBuilder<File>;

fn read(path: &Path, part: impl Fn(Reader) -> Reader) -> Result<FileRows> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let damaged = |e: parquet::errors::ParquetError| Error::data(path)(format!("the Parquet file is damaged ({e})"));
    let reader = Reader::try_new(file).map_err(damaged)?;
    let reader = part(reader).build().map_err(damaged)?;
    let path = path.to_path_buf();
    Ok(Box::new(reader.flat_map(move |batch| -> FileRows {
        match batch {
            Ok(batch) => Box::new((0..batch.num_rows()).map(move |row| Ok(columns(&batch, row)))),
            Err(e) => {
                let error = Error::data(&path)(format!("the Parquet file is damaged ({e})"));
                Box::new(std::iter::once(Err(error)))
            }
        }
    })))
}

fn columns(batch: &RecordBatch, row: usize) -> Result<Columns, String> {
    let mut columns = Columns::default();
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let name = field.name();
        if is_image(array.data_type()) {
            columns.images.insert(name.clone(), image(array, row).map(Some).into_iter().collect());
        } else if let Some(items) = list(array).filter(|items| is_image(items.data_type())) {
            let items = list_items(array, &items, row);
            let items = items.map(|items| (0..items.len()).map(|n| image(&items, n)).collect());
            columns.images.insert(name.clone(), items.unwrap_or_default());
        } else {
            columns.fields.insert(name.clone(), json(array, row).map_err(|e| format!("the column {name}: {e}"))?);
        }
    }
    Ok(columns)
}

/// Binary, or a struct with a binary field `bytes`.
fn is_image(kind: &DataType) -> bool {
    let binary = |kind: &DataType| matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    match kind {
        DataType::Struct(fields) => fields.iter().any(|f| f.name() == "bytes" && binary(f.data_type())),
        kind => binary(kind),
    }
}

fn image(array: &ArrayRef, row: usize) -> Option<ImageFile> {
    if array.is_null(row) {
        return None;
    }
    let structure: Option<&StructArray> = array.as_struct_opt();
    let bytes = match structure {
        Some(image) => binary(image.column_by_name("bytes")?, row),
        None => binary(array, row),
    };
    let path = structure.and_then(|image| image.column_by_name("path")).and_then(|paths| string(paths, row));
    if bytes.is_none() && path.is_none() {
        return None;
    }
    let path = path.unwrap_or_default();
    Some(ImageFile { bytes, ..ImageFile::named(&path) })
}

fn binary(array: &ArrayRef, row: usize) -> Option<Vec<u8>> {
    if array.is_null(row) {
        return None;
    }
    let bytes = match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().value(row),
        DataType::LargeBinary => array.as_binary::<i64>().value(row),
        DataType::BinaryView => array.as_binary_view().value(row),
        _ => return None,
    };
    Some(bytes.to_vec())
}

fn string(array: &ArrayRef, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    let text = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row),
        DataType::Utf8View => array.as_string_view().value(row),
        _ => return None,
    };
    Some(text.to_owned())
}

/// The items of all lists of a column of lists.
fn list(array: &ArrayRef) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::List(_) => Some(Arc::clone(array.as_list::<i32>().values())),
        DataType::LargeList(_) => Some(Arc::clone(array.as_list::<i64>().values())),
        _ => None,
    }
}

fn list_items(array: &ArrayRef, items: &ArrayRef, row: usize) -> Option<ArrayRef> {
    if array.is_null(row) {
        return None;
    }
    let (start, end) = match array.data_type() {
        DataType::List(_) => {
            let offsets = array.as_list::<i32>().value_offsets();
            (offsets[row] as usize, offsets[row + 1] as usize)
        }
        _ => {
            let offsets = array.as_list::<i64>().value_offsets();
            (offsets[row] as usize, offsets[row + 1] as usize)
        }
    };
    Some(items.slice(start, end - start))
}

/// A value as JSON. Numbers of all widths become 64 bits wide.
fn json(array: &ArrayRef, row: usize) -> Result<Value, String> {
    use DataType as D;
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let wide = |to: DataType| arrow::compute::cast(&array.slice(row, 1), &to).map_err(|e| e.to_string());
    Ok(match array.data_type() {
        D::Null => Value::Null,
        D::Boolean => array.as_boolean().value(row).into(),
        D::Utf8 | D::LargeUtf8 | D::Utf8View => string(array, row).into(),
        D::Int8 | D::Int16 | D::Int32 | D::Int64 => wide(D::Int64)?.as_primitive::<Int64Type>().value(0).into(),
        D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64 => wide(D::UInt64)?.as_primitive::<UInt64Type>().value(0).into(),
        D::Float16 | D::Float32 => f64::from(wide(D::Float32)?.as_primitive::<Float32Type>().value(0)).into(),
        D::Float64 => array.as_primitive::<Float64Type>().value(row).into(),
        D::List(_) | D::LargeList(_) => {
            let items = list(array).and_then(|items| list_items(array, &items, row));
            let items = items.ok_or("an empty list")?;
            Value::Array((0..items.len()).map(|n| json(&items, n)).collect::<Result<_, _>>()?)
        }
        D::Struct(fields) => {
            let columns = array.as_struct().columns().iter().zip(fields);
            let fields = columns.map(|(column, field)| Ok((field.name().clone(), json(column, row)?)));
            Value::Object(fields.collect::<Result<Map<_, _>, String>>()?)
        }
        // Dates, decimals and the like say nothing about a conversation.
        _ => wide(D::Utf8).ok().and_then(|text| string(&text, 0)).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryArray, Int32Array, ListArray, StringArray};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::Field;
    use parquet::arrow::ArrowWriter;
    use serde_json::json;

    fn structure(fields: Vec<(&str, ArrayRef)>, nulls: Option<NullBuffer>) -> ArrayRef {
        let (names, columns): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        let fields = names.into_iter().zip(&columns).map(|(name, c)| Field::new(name, c.data_type().clone(), true));
        Arc::new(StructArray::new(fields.collect(), columns, nulls))
    }

    #[test]
    fn images_and_conversations_of_hugging_face_tables_are_read() {
        let bytes = Arc::new(BinaryArray::from(vec![Some(&b"png"[..]), None]));
        let paths = Arc::new(StringArray::from(vec![Some("a.png"), None]));
        let image = structure(vec![("bytes", bytes), ("path", paths)], Some(vec![true, false].into()));
        let sides = Arc::new(StringArray::from(vec!["human", "gpt", "human"]));
        let values = Arc::new(StringArray::from(vec!["<image>", "a", "b"]));
        let turns = structure(vec![("from", sides), ("value", values)], None);
        let item = Arc::new(Field::new("item", turns.data_type().clone(), true));
        let turns: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([2, 1]), turns, None));
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![7, 8]));
        let batch = RecordBatch::try_from_iter([("id", ids), ("image", image), ("conversations", turns)]).unwrap();

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let all = |rows: FileRows| -> Vec<_> { rows.map(|row| row.unwrap().unwrap()).collect() };
        let found = all(rows(&path).unwrap());
        for (number, wanted) in found.iter().enumerate() {
            assert_eq!(format!("{:?}", all(row(&path, number).unwrap())), format!("{:?}", [wanted]));
        }
        assert!(all(row(&path, 2).unwrap()).is_empty());
        let image = Some(ImageFile::held("a.png".into(), b"png".to_vec()));
        assert_eq!((found[0].images["image"].as_slice(), found[1].images["image"].as_slice()), (&[image][..], &[][..]));
        let turns = json!([{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "a"}]);
        assert_eq!((&found[0].fields["id"], &found[0].fields["conversations"]), (&json!(7), &turns));

        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(rows(&path).err().unwrap().to_string().contains("damaged"));
    }
}
