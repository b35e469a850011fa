//! An image of a row: where its file is (on disk, in the data set itself, in the row as base64, or behind a link), and
//! its content, which is read only on request and is bounded in size. Decodes nothing, unless the image is redrawn.

use super::fetch::Fetch;
use super::fields::{self, Fields};
use super::lenient::{self, json_type};
use super::redraw::{Redraw, redraw};
use super::row_error::RowError;
pub(super) use crate::objects::IMAGE_FILE_LIMIT;
use crate::objects::Mirror;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sae_core::error::Hint;
use sae_core::path_text;
use sae_core::store::brief;
use serde_json::Value;
use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Keys of an object that describes an image: keys with the content of the file (in base64 or as a list of numbers),
/// keys with a nested description, and keys with a path or link.
const DATA: [&str; 4] = ["bytes", "base64", "b64_json", "data"];
const INNER: [&str; 4] = ["source", "image_url", "input_image", "image"];
const NAMES: [&str; 5] = ["path", "url", "src", "file_name", "filename"];

/// Characters of the shortest text that is considered base64: the smallest GIF has 26 bytes.
const BASE64_MIN: usize = 36;

/// An image of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFile {
    /// The path that the data set gives; empty if it gives none.
    pub path: String,
    /// The location of the file on disk.
    pub file: PathBuf,
    /// The content of the file, if the data set itself holds it.
    pub bytes: Option<Vec<u8>>,
    /// Downloads the image if it is behind a link and links are to be followed.
    pub fetch: Option<Fetch>,
    /// Copies the image from a bucket if its file would be such a copy.
    pub(super) mirror: Option<Mirror>,
    /// The steps by which the image is redrawn when it is read; usually none.
    pub(super) redraw: Vec<Redraw<Self>>,
}

impl ImageFile {
    /// A file that the data set names by a path or link.
    pub(super) fn from_path(path: &str) -> Self {
        Self { path: path.to_owned(), file: PathBuf::new(), bytes: None, fetch: None, mirror: None, redraw: Vec::new() }
    }

    /// A file on disk that no data set names.
    pub(crate) fn from_disk(path: &Path) -> Self {
        Self { file: path.to_path_buf(), ..Self::from_path(&path.display().to_string()) }
    }

    /// A file whose content the data set holds, under the name `path`.
    pub(super) fn from_bytes(path: String, bytes: Vec<u8>) -> Self {
        Self { path, file: PathBuf::new(), bytes: Some(bytes), fetch: None, mirror: None, redraw: Vec::new() }
    }

    /// An image in JSON: a path or link, base64, a list of bytes, or an object with one of these. Nothing if the value
    /// is null or empty.
    ///
    /// # Errors
    /// The value is something else, which the error describes.
    pub(super) fn from_json(value: &Value) -> Result<Option<Self>, String> {
        match value {
            absent if fields::is_absent(absent) => Ok(None),
            Value::String(text) => Self::from_text(text),
            Value::Array(_) => Ok(Some(Self::from_bytes(String::new(), image_data(value)?))),
            Value::Object(image) => Self::from_object(image)?.map(Some).ok_or_else(|| {
                let keys = image.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                format!("expected an image with bytes or a path, found an object with the keys {}", brief(&keys))
            }),
            other => {
                Err(format!("expected an image as a path, base64 or an object of these, found {}", json_type(other)))
            }
        }
    }

