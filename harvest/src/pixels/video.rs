//! The checkpoint's video processor: frames of one size become the patches of a video, each of a few consecutive frames. Frames
//! are used as they are given; none is dropped. Which file describes the processor is decided in `precedence.rs`.

use super::config::ELONGATED;
use super::decode::{PIXEL_LIMIT, decode};
use super::error::ImageError;
use super::frame::{Frame, Patches};
use super::geometry;
use super::settings::{Raw, Values, defaults, over};
use crate::model::Image;
use crate::model::config::{Tiling, VideoTiming, VisionConfig};
use crate::precedence;
use crate::resample::{Filter, Rgb, resize};
use serde_json::Value;
use std::path::Path;

/// A video processor of a checkpoint.
#[derive(Clone, Debug)]
pub struct VideoProcessor {
    /// Bounds of the number of pixels of a frame, or of all frames together.
    area: [usize; 2],
    /// Whether the bounds hold for all frames together.
    together: bool,
    resize: bool,
    filter: Filter,
    patches: Patches,
    values: Values,
}

/// Why the frames of a video cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VideoError {
    /// There are too few frames.
    #[error("the video has {}: the model takes {least} or more", frames(*.found))]
    TooFew {
        /// Number of frames.
        found: usize,
        /// Smallest number that the model takes.
        least: usize,
    },
    /// The video has more positions than the model's context.
    #[error("the video has {}, at least {positions} positions: the model's context has {context}", frames(*.found))]
    TooLong {
        /// Number of frames.
        found: usize,
        /// Number of their positions.
        positions: usize,
        /// The model's context.
        context: usize,
    },
    /// A frame has another size than the first one.
    #[error("frame {frame} of the video has {}x{} pixels, the first one {}x{}", size[0], size[1], first[0], first[1])]
    OtherSize {
        /// Number of the frame, from 1.
        frame: usize,
        /// Its width and height in pixels.
        size: [usize; 2],
        /// Those of the first frame.
        first: [usize; 2],
    },
    /// A frame cannot be used.
    #[error("frame {frame} of the video: {cause}")]
    Frame {
        /// Number of the frame, from 1.
        frame: usize,
        /// Why.
        cause: ImageError,
    },
}

fn frames(number: usize) -> String {
    if number == 1 { "1 frame".into() } else { format!("{number} frames") }
}

impl VideoProcessor {
    /// Reads the video processor of the checkpoint in `folder`.
    ///
    /// # Errors
    /// The model takes no videos, there is no such processor, or its results do not fit the vision tower.
    pub fn open(folder: &Path, vision: Option<&VisionConfig>) -> Result<Self, String> {
        let vision = vision.and_then(|vision| Some((vision.video?, &vision.tiling)));
        let Some((video, Tiling::Native { patch, merge, frames })) = vision else {
            return Err("the model takes no videos".into());
        };
        let config = precedence::video_processor(folder).map_err(|error| error.to_string())?;
        let patches = Patches { side: *patch, merge: *merge, frames: *frames };
        Self::parse(config, patches, video.timing)
    }

    fn parse(config: Value, patches: Patches, timing: VideoTiming) -> Result<Self, String> {
        let together = timing == VideoTiming::Text;
        let class = if together { "Qwen3VLVideoProcessor" } else { "Qwen2VLVideoProcessor" };
        if config["video_processor_type"].as_str().is_some_and(|found| found != class) {
            let found = &config["video_processor_type"];
            return Err(format!("the video processor {found} does not fit the model: expected {class}"));
        }
        let raw: Raw = serde_json::from_value(over(defaults(class), config)).map_err(|e| e.to_string())?;
        if raw.cap_pixels_per_frame {
            return Err("cap_pixels_per_frame is not supported in a video processor".into());
        }
        raw.check_patches(patches)?;
        // Only the processor of Qwen2.5-VL reads the older names of the bounds.
        let area = raw.area(if together { [None; 2] } else { [raw.min_pixels, raw.max_pixels] })?;
        Ok(Self { area, together, resize: raw.do_resize, filter: raw.filter()?, patches, values: raw.values() })
    }

    /// Decodes the frames of a video and brings them to the size that the model takes. The result has an element for every
    /// patch of consecutive frames; the last frame is repeated if there are too few for the last patch. `context` is the largest
    /// number of positions.
    ///
    /// # Errors
    /// Frames that cannot be used, or that are too few or too many. The number of positions is checked after the first frame.
    pub fn frames(&self, files: &[impl AsRef<[u8]>], context: usize) -> Result<Vec<Frame>, VideoError> {
        let (found, per_patch) = (files.len(), self.patches.frames);
        // The processor of Qwen3-VL rejects fewer frames than a patch has.
        let least = if self.together { per_patch } else { 1 };
        if found < least.max(1) {
            return Err(VideoError::TooFew { found, least: least.max(1) });
        }
        let moments = found.div_ceil(per_patch);
        let check = |each: usize| match moments.saturating_mul(each) {
            positions if positions > context => Err(VideoError::TooLong { found, positions, context }),
            _ => Ok(()),
        };
        check(1)?;
        let mut first: Option<([usize; 2], [usize; 2])> = None;
        let (mut patches, mut waiting) = (Vec::with_capacity(moments), Vec::<Rgb>::new());
        for (file, frame) in files.iter().zip(1..) {
            let wrong = |cause| VideoError::Frame { frame, cause };
            let rgb = decode(file.as_ref()).map_err(wrong)?;
            let size = [rgb.width, rgb.height];
            let (original, target) = match first {
                Some(known) => known,
                None => *first.insert((size, self.target(size, found).map_err(wrong)?)),
            };
            if size != original {
                return Err(VideoError::OtherSize { frame, size, first: original });
            }
            let cell = self.patches.side * self.patches.merge;
            check(target[0] / cell * (target[1] / cell))?;
            waiting.push(resize(rgb, target[0], target[1], self.filter));
            if waiting.len() == per_patch || frame == found {
                let mut shown = waiting.drain(..);
                let view = shown.next().map(|view| Frame::native(original, view, cell));
                patches.extend(view.map(|view| view.followed_by(shown.collect())));
            }
        }
        Ok(patches)
    }

    /// Width and height of the resized frames of a video.
    fn target(&self, [width, height]: [usize; 2], frames: usize) -> Result<[usize; 2], ImageError> {
        let cell = self.patches.side * self.patches.merge;
        if width.max(height) > ELONGATED * width.min(height) {
            return Err(ImageError::Elongated { width, height });
        }
        let [to_height, to_width] = match (self.resize, self.together) {
            (false, _) => [height, width],
            (true, true) => geometry::smart_video(frames, self.patches.frames, [height, width], cell, self.area),
            (true, false) => geometry::smart([height, width], cell, self.area),
        };
        if !to_height.is_multiple_of(cell) || !to_width.is_multiple_of(cell) {
            return Err(ImageError::NotDivisible { width, height, cell });
        }
        if (to_width * to_height) as u64 > PIXEL_LIMIT {
            return Err(ImageError::ElongatedWhenResized { width: to_width, height: to_height });
        }
        Ok([to_width, to_height])
    }

    /// Number of consecutive frames in a patch.
    pub fn frames_per_patch(&self) -> usize {
        self.patches.frames
    }

    /// The input of the model for a patch of frames.
    pub fn image(&self, frame: &Frame) -> Image {
        frame.image(&self.values, self.patches)
    }
}
