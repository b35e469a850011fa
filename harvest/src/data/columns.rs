//! A row as a reader yields it: columns of image files, and all other columns as JSON. Renames columns and finds the
//! row's key and images. Knows no schema beyond the names of these.

use super::fields::{self, Fields};
use super::image::{ImageFile, is_image};
use super::row_error::RowError;
use sae_core::error::Hint;
use sae_core::store::image_format::EXTENSIONS;
use serde_json::Value;
use std::collections::BTreeMap;

/// The columns of images. If the data set itself holds files, paths in other columns only say where they came from.
pub(super) const IMAGES: [&str; 3] = ["image", "images", "file_name"];

/// A row's columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Columns {
    pub fields: Fields,
    /// Columns of image files. An entry of a list may be empty, and a column that is null is an empty list.
    pub images: BTreeMap<String, Vec<Option<ImageFile>>>,
}

/// The images of one column. Entries of a list without an image are empty.
type Images = Vec<Option<ImageFile>>;

impl Columns {
    /// The row's own key, if it has one.
    pub fn key(&self) -> Option<String> {
        let keys = ["key", "id", "question_id", "image_id", "__key__"];
        keys.iter().find_map(|name| match fields::get(&self.fields, name)? {
            Value::String(key) => Some(key.clone()),
            Value::Number(key) => Some(key.to_string()),
            _ => None,
        })
    }

    /// Renames columns to the fields to which they are mapped.
    ///
    /// # Errors
    /// The row lacks a column.
    pub fn rename(&mut self, mapping: &[(String, String)]) -> Result<(), RowError> {
        for (field, column) in mapping {
            if let Some(value) = self.fields.shift_remove(column) {
                self.fields.insert(field.clone(), value);
            } else if let Some(images) = self.images.remove(column) {
                self.images.insert(field.clone(), images);
            } else {
                return Err(format!("the row has no column {column}, which is mapped to the field {field}").into());
            }
        }
        Ok(())
    }

    /// Removes the row's images from it and returns them. The result is empty if no column has an image.
    ///
    /// # Errors
    /// A column holds something else, two columns hold different images, or the only images are in a column that no
    /// schema knows.
    pub fn take_images(&mut self) -> Result<Images, RowError> {
        let any = |images: &Images| images.iter().any(Option::is_some);
        // A table that was converted from an archive has columns called like the extensions of the members.
        let files = IMAGES.iter().chain(&EXTENSIONS).filter_map(|name| Some((*name, self.images.remove(*name)?)));
        let mut found: Vec<(&str, Images)> = files.filter(|(_, images)| any(images)).collect();
        if found.is_empty() {
            for name in IMAGES {
                found.push((name, self.named_images(name)?));
            }
            found.retain(|(_, images)| any(images));
        }
        // Metadata tables of a folder have a column `file_name`, and tools add it to rows that also have the image.
        let file_name = found.len() > 1 && found.last().is_some_and(|(name, _)| *name == "file_name");
        if file_name && let Some((name, mut images)) = found.pop() {
            let path = images.pop().flatten().map(|image| image.path);
            self.fields.insert(name.to_owned(), path.into());
        }
        let second = found.pop();
        match (found.pop(), second) {
            (Some((_, one)), Some((_, all)))
                if one.iter().flatten().all(|image| all.contains(&Some(image.clone()))) =>
            {
                Ok(all)
            }
            (Some((one, _)), Some((other, _))) => {
                Err(format!("the row has different images in two columns, {one} and {other}").into())
            }
            (None, Some((_, images))) => Ok(images),
            _ => {
                let images = self.numbered_images()?;
                self.check_no_other_images().map(|()| images)
            }
        }
    }

    /// The images of columns such as `image_1` and `image_2`, in the order of their numbers.
    fn numbered_images(&mut self) -> Result<Images, RowError> {
        let number = |name: &str| name.strip_prefix("image")?.trim_start_matches('_').parse::<u32>().ok();
        // A number in such a column is a property of the row, not a file.
        let files = self.fields.iter().filter(|(_, value)| value.is_string() || value.is_object());
        let names = self.images.keys().chain(files.map(|(name, _)| name));
        let names: BTreeMap<_, _> = names.filter_map(|name| Some((number(name)?, name.clone()))).collect();
        let mut images = Vec::new();
        for name in names.values() {
            match self.images.remove(name) {
                Some(files) => images.extend(files),
                None => images.extend(self.named_images(name)?),
            }
        }
        images.retain(Option::is_some);
        Ok(images)
    }