    /// The image in an object or in a part of a turn. Nothing if no key holds an image.
    ///
    /// # Errors
    /// A key holds something that is not an image.
    pub(super) fn from_object(image: &Fields) -> Result<Option<Self>, String> {
        let path = fields::first(image, &NAMES).and_then(|(_, path)| path.as_str());
        if let Some((_, content)) = fields::first(image, &DATA) {
            return Ok(Some(Self::from_bytes(path.unwrap_or_default().to_owned(), image_data(content)?)));
        }
        match fields::first(image, &INNER) {
            Some((_, inner)) => Self::from_json(inner),
            None => path.map_or(Ok(None), Self::from_text),
        }
    }

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        if is_data_link(text) || is_bare_base64(text) {
            return Ok(Some(Self::from_bytes(String::new(), base64(text)?)));
        }
        // Tables of text contain lists and objects as JSON.
        let packed = text.starts_with(['{', '[']).then(|| lenient::value(text.as_bytes()).ok()).flatten();
        match packed {
            Some(Value::Array(mut list)) if list.len() == 1 => Self::from_json(&list.remove(0)),
            Some(packed @ Value::Object(_)) => Self::from_json(&packed),
            _ => Ok(Some(Self::from_path(text))),
        }
    }

    /// Determines the location on disk ([`resolve_image_path`]), unless the reader of the file already did, and sets
    /// what downloads the image if it is behind a link.
    pub(super) fn locate(
        &mut self,
        folder: &Path,
        images_root: Option<&Path>,
        fetch: Option<&Fetch>,
        mirror: Option<&Mirror>,
    ) {
        if self.file.as_os_str().is_empty() {
            self.file = resolve_image_path(&self.path, folder, images_root);
        }
        self.fetch = fetch.cloned();
        // A copy has one path, however the row names it.
        if let Some((mirror, url)) = mirror.and_then(|mirror| Some((mirror, mirror.url(&self.file)?))) {
            self.file = mirror.path(&url);
        }
        self.mirror = mirror.cloned();
    }

    /// Reads the content of the file. If the image is redrawn, this is the content of a PNG file.
    ///
    /// # Errors
    /// The reason why it cannot be read.
    pub fn read(&self) -> Result<Cow<'_, [u8]>, RowError> {
        if self.redraw.is_empty() {
            self.read_original()
        } else {
            redraw(&self.redraw, || self.read_original(), Self::read).map(Cow::Owned)
        }
    }

    fn read_original(&self) -> Result<Cow<'_, [u8]>, RowError> {
        if let Some(bytes) = &self.bytes {
            return Ok(Cow::Borrowed(bytes));
        }
        let link = brief(&self.path);
        match self.path.split_once("://") {
            Some(("http" | "https", _)) => match &self.fetch {
                Some(fetch) => Ok(Cow::Owned(fetch.get(&self.path)?)),
                None => Err(RowError::from(format!("the image is behind a link, and links are not followed: {link}"))
                    .with_hint(Hint::FetchImages)),
            },
            Some((scheme, _)) if scheme != "file" => {
                let cause = format!("the image is behind a link of an unsupported kind ({}): {link}", brief(scheme));
                Err(cause.into())
            }
            _ => {
                self.copy()?;
                Ok(Cow::Owned(self.read_file()?))
            }
        }
    }

    /// Copies the file from the bucket that it is in, if it is in one and has not been copied.
    ///
    /// # Errors
    /// The reason why it cannot be copied.
    pub fn copy(&self) -> Result<(), RowError> {
        match &self.mirror {
            Some(mirror) if self.bytes.is_none() => Ok(mirror.copy_small(&self.file)?),
            _ => Ok(()),
        }
    }

    fn read_file(&self) -> Result<Vec<u8>, RowError> {
        let path = || brief(&self.file.display().to_string());
        let failed = |e: std::io::Error| format!("cannot read the image ({e}): {}", path());
        // Checked before opening, because opening and reading a pipe or a device could block forever.
        let meta = std::fs::metadata(&self.file).map_err(failed)?;
        if !meta.is_file() {
            return Err(format!("the image is not a file: {}", path()).into());
        }
        let mut bytes = Vec::new();
        let file = File::open(&self.file).map_err(failed)?;
        file.take(IMAGE_FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > IMAGE_FILE_LIMIT {
            let size = meta.len();
            let cause = format!("the image file has {size} bytes, more than the limit of {IMAGE_FILE_LIMIT}");
            return Err(format!("{cause}: {}", path()).into());
        }
        Ok(bytes)
    }
}

