//! Finds the pictures of samples (files, or inside the tables and archives of the data set), checks that they are the ones that
//! were harvested, decodes them, and saves copies. A picture that cannot be shown becomes a sentence. Changes no file and follows
//! no links into the network.

use crate::state::sample::Picture;
use harvest::data::{Mapping, Melt};
use harvest::pixels;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use sae_core::store::sample::{ImageRef, place};
use sae_core::{Run, file, path_text};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Longest side of a picture in a card: sharp at the shown size on a display with twice the usual density.
pub const SMALL: usize = 320;
/// Longest side of a picture that is looked at by itself.
pub const LARGE: usize = 2048;
/// Bytes of the largest file that is read.
const FILE_LIMIT: u64 = 1 << 28;

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
    pub fn read(&self, image: &ImageRef, source: &str, side: usize) -> Result<Picture, String> {
        let place = place(source);
        let file = place.map_or(source, |(file, _)| file);
        let link = image.path.contains("://");
        let found = if link || image.path.is_empty() { Vec::new() } else { self.candidates(&image.path, file) };
        for path in &found {
            let bytes = read(path)?;
            if hash(&bytes) == image.sha256 {
                return decoded(&bytes, &image.path, side);
            }
        }
        let inside = place.map_or(Ok(None), |(file, row)| self.inside(image, file, row as usize));
        let name = if image.path.is_empty() { source } else { &image.path };
        match inside {
            Ok(Some(bytes)) => decoded(&bytes, source, side),
            _ if link => Err(format!("The picture is a link, which is not followed: {name}")),
            _ if !found.is_empty() => Err(format!("The picture has changed since the harvest: {name}")),
            Ok(None) => Err(format!("The picture was not found: {name} ({})", self.searched())),
            Err(error) => Err(format!("The row with the picture cannot be read: {error}")),
        }
    }

    /// Where pictures are looked for.
    fn searched(&self) -> String {
        let folders: Vec<_> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
        format!("searched in {}", folders.join(", "))
    }

    /// The bytes of the picture, if the row of the data set itself holds it.
    fn inside(&self, image: &ImageRef, file: &str, row: usize) -> Result<Option<Vec<u8>>, String> {
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
                Err(error) => failed = Some(error.to_string()),
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
    steps.sort_by_key(|(name, _)| *name != sae_core::store::STEP);
    let named = |entry: &Value| {
        let objects = [entry.get("arguments"), Some(entry)].into_iter().flatten();
        let paths = objects.flat_map(|object| {
            ["data_root", "images_root", "data"].map(|name| object.get(name).and_then(Value::as_str))
        });
        paths.flatten().map(path_text::decode).collect::<Vec<_>>()
    };
    steps.into_iter().flat_map(|(_, entry)| named(entry)).collect()
}

/// An argument of the harvest.
fn argument<T: DeserializeOwned + Default>(run: &Run, name: &str) -> T {
    let harvest: Option<Value> = run.read_step(sae_core::store::STEP).ok().flatten();
    let given = harvest.and_then(|step| serde_json::from_value(step.get("arguments")?.get(name)?.clone()).ok());
    given.unwrap_or_default()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("The picture cannot be read ({error}): {}", path.display());
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > FILE_LIMIT {
        return Err(format!("The picture's file has {size} bytes, too many to show: {}", path.display()));
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

/// Reads a picture that belongs to no run.
pub fn open(path: &Path) -> Result<Picture, String> {
    decoded(&read(path)?, &path.display().to_string(), LARGE)
}

/// Saves a picture as a new PNG file.
pub fn save(picture: &Picture, file: &Path) -> Result<(), String> {
    if file.exists() {
        return Err(format!("{} exists already. Choose another name.", file.display()));
    }
    let [width, height] = picture.size.map(|side| side as u32);
    let mut png = Vec::new();
    let written = PngEncoder::new(&mut png).write_image(&picture.rgba, width, height, ExtendedColorType::Rgba8);
    written.map_err(|error| format!("The picture cannot be encoded: {error}"))?;
    file::write_bytes(file, &png).map_err(|error| error.message())
}

fn decoded(bytes: &[u8], name: &str, side: usize) -> Result<Picture, String> {
    decode(bytes, side).map_err(|cause| format!("The picture {name} cannot be shown: {cause}"))
}

fn decode(bytes: &[u8], side: usize) -> Result<Picture, String> {
    let scaled = pixels::Picture::decode(bytes).map_err(|error| error.to_string())?.fitted(side, false);
    let rgba = scaled.pixels().as_chunks::<3>().0.iter().flat_map(|[r, g, b]| [*r, *g, *b, u8::MAX]).collect();
    Ok(Picture { size: scaled.size(), rgba })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageFormat, RgbaImage};
    use std::io::Cursor;

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
        assert_eq!((found.size, &found.rgba[..4]), ([320, 160], &[200, 10, 10, 255][..]));
        assert_eq!(pictures.read(&image("b.png", &small), "data.jsonl:3", SMALL).unwrap().size, [4, 2]);
    }

    #[test]
    fn a_picture_is_saved_as_a_new_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let picture = decode(&png(4, 2), LARGE).unwrap();
        let file = dir.path().join("a copy.png");
        save(&picture, &file).unwrap();
        assert_eq!(image::open(&file).unwrap().into_rgba8().into_raw(), picture.rgba);
        assert!(save(&picture, &file).unwrap_err().contains("exists already"));
        assert!(save(&picture, &file.join("a.png")).is_err(), "a file is no folder");
    }

    #[test]
    fn a_picture_that_cannot_be_shown_becomes_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(&dir.path().join("run")).unwrap();
        std::fs::write(dir.path().join("a.png"), png(4, 2)).unwrap();
        std::fs::write(dir.path().join("broken.png"), &png(4, 2)[..40]).unwrap();
        let pictures = SampleImages::new(&run, Some(dir.path()));
        let message = |image: ImageRef, source: &str| pictures.read(&image, source, SMALL).map(|p| p.size).unwrap_err();
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
        use base64::Engine;
        let dir = tempfile::tempdir().unwrap();
        let bytes = png(4, 2);
        let row = |bytes: &[u8]| {
            let packed = base64::engine::general_purpose::STANDARD.encode(bytes);
            serde_json::json!({ "photo": format!("data:image/png;base64,{packed}"), "text": "red" }).to_string()
        };
        std::fs::write(dir.path().join("rows.jsonl"), [row(&png(2, 2)), row(&bytes)].join("\n")).unwrap();
        let run = Run::create(&dir.path().join("run")).unwrap();
        let arguments = serde_json::json!({ "data": "..", "map": [["image", "photo"]] });
        run.write_step("harvest", &serde_json::json!({ "arguments": arguments })).unwrap();
        let pictures = SampleImages::new(&run, Some(dir.path()));
        assert_eq!(pictures.read(&image("", &bytes), "rows.jsonl:1", SMALL).unwrap().size, [4, 2]);
        let other = pictures.read(&image("", &bytes), "rows.jsonl:0", SMALL).map(|picture| picture.size);
        assert!(other.unwrap_err().contains("not found"));
    }
}
