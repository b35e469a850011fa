//! An image of a row: where its file is - on disk, in the data set itself, in the row as base64, behind a link - and its
//! bytes when they are asked for, bounded. Decodes nothing, unless the image is to be drawn anew.

use super::fetch::Fetch;
use super::fields::{self, Fields};
use super::lenient::{self, json_type};
use super::redraw::{Redraw, redraw};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sae_core::path_text;
use sae_core::store::brief;
use serde_json::Value;
use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of the largest image file that is read.
pub(super) const IMAGE_FILE_LIMIT: u64 = 1 << 28;

/// Keys of an object that hold the image's file, in base64 or as a list of numbers; then keys that hold a description of
/// it, and keys that hold its path or link.
const DATA: [&str; 4] = ["bytes", "base64", "b64_json", "data"];
const INNER: [&str; 4] = ["source", "image_url", "input_image", "image"];
const NAMES: [&str; 5] = ["path", "url", "src", "file_name", "filename"];

/// Characters of the shortest text that is taken for base64: the smallest GIF has 26 bytes.
const BARE: usize = 36;

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

    /// An image in JSON: a path or link, base64, a list of bytes, or an object that has one of them. None if the value is
    /// null or empty.
    ///
    /// # Errors
    /// The value is something else; the message says what.
    pub(super) fn from_json(value: &Value) -> Result<Option<Self>, String> {
        match value {
            absent if fields::is_absent(absent) => Ok(None),
            Value::String(text) => Self::from_text(text),
            Value::Array(_) => Ok(Some(Self::held(String::new(), data(value)?))),
            Value::Object(image) => Self::of_object(image)?.map(Some).ok_or_else(|| {
                let keys = image.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                format!("an image has neither bytes nor a path (it has {})", brief(&keys))
            }),
            other => {
                Err(format!("expected the path of an image, base64 or an object of these, found {}", json_type(other)))
            }
        }
    }

    /// The image in an object, or in a part of a turn; none if no key of it holds one.
    ///
    /// # Errors
    /// What a key holds is no image.
    pub(super) fn of_object(image: &Fields) -> Result<Option<Self>, String> {
        let path = fields::first(image, &NAMES).and_then(|(_, path)| path.as_str());
        if let Some((_, held)) = fields::first(image, &DATA) {
            return Ok(Some(Self::held(path.unwrap_or_default().to_owned(), data(held)?)));
        }
        match fields::first(image, &INNER) {
            Some((_, inner)) => Self::from_json(inner),
            None => path.map_or(Ok(None), Self::from_text),
        }
    }

    fn from_text(text: &str) -> Result<Option<Self>, String> {
        if is_data_link(text) || is_bare_base64(text) {
            return Ok(Some(Self::held(String::new(), base64(text)?)));
        }
        // Tables of text hold lists and objects as JSON.
        let packed = text.starts_with(['{', '[']).then(|| lenient::value(text.as_bytes()).ok()).flatten();
        match packed {
            Some(Value::Array(mut list)) if list.len() == 1 => Self::from_json(&list.remove(0)),
            Some(packed @ Value::Object(_)) => Self::from_json(&packed),
            _ => Ok(Some(Self::named(text))),
        }
    }

    /// Finds its place on disk ([`image_place`]), unless the reader of its file knows it; and what follows it if it is a
    /// link.
    pub(super) fn place(&mut self, folder: &Path, images_root: Option<&Path>, fetch: Option<&Fetch>) {
        if self.file.as_os_str().is_empty() {
            self.file = image_place(&self.path, folder, images_root);
        }
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
        let link = brief(&self.path);
        match self.path.split_once("://") {
            Some(("http" | "https", _)) => match &self.fetch {
                Some(fetch) => fetch.get(&self.path).map(Cow::Owned),
                None => Err(format!("the image is a link: {link}\nhint: --fetch-images follows links")),
            },
            Some((scheme, _)) if scheme != "file" => {
                Err(format!("the image is a link of a kind that is not followed ({}): {link}", brief(scheme)))
            }
            _ => self.read_file().map(Cow::Owned),
        }
    }

    fn read_file(&self) -> Result<Vec<u8>, String> {
        let place = || brief(&self.file.display().to_string());
        let failed = |e: std::io::Error| format!("cannot read the image ({e}): {}", place());
        // A pipe or a device would be opened before it could be told from a file, and read for ever.
        let meta = std::fs::metadata(&self.file).map_err(failed)?;
        if !meta.is_file() {
            return Err(format!("the image is not a file: {}", place()));
        }
        let mut bytes = Vec::new();
        let file = File::open(&self.file).map_err(failed)?;
        file.take(IMAGE_FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
        match bytes.len() as u64 > IMAGE_FILE_LIMIT {
            true => Err(format!("the image file has {} bytes: {}", meta.len(), place())),
            false => Ok(bytes),
        }
    }
}

