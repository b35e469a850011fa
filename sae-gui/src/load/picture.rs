//! Finds the pictures of samples, makes sure that they are the ones that were harvested, and decodes them small. A
//! picture that cannot be shown is a sentence. Writes nothing and follows no links into the net.

use crate::state::data::Picture;
use image::{ImageReader, Limits};
use sae_core::Run;
use sae_core::sample::ImageRef;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Longest side of a decoded picture: sharp at its shown size on a display of twice the usual density.
const SIDE: u32 = 320;
/// Bytes of the largest file that is read.
const FILE_LIMIT: u64 = 1 << 28;
/// Longest side of the largest picture that is decoded.
const SIDE_LIMIT: u32 = 20_000;
/// Memory that decoding one may take.
const DECODE_LIMIT: u64 = 1 << 29;

/// Where pictures of a run may lie.
pub struct Pictures {
    folders: Vec<PathBuf>,
}

impl Pictures {
    /// Pictures of the data set at `data`, or where the run says that it lies.
    pub fn new(run: &Run, data: Option<&Path>) -> Self {
        let named = data.map(Path::to_path_buf).into_iter().chain(recorded(run));
        let around = [run.root().to_path_buf(), run.root().join("..")];
        // A path in run.json was given in some working folder, most likely this one or that of the run.
        let places = |path: PathBuf| [path.clone(), around[0].join(&path), around[1].join(&path)];
        let folder = |path: PathBuf| if path.is_file() { path.parent().map(Path::to_path_buf) } else { Some(path) };
        let mut folders: Vec<_> = named.flat_map(places).filter_map(folder).chain(around.clone()).collect();
        folders.retain(|folder| folder.is_dir());
        Self { folders }
    }

    /// Reads a picture of a sample that stands at `source` (`file:row`) of the data.
    pub fn read(&self, image: &ImageRef, source: &str) -> Result<Picture, String> {
        if image.path.contains("://") {
            return Err(format!("The picture is a link, which is not followed: {}", image.path));
        }
        let file = source.rsplit_once(':').map_or(source, |(file, _)| file);
        let found = if image.path.is_empty() { Vec::new() } else { self.candidates(&image.path, file) };
        if found.is_empty() {
            return Err(match [".parquet", ".tar", ".gz", ".tgz"].iter().any(|kind| file.ends_with(kind)) {
                true => format!("The picture lies inside the data set's file; this version shows files only: {file}"),
                false => format!("The picture was not found: {}", image.path),
            });
        }
        for path in &found {
            let bytes = read(path)?;
            if hash(&bytes) == image.sha256 {
                return decode(&bytes)
                    .map_err(|cause| format!("The picture cannot be decoded ({cause}): {}", image.path));
            }
        }
        Err(format!("The picture has changed since the harvest: {}", image.path))
    }

    /// Files that the path can mean, relative to the data set or to the file of it that names the picture.
    fn candidates(&self, path: &str, file: &str) -> Vec<PathBuf> {
        let beside = Path::new(file).parent().unwrap_or(Path::new(""));
        let places = self.folders.iter().flat_map(|folder| [folder.join(beside).join(path), folder.join(path)]);
        let mut found: Vec<_> = places.filter(|place| place.is_file()).collect();
        found.dedup();
        found
    }
}

/// Every place of data that a step's entry in `run.json` names, the harvest's first.
fn recorded(run: &Run) -> Vec<PathBuf> {
    let Ok(record) = run.record() else { return Vec::new() };
    let mut steps: Vec<(&String, &Value)> = record.steps.iter().collect();
    steps.sort_by_key(|(name, _)| *name != sae_core::store::STEP);
    let named = |entry: &Value| {
        let places = [entry.get("arguments"), Some(entry)].into_iter().flatten();
        let places = places.flat_map(|place| ["data_root", "data"].map(|name| place.get(name).and_then(Value::as_str)));
        places.flatten().map(PathBuf::from).collect::<Vec<_>>()
    };
    steps.into_iter().flat_map(|(_, entry)| named(entry)).collect()
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

/// Reads a picture that is of no run.
pub fn open(path: &Path) -> Result<Picture, String> {
    decode(&read(path)?).map_err(|cause| format!("The picture cannot be decoded ({cause}): {}", path.display()))
}

fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_LIMIT);
    limits.max_image_height = Some(SIDE_LIMIT);
    limits.max_alloc = Some(DECODE_LIMIT);
    reader.limits(limits);
    let whole = reader.decode().map_err(|error| error.to_string())?;
    let small = if whole.width().max(whole.height()) > SIDE { whole.thumbnail(SIDE, SIDE) } else { whole };
    let rgba = small.into_rgba8();
    Ok(Picture { size: [rgba.width() as usize, rgba.height() as usize], rgba: rgba.into_raw() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageFormat, RgbaImage};

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
        run.note("harvest", &serde_json::json!({ "arguments": { "data": "data" } })).unwrap();
        let pictures = Pictures::new(&run, None);
        let found = pictures.read(&image("images/a.png", &wide), "sub/data.jsonl:3").unwrap();
        assert_eq!((found.size, &found.rgba[..4]), ([320, 160], &[200, 10, 10, 255][..]));
        assert_eq!(pictures.read(&image("b.png", &small), "data.jsonl:3").unwrap().size, [4, 2]);
    }

    #[test]
    fn a_picture_that_cannot_be_shown_is_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(&dir.path().join("run")).unwrap();
        std::fs::write(dir.path().join("a.png"), png(4, 2)).unwrap();
        std::fs::write(dir.path().join("broken.png"), &png(4, 2)[..40]).unwrap();
        let pictures = Pictures::new(&run, Some(dir.path()));
        let said = |image: ImageRef, source: &str| pictures.read(&image, source).map(|p| p.size).unwrap_err();
        assert!(said(image("gone.png", b""), "data.jsonl:3").contains("not found: gone.png"));
        assert!(said(image("a.png", b"other"), "data.jsonl:3").contains("changed since"));
        assert!(said(image("broken.png", &png(4, 2)[..40]), "data.jsonl:3").contains("cannot be decoded"));
        assert!(said(image("http://a/b.png", b""), "data.jsonl:3").contains("not followed"));
        assert!(said(image("", b""), "train.parquet:3").contains("inside the data set"));
    }
}
