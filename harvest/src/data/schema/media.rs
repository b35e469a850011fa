//! Rows with video or audio. A video is a list of frames, each an image file. Other files of video are rejected with a command
//! that makes frames of them, and audio is rejected, because such a row would become a sample whose answer describes something
//! that the model never saw.

use crate::data::columns::{Columns, IMAGES};
use crate::data::fields::{self, Fields};
use crate::data::file_kind::FileKind;
use crate::data::image::{ImageFile, is_image};
use crate::data::record::Video;
use crate::data::row_error::RowError;
use sae_core::error::Hint;
use sae_core::store::brief;
use serde_json::Value;
use std::path::Path;

/// Columns that hold the frames of a video. A column `frames` may also hold something else.
pub(super) const FRAMES: [&str; 2] = ["video", "frames"];

/// The column with the number of frames per second.
const RATE: &str = "fps";

/// Columns that hold video or audio.
const COLUMNS: [&str; 8] = ["video", "videos", "video_path", "audio", "audios", "audio_path", "sound", "sounds"];

/// Placeholders of video and audio in a text. They count only if there is also a column that may hold the file, because a
/// text may mention HTML tags.
const PLACEHOLDERS: [(&str, &str); 2] = [("video", "<video>"), ("audio", "<audio>")];

/// Removes the frames of the row's video from it and returns them with their rate, if it has a video.
///
/// # Errors
/// A column holds no images, the row has images as well, or the rate is not a positive number.
pub(super) fn take_video(columns: &mut Columns) -> Result<Option<(Video, Vec<ImageFile>)>, RowError> {
    let Some(name) = FRAMES.into_iter().find(|name| lists_frames(columns, name)) else { return Ok(None) };
    let files = match columns.images.remove(name) {
        Some(files) => files,
        None => match columns.fields.shift_remove(name) {
            Some(Value::Array(list)) => frames(&list).map_err(|e| format!("the column {name}: {e}"))?,
            _ => Vec::new(),
        },
    };
    let frames = files.into_iter().flatten().collect();
    let has_file = |name: &&str| columns.images.get(*name).is_some_and(|files| files.iter().any(Option::is_some));
    if let Some(image) = IMAGES.iter().find(|name| has_file(name) || names_media(&columns.fields, name)) {
        return Err(
            format!("the row has a video (column {name}) and images (column {image}): expected only one").into()
        );
    }
    Ok(Some((Video { fps: rate(&columns.fields)? }, frames)))
}

/// The images that a list describes.
///
/// # Errors
/// An entry is not an image.
pub(super) fn frames(list: &[Value]) -> Result<Vec<Option<ImageFile>>, String> {
    list.iter().map(ImageFile::from_json).collect()
}

/// The frames per second that a row or a part of a turn states.
///
/// # Errors
/// It is not a positive number.
pub(super) fn rate(fields: &Fields) -> Result<Option<f64>, String> {
    let Some(value) = fields::get(fields, RATE) else { return Ok(None) };
    let rate = value.as_f64().filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.map(Some).ok_or_else(|| format!("{RATE} is {value}: expected a positive number of frames per second"))
}

/// Whether a column is a list of images, which are frames.
fn lists_frames(columns: &Columns, name: &str) -> bool {
    let is_frame = |entry: &Value| match entry {
        Value::String(path) if name == FRAMES[0] => !is_video(path),
        Value::String(path) => FileKind::from_path(Path::new(path)) == FileKind::Image,
        entry => entry.is_object(),
    };
    let is_image = |file: &ImageFile| !is_video(&file.path) && file.bytes.as_deref().is_none_or(is_image);
    match (columns.images.get(name), fields::get(&columns.fields, name)) {
        (Some(files), _) if files.iter().any(Option::is_some) => files.iter().flatten().all(is_image),
        (None, Some(Value::Array(list))) => list.iter().all(is_frame),
        _ => false,
    }
}

fn is_video(path: &str) -> bool {
    FileKind::from_path(Path::new(path)) == FileKind::Video
}

/// Rejects a row that has audio, or video in another form than frames. `has_frames` says whether frames were found.
///
/// # Errors
/// The column that holds it, and for a video what makes frames of it.
pub(super) fn reject_unsupported(columns: &Columns, has_frames: bool) -> Result<(), RowError> {
    let has_file = |name: &str| columns.images.get(name).is_some_and(|files| files.iter().any(Option::is_some));
    let column = COLUMNS.into_iter().find(|name| has_file(name) || names_media(&columns.fields, name));
    let column = match column {
        None if has_frames => return Ok(()),
        column => column.or_else(|| sound(&columns.fields)).or_else(|| named_by_placeholder(&columns.fields)),
    };
    let Some(column) = column else {
        let is_empty = |name: &&&str| columns.fields.get(**name) == Some(&Value::Array(Vec::new()));
        let refers = |value| mentions(value, PLACEHOLDERS[0].1);
        return match FRAMES.iter().find(is_empty).filter(|_| columns.fields.values().any(refers)) {
            Some(name) => Err(format!("the row has no frames (column {name}), but its text refers to a video").into()),
            None => Ok(()),
        };
    };
    if !column.contains("video") {
        return Err(format!("the row has a column {column}, but audio is not supported").into());
    }
    let path = fields::get(&columns.fields, column).and_then(Value::as_str).filter(|path| is_video(path));
    let error = RowError::from(format!("the row has a video that is not a list of frames (column {column})"));
    Err(error.with_hint(Hint::from(frames_of_file(path))))
}

/// What makes a list of frames of a file of video.
pub(super) fn frames_of_file(path: Option<&str>) -> String {
    let video = brief(path.unwrap_or("video.mp4"));
    let folder = Path::new(&video).with_extension("");
    let folder = folder.display();
    let command = format!("mkdir -p {folder} && ffmpeg -i {video} -vf fps=2 {folder}/%06d.png");
    format!("make frames with `{command}`, and list their paths in the column video, with 2 in the column fps")
}

/// Whether a column exists and may name a file. A number or a boolean is a property of the row.
fn names_media(columns: &Fields, name: &str) -> bool {
    fields::get(columns, name).is_some_and(|value| !value.is_number() && !value.is_boolean())
}

/// A column with decoded sound, whatever its name: samples with their rate. Answers may be such columns.
fn sound(columns: &Fields) -> Option<&str> {
    let is_sound = |value: &Value| value.get("sampling_rate").is_some_and(Value::is_number);
    columns.iter().find(|(_, value)| is_sound(value)).map(|(name, _)| name.as_str())
}

/// A column with another name, such as `clip_of_video`, in a row whose text contains a placeholder.
fn named_by_placeholder(columns: &Fields) -> Option<&str> {
    PLACEHOLDERS.iter().find_map(|(kind, placeholder)| {
        let named = columns.keys().find(|name| name.contains(kind) && names_media(columns, name))?;
        columns.values().any(|value| mentions(value, placeholder)).then_some(named.as_str())
    })
}

/// Whether a text anywhere in a value contains a placeholder.
fn mentions(value: &Value, placeholder: &str) -> bool {
    match value {
        Value::String(text) => text.contains(placeholder),
        Value::Array(items) => items.iter().any(|item| mentions(item, placeholder)),
        Value::Object(fields) => fields.values().any(|value| mentions(value, placeholder)),
        _ => false,
    }
}
