//! Rows of Arrow record batches from any source. The values of a column decide how it is read: image files (binary, Hugging
//! Face's `{bytes, path}`, or lists of either) are kept as bytes, and everything else becomes JSON. Knows no schema.

use super::cell::{self, Lost};
use super::columns::Columns;
use super::image::{ImageFile, is_image};
use super::notes::Notes;
use super::row::FileRows;
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

/// Checks that no two columns have the same name.
///
/// # Errors
/// Two columns do. The error names them.
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
        let is_image = is_image_struct(array.data_type());
        let value = if is_image { Value::Null } else { cell::json(array, row, &mut lost) };
        columns.fields.insert(name.clone(), value);
        note_losses(field, lost, notes);
    }
    columns
}

/// Adds a note for each kind of value that became null.
fn note_losses(field: &FieldRef, lost: Lost, notes: &Notes) {
    let losses = [
        (lost.bytes, "bytes that are neither text nor an image"),
        (lost.not_finite, "numbers that are not finite"),
        (lost.unknown, "values of an unsupported type"),
    ];
    for (_, values) in losses.iter().filter(|(found, _)| *found) {
        notes.add(format!("column {} ({}): {values} become null", field.name(), brief(field.data_type())));
    }
}

/// The name of a type, shortened if it is a long structure.
fn brief(kind: &DataType) -> String {
    let name = kind.to_string();
    match name.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name,
    }
}

/// The images in a row of a column, or nothing if there are none.
fn images(array: &ArrayRef, row: usize) -> Option<Vec<Option<ImageFile>>> {
    if array.is_null(row) {
        return None;
    }
    if let Some(image) = image(array, row) {
        return Some(vec![Some(image)]);
    }
    let items = items(array, row).filter(|items| may_hold_images(items.data_type()))?;
    let images: Vec<_> = (0..items.len()).map(|n| image(&items, n)).collect();
    // Nulls in a list of images mark the positions of a document that have no image.
    let holds_images = is_image_struct(items.data_type()) || images.iter().any(Option::is_some);
    (holds_images && !images.is_empty()).then_some(images)
}

/// An image: a structure of bytes and a path, or bytes that are not text.
fn image(array: &ArrayRef, row: usize) -> Option<ImageFile> {
    if array.is_null(row) {
        return None;
    }
    if !is_image_struct(array.data_type()) {
        let bytes = content(array, row)?;
        let may_be_image = cell::bytes(array, row).is_some() || is_image(&bytes);
        return (may_be_image && cell::text(&bytes).is_none()).then(|| ImageFile::from_bytes(String::new(), bytes));
    }
    let structure: &StructArray = array.as_struct();
    let bytes = structure.column_by_name("bytes").and_then(|bytes| content(bytes, row));
    let path = structure.column_by_name("path").map(|paths| cell::json(paths, row, &mut Lost::default()));
    let path = path.as_ref().and_then(Value::as_str).filter(|path| !path.is_empty());
    match (bytes, path) {
        (None, None) => None,
        (Some(bytes), path) => Some(ImageFile::from_bytes(path.unwrap_or_default().to_owned(), bytes)),
        (None, Some(path)) => Some(ImageFile::from_path(path)),
    }
}

/// The bytes of a binary value or of a list of bytes, or nothing if there are none.
fn content(array: &ArrayRef, row: usize) -> Option<Vec<u8>> {
    let bytes = match cell::bytes(array, row) {
        Some(bytes) => bytes.to_vec(),
        None => items(array, row)?.as_primitive_opt::<UInt8Type>()?.values().to_vec(),
    };
    (!bytes.is_empty()).then_some(bytes)
}

/// The items of a list of any layout.
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

/// Whether a type is Hugging Face's structure of an image. Its field `bytes` has the type null if no row has bytes.
fn is_image_struct(kind: &DataType) -> bool {
    let DataType::Struct(fields) = kind else { return false };
    let bytes = |kind: &DataType| matches!(kind, DataType::Null) || may_be_bytes(kind);
    let has_path = fields.iter().any(|field| field.name() == "path");
    fields.iter().any(|f| f.name() == "bytes" && bytes(f.data_type()) && (has_path || may_be_bytes(f.data_type())))
}

/// Whether the items of a list of this type may be images.
fn may_hold_images(kind: &DataType) -> bool {
    is_image_struct(kind) || may_be_bytes(kind)
}

/// Whether a type is binary, a dictionary of binary values, or a list of bytes.
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
