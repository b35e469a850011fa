//! A row as a reader hands it over: columns with images taken out of them, everything else as JSON. Renames columns and
//! finds the row's key and images; knows no schema beyond the names of those.

use super::fields::{self, Fields};
use super::image::{ImageFile, is_image};
use serde_json::Value;
use std::collections::BTreeMap;

/// The columns of images. Where the data set holds files, paths in other columns only say where they came from.
pub(super) const IMAGES: [&str; 3] = ["image", "images", "file_name"];

/// Columns of image files in a table that was an archive, where they had the members' extensions.
const MEMBERS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// A row's columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Columns {
    pub fields: Fields,
    /// Columns of image files; nothing where there is none in a list, and an empty list where the column is null.
    pub images: BTreeMap<String, Vec<Option<ImageFile>>>,
}

/// The images of one column; nothing at the places of a list that have none.
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

    /// Renames columns to the fields they are mapped to.
    pub fn rename(&mut self, mapping: &[(String, String)]) -> Result<(), String> {
        for (field, column) in mapping {
            if let Some(value) = self.fields.shift_remove(column) {
                self.fields.insert(field.clone(), value);
            } else if let Some(images) = self.images.remove(column) {
                self.images.insert(field.clone(), images);
            } else {
                return Err(format!("the row has no column {column} for {field}"));
            }
        }
        Ok(())
    }

    /// Takes the row's images out of it. None are left where no column has one.
    ///
    /// # Errors
    /// A column holds something else; two columns have images, and other ones; or the only images are in a column that no
    /// schema knows.
    pub fn take_images(&mut self) -> Result<Images, String> {
        let there = |images: &Images| images.iter().any(Option::is_some);
        let held = IMAGES.iter().chain(&MEMBERS).filter_map(|name| Some((*name, self.images.remove(*name)?)));
        let mut found: Vec<(&str, Images)> = held.filter(|(_, images)| there(images)).collect();
        if found.is_empty() {
            for name in IMAGES {
                found.push((name, self.named_images(name)?));
            }
            found.retain(|(_, images)| there(images));
        }
        // Tables of what is in a folder name a file as well, and tools add the name to a row that has the image.
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
                Err(format!("the row has images in two columns, {one} and {other}, and they are not the same"))
            }
            (None, Some((_, images))) => Ok(images),
            _ => {
                let images = self.numbered_images()?;
                self.no_unknown_images().map(|()| images)
            }
        }
    }

    /// The images of columns such as `image_1` and `image_2`, by their numbers.
    fn numbered_images(&mut self) -> Result<Images, String> {
        let number = |name: &str| name.strip_prefix("image")?.trim_start_matches('_').parse::<u32>().ok();
        // A number in such a column is a property of the row, and no file.
        let files = self.fields.iter().filter(|(_, value)| value.is_string() || value.is_object());
        let names = self.images.keys().chain(files.map(|(name, _)| name));
        let names: BTreeMap<_, _> = names.filter_map(|name| Some((number(name)?, name.clone()))).collect();
        let mut images = Vec::new();
        for name in names.values() {
            match self.images.remove(name) {
                Some(held) => images.extend(held),
                None => images.extend(self.named_images(name)?),
            }
        }
        images.retain(Option::is_some);
        Ok(images)
    }

    fn named_images(&mut self, name: &str) -> Result<Images, String> {
        let Some(value) = fields::get(&self.fields, name) else { return Ok(Vec::new()) };
        let bytes = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_number));
        let images = match value {
            Value::Array(images) if !bytes(value) => images.iter().map(ImageFile::from_json).collect(),
            value => ImageFile::from_json(value).map(|image| vec![image]),
        };
        let images = images.map_err(|e| format!("the column {name}: {e}"))?;
        self.fields.shift_remove(name);
        Ok(images)
    }

    /// Makes sure that no image is overlooked because of its column's name.
    fn no_unknown_images(&self) -> Result<(), String> {
        let holds_image = |images: &Images| images.iter().flatten().any(|i| i.bytes.as_deref().is_some_and(is_image));
        match self.images.iter().find(|(_, images)| holds_image(images)) {
            Some((name, _)) => Err(format!(
                "the column {name} holds images, and its name is not image or images\nhint: --map image={name}"
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn images(fields: Value, held: &[(&str, &[u8])]) -> Result<Vec<String>, String> {
        let Value::Object(fields) = fields else { panic!("an object") };
        let held = held.iter().map(|(name, bytes)| {
            ((*name).to_owned(), vec![Some(ImageFile::held(format!("{name}.bin"), bytes.to_vec()))])
        });
        let images = Columns { fields, images: held.collect() }.take_images()?;
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
        assert_eq!(Columns { fields, images: empty }.take_images().unwrap(), [Some(ImageFile::named("a"))]);
        assert_eq!(images(json!({"images": [null, "a", ""]}), &[]).unwrap(), ["", "a", ""]);
    }

    #[test]
    fn two_columns_of_images_have_to_agree() {
        assert_eq!(images(json!({"image": "a", "images": ["a", "b"]}), &[]).unwrap(), ["a", "b"]);
        assert_eq!(images(json!({"image": "a", "file_name": "x/a"}), &[]).unwrap(), ["a"]);
        assert_eq!(images(json!({"image": "a.jpg"}), &[("image", b"bytes")]).unwrap(), ["image.bin"]);
        let differ = images(json!({"image": "c", "images": ["a", "b"]}), &[]).unwrap_err();
        assert!(differ.contains("two columns, image and images"), "{differ}");
    }

    #[test]
    fn numbered_columns_are_the_images_by_their_numbers() {
        let row = json!({"image_10": "c", "image_2": "b", "image_1": null, "image_id": "x", "image_3": 7});
        assert_eq!(images(row, &[]).unwrap(), ["b", "c"]);
        assert_eq!(images(json!({"image2": "b"}), &[("image1", b"a")]).unwrap(), ["image1.bin", "b"]);
        assert_eq!(images(json!({"image": "a", "image_1": "b"}), &[]).unwrap(), ["a"]);
    }

    #[test]
    fn images_in_a_column_of_another_name_are_not_overlooked() {
        let png = b"\x89PNG\r\n\x1a\n";
        assert!(images(json!({"text": "a"}), &[("picture", png)]).unwrap_err().contains("hint: --map image=picture"));
        assert_eq!(images(json!({"image": "a"}), &[("mask", png)]).unwrap(), ["a"]);
        assert!(images(json!({"text": "a"}), &[("embedding", b"1234")]).unwrap().is_empty());
    }
}