/// Where the path of an image leads: an absolute one to itself, a relative one from `images_root`, or from the folder of
/// the file that names it where there is no such root.
pub fn image_place(path: &str, folder: &Path, images_root: Option<&Path>) -> PathBuf {
    let root = images_root.unwrap_or(folder);
    match path.strip_prefix("file://") {
        Some(link) => root.join(percent_decoded(link.strip_prefix("localhost").unwrap_or(link))),
        None => path_text::resolve(root, path),
    }
}

/// Whether a file begins as one of the formats that are decoded.
pub(super) fn is_image(file: &[u8]) -> bool {
    match image::guess_format(file) {
        // Two letters are no proof: the file's size comes behind them.
        Ok(image::ImageFormat::Bmp) => file.get(2..6).is_some_and(|size| size == (file.len() as u32).to_le_bytes()),
        found => found.is_ok(),
    }
}

/// The bytes of an image that JSON holds.
fn data(value: &Value) -> Result<Vec<u8>, String> {
    let byte = |number: &Value| number.as_u64().and_then(|byte| u8::try_from(byte).ok());
    match value {
        Value::String(text) => base64(text),
        Value::Array(numbers) => {
            let bytes: Option<Vec<u8>> = numbers.iter().map(byte).collect();
            bytes
                .filter(|bytes| is_image(bytes))
                .ok_or_else(|| "an image is a list that is not the bytes of one".into())
        }
        other => Err(format!("expected an image's bytes in base64, found {}", json_type(other))),
    }
}

fn is_data_link(text: &str) -> bool {
    text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// Whether a text is an image's file in base64, and not the path that it may look like.
fn is_bare_base64(text: &str) -> bool {
    text.len() >= BARE && !text.contains('.') && base64(text).is_ok_and(|bytes| is_image(&bytes))
}

/// Decodes base64 as people write it: with line breaks, with the letters of URLs, without padding, as a `data:` link, as
/// Python prints bytes.
fn base64(text: &str) -> Result<Vec<u8>, String> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireNone),
    );
    let text = match text.split_once(',').filter(|_| is_data_link(text)) {
        Some((head, packed)) if head.to_ascii_lowercase().ends_with(";base64") => Cow::Owned(percent_decoded(packed)),
        Some(_) => return Err("an image in a data: link is not in base64".into()),
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
    LENIENT.decode(&letters).map_err(|e| format!("an image's bytes are not base64 ({e})"))
}

/// A text whose `%41` stand for bytes, as in links. What is not written so stays.
fn percent_decoded(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, behind @ ..] = rest {
        let coded = behind.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        match coded.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
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

    /// The smallest PNG file's head, long enough to be told from a path.
    fn png() -> Vec<u8> {
        [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &[0xfb, 0xef, 0xff, 0xfe, 0x00].repeat(20)].concat()
    }

    #[test]
    fn images_in_json_are_paths_or_base64() {
        assert_eq!(from_json(json!("a/b.png")).unwrap().path, "a/b.png");
        let held = from_json(json!({"bytes": "AQID", "path": "b.png"})).unwrap();
        assert_eq!((held.path.as_str(), held.read().unwrap().as_ref()), ("b.png", &[1, 2, 3][..]));
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
    fn base64_is_read_as_people_write_it() {
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
    fn links_and_what_is_no_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let reason = |path: &str| {
            let mut image = ImageFile::named(path);
            image.place(dir.path(), None, None);
            image.read().unwrap_err()
        };
        assert!(reason("https://example.org/a.png").contains("hint: --fetch-images"));
        assert!(reason("s3://bucket/a.png").contains("(s3)"));
        let missing = reason("missing.png");
        assert!(missing.contains("cannot read the image") && missing.contains(&dir.path().display().to_string()));
        assert!(reason("").contains("not a file"));
        assert!(reason(&"x".repeat(1 << 20)).len() < 300);
    }

    #[test]
    fn an_image_is_found_from_the_images_root_or_from_its_file() {
        let place = |path: &str, root: Option<&str>| image_place(path, Path::new("/data/a"), root.map(Path::new));
        assert_eq!(place("b/c.png", None), Path::new("/data/a/b/c.png"));
        assert_eq!(place("b/c.png", Some("/images")), Path::new("/images/b/c.png"));
        assert_eq!(place("/d/c.png", Some("/images")), Path::new("/d/c.png"));
        assert_eq!(place("file:///d/a%20b.png", Some("/images")), Path::new("/d/a b.png"));
    }
}
