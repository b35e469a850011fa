//! Hugging Face's layout of an image folder: a `metadata.csv`, `.jsonl` or `.parquet` names the image of each row in
//! `file_name`, several images in `file_names`, and further ones in columns whose names end in `_file_name` or
//! `_file_names`.

use super::columns::Columns;
use super::fields;
use super::image::ImageFile;
use super::row_error::RowError;
use serde_json::Value;
use std::path::Path;

/// Names of the tables of this layout.
const TABLES: [&str; 3] = ["metadata.csv", "metadata.jsonl", "metadata.parquet"];

/// Whether a file has the name of such a table.
pub(super) fn is_table(path: &Path) -> bool {
    path.file_name().is_some_and(|name| TABLES.iter().any(|table| name.eq_ignore_ascii_case(table)))
}

/// Whether a row names images as the tables of this layout do.
pub(super) fn names_images(columns: &Columns) -> bool {
    columns.fields.keys().any(|name| single(name) || several(name))
}

/// Puts the images that a row names into its column `images`, in the order of its columns. A row that already has
/// images keeps them.
///
/// # Errors
/// A column that should name images holds something else.
pub(super) fn resolve(mut columns: Columns) -> Result<Columns, RowError> {
    let has = |name: &str| columns.images.contains_key(name) || fields::get(&columns.fields, name).is_some();
    if has("image") || has("images") {
        return Ok(columns);
    }
    let naming: Vec<_> = columns.fields.keys().filter(|name| single(name) || several(name)).cloned().collect();
    let mut images = Vec::new();
    for name in naming {
        match columns.fields.shift_remove(&name) {
            Some(Value::Null) | None => {}
            Some(Value::String(path)) if single(&name) => images.push(Some(ImageFile::from_path(&path))),
            Some(Value::Array(paths)) if several(&name) => {
                let paths = paths.iter().map(|path| Some(Some(ImageFile::from_path(path.as_str()?))));
                let paths: Option<Vec<_>> = paths.collect();
                images.extend(
                    paths.ok_or_else(|| format!("the column {name}: expected names of files, found something else"))?,
                );
            }
            Some(other) => {
                let expected = if single(&name) { "the name of a file" } else { "a list of names" };
                return Err(fields::wrong_kind(&name, &other, expected).into());
            }
        }
    }
    if !images.is_empty() {
        columns.images.insert("images".into(), images);
    }
    Ok(columns)
}

fn single(name: &str) -> bool {
    name == "file_name" || name.ends_with("_file_name")
}

fn several(name: &str) -> bool {
    name == "file_names" || name.ends_with("_file_names")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn images(row: Value) -> Result<(Vec<String>, Value), RowError> {
        let Value::Object(fields) = row else { panic!("an object") };
        let columns = resolve(Columns { fields, ..Columns::default() })?;
        let images = columns.images.get("images").into_iter().flatten().flatten().map(|image| image.path.clone());
        Ok((images.collect(), Value::Object(columns.fields)))
    }

    #[test]
    fn every_column_of_the_layout_names_images() {
        let row =
            json!({"file_name": "a.png", "text": "t", "left_file_name": "b.png", "file_names": ["c.png", "d.png"]});
        let (found, rest) = images(row).unwrap();
        assert_eq!((found, rest), (["a", "b", "c", "d"].map(|n| format!("{n}.png")).to_vec(), json!({"text": "t"})));
        assert_eq!(images(json!({"file_name": null, "text": "t"})).unwrap().0.len(), 0);
        assert_eq!(images(json!({"file_name": "a.png", "image": "b.png"})).unwrap().0.len(), 0);
        assert!(images(json!({"file_names": "a.png"})).unwrap_err().cause.contains("file_names holds a string"));
        assert!(images(json!({"file_names": [7]})).unwrap_err().cause.contains("file_names"));
        assert!(images(json!({"file_name": 7})).unwrap_err().cause.contains("file_name holds a number"));
    }
}