    fn named_images(&mut self, name: &str) -> Result<Images, RowError> {
        let Some(value) = fields::get(&self.fields, name) else { return Ok(Vec::new()) };
        let is_bytes = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_number));
        let images = match value {
            Value::Array(images) if !is_bytes(value) => images.iter().map(ImageFile::from_json).collect(),
            value => ImageFile::from_json(value).map(|image| vec![image]),
        };
        let images = images.map_err(|e| format!("the column {name}: {e}"))?;
        self.fields.shift_remove(name);
        Ok(images)
    }

    /// Checks that no image is overlooked because its column has another name.
    fn check_no_other_images(&self) -> Result<(), RowError> {
        let holds_image = |images: &Images| images.iter().flatten().any(|i| i.bytes.as_deref().is_some_and(is_image));
        match self.images.iter().find(|(_, images)| holds_image(images)) {
            Some((name, _)) => {
                let hint = Hint::MapField { field: IMAGES[0].into(), column: Some(name.as_str().into()) };
                Err(RowError::from(format!("the column {name} holds images, but it is not called image or images"))
                    .with_hint(hint))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn images(fields: Value, files: &[(&str, &[u8])]) -> Result<Vec<String>, RowError> {
        let Value::Object(fields) = fields else { panic!("an object") };
        let files = files.iter().map(|(name, bytes)| {
            ((*name).to_owned(), vec![Some(ImageFile::from_bytes(format!("{name}.bin"), bytes.to_vec()))])
        });
        let images = Columns { fields, images: files.collect() }.take_images()?;
        Ok(images.into_iter().map(|image| image.map_or(String::new(), |image| image.path)).collect())
    }

    #[test]
    fn a_null_or_empty_column_hides_no_other() {
        for absent in
            [json!(null), json!(""), json!([]), json!([null]), json!([""]), json!({"bytes": null, "path": null})]
        {
            assert_eq!(images(json!({"image": absent, "images": ["a", "b"]}), &[]).unwrap(), ["a", "b"], "{absent}");
            assert_eq!(images(json!({"image": "a", "images": absent}), &[]).unwrap(), ["a"], "{absent}");
            assert_eq!(images(json!({"image": absent, "images": absent, "file_name": "a"}), &[]).unwrap(), ["a"]);
            assert!(images(json!({"image": absent}), &[]).unwrap().is_empty());
        }
        let empty = BTreeMap::from([("image".to_owned(), Vec::new()), ("images".to_owned(), vec![None])]);
        let Value::Object(fields) = json!({"file_name": "a"}) else { panic!("an object") };
        assert_eq!(Columns { fields, images: empty }.take_images().unwrap(), [Some(ImageFile::from_path("a"))]);
        assert_eq!(images(json!({"images": [null, "a", ""]}), &[]).unwrap(), ["", "a", ""]);
    }

    #[test]
    fn images_in_two_columns_have_to_agree() {
        assert_eq!(images(json!({"image": "a", "images": ["a", "b"]}), &[]).unwrap(), ["a", "b"]);
        assert_eq!(images(json!({"image": "a", "file_name": "x/a"}), &[]).unwrap(), ["a"]);
        assert_eq!(images(json!({"image": "a.jpg"}), &[("image", b"bytes")]).unwrap(), ["image.bin"]);
        let differ = images(json!({"image": "c", "images": ["a", "b"]}), &[]).unwrap_err().cause;
        assert!(differ.contains("two columns, image and images"), "{differ}");
    }

    #[test]
    fn numbered_columns_are_images_in_the_order_of_their_numbers() {
        let row = json!({"image_10": "c", "image_2": "b", "image_1": null, "image_id": "x", "image_3": 7});
        assert_eq!(images(row, &[]).unwrap(), ["b", "c"]);
        assert_eq!(images(json!({"image2": "b"}), &[("image1", b"a")]).unwrap(), ["image1.bin", "b"]);
        assert_eq!(images(json!({"image": "a", "image_1": "b"}), &[]).unwrap(), ["a"]);
    }

    #[test]
    fn images_in_a_column_of_another_name_are_not_overlooked() {
        let png = b"\x89PNG\r\n\x1a\n";
        let error = images(json!({"text": "a"}), &[("picture", png)]).unwrap_err();
        assert_eq!(error.hint, Some(Hint::MapField { field: "image".into(), column: Some("picture".into()) }));
        assert_eq!(images(json!({"image": "a"}), &[("mask", png)]).unwrap(), ["a"]);
        assert!(images(json!({"text": "a"}), &[("embedding", b"1234")]).unwrap().is_empty());
    }
}
