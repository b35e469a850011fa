//! Finds the pictures of samples (files, or inside the tables and archives of the data set), checks that they are the ones that
//! were harvested, and decodes them. Changes no file and follows no links into the network.

use crate::objects;
use harvest::data::{Mapping, Melt};
use harvest::pixels::{ImageError, Picture};
use sae_core::store::STEP;
use sae_core::store::sample::{ImageRef, place};
use sae_core::{Run, path_text};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Bytes of the largest file that is read.
const FILE_LIMIT: u64 = 1 << 28;

/// Why a picture cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// It is not where the run says.
    #[error("The picture was not found: {name} (searched in {})", listed(folders))]
    NotFound {
        /// The picture.
        name: String,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
    /// There is another one in its place.
    #[error("The picture has changed since the harvest: {name}")]
    Changed {
        /// The picture.
        name: String,
    },
    /// It is somewhere else.
    #[error("The picture is a link, which is not followed: {name}")]
    Link {
        /// The link.
        name: String,
    },
    /// The row of the data set that holds it.
    #[error("The row with the picture cannot be read: {source}")]
    Row {
        /// Why.
        source: harvest::Error,
    },
    /// The file.
    #[error("The picture cannot be read ({source}): {}", path.display())]
    Unreadable {
        /// What the system said.
        source: std::io::Error,
        /// The file.
        path: PathBuf,
    },
    /// The file is larger than any picture.
    #[error("The picture's file has {bytes} bytes, too many to show: {}", path.display())]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The file.
        path: PathBuf,
    },
    /// The file is no picture that can be decoded.
    #[error("The picture {name} cannot be shown: {source}")]
    Undecodable {
        /// The picture.
        name: String,
        /// Why.
        source: ImageError,
    },
}

