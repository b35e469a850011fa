//! What a file is, judged by its name alone. The tables here are the only place that knows extensions and the names of
//! files that describe a data set. Opens nothing.

use super::input;
use sae_core::store::image_format;
use std::path::Path;

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum FileKind {
    Archive,
    Parquet,
    Arrow,
    Json,
    Csv,
    /// An image that can be decoded.
    Image,
    /// An image of an unsupported format.
    OtherImage,
    Video,
    Audio,
    /// A text. Next to an image it is a caption.
    Text,
    /// A container that has to be unpacked or converted before it can be read.
    Unsupported,
    /// A file that describes a data set but is not part of it.
    Description,
    Other,
}

const EXTENSIONS: [(FileKind, &[&str]); 11] = [
    (FileKind::Archive, &["tar", "tgz", "tzst"]),
    (FileKind::Parquet, &["parquet", "pq", "parq"]),
    (FileKind::Arrow, &["arrow", "feather", "ipc"]),
    (FileKind::Json, &["json", "jsonl", "ndjson", "jsonlines"]),
    (FileKind::Csv, &["csv", "tsv", "tab"]),
    (FileKind::Image, &image_format::EXTENSIONS),
    (
        FileKind::OtherImage,
        &["tif", "tiff", "avif", "heic", "heif", "jxl", "jp2", "svg", "ico", "tga", "psd", "ppm", "pgm", "pbm", "dng"],
    ),
    (FileKind::Video, &["mp4", "mkv", "webm", "avi", "mov", "m4v", "mpg", "mpeg"]),
    (FileKind::Audio, &["mp3", "wav", "flac", "ogg", "opus", "m4a", "aac"]),
    (FileKind::Text, &["txt"]),
    (
        FileKind::Unsupported,
        &[
            "zip", "7z", "rar", "bz2", "xz", "xlsx", "xls", "avro", "orc", "lance", "tfrecord", "h5", "hdf5", "mdb",
            "pkl",
        ],
    ),
];

/// Files that describe data: those of the hub, `datasets`, img2dataset, LLaMA-Factory and this program.
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

/// Endings of such names: the statistics that img2dataset writes for each shard.
const DESCRIPTION_ENDINGS: [&str; 1] = ["_stats.json"];

impl FileKind {
    /// The kind of a file with this name.
    pub fn from_path(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if DESCRIPTIONS.contains(&name.as_str()) || DESCRIPTION_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            Self::Description
        } else {
            Self::from_extension(&input::extension(path))
        }
    }

    /// The kind of a file with this extension.
    pub fn from_extension(extension: &str) -> Self {
        let has = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(extension));
        EXTENSIONS.iter().find(|(_, names)| has(names)).map_or(Self::Other, |(kind, _)| *kind)
    }
}

/// Whether a file or folder with this name belongs to no data set: hidden ones, and those that tools and systems
/// create.
pub(super) fn is_hidden(name: &[u8]) -> bool {
    let system_names = [&b"__MACOSX"[..], b"__pycache__", b"lost+found"];
    (name.starts_with(b".") && name != b"." && name != b"..") || system_names.contains(&name)
}
