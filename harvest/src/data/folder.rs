//! A folder of pictures with what is said about them: `key.jpg` beside `key.txt` (a caption) or `key.json` (columns).
//! Every picture is a row.

use super::columns::Columns;
use super::image::ImageFile;
use super::source::FileRows;
use crate::Result;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of the longest caption.
pub(super) const CAPTION_LIMIT: u64 = 1 << 20;

/// Whether a file's name is one of a picture.
pub(super) fn is_image(path: &Path) -> bool {
    let known = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];
    path.extension().is_some_and(|extension| known.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// The one row of a picture.
pub(super) fn row(path: &Path) -> Result<FileRows> {
    Ok(Box::new(std::iter::once(Ok(columns(path)))))
}

fn columns(path: &Path) -> Result<Columns, String> {
    let (caption, json) = (path.with_extension("txt"), path.with_extension("json"));
    let mut fields = Map::new();
    if json.is_file() {
        match serde_json::from_str(&text(&json)?) {
            Ok(Value::Object(found)) => fields = found,
            Ok(_) => return Err(format!("the file beside the picture is no JSON object: {}", json.display())),
            Err(e) => return Err(format!("the file beside the picture is no JSON ({e}): {}", json.display())),
        }
    }
    if caption.is_file() || fields.is_empty() {
        fields.insert("text".into(), text(&caption)?.trim().into());
    }
    let key = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    fields.entry("key").or_insert(Value::from(key));
    let image = ImageFile::named(&path.file_name().unwrap_or_default().to_string_lossy());
    Ok(Columns { fields, images: [("image".to_owned(), vec![Some(image)])].into() })
}

fn text(path: &Path) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("cannot read what is said about the picture ({e}): {}", path.display());
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(CAPTION_LIMIT + 1).read_to_string(&mut text));
    read.map_err(failed)?;
    match text.len() as u64 > CAPTION_LIMIT {
        true => Err(format!("the text is longer than {CAPTION_LIMIT} bytes: {}", path.display())),
        false => Ok(text),
    }
}