/// The location of an image with a path from a data set. An absolute path is used as it is. A relative path starts at
/// `images_root`, or, if there is no such root, at the folder of the file that names the image.
pub fn resolve_image_path(path: &str, folder: &Path, images_root: Option<&Path>) -> PathBuf {
    let root = images_root.unwrap_or(folder);
    match path.strip_prefix("file://") {
        Some(link) => root.join(percent_decoded(link.strip_prefix("localhost").unwrap_or(link))),
        None => path_text::resolve(root, path),
    }
}

/// The reason why a row is skipped whose image has a format that cannot be decoded.
pub(super) fn unsupported(name: &str) -> RowError {
    RowError::from(format!("unsupported kind of image: {name}")).with_hint(Hint::from("convert it to PNG"))
}

/// Whether a file begins like one of the image formats that can be decoded.
pub(super) fn is_image(file: &[u8]) -> bool {
    match image::guess_format(file) {
        // Two letters are not sufficient evidence. They are followed by the size of the file.
        Ok(image::ImageFormat::Bmp) => file.get(2..6).is_some_and(|size| size == (file.len() as u32).to_le_bytes()),
        found => found.is_ok(),
    }
}

/// The content of an image file that JSON contains.
fn image_data(value: &Value) -> Result<Vec<u8>, String> {
    let byte = |number: &Value| number.as_u64().and_then(|byte| u8::try_from(byte).ok());
    match value {
        Value::String(text) => base64(text),
        Value::Array(numbers) => {
            let bytes: Option<Vec<u8>> = numbers.iter().map(byte).collect();
            bytes
                .filter(|bytes| is_image(bytes))
                .ok_or_else(|| "expected the bytes of an image, found another list".into())
        }
        other => Err(format!("expected the bytes of an image in base64, found {}", json_type(other))),
    }
}

fn is_data_link(text: &str) -> bool {
    text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// Whether a text is the content of an image file in base64, rather than the path that it may look like.
fn is_bare_base64(text: &str) -> bool {
    text.len() >= BASE64_MIN && !text.contains('.') && base64(text).is_ok_and(|bytes| is_image(&bytes))
}

/// Decodes base64 in the variants that occur in data sets: with line breaks, with the alphabet of URLs, without
/// padding, as a `data:` link, and as Python prints bytes.
fn base64(text: &str) -> Result<Vec<u8>, String> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireNone),
    );
    let text = match text.split_once(',').filter(|_| is_data_link(text)) {
        Some((head, packed)) if head.to_ascii_lowercase().ends_with(";base64") => Cow::Owned(percent_decoded(packed)),
        Some(_) => return Err("the image in a data: link is not in base64".into()),
        None => Cow::Borrowed(text),
    };
    let text = text.trim();
    let text = text.strip_prefix("b'").and_then(|text| text.strip_suffix('\'')).unwrap_or(text);
    let letters = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let mut letters: Vec<u8> = letters
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => byte,
        })
        .collect();
    letters.truncate(letters.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1));
    LENIENT.decode(&letters).map_err(|e| format!("the bytes of an image are not valid base64 ({e})"))
}

