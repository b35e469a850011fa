//! Object storage: `s3://`, `gs://` and `az://`. A [`Mirror`] keeps local copies of objects that are read, and [`push`] and [`pull`]
//! move whole folders. What moves is a stream of parts of 8 MiB, so that memory does not grow with an object; only objects over 70 GiB
//! are sent in larger parts (services allow 10,000), two of which are in memory.
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
pub(crate) use transport::IMAGE_FILE_LIMIT;
pub use url::ObjectUrl;

pub use crate::net::TransferProgress;
use crate::{Error, Result};

/// An error about an address.
fn object_error(url: &ObjectUrl, cause: impl Into<String>) -> Error {
    Error::Objects { cause: cause.into(), url: url.to_string() }
}

/// The number in a variable of the environment, or what counts without one.
///
/// # Errors
/// The variable has something else.
fn number_from_env((variable, default): (&str, u64), unit: &str) -> Result<u64> {
    let Some(text) = std::env::var_os(variable).filter(|text| !text.is_empty()) else { return Ok(default) };
    text.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
        let cause = format!("invalid {variable} {text:?}: expected a whole number of {unit}, such as {default}");
        sae_core::Error::config(cause).into()
    })
}
