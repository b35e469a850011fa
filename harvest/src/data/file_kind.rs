//! What a file is by its name alone. The tables here are the only place that knows extensions and the names of files that
//! describe a data set. Opens nothing.

use super::input;
use std::path::Path;

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum FileKind {
    Archive,
    Parquet,
    Arrow,
    Json,
    Csv,
    /// An image of a kind that is decoded.
    Image,
    /// An image of another kind.
    OtherImage,
    Video,
    Audio,
    /// A caption, if it stands beside an image.
    Text,
    /// A container that has to be unpacked or converted before it can be read.
    Unread,
    /// Describes a data set and is none.
    Description,
    Other,
}

const EXTENSIONS: [(FileKind, &[&str]); 11] = [
    (FileKind::Archive, &["tar", "tgz", "tzst"]),
    (FileKind::Parquet, &["parquet", "pq", "parq"]),
    (FileKind::Arrow, &["arrow", "feather", "ipc"]),
    (FileKind::Json, &["json", "jsonl", "ndjson", "jsonlines"]),
    (FileKind::Csv, &["csv", "tsv", "tab"]),
    (FileKind::Image, &["png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp"]),
    (
        FileKind::OtherImage,
        &["tif", "tiff", "avif", "heic", "heif", "jxl", "jp2", "svg", "ico", "tga", "psd", "ppm", "pgm", "pbm", "dng"],
    ),
    (FileKind::Video, &["mp4", "mkv", "webm", "avi", "mov", "m4v", "mpg", "mpeg"]),
    (FileKind::Audio, &["mp3", "wav", "flac", "ogg", "opus", "m4a", "aac"]),
    (FileKind::Text, &["txt"]),
    (
        FileKind::Unread,
        &[
            "zip", "7z", "rar", "bz2", "xz", "xlsx", "xls", "avro", "orc", "lance", "tfrecord", "h5", "hdf5", "mdb",
            "pkl",
        ],
    ),
];

/// Files that describe data: of the hub, of `datasets`, of img2dataset, of LLaMA-Factory and of this program.
const DESCRIPTIONS: [&str; 15] = [
    "dataset_infos.json",
    "dataset_info.json",
    "dataset_dict.json",
    "state.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "croissant.json",
    "manifest.json",
    "decisions.csv",
    "decisions.parquet",
];

/// Ends of such names: img2dataset's statistics of a shard.
const DESCRIPTION_ENDS: [&str; 1] = ["_stats.json"];

impl FileKind {
    /// What a file of this name is.
    pub fn from_path(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        match DESCRIPTIONS.contains(&name.as_str()) || DESCRIPTION_ENDS.iter().any(|end| name.ends_with(end)) {
            true => Self::Description,
            false => Self::of_extension(&input::extension(path)),
        }
    }

    /// What a file with this extension is.
    pub fn of_extension(extension: &str) -> Self {
        let known = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(extension));
        EXTENSIONS.iter().find(|(_, names)| known(names)).map_or(Self::Other, |(kind, _)| *kind)
    }
}

/// Whether a file or folder of this name belongs to no data set: hidden ones, and those that tools and systems make.
pub(super) fn is_hidden(name: &[u8]) -> bool {
    let made = [&b"__MACOSX"[..], b"__pycache__", b"lost+found"];
    (name.starts_with(b".") && name != b"." && name != b"..") || made.contains(&name)
}
