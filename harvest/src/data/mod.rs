//! Data sets: rows of JSON, Parquet, tar archives or a folder of pictures, streamed in order, each as one conversation with
//! its images still unread. A row that cannot be understood says why and the stream goes on.

mod alter;
mod arrow;
mod card;
mod cell;
mod columns;
mod csv;
mod fetch;
mod fields;
mod filtered;
mod folder;
mod format;
mod image;
mod imagefolder;
mod input;
mod json;
mod kind;
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
mod webdataset;
mod wording;
mod wrapped;

pub(crate) use alter::altered;
pub use alter::{ALTERED, Alteration, Fault};
pub use csv::delimiter;
pub use fetch::Fetch;
pub use image::{ImageFile, image_place};
pub use notes::Notes;
pub(crate) use parquet::{attempt, checked};
pub use record::{Pair, Part, Record, Turn};
pub use redraw::ImageSizes;
pub use source::{Mapping, Row, Rows, Source, record};
pub use webdataset::{member_key, read_archive};
