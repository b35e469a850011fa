//! From an image file's bytes to what the vision tower takes, as the checkpoint's own image processor says: decode
//! (bounded), upright, RGB, resize, cut, rescale, normalize. Matches the processors of `transformers` 5.23 with Pillow 13
//! as their backend (JPEG excepted: decoders differ by a level here and there). Also knows, for every position that an
//! image takes, which part of the original it shows.

mod config;
mod decode;
mod file_end;
mod foreign;
mod frame;
mod geometry;
mod jpeg;
mod picture;

pub use config::ImageProcessor;
pub use decode::PIXEL_LIMIT;
pub(crate) use decode::{decode, size};
pub use frame::{Frame, ImagePosition};
pub use picture::Picture;
