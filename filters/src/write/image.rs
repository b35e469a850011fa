//! Writes the images of rows. They are read and compared with the harvested ones, and then copied next to the rows, embedded
//! in them, or referenced at their location. Decodes nothing.

use super::stage::put_file;
use crate::{Error, Result};
use sae_core::error::{Cause, Hint, Setting};
use sae_core::store::image_format;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Size of the largest image file that is read, in bytes. The harvest does not read larger ones either.
const LIMIT: u64 = 1 << 28;

/// An image of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The path or link in the data set. It is empty if the data set contains the image without a name.
    pub name: PathBuf,
    /// The location of the file, if there is one.
    pub file: PathBuf,
    /// The path relative to the data set's folder, if the file is inside of it (see [`below`]).
    pub inside: Option<PathBuf>,
    /// The content, if the data set contains it.
    pub bytes: Option<Vec<u8>>,
    /// The SHA-256 of the content when it was harvested, in hexadecimal.
    pub sha256: String,
}

impl Image {
    /// Reads the content.
    ///
    /// # Errors
    /// The file cannot be read, or its content has changed since it was harvested.
    pub fn read(&self) -> Result<Cow<'_, [u8]>> {
        let bytes = match &self.bytes {
            Some(bytes) => Cow::Borrowed(&bytes[..]),
            None => Cow::Owned(self.read_file()?),
        };
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if found == self.sha256 {
            Ok(bytes)
        } else {
            Err(self.error("the image has changed since it was harvested (SHA-256 differs)"))
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
        if bytes.len() as u64 > LIMIT { Err(self.error("the image is larger than 256 MiB")) } else { Ok(bytes) }
    }

    fn error(&self, cause: impl Into<Cause>) -> Error {
        let path = if self.bytes.is_some() || self.is_link() { &self.name } else { &self.file };
        Error::source(path, cause)
    }

    /// The path relative to the data set's folder, if the image is a file inside of it.
    fn inside(&self) -> Option<&Path> {
        self.inside.as_deref().filter(|_| self.bytes.is_none() && !self.is_link())
    }
}

/// The path of a file relative to a folder, derived only from the names: `a/../b.png` is `b.png`. `None` if the path leads out
/// of the folder or does not name a file in it.
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

/// Whether a relative path stays inside of its folder.
pub(super) fn is_inside(path: &Path) -> bool {
    let plain = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    plain && path.file_name().is_some()
}

/// The extension of an image file, according to its first bytes or else its name.
pub(super) fn extension<'a>(bytes: &[u8], name: &'a Path) -> Cow<'a, str> {
    if let Some(extension) = image_format::extension(bytes) {
        return extension.into();
    }
    let named = name.extension().and_then(|extension| extension.to_str());
    let plain = named.filter(|name| name.len() <= 8 && name.bytes().all(|b| b.is_ascii_alphanumeric()));
    plain.map_or("bin".into(), |extension| extension.to_ascii_lowercase().into())
}

/// What is done with the images of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Images {
    /// They are copied.
    #[default]
    Copy,
    /// They are not copied, and rows refer to their location.
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

/// Copies images to a folder, each one once.
pub(super) struct ImageOutput {
    out: PathBuf,
    how: Images,
    /// A folder in which a file of the same name has the same content.
    linked: Option<PathBuf>,
    placed: BTreeSet<PathBuf>,
    inside: u64,
    left_behind: BTreeSet<PathBuf>,
}

impl ImageOutput {
    pub fn new(out: &Path, how: Images, linked: Option<&Path>) -> Self {
        let linked = linked.map(Path::to_path_buf);
        Self { out: out.to_path_buf(), how, linked, placed: BTreeSet::new(), inside: 0, left_behind: BTreeSet::new() }
    }

    /// The number of copied images.
    pub fn carried(&self) -> u64 {
        self.placed.len() as u64 + self.inside
    }

    /// The images that could not be copied, because rows name them by an absolute path or outside of the data set's folder.
    pub fn left_behind(&self) -> &BTreeSet<PathBuf> {
        &self.left_behind
    }

    /// Copies the image to the path at which an unchanged copy of its row refers to it. If the row names an absolute path, or
    /// one outside of the data set's folder, the copied row refers to the original, and the image is not copied.
    pub fn copy_for_verbatim_row(&mut self, image: &Image) -> Result<()> {
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

    /// The path for rows to refer to the image: relative to the folder if it is copied, otherwise its location.
    pub fn place(&mut self, image: &Image) -> Result<String> {
        if self.how == Images::Reference {
            return location(image);
        }
        // A name that is not UTF-8 cannot be written into a text.
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

    /// Writes a file, or links the same one: a name is a path in the data set or depends on the content alone.
    fn put(&mut self, name: PathBuf, bytes: &[u8]) -> Result<()> {
        let (path, same) = (self.out.join(&name), self.linked.as_ref().map(|folder| folder.join(&name)));
        if !self.placed.insert(name) || same.is_some_and(|same| link(&same, &path)) {
            return Ok(());
        }
        put_file(&path, bytes)
    }

    /// The content of the image and a name, to be embedded. If images are not copied, only its location.
    pub fn embed(&mut self, image: &Image) -> Result<(Option<Vec<u8>>, String)> {
        if self.how == Images::Reference {
            return Ok((None, location(image)?));
        }
        let bytes = image.read()?.into_owned();
        self.inside += 1;
        let name = match image.name.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => self.name_of(image, &bytes),
        };
        Ok((Some(bytes), name))
    }

    /// A name that depends only on the content.
    fn name_of(&self, image: &Image, bytes: &[u8]) -> String {
        format!("{}.{}", &image.sha256[..16], extension(bytes, &image.name))
    }
}

/// Makes a hard link to a file. `false` if there is no such file, or no hard links.
fn link(file: &Path, path: &Path) -> bool {
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    folder.and_then(|()| std::fs::hard_link(file, path)).is_ok()
}

/// Whether a path means the same for a row in any folder.
fn names_a_fixed_place(name: &Path) -> bool {
    name.is_absolute() || name.as_os_str().as_encoded_bytes().starts_with(b"file://")
}

fn location(image: &Image) -> Result<String> {
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

/// A relative path with slashes, as in data sets.
fn slashed(path: &Path) -> String {
    let names = path.components().filter(|c| matches!(c, Component::Normal(_)));
    names.map(|name| name.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}
