//! Images of rows on their way: read and compared with what was harvested, then copied beside the rows, put inside, or
//! referred to where they lie. Decodes nothing.

use super::stage::put_file;
use crate::{Error, Result};
use sae_core::error::{Cause, Hint, Setting};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Bytes of the largest image file that is read; the harvest reads none that are larger.
const LIMIT: u64 = 1 << 28;

/// An image of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The path or link by which the data set names it; empty if the data set holds the image itself without a name.
    pub name: PathBuf,
    /// Where it lies, if it is a file of its own.
    pub file: PathBuf,
    /// Where it lies below the data set's folder, if it lies there (see [`below`]).
    pub inside: Option<PathBuf>,
    /// Its bytes, if the data set holds them.
    pub bytes: Option<Vec<u8>>,
    /// Hex SHA-256 of its bytes when it was harvested.
    pub sha256: String,
}

impl Image {
    /// Its bytes.
    ///
    /// # Errors
    /// The file cannot be read, or is another than the one that was harvested.
    pub fn read(&self) -> Result<Cow<'_, [u8]>> {
        let bytes = match &self.bytes {
            Some(bytes) => Cow::Borrowed(&bytes[..]),
            None => Cow::Owned(self.read_file()?),
        };
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        match found == self.sha256 {
            true => Ok(bytes),
            false => Err(self.error("the image has changed since it was harvested (SHA-256 differs)")),
        }
    }

    fn is_link(&self) -> bool {
        self.bytes.is_none() && self.name.to_string_lossy().contains("://")
    }

    fn read_file(&self) -> Result<Vec<u8>> {
        if self.is_link() {
            let hint = Hint::set(Setting::Images, "reference");
            return Err(self.error(Cause::with_hint("the image is a link, which is not followed", hint)));
        }
        let failed = |source| sae_core::Error::io("read", &self.file)(source);
        if !std::fs::metadata(&self.file).map_err(failed)?.is_file() {
            return Err(self.error("the image is not a file"));
        }
        let mut bytes = Vec::new();
        let file = File::open(&self.file).map_err(failed)?;
        file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
        match bytes.len() as u64 > LIMIT {
            true => Err(self.error("the image is larger than 256 MiB")),
            false => Ok(bytes),
        }
    }

    fn error(&self, cause: impl Into<Cause>) -> Error {
        let path = if self.bytes.is_some() || self.is_link() { &self.name } else { &self.file };
        Error::source(path, cause)
    }

    /// Its place below the data set's folder, if it is a file there.
    fn inside(&self) -> Option<&Path> {
        self.inside.as_deref().filter(|_| self.bytes.is_none() && !self.is_link())
    }
}

/// Where a file lies below a folder, by their names alone: `a/../b.png` is `b.png`. `None` if the path leads out of the
/// folder or names no file in it.
pub fn below(folder: &Path, file: &Path) -> Option<PathBuf> {
    let plain = |path: &Path| {
        let mut plain = PathBuf::new();
        for component in path.components() {
            match component {
                Component::CurDir => {}
                Component::ParentDir if plain.file_name().is_some() => drop(plain.pop()),
                other => plain.push(other),
            }
        }
        plain
    };
    let (folder, file) = (plain(folder), plain(file));
    let inside = file.strip_prefix(&folder).ok()?;
    let named = inside.file_name().is_some() && inside.components().all(|c| matches!(c, Component::Normal(_)));
    named.then(|| inside.to_path_buf())
}

/// Whether a path stays inside the folder that it is relative to.
pub(super) fn is_inside(path: &Path) -> bool {
    let plain = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    plain && path.file_name().is_some()
}

/// The extension of an image file: by its first bytes, else by its name.
pub(super) fn extension<'a>(bytes: &[u8], name: &'a Path) -> Cow<'a, str> {
    let known: [(&[u8], &str); 4] =
        [(b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpg"), (b"GIF8", "gif"), (b"BM", "bmp")];
    let found = known.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, extension)| *extension);
    let webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    if let Some(extension) = found.or(webp.then_some("webp")) {
        return extension.into();
    }
    let named = name.extension().and_then(|extension| extension.to_str());
    let plain = named.filter(|name| name.len() <= 8 && name.bytes().all(|b| b.is_ascii_alphanumeric()));
    plain.map_or("bin".into(), |extension| extension.to_ascii_lowercase().into())
}

