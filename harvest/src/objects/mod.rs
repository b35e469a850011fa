//! Object storage: `s3://`, `gs://` and `az://`. A [`Mirror`] keeps local copies of objects that are read, and [`push`] and [`pull`]
//! move whole folders. What moves is a stream of parts of fixed size, so that memory does not grow with an object.
//!
//! A bucket has neither locks nor renames. A folder there is complete once it has a listing ([`LISTING`]) with the names, sizes and
//! hashes of its files, which is written last and only if there is none. Nothing here runs unless an address is named.

mod bucket;
mod commit;
mod download;
mod listing;
mod mirror;
mod transport;
mod url;

pub use commit::{Pulled, Pushed, committed, is_complete, pull, push};
pub use listing::LISTING;
pub use mirror::Mirror;
pub use url::ObjectUrl;

use crate::Error;

/// An error about an address.
fn object_error(url: &ObjectUrl, cause: impl Into<String>) -> Error {
    Error::Objects { cause: cause.into(), url: url.to_string() }
}
