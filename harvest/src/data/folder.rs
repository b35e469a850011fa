//! A folder of images with what is said about them: `key.jpg` beside `key.txt` (a caption) or `key.json` (columns).
//! Every image is a row.

use super::columns::Columns;
use super::file_kind::FileKind;
use super::image::ImageFile;
use super::source::FileRows;
use super::{lenient, text};
use crate::Result;
use sae_core::path_text;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of the longest caption.
pub(super) const CAPTION_LIMIT: u64 = 1 << 20;

/// Extensions of what may stand beside an image.
pub(super) const SIDECARS: [&str; 2] = ["txt", "json"];

/// The one row of an image.
pub(super) fn row(path: &Path) -> Result<FileRows> {
    Ok(Box::new(std::iter::once(Ok(columns(path)))))
}

fn columns(path: &Path) -> Result<Columns, String> {
    let name = path_text::encode(Path::new(path.file_name().unwrap_or_default()));
    if FileKind::from_path(path) == FileKind::OtherImage {
        return Err(format!("images of this kind are not read: {name}\nhint: convert them to PNG"));
    }
    let [caption, json] = SIDECARS.map(|extension| beside(path, extension));
    if caption.is_none() && json.is_none() {
        return Err(format!("no {} is beside the image: {name}", SIDECARS.map(|e| format!("KEY.{e}")).join(" or ")));
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
    let image = ImageFile { file: path.to_path_buf(), ..ImageFile::named(&name) };
    columns.images.insert("image".into(), vec![Some(image)]);
    Ok(columns)
}

/// The file beside an image that has the same name and this extension.
fn beside(image: &Path, extension: &str) -> Option<PathBuf> {
    let cases = [extension.to_owned(), extension.to_ascii_uppercase()];
    cases.iter().map(|extension| image.with_extension(OsStr::new(extension))).find(|path| path.is_file())
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(CAPTION_LIMIT + 1).read_to_end(&mut bytes));
    read.map_err(|e| in_file(path)(e.to_string()))?;
    match bytes.len() as u64 > CAPTION_LIMIT {
        true => Err(in_file(path)(format!("the text is longer than {CAPTION_LIMIT} bytes"))),
        false => text::decode(bytes).map_err(in_file(path)),
    }
}

fn in_file(path: &Path) -> impl Fn(String) -> String {
    let name = path_text::encode(Path::new(path.file_name().unwrap_or_default()));
    move |reason| format!("{reason} in the file beside the image: {name}")
}