/// What becomes of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Images {
    /// They come along.
    #[default]
    Copy,
    /// They stay where they lie, and rows say where.
    Reference,
}

impl std::str::FromStr for Images {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "copy" => Ok(Self::Copy),
            "reference" => Ok(Self::Reference),
            _ => Err(format!("images cannot be {name}: copy or reference")),
        }
    }
}

/// Carries images into a folder, each once.
pub(super) struct ImageOutput {
    out: PathBuf,
    how: Images,
    placed: BTreeSet<PathBuf>,
    inside: u64,
    left_behind: BTreeSet<PathBuf>,
}

impl ImageOutput {
    pub fn new(out: &Path, how: Images) -> Self {
        Self { out: out.to_path_buf(), how, placed: BTreeSet::new(), inside: 0, left_behind: BTreeSet::new() }
    }

    /// How many came along.
    pub fn carried(&self) -> u64 {
        self.placed.len() as u64 + self.inside
    }

    /// The images that rows name and that did not come along, since no copy could lie where the rows look for it.
    pub fn left_behind(&self) -> &BTreeSet<PathBuf> {
        &self.left_behind
    }

    /// Copies the image to where a row that is copied word for word will look for it. A row that names an absolute place, or
    /// one outside the data set's folder, will look there, and the image is left behind.
    pub fn along(&mut self, image: &Image) -> Result<()> {
        if self.how == Images::Reference || image.bytes.is_some() || image.is_link() {
            return Ok(());
        }
        match image.inside().filter(|_| !names_a_fixed_place(&image.name)) {
            Some(name) if self.placed.contains(name) => {}
            Some(name) => self.put(name.to_path_buf(), &image.read()?)?,
            None => {
                image.read()?;
                self.left_behind.insert(image.name.clone());
            }
        }
        Ok(())
    }

    /// Where rows find the image: a path relative to the folder if it is copied, else where it lies.
    pub fn place(&mut self, image: &Image) -> Result<String> {
        if self.how == Images::Reference {
            return where_it_lies(image);
        }
        // A name that is not UTF-8 has no place in a text.
        let inside = image.inside().filter(|name| name.to_str().is_some());
        if let Some(name) = inside.filter(|name| self.placed.contains(*name)) {
            return Ok(slashed(name));
        }
        let bytes = image.read()?;
        let name = inside.map_or_else(|| Path::new("images").join(self.name_of(image, &bytes)), Path::to_path_buf);
        let text = slashed(&name);
        self.put(name, &bytes)?;
        Ok(text)
    }

    fn put(&mut self, name: PathBuf, bytes: &[u8]) -> Result<()> {
        let path = self.out.join(&name);
        if self.placed.insert(name) { put_file(&path, bytes) } else { Ok(()) }
    }

    /// The image's bytes, to be put inside, and a name; no bytes but its place if it stays where it is.
    pub fn embed(&mut self, image: &Image) -> Result<(Option<Vec<u8>>, String)> {
        if self.how == Images::Reference {
            return Ok((None, where_it_lies(image)?));
        }
        let bytes = image.read()?.into_owned();
        self.inside += 1;
        let name = match image.name.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => self.name_of(image, &bytes),
        };
        Ok((Some(bytes), name))
    }

    /// A name after its content.
    fn name_of(&self, image: &Image, bytes: &[u8]) -> String {
        format!("{}.{}", &image.sha256[..16], extension(bytes, &image.name))
    }
}

/// Whether a path means the same wherever the row that names it lies.
fn names_a_fixed_place(name: &Path) -> bool {
    name.is_absolute() || name.as_os_str().as_encoded_bytes().starts_with(b"file://")
}

fn where_it_lies(image: &Image) -> Result<String> {
    if image.bytes.is_some() {
        let hint = Hint::set(Setting::Images, "copy");
        return Err(Error::request(Cause::with_hint("the data set holds its images itself", hint)));
    }
    if image.is_link() {
        return Ok(image.name.display().to_string());
    }
    let place = image.file.canonicalize().map_err(sae_core::Error::io("find", &image.file))?;
    Ok(place.display().to_string())
}

/// A relative path with slashes, as data sets write it.
fn slashed(path: &Path) -> String {
    let names = path.components().filter(|c| matches!(c, Component::Normal(_)));
    names.map(|name| name.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}
