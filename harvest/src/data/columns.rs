//! A row as a reader hands it over: columns with images taken out of them, everything else as JSON. Renames columns and
//! finds the row's key and images; knows no schema beyond the names of those.

use super::image::ImageFile;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The columns of images.
const IMAGES: [&str; 3] = ["image", "images", "file_name"];

/// A row's columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Columns {
    pub fields: Map<String, Value>,
    /// Columns of image files; nothing where there is none in a list, and an empty list where the column is null.
    pub images: BTreeMap<String, Vec<Option<ImageFile>>>,
}

impl Columns {
    /// The row's own key, if it has one.
    pub fn key(&self) -> Option<String> {
        let keys = ["key", "id", "question_id", "image_id", "__key__"];
        keys.iter().find_map(|name| match self.fields.get(*name)? {
            Value::String(key) => Some(key.clone()),
            Value::Number(key) => Some(key.to_string()),
            _ => None,
        })
    }

    /// Renames columns to the fields they are mapped to.
    pub fn rename(&mut self, mapping: &[(String, String)]) -> Result<(), String> {
        for (field, column) in mapping {
            if let Some(value) = self.fields.remove(column) {
                self.fields.insert(field.clone(), value);
            } else if let Some(images) = self.images.remove(column) {
                self.images.insert(field.clone(), images);
            } else {
                return Err(format!("the row has no column {column} for {field}"));
            }
        }
        Ok(())
    }

    /// Takes the row's images out of it; nothing if it has no column for them.
    pub fn take_images(&mut self) -> Result<Option<Vec<Option<ImageFile>>>, String> {
        if let Some(images) = IMAGES.iter().find_map(|name| self.images.remove(*name)) {
            return Ok(Some(images));
        }
        let Some((name, value)) = IMAGES.iter().find_map(|name| Some((name, self.fields.remove(*name)?))) else {
            return Ok(None);
        };
        let named = |e: String| format!("the column {name}: {e}");
        let one = |value: &Value| match value {
            Value::Null => Ok(None),
            value => ImageFile::from_json(value).map(Some).map_err(named),
        };
        match &value {
            Value::Null => Ok(Some(Vec::new())),
            Value::Array(images) => images.iter().map(one).collect::<Result<_, _>>().map(Some),
            value => Ok(Some(vec![one(value)?])),
        }
    }
}
