//! Pictures for the window: those of samples, decoded as the window takes them, pictures that belong to no run, and saved copies.

use crate::state::sample::Picture;
use harvest::pixels;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use sae_core::file;
use sae_core::store::sample::ImageRef;
use sae_workbench::sample_images::{self, SampleImages};
use std::path::Path;

/// Longest side of a picture in a card: sharp at the shown size on a display with twice the usual density.
pub const SMALL: usize = 320;
/// Longest side of a picture that is looked at by itself.
pub const LARGE: usize = 2048;

/// Reads a picture of a sample that is at `source` (`file:row`) of the data set; its longest side is at most `side`.
pub fn read(images: &SampleImages, image: &ImageRef, source: &str, side: usize) -> Result<Picture, String> {
    images.read(image, source, side).map(|picture| shown(&picture)).map_err(|error| error.to_string())
}

/// Reads a picture that belongs to no run.
pub fn open(path: &Path) -> Result<Picture, String> {
    sample_images::open(path, LARGE).map(|picture| shown(&picture)).map_err(|error| error.to_string())
}

/// Decodes a picture of this name that was sent by a server.
pub fn decode(bytes: &[u8], name: &str, side: usize) -> Result<Picture, String> {
    sample_images::decode(bytes, name, side).map(|picture| shown(&picture)).map_err(|error| error.to_string())
}

fn shown(picture: &pixels::Picture) -> Picture {
    let rgba = picture.pixels().as_chunks::<3>().0.iter().flat_map(|[r, g, b]| [*r, *g, *b, u8::MAX]).collect();
    Picture { size: picture.size(), rgba }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_saved_as_a_new_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let picture = Picture { size: [4, 2], rgba: [200, 10, 10, 255].repeat(8) };
        let file = dir.path().join("a copy.png");
        save(&picture, &file).unwrap();
        assert_eq!(image::open(&file).unwrap().into_rgba8().into_raw(), picture.rgba);
        assert!(save(&picture, &file).unwrap_err().contains("exists already"));
        assert!(save(&picture, &file.join("a.png")).is_err(), "a file is no folder");
    }
}
