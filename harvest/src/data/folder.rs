//! A folder of pictures with captions: `key.jpg` beside `key.txt`. Every picture is a row.

use super::record::{Columns, ImageFile};
use super::source::FileRows;
use crate::Result;
use serde_json::{Map, Value};
use std::path::Path;

/// Bytes of the longest caption.
const CAPTION_LIMIT: u64 = 1 << 20;

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
    let caption = path.with_extension("txt");
    let failed = |e: std::io::Error| format!("cannot read the caption {} ({e})", caption.display());
    let size = std::fs::metadata(&caption).map_err(failed)?.len();
    if size > CAPTION_LIMIT {
        return Err(format!("the caption has {size} bytes"));
    }
    let text = std::fs::read_to_string(&caption).map_err(failed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let key = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let image = ImageFile { path: name, file: path.to_path_buf(), bytes: None };
    Ok(Columns {
        fields: Map::from_iter([("key".to_owned(), Value::from(key)), ("text".to_owned(), text.trim().into())]),
        images: [("image".to_owned(), vec![image])].into(),
    })
}
