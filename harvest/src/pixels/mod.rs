//! From the bytes of an image file to the input of the vision tower, according to the checkpoint's own image processor:
//! decode (within bounds), rotate upright, convert to RGB, resize, cut, rescale, normalize. The results equal those of
//! `transformers` 5.23 with Pillow 13 as its backend, except for JPEG files, where decoders differ by one level in some
//! pixels. Also determines, for every position of an image, which part of the original it shows.

mod config;
mod decode;
mod error;
mod file_end;
mod foreign;
mod frame;
mod geometry;
mod jpeg;
mod picture;
mod prismatic;
pub mod quality;
mod settings;
mod video;

pub use config::ImageProcessor;
pub use decode::PIXEL_LIMIT;
pub(crate) use decode::{decode, size};
pub use error::ImageError;
pub use frame::{Frame, ImagePosition};
pub use picture::Picture;
pub use video::{VideoError, VideoProcessor};
