//! Data sets: rows of JSON, Parquet or a folder of pictures, streamed in order, each as one conversation with its
//! images still unread. A row that cannot be understood says why and the stream goes on.

mod folder;
mod json;
mod parquet;
mod record;
mod source;

pub use record::{ImageFile, Pair, Part, Record, Turn};
pub use source::{Format, Mapping, Row, Rows, Source};
