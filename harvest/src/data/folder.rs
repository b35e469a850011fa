//! A folder of images with their descriptions: `key.jpg` next to `key.txt` (a caption) or `key.json` (columns). Every
//! image is a row.

use super::columns::Columns;
use super::file_kind::FileKind;
use super::image::ImageFile;
use super::row::FileRows;
use super::row_error::RowError;
use super::{lenient, text};
use crate::Result;
use sae_core::path_text;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Size of the longest caption in bytes.
pub(super) const CAPTION_LIMIT: u64 = 1 << 20;

/// Extensions of files that may describe an image of the same name.
pub(super) const SIDECARS: [&str; 2] = ["txt", "json"];

/// Reads the only row of an image.
pub(super) fn row(path: &Path) -> Result<FileRows> {
    Ok(Box::new(std::iter::once(Ok(columns(path)))))
}

fn columns(path: &Path) -> Result<Columns, RowError> {
    let name = path_text::encode(Path::new(path.file_name().unwrap_or_default()));
    if FileKind::from_path(path) == FileKind::OtherImage {
        return Err(super::image::unsupported(&name));
    }
    let [caption, json] = SIDECARS.map(|extension| sidecar(path, extension));
    if caption.is_none() && json.is_none() {
        let expected = SIDECARS.map(|extension| format!("KEY.{extension}")).join(" or ");
        return Err(format!("expected {expected} next to the image {name}, found neither").into());
    }
    let mut columns = Columns::default();
    if let Some(path) = json {
        columns.fields = lenient::object(read(&path)?.as_bytes()).map_err(in_file(&path))?;
    }
    if let Some(path) = caption {
        columns.fields.insert("text".into(), read(&path)?.trim().into());
    }
    let key = path_text::encode(Path::new(path.file_stem().unwrap_or_default()));
    columns.fields.entry("key").or_insert(Value::from(key));
    let image = ImageFile { file: path.to_path_buf(), ..ImageFile::from_path(&name) };
    columns.images.insert("image".into(), vec![Some(image)]);
    Ok(columns)
}

/// The file next to an image with the same name and this extension.
fn sidecar(image: &Path, extension: &str) -> Option<PathBuf> {
    let cases = [extension.to_owned(), extension.to_ascii_uppercase()];
    cases.iter().map(|extension| image.with_extension(OsStr::new(extension))).find(|path| path.is_file())
}

fn read(path: &Path) -> Result<String, RowError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(CAPTION_LIMIT + 1).read_to_end(&mut bytes));
    read.map_err(|e| in_file(path)(e.to_string()))?;
    if bytes.len() as u64 > CAPTION_LIMIT {
        return Err(in_file(path)(format!("the text is longer than {CAPTION_LIMIT} bytes")).into());
    }
    Ok(text::decode(bytes).map_err(in_file(path))?)
}

fn in_file(path: &Path) -> impl Fn(String) -> String {
    let name = path_text::encode(Path::new(path.file_name().unwrap_or_default()));
    move |reason| format!("{reason}, in the file next to the image: {name}")
}