/// Decodes escapes such as `%41` in a link. Everything else stays as it is.
fn percent_decoded(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, following @ ..] = rest {
        let coded = following.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        match coded.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &following[2..];
            }
            None => {
                bytes.push(*first);
                rest = following;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn from_json(value: Value) -> Result<ImageFile, String> {
        ImageFile::from_json(&value).map(|image| image.unwrap())
    }

    /// The beginning of a PNG file, long enough to be distinguished from a path.
    fn png() -> Vec<u8> {
        [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &[0xfb, 0xef, 0xff, 0xfe, 0x00].repeat(20)].concat()
    }

    #[test]
    fn images_in_json_are_paths_or_base64() {
        assert_eq!(from_json(json!("a/b.png")).unwrap().path, "a/b.png");
        let image = from_json(json!({"bytes": "AQID", "path": "b.png"})).unwrap();
        assert_eq!((image.path.as_str(), image.read().unwrap().as_ref()), ("b.png", &[1, 2, 3][..]));
        let link = from_json(json!({"url": "data:image/png;base64,AQID"})).unwrap();
        assert_eq!(link.read().unwrap().as_ref(), [1, 2, 3]);
        for bad in
            [json!(7), json!({"type": "image"}), json!({"bytes": "!"}), json!("data:image/svg,<svg/>"), json!([1, 2])]
        {
            assert!(from_json(bad.clone()).is_err(), "{bad}");
        }
        assert_eq!(ImageFile::from_json(&json!({"bytes": null, "path": ""})).unwrap(), None);
    }

    #[test]
    fn base64_is_read_in_all_its_variants() {
        let standard = base64::engine::general_purpose::STANDARD.encode(png());
        assert!(standard.contains(['+', '/']) && standard.ends_with('='));
        let lines = standard.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>();
        let texts = [
            standard.clone(),
            lines.join("\n"),
            lines.join("\r\n") + "\r\n",
            standard.replace('+', "-").replace('/', "_"),
            standard.trim_end_matches('=').to_owned(),
            format!("b'{standard}'"),
            format!("data:image/png;base64,{standard}"),
            format!("DATA:image/png;charset=utf-8;base64,{}", lines.join("\n")),
            format!("data:image/png;base64,{}", standard.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D")),
        ];
        for text in texts {
            let shapes = [
                json!(text),
                json!({"bytes": text}),
                json!({"base64": text}),
                json!({"type": "base64", "media_type": "image/png", "data": text}),
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": text}}),
                json!({"type": "image_url", "image_url": {"url": text}}),
                json!({"type": "input_image", "image_url": text}),
                json!(json!([text]).to_string()),
                json!(json!({"bytes": text, "path": null}).to_string()),
            ];
            for shape in shapes {
                assert_eq!(from_json(shape.clone()).unwrap().bytes, Some(png()), "{shape}");
            }
        }
        for numbers in [json!(png()), json!({"bytes": png()})] {
            assert_eq!(from_json(numbers).unwrap().bytes, Some(png()));
        }
        let path = "train2014/COCO/images/with/a/long/name/and/no/extension/000000000009";
        assert_eq!(from_json(json!(path)).unwrap().path, path);
    }

    #[test]
    fn links_and_paths_that_are_not_files_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &str| {
            let mut image = ImageFile::from_path(path);
            image.locate(dir.path(), None, None, None);
            image.read().unwrap_err()
        };
        let reason = |path: &str| error(path).cause;
        assert_eq!(error("https://example.org/a.png").hint, Some(Hint::FetchImages));
        assert!(reason("s3://bucket/a.png").contains("(s3)"));
        let missing = reason("missing.png");
        assert!(missing.contains("cannot read the image") && missing.contains(&dir.path().display().to_string()));
        assert!(reason("").contains("not a file"));
        assert!(reason(&"x".repeat(1 << 20)).len() < 300);
    }

    #[test]
    fn a_relative_path_starts_at_the_images_root_or_at_the_folder_of_its_file() {
        let resolve =
            |path: &str, root: Option<&str>| resolve_image_path(path, Path::new("/data/a"), root.map(Path::new));
        assert_eq!(resolve("b/c.png", None), Path::new("/data/a/b/c.png"));
        assert_eq!(resolve("b/c.png", Some("/images")), Path::new("/images/b/c.png"));
        assert_eq!(resolve("/d/c.png", Some("/images")), Path::new("/d/c.png"));
        assert_eq!(resolve("file:///d/a%20b.png", Some("/images")), Path::new("/d/a b.png"));
    }
}
