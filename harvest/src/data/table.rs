//! Rows of Arrow record batches, wherever they come from. A column's values decide what it is: image files (binary,
//! Hugging Face's `{bytes, path}`, or lists of either) are kept as bytes, everything else becomes JSON. Knows no schema.

use super::cell::{self, Lost};
use super::columns::Columns;
use super::image::{ImageFile, is_image};
use super::notes::Notes;
use super::source::FileRows;
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, FieldRef, Schema, UInt8Type};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// The rows of a batch.
pub(super) fn rows(batch: RecordBatch, notes: Notes) -> FileRows {
    Box::new((0..batch.num_rows()).map(move |row| Ok(Ok(columns(&batch, row, &notes)))))
}

/// Makes sure that no two columns have the same name.
///
/// # Errors
/// The name that two columns have.
pub(super) fn check_names(path: &Path, schema: &Schema) -> Result<()> {
    let mut names = BTreeSet::new();
    match schema.fields().iter().find(|field| !names.insert(field.name())) {
        Some(twice) => Err(Error::data(path)(format!("two columns are called {}", twice.name()))),
        None => Ok(()),
    }
}

fn columns(batch: &RecordBatch, row: usize, notes: &Notes) -> Columns {
    let mut columns = Columns::default();
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let name = field.name();
        if let Some(images) = images(array, row) {
            columns.images.insert(name.clone(), images);
            continue;
        }
        let mut lost = Lost::default();
        let value = match is_image_struct(array.data_type()) {
            true => Value::Null,
            false => cell::json(array, row, &mut lost),
        };
        columns.fields.insert(name.clone(), value);
        tell(field, lost, notes);
    }
    columns
}

fn tell(field: &FieldRef, lost: Lost, notes: &Notes) {
    let what = [
        (lost.bytes, "bytes that are neither text nor an image"),
        (lost.not_finite, "numbers that are not finite"),
        (lost.unknown, "values of a type that is not read"),
    ];
    for (_, what) in what.iter().filter(|(found, _)| *found) {
        notes.add(format!("column {} ({}): {what} become null", field.name(), brief(field.data_type())));
    }
}

/// A type's name, without the whole of a structure.
fn brief(kind: &DataType) -> String {
    let name = kind.to_string();
    match name.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name,
    }
}

/// The images in a row of a column; nothing if it holds none.
fn images(array: &ArrayRef, row: usize) -> Option<Vec<Option<ImageFile>>> {
    if array.is_null(row) {
        return None;
    }
    if let Some(image) = image(array, row) {
        return Some(vec![Some(image)]);
    }
    let items = items(array, row).filter(|items| may_hold_images(items.data_type()))?;
    let images: Vec<_> = (0..items.len()).map(|n| image(&items, n)).collect();
    // Nulls in a list of images say at which positions a document shows none.
    let wanted = is_image_struct(items.data_type()) || images.iter().any(Option::is_some);
    (wanted && !images.is_empty()).then_some(images)
}

/// An image: a structure of bytes and path, or bytes that are no text.
fn image(array: &ArrayRef, row: usize) -> Option<ImageFile> {
    if array.is_null(row) {
        return None;
    }
    if !is_image_struct(array.data_type()) {
        let bytes = content(array, row)?;
        let of_bytes = cell::bytes(array, row).is_some() || is_image(&bytes);
        return (of_bytes && cell::text(&bytes).is_none()).then(|| ImageFile::held(String::new(), bytes));
    }
    let structure: &StructArray = array.as_struct();
    let bytes = structure.column_by_name("bytes").and_then(|bytes| content(bytes, row));
    let path = structure.column_by_name("path").map(|paths| cell::json(paths, row, &mut Lost::default()));
    let path = path.as_ref().and_then(Value::as_str).filter(|path| !path.is_empty());
    match (bytes, path) {
        (None, None) => None,
        (Some(bytes), path) => Some(ImageFile::held(path.unwrap_or_default().to_owned(), bytes)),
        (None, Some(path)) => Some(ImageFile::named(path)),
    }
}

/// The bytes of a binary value or of a list of bytes; nothing if there are none.
fn content(array: &ArrayRef, row: usize) -> Option<Vec<u8>> {
    let bytes = match cell::bytes(array, row) {
        Some(bytes) => bytes.to_vec(),
        None => items(array, row)?.as_primitive_opt::<UInt8Type>()?.values().to_vec(),
    };
    (!bytes.is_empty()).then_some(bytes)
}

/// The items of a list, whatever its layout.
fn items(array: &ArrayRef, row: usize) -> Option<ArrayRef> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::List(_) => Some(array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => Some(array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => Some(array.as_fixed_size_list().value(row)),
        DataType::ListView(_) => Some(array.as_list_view::<i32>().value(row)),
        DataType::LargeListView(_) => Some(array.as_list_view::<i64>().value(row)),
        _ => None,
    }
}

/// Hugging Face's structure of an image, whose bytes may be of a type of their own if all of them are null.
fn is_image_struct(kind: &DataType) -> bool {
    let DataType::Struct(fields) = kind else { return false };
    let bytes = |kind: &DataType| matches!(kind, DataType::Null) || may_be_bytes(kind);
    let has_path = fields.iter().any(|field| field.name() == "path");
    fields.iter().any(|f| f.name() == "bytes" && bytes(f.data_type()) && (has_path || may_be_bytes(f.data_type())))
}

fn may_hold_images(kind: &DataType) -> bool {
    is_image_struct(kind) || may_be_bytes(kind)
}

/// Binary types, dictionaries of them, and lists of bytes.
fn may_be_bytes(kind: &DataType) -> bool {
    use DataType as D;
    match kind {
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => true,
        D::Dictionary(_, values) => may_be_bytes(values),
        D::List(item) | D::LargeList(item) | D::FixedSizeList(item, _) | D::ListView(item) | D::LargeListView(item) => {
            *item.data_type() == D::UInt8
        }
        _ => false,
    }
}
