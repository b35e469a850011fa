//! Data sets: rows of JSON, Parquet, tar archives or a folder of pictures, streamed in order, each as one conversation with
//! its images still unread. A row that cannot be understood says why and the stream goes on.

mod arrow;
mod card;
mod cell;
mod columns;
mod corruption;
mod csv;
mod fetch;
mod fields;
mod file_kind;
mod filtered;
mod folder;
mod format;
mod image;
mod imagefolder;
mod input;
mod json;
mod layout;
mod lenient;
mod notes;
mod parquet;
mod record;
mod redraw;
pub(crate) mod saved;
mod schema;
mod shards;
mod source;
mod table;
mod tar;
mod text;
mod text_corruption;
mod webdataset;
mod wrapped;

pub(crate) use corruption::altered;
pub use corruption::{ALTERED, Corruption, CorruptionKind};
pub use csv::delimiter;
pub use fetch::Fetch;
pub use image::{ImageFile, image_place};
pub use json::{RowTexts, VerbatimRows, verbatim_rows};
pub use notes::Notes;
pub(crate) use parquet::{attempt, checked};
pub use record::{Pair, Record, Turn, TurnPart};
pub use redraw::ImageSizes;
pub use source::{Mapping, Row, Rows, Source, record};
pub use webdataset::{member_key, read_archive};
