//! An image of a row: where its file is - on disk, in the data set itself, in the row as base64, behind a link - and its
//! bytes when they are asked for, bounded. Decodes nothing, unless the image is to be drawn anew.

use super::fetch::Fetch;
use super::redraw::{Redraw, redraw};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of the largest image file that is read.
pub(super) const IMAGE_FILE_LIMIT: u64 = 1 << 28;

/// An image of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFile {
    /// The path that the data set gives it; empty if it gives none.
    pub path: String,
    /// Where that is.
    pub file: PathBuf,
    /// The file itself, where the data set holds it.
    pub bytes: Option<Vec<u8>>,
    /// What follows links, if they are to be followed.
    pub fetch: Option<Fetch>,
    /// How it is drawn anew when it is read, step by step; usually not at all.
    pub(super) redraw: Vec<Redraw>,
}

impl ImageFile {
    /// A file that the data set names.
    pub(super) fn named(path: &str) -> Self {
        Self { path: path.to_owned(), file: PathBuf::new(), bytes: None, fetch: None, redraw: Vec::new() }
    }

    /// A file on disk that no data set names.
    pub(crate) fn on_disk(path: &Path) -> Self {
        Self { file: path.to_path_buf(), ..Self::named(&path.display().to_string()) }
    }

    /// A file that the data set holds; `path` is what it calls it.
    pub(super) fn held(path: String, bytes: Vec<u8>) -> Self {
        Self { path, file: PathBuf::new(), bytes: Some(bytes), fetch: None, redraw: Vec::new() }
    }

    /// An image in JSON: a path or link, or Hugging Face's object of `bytes` (base64 there) and `path`.
    pub(super) fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(path) => Self::from_text(path),
            Value::Object(image) => {
                let text = |name: &str| image.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
                let path = ["path", "url", "src"].iter().find_map(|name| text(name));
                match (text("bytes"), path) {
                    (Some(bytes), path) => Ok(Self::held(path.unwrap_or_default().to_owned(), decode(bytes)?)),
                    (None, Some(path)) => Self::from_text(path),
                    (None, None) => Err("an image has neither bytes nor a path".into()),
                }
            }
            _ => Err("an image is neither a path nor an object of bytes and path".into()),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let Some(data) = text.strip_prefix("data:") else { return Ok(Self::named(text)) };
        let packed = data.split_once(";base64,").ok_or("an image in a data: link is not in base64")?;
        Ok(Self::held(String::new(), decode(packed.1)?))
    }

    /// Its place on disk, where paths are relative to `folder`; what follows it if it is a link.
    pub(super) fn place(&mut self, folder: &Path, fetch: Option<&Fetch>) {
        self.file = folder.join(self.path.strip_prefix("file://").unwrap_or(&self.path));
        self.fetch = fetch.cloned();
    }

    /// The file's bytes; of an image that is drawn anew, those of a PNG file.
    ///
    /// # Errors
    /// Why they cannot be had.
    pub fn read(&self) -> Result<Cow<'_, [u8]>, String> {
        match self.redraw.is_empty() {
            true => self.original(),
            false => redraw(&self.redraw, || self.original()).map(Cow::Owned),
        }
    }

    fn original(&self) -> Result<Cow<'_, [u8]>, String> {
        if let Some(bytes) = &self.bytes {
            return Ok(Cow::Borrowed(bytes));
        }
        match self.path.split_once("://") {
            Some(("http" | "https", _)) => match &self.fetch {
                Some(fetch) => fetch.get(&self.path).map(Cow::Owned),
                None => Err(format!("the image is a link: {}\nhint: --fetch-images follows links", self.path)),
            },
            Some((scheme, _)) if scheme != "file" => {
                Err(format!("the image is a link of a kind that is not followed ({scheme}): {}", self.path))
            }
            _ => self.read_file().map(Cow::Owned),
        }
    }

    fn read_file(&self) -> Result<Vec<u8>, String> {
        let failed = |e: std::io::Error| format!("cannot read the image ({e}): {}", self.path);
        // A pipe or a device would be opened before it could be told from a file, and read for ever.
        let meta = std::fs::metadata(&self.file).map_err(failed)?;
        if !meta.is_file() {
            return Err(format!("the image is no file: {}", self.path));
        }
        let mut bytes = Vec::new();
        let file = File::open(&self.file).map_err(failed)?;
        file.take(IMAGE_FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
        match bytes.len() as u64 > IMAGE_FILE_LIMIT {
            true => Err(format!("the image file has {} bytes: {}", meta.len(), self.path)),
            false => Ok(bytes),
        }
    }
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text.trim()).map_err(|e| format!("an image's bytes are no base64 ({e})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn images_in_json_are_paths_or_base64() {
        assert_eq!(ImageFile::from_json(&json!("a/b.png")).unwrap().path, "a/b.png");
        let held = ImageFile::from_json(&json!({"bytes": "AQID", "path": "b.png"})).unwrap();
        assert_eq!((held.path.as_str(), held.read().unwrap().as_ref()), ("b.png", &[1, 2, 3][..]));
        let link = ImageFile::from_json(&json!({"url": "data:image/png;base64,AQID"})).unwrap();
        assert_eq!(link.read().unwrap().as_ref(), [1, 2, 3]);
        for bad in [json!(7), json!({}), json!({"bytes": "!"}), json!("data:image/svg,<svg/>")] {
            assert!(ImageFile::from_json(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_and_what_is_no_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let reason = |path: &str| {
            let mut image = ImageFile::named(path);
            image.place(dir.path(), None);
            image.read().unwrap_err()
        };
        assert!(reason("https://example.org/a.png").contains("hint: --fetch-images"));
        assert!(reason("s3://bucket/a.png").contains("(s3)"));
        assert!(reason("missing.png").contains("cannot read the image"));
        assert!(reason("").contains("no file"));
    }
}