fn listed(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Where the pictures of a run may be.
pub struct SampleImages {
    folders: Vec<PathBuf>,
    /// The `--map` of the harvest.
    mapping: Mapping,
    /// The `--melt` of the harvest.
    melt: Option<Melt>,
}

impl SampleImages {
    /// Pictures of the data set at `data`, or where the run says that it is.
    pub fn new(run: &Run, data: Option<&Path>) -> Self {
        let named = data.map(Path::to_path_buf).into_iter().chain(recorded(run));
        let around = [run.root().to_path_buf(), run.root().join("..")];
        // A path in run.json was given in some working folder, most likely this one or that of the run.
        let readings = |path: PathBuf| [path.clone(), around[0].join(&path), around[1].join(&path)];
        let folder = |path: PathBuf| if path.is_file() { path.parent().map(Path::to_path_buf) } else { Some(path) };
        let mut folders: Vec<_> = named.flat_map(readings).filter_map(folder).chain(around.clone()).collect();
        folders.retain(|folder| folder.is_dir());
        // A folder with several names would be searched several times.
        let mut known = BTreeSet::new();
        folders.retain(|folder| folder.canonicalize().is_ok_and(|folder| known.insert(folder)));
        Self { folders, mapping: argument(run, "map"), melt: argument(run, "melt") }
    }

    /// Reads a picture of a sample that is at `source` (`file:row`) of the data set; its longest side is at most `side`.
    ///
    /// # Errors
    /// It is not there, is another one, or cannot be decoded.
    pub fn read(&self, image: &ImageRef, source: &str, side: usize) -> Result<Picture, PictureError> {
        let place = place(source);
        let file = place.map_or(source, |(file, _)| file);
        let link = image.path.contains("://");
        let found = if link || image.path.is_empty() { Vec::new() } else { self.candidates(&image.path, file) };
        for path in &found {
            let bytes = read(path)?;
            if hash(&bytes) == image.sha256 {
                return decode(&bytes, &image.path, side);
            }
        }
        let inside = place.map_or(Ok(None), |(file, row)| self.inside(image, file, row as usize));
        let name = if image.path.is_empty() { source } else { &image.path }.to_owned();
        match inside {
            Ok(Some(bytes)) => decode(&bytes, source, side),
            _ if link => Err(PictureError::Link { name }),
            _ if !found.is_empty() => Err(PictureError::Changed { name }),
            Ok(None) => Err(PictureError::NotFound { name, folders: self.folders.clone() }),
            Err(source) => Err(PictureError::Row { source }),
        }
    }

    /// The bytes of the picture, if the row of the data set itself holds it.
    fn inside(&self, image: &ImageRef, file: &str, row: usize) -> Result<Option<Vec<u8>>, harvest::Error> {
        let files = self.folders.iter().map(|folder| path_text::resolve(folder, file)).filter(|file| file.is_file());
        let mut failed = None;
        for file in files {
            match harvest::data::record(&file, row, &self.mapping, self.melt.as_ref(), None) {
                Ok(record) => {
                    let images = record.into_iter().flat_map(|record| record.images).filter_map(|image| image.bytes);
                    if let Some(bytes) = images.into_iter().find(|bytes| hash(bytes) == image.sha256) {
                        return Ok(Some(bytes));
                    }
                }
                // Another folder may have the right file.
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Files that the path can mean, relative to the data set or to the file of it that names the picture.
    fn candidates(&self, path: &str, file: &str) -> Vec<PathBuf> {
        let file = path_text::decode(file);
        let beside = file.parent().unwrap_or(Path::new(""));
        let folders = self.folders.iter().flat_map(|folder| [folder.join(beside), folder.clone()]);
        let paths = folders.map(|folder| path_text::resolve(&folder, path));
        let mut found: Vec<_> = paths.filter(|path| path.is_file()).collect();
        found.dedup();
        found
    }
}

/// Every location of data that the steps in `run.json` name, that of the harvest first.
fn recorded(run: &Run) -> Vec<PathBuf> {
    let Ok(record) = run.record() else { return Vec::new() };
    let mut steps: Vec<(&String, &Value)> = record.steps.iter().collect();
    steps.sort_by_key(|(name, _)| *name != STEP);
    let named = |entry: &Value| {
        let objects = [entry.get("arguments"), Some(entry)].into_iter().flatten();
        let paths = objects.flat_map(|object| {
            ["data_root", "images_root", "data"].map(|name| object.get(name).and_then(Value::as_str))
        });
        paths.flatten().map(path_text::decode).collect::<Vec<_>>()
    };
    // Objects that were copied to this machine are found in their copies.
    let copied = |path: PathBuf| objects::data_root(path.clone()).map_or(path, |(copy, _)| copy);
    steps.into_iter().flat_map(|(_, entry)| named(entry)).map(copied).collect()
}

/// An argument of the harvest.
fn argument<T: DeserializeOwned + Default>(run: &Run, name: &str) -> T {
    let harvest: Option<Value> = run.read_step(STEP).ok().flatten();
    let given = harvest.and_then(|step| serde_json::from_value(step.get("arguments")?.get(name)?.clone()).ok());
    given.unwrap_or_default()
}

fn read(path: &Path) -> Result<Vec<u8>, PictureError> {
    let failed = |source| PictureError::Unreadable { source, path: path.to_path_buf() };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_LIMIT {
        return Err(PictureError::TooLarge { bytes, path: path.to_path_buf() });
    }
    std::fs::read(path).map_err(failed)
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        // Writing into a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Reads a picture that belongs to no run; its longest side is at most `side`.
///
/// # Errors
/// It cannot be read or decoded.
pub fn open(path: &Path, side: usize) -> Result<Picture, PictureError> {
    decode(&read(path)?, &path.display().to_string(), side)
}

/// Decodes a picture of this name; its longest side is at most `side`.
///
/// # Errors
/// It cannot be decoded.
pub fn decode(bytes: &[u8], name: &str, side: usize) -> Result<Picture, PictureError> {
    let undecodable = |source| PictureError::Undecodable { name: name.to_owned(), source };
    Ok(Picture::decode(bytes).map_err(undecodable)?.fitted(side, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageFormat, RgbaImage};
    use std::io::Cursor;

    const SMALL: usize = 320;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        RgbaImage::from_pixel(width, height, image::Rgba([200, 10, 10, 255]))
            .write_to(&mut bytes, ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    }

    fn image(path: &str, bytes: &[u8]) -> ImageRef {
        ImageRef { path: path.into(), width: 4, height: 2, sha256: hash(bytes) }
    }

    #[test]
    fn pictures_are_found_beside_the_file_that_names_them_and_made_small() {
        let dir = tempfile::tempdir().unwrap();
        let (wide, small) = (png(800, 400), png(4, 2));
        let data = dir.path().join("data");
        std::fs::create_dir_all(data.join("sub/images")).unwrap();
        std::fs::write(data.join("sub/images/a.png"), &wide).unwrap();
        std::fs::write(data.join("b.png"), &small).unwrap();
        let run = Run::create(&dir.path().join("run")).unwrap();
        run.write_step("harvest", &serde_json::json!({ "arguments": { "data": "data" } })).unwrap();
        let pictures = SampleImages::new(&run, None);
        let found = pictures.read(&image("images/a.png", &wide), "sub/data.jsonl:3", SMALL).unwrap();
        assert_eq!((found.size(), &found.pixels()[..3]), ([320, 160], &[200, 10, 10][..]));
        assert_eq!(pictures.read(&image("b.png", &small), "data.jsonl:3", SMALL).unwrap().size(), [4, 2]);
    }

    #[test]
    fn a_picture_that_cannot_be_shown_becomes_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(&dir.path().join("run")).unwrap();
        std::fs::write(dir.path().join("a.png"), png(4, 2)).unwrap();
        std::fs::write(dir.path().join("broken.png"), &png(4, 2)[..40]).unwrap();
        let pictures = SampleImages::new(&run, Some(dir.path()));
        let message = |image: ImageRef, source: &str| {
            pictures.read(&image, source, SMALL).map(|p| p.size()).unwrap_err().to_string()
        };
        assert!(message(image("gone.png", b""), "data.jsonl:3").contains("not found: gone.png (searched in "));
        assert!(message(image("a.png", b"other"), "data.jsonl:3").contains("changed since"));
        assert!(message(image("broken.png", &png(4, 2)[..40]), "data.jsonl:3").contains("cannot be decoded"));
        assert!(message(image("http://a/b.png", b""), "data.jsonl:3").contains("not followed"));
        assert!(message(image("", b""), "train.parquet:3").contains("not found: train.parquet:3"));
        std::fs::write(dir.path().join("rows.jsonl"), "{\n").unwrap();
        assert!(message(image("", b""), "rows.jsonl:0").contains("cannot be read"));
        assert!(message(image("", b""), "rows.jsonl:7").contains("not found"));
    }

    #[test]
    fn pictures_inside_the_data_are_found_by_their_row() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = png(4, 2);
        let row = |bytes: &[u8]| {
            let photo = sae_core::analysis::dashboard::html::data_url("image/png", bytes);
            serde_json::json!({ "photo": photo, "text": "red" }).to_string()
        };
        std::fs::write(dir.path().join("rows.jsonl"), [row(&png(2, 2)), row(&bytes)].join("\n")).unwrap();
        let run = Run::create(&dir.path().join("run")).unwrap();
        let arguments = serde_json::json!({ "data": "..", "map": [["image", "photo"]] });
        run.write_step("harvest", &serde_json::json!({ "arguments": arguments })).unwrap();
        let pictures = SampleImages::new(&run, Some(dir.path()));
        assert_eq!(pictures.read(&image("", &bytes), "rows.jsonl:1", SMALL).unwrap().size(), [4, 2]);
        let other = pictures.read(&image("", &bytes), "rows.jsonl:0", SMALL).map(|picture| picture.size());
        assert!(other.unwrap_err().to_string().contains("not found"));
    }
}
